"""The one root of every error a user can cause or cure."""


class LossatlasError(Exception):
    """Says in one line what was found, what was wanted, and the cure.

    Each module raises its own subclass; only the command line catches this type, prints the line
    and exits with code 2.
    """
