"""A deliberate fault: one place in the source, and the tests that have to fail with it.

The texts are short, so that they outlive changes around them; `tests/test_mutants.py` says when one
is no longer there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: area, and what is wrong.
        file: the source, from the root of the checkout.
        old: a text that is in it once.
        new: what it becomes.
        tests: files, or `file::test`; one of them has to fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def of(file: str, *faults: tuple[str, str, str, str | tuple[str, ...]]) -> tuple[Fault, ...]:
    """Faults of one file: name, old, new, and the tests."""
    return tuple(
        Fault(name, file, old, new, (tests,) if isinstance(tests, str) else tests)
        for name, old, new, tests in faults
    )
