"""The base class of all errors that a user can cause or cure, and that of warnings."""

import errno
import re

_NO_MEMORY = re.compile(
    "not enough memory|can't allocate memory|cannot allocate memory|out of memory|bad_alloc|"
    "can't start new thread",
    re.IGNORECASE,
)


class LossatlasError(Exception):
    """Says in one line what was found, what was wanted, and the cure.

    Each module raises its own subclass; only the command line catches this type, prints the line
    and exits with code 2.
    """


class InputsChangedError(LossatlasError):
    """A file that a render reads has changed since it began: no further tile can be right."""


class LossatlasWarning(UserWarning):
    """One line that a user should read, about something that goes on."""


def one_line(error: BaseException, longest: int | None = None) -> str:
    """An error's message on one line, for use in ours; its type's name where it has none.

    Args:
        error: anyone's; libraries' messages may have line breaks.
        longest: characters to keep, where a message may be pages long; None keeps all.
    """
    return " ".join(str(error).split())[:longest] or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory or threads ran out.

    On a CPU torch raises a plain RuntimeError for memory, and Python does for threads.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def described(error: BaseException, longest: int | None = None) -> str:
    """The error's type and `one_line`: `KeyError: 'weight'`."""
    name, line = type(error).__name__, one_line(error, longest)
    return name if line == name else f"{name}: {line}"
