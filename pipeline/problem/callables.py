"""What a spec may call: functions and classes, but none of Python's own: some run commands."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FunctionType, MethodType, ModuleType
from typing import Any

_WRAPPERS = FunctionType, functools._lru_cache_wrapper


def reach(place: ModuleType, name: str) -> Any:
    """The attribute `name` of a module; dots reach into classes, not into other modules.

    Raises:
        AttributeError: there is none.
    """
    value: Any = place
    for part in name.split("."):
        if value is not place and isinstance(value, ModuleType):
            raise AttributeError(f"{value.__name__} is a module")
        value = getattr(value, part)
    return value


def of_python(call: Callable[..., Any]) -> str | None:
    """The module of Python's standard library that `call` comes from, or None.

    What is wrapped (`functools.partial`, decorators) counts, not its wrapper. A function belongs
    to the module whose globals it sees, whatever `__module__` says.
    """
    home = _home(call)
    return home if home.partition(".")[0] in sys.stdlib_module_names else None


def inner(call: Any) -> Any:
    """What a partial, a decorated function or a bound method calls in the end."""
    while True:
        if isinstance(call, functools.partial):
            call = call.func
        elif isinstance(call, MethodType):
            call = call.__func__
        elif isinstance(call, _WRAPPERS) and "__wrapped__" in vars(call):
            call = call.__wrapped__  # type: ignore[union-attr]
        else:
            return call


def _home(call: Any) -> str:
    call = inner(call)
    if inspect.isfunction(call):
        return str(call.__globals__.get("__name__", ""))
    if isinstance(call, type) or inspect.isroutine(call):
        owner = getattr(call, "__self__", None)
        called_after = type(owner) if owner is not None and not inspect.ismodule(owner) else call
        return str(getattr(called_after, "__module__", None) or "")
    return type(call).__module__
