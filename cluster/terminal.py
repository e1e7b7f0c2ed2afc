"""Where text leaves for a terminal: what could steer it is written out first.

Stores, notes, logs and error messages may hold anything. Only what this package itself writes to
redraw a line or a bar goes another way.
"""

from __future__ import annotations

import json
import re

import click


def say(line: str) -> None:
    """One line to stdout."""
    click.echo(_shown(line))


def warn(text: str) -> None:
    """A line for the user, on stderr: stdout is for scripts."""
    click.echo(f"lossatlas: {_shown(text)}", err=True)


def show_json(content: object) -> None:
    """A value for scripts, to stdout."""
    click.echo(_shown(json.dumps(content, indent=2), keep="\n"))


def pass_on(text: str) -> None:
    """A text of several lines to stdout, as it is: a table, or a piece of a log."""
    click.echo(_shown(re.sub("\r\n?", "\n", text), keep="\n\t"), nl=False)


def _shown(text: str, keep: str = "") -> str:
    from pipeline.naming import shown  # not before `cluster.cli.main` has bound our packages

    return shown(text, keep)
