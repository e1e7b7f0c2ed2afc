"""The command line.

Nothing heavy is imported before a command needs it, and none of our packages but this one before
`main` has bound them to their folders.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

import click

from cluster.cli.connect import connect
from cluster.cli.curve import curve
from cluster.cli.drive import drive
from cluster.cli.export.group import export
from cluster.cli.fit import fit
from cluster.cli.import_ import import_
from cluster.cli.info import info
from cluster.cli.list import list_
from cluster.cli.logs import logs
from cluster.cli.plan import plan
from cluster.cli.render import render
from cluster.cli.resume import resume
from cluster.cli.status import status
from cluster.cli.stop import stop
from cluster.cli.submit import submit
from cluster.cli.verify import verify
from cluster.workers import packages

INTERRUPTED = 130


class _Lossatlas(click.Group):
    """Lists the commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Lossatlas,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(packages.version(), prog_name="lossatlas", message="%(prog)s %(version)s")
def cli() -> None:
    """Render the loss landscape of a neural network, in high resolution and without loss.

    A SPEC is a YAML file that says which network, plane, grid and data; a RUN is the .zarr store
    that a render fills. Everything finished is in the store: a render may be stopped or killed at
    any moment, and goes on with `lossatlas resume RUN`.

    \b
    Exit codes: 0 done, 1 internal error or damage found, 2 something to correct in the input,
    3 finished with quarantined tiles, 130 interrupted (resumable).
    """


for _command in (
    *(plan, render, resume),
    *(submit, drive, logs, stop, list_),
    *(fit, connect, curve),
    *(import_, status, info, verify, export),
):
    cli.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code.

    Errors become one line on stderr, and so do warnings.
    """
    from pipeline.errors import LossatlasWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", LossatlasWarning)
        show = warnings.showwarning

        def told(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, LossatlasWarning):
                _warn(str(message))
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = told
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    from pipeline.errors import LossatlasError, described, is_out_of_memory

    try:
        code = cli.main(list(arguments), prog_name="lossatlas", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except LossatlasError as error:
        return _fail(str(error), 2)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "lossatlas"
        return _fail(f"{error.format_message()} See {path} --help", 2)
    except click.ClickException as error:
        return _fail(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if is_out_of_memory(error):
            return _fail(
                f"there is not enough memory, or no more threads ({described(error, 200)}); wanted "
                "both. Use smaller pictures, fewer examples or fewer workers (--workers)",
                2,
            )
        return _fail(
            f"internal error: {described(error)}. "
            f"The details are in {_saved_traceback()}; please report it",
            1,
        )


def main() -> None:
    """The console script: bind our packages, run, exit with the code."""
    # `python -m` puts the current folder first, where a user's files could shadow anything.
    here = os.path.realpath(os.getcwd())
    if here != os.path.realpath(packages.ROOT):
        sys.path[:] = [path for path in sys.path if os.path.realpath(path or ".") != here]
    packages.pin()
    sys.exit(run(sys.argv[1:]))


def _fail(message: str, code: int) -> int:
    _warn(" ".join(message.splitlines()))
    return code


def _warn(text: str) -> None:
    from cluster.terminal import warn

    warn(text)


def _saved_traceback() -> str:
    """Write the current exception's traceback to a file of its own; returns its path."""
    handle, path = tempfile.mkstemp(prefix="lossatlas-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"lossatlas {packages.version()}: {' '.join(sys.argv)}\n\n")
        traceback.print_exc(file=file)
    return path


if __name__ == "__main__":
    main()
