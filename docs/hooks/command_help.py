"""The reference of commands, made from `--help` when the site is built: `<!-- commands -->`."""

from __future__ import annotations

from typing import Any

import click

from cluster.cli.main import cli

_WIDTH = 88  # characters that fit beside the site's table of contents


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    context = click.Context(cli, info_name="lossatlas", **cli.context_settings)
    return markdown.replace("<!-- commands -->", texts(context))


def texts(context: click.Context) -> str:
    """Markdown: the help of a command, and of every command in it."""
    context.terminal_width = context.max_content_width = _WIDTH
    command, title = context.command, context.command_path
    parts = [f"## {title}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.commands[name]
            if not inner.hidden:
                parts.append(texts(click.Context(inner, parent=context, info_name=name)))
    return "\n".join(parts)
