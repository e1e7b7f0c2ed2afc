"""Where text leaves for a terminal: what could steer it is written out first.

Stores, notes, logs and error messages may hold anything. Only what this package itself writes to
redraw a line or a bar goes another way.
"""

from __future__ import annotations

import json
import re

import click


def print_line(line: str) -> None:
    """One line to stdout."""
    click.echo(_escape(line))


def warn(text: str) -> None:
    """A line for the user, on stderr: stdout is for scripts."""
    click.echo(f"lossatlas: {_escape(text)}", err=True)


def print_json(content: object) -> None:
    """A value for scripts, to stdout."""
    click.echo(_escape(json.dumps(content, indent=2), keep="\n"))


def print_text(text: str) -> None:
    """A text of several lines to stdout, as it is: a table, or a piece of a log."""
    click.echo(_escape(re.sub("\r\n?", "\n", text), keep="\n\t"), nl=False)


def _escape(text: str, keep: str = "") -> str:
    from pipeline.naming import shown  # not before `cluster.cli.main` has bound our packages

    return shown(text, keep)
