"""From a factory's name to a network that can be evaluated."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from pipeline.errors import LossatlasError, described
from pipeline.problem import callables, usercode
from pipeline.problem.layout import is_double
from pipeline.problem.networks.preresnet import PreResNet
from pipeline.problem.networks.resnet import ResNet
from pipeline.problem.networks.small import CNN, MLP
from pipeline.problem.networks.vgg import VGG16
from pipeline.problem.usercode import UserCode

BUILT_IN: Mapping[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(ResNet, depth) for depth in (20, 32, 44, 56, 110)},
    **{f"preresnet{depth}": partial(PreResNet, depth) for depth in (20, 32, 44, 56, 110, 164)},
    "vgg16": VGG16,
    "mlp": MLP,
    "cnn": CNN,
}


class NetworkError(LossatlasError):
    """No network can be made of `network.factory` and `network.kwargs`."""


def build(
    factory: str,
    kwargs: Mapping[str, Any],
    code: UserCode | None = None,
    *,
    seed: int = 0,
    in_eval: bool = True,
) -> nn.Module:
    """Make the network: on the CPU, in eval mode, in float32 (or complex64).

    A network with a float64 or complex128 parameter is float64 (and complex128) as a whole.

    The initial weights are the same at every call: the factory runs under a fixed seed of
    torch's CPU generator, whose state is put back afterwards.

    Args:
        factory: a built-in name, `package.module:callable` or `path/file.py:callable`.
        kwargs: what the callable is given.
        code: the source behind `path/file.py`; the path itself is then never opened.
        seed: of the initial weights.
        in_eval: False leaves the mode of the factory. A network may fuse its weights in `eval()`,
            so other weights have to be loaded before.

    Raises:
        NetworkError: no such built-in or module, a callable that cannot give a network (it is
            then not called), wrong kwargs, the callable raised, or what it returned is not a module
            with parameters of known shapes.
        UserCodeError: the user's file cannot be read or imported.
    """
    make = maker(factory, code)
    _check_kwargs(make, factory, kwargs)
    try:
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: that would seed an accelerator's generator as well.
            torch.default_generator.manual_seed(seed)
            network = make(**kwargs)
    except Exception as error:
        where = usercode.place(error)
        raise NetworkError(
            f"network.factory {factory} raised {described(error)}"
            f"{f' ({where})' if where else ''}; wanted a network. Check network.kwargs"
        ) from error
    if not isinstance(network, nn.Module):
        raise NetworkError(
            f"network.factory {factory} returned {type(network).__name__}; wanted a "
            "torch.nn.Module. Return the network itself"
        )
    _check_parameters(network, factory)
    network = _in_one_precision(network.to("cpu"))
    return network.eval() if in_eval else network


def _in_one_precision(network: nn.Module) -> nn.Module:
    if not is_double(network):
        return network.float()
    for parameter in network.parameters():
        if parameter.dtype == torch.complex64:
            parameter.data = parameter.data.to(torch.complex128)
    return network.double()


def maker(factory: str, code: UserCode | None) -> Callable[..., Any]:
    """What `factory` names: a callable that may give a network; see `build`."""
    place, colon, name = factory.rpartition(":")
    if not colon:
        return _built_in(factory)
    if place.endswith(".py"):
        found = usercode.attribute(code or usercode.read(place), name)
    else:
        found = _installed(factory, place, name)
    called = callables.inner(found)
    if inspect.isbuiltin(called) or (
        isinstance(called, type) and not issubclass(called, nn.Module)
    ):
        raise NetworkError(
            f"network.factory {factory} is {_kind(called)}, which gives no network, and was not "
            "called; wanted a torch.nn.Module, or a Python function that returns one"
        )
    return found


def _kind(called: Any) -> str:
    if inspect.isbuiltin(called):
        return "a function written in C"
    return f"the class {called.__module__}.{called.__qualname__}"


def _installed(factory: str, place: str, name: str) -> Callable[..., Any]:
    """The callable `name` of an installed module, which is not one of Python's own."""
    if place.partition(".")[0] in sys.stdlib_module_names:
        raise _of_python(factory, place)  # importing some of them has effects
    try:
        module = importlib.import_module(place)
    except Exception as error:
        raise NetworkError(
            f"network.factory {factory}: importing {place} raised {described(error)}; "
            "wanted an installed module, or path/file.py:callable. Install it, or check its name"
        ) from error
    try:
        value = callables.reach(module, name)
    except AttributeError:
        value = None
    if not callable(value):
        near = difflib.get_close_matches(name, dir(module), n=1)
        cure = f"Did you mean {near[0]}?" if near else "Check its name"
        raise NetworkError(f"network.factory: {place} has no callable {name}; wanted one. {cure}")
    python = callables.of_python(value)
    if python is not None:
        raise _of_python(factory, python)
    found: Callable[..., Any] = value
    return found


def _of_python(factory: str, module: str) -> NetworkError:
    return NetworkError(
        f"network.factory {factory} is Python's own, from {module}, and was not called; wanted a "
        "torch.nn.Module, or a function that returns one. Check its name"
    )


def _built_in(name: str) -> Callable[..., nn.Module]:
    if name in BUILT_IN:
        return BUILT_IN[name]
    near = difflib.get_close_matches(name.lower(), BUILT_IN, n=1, cutoff=0.5)
    cure = f"Did you mean {near[0]}?" if near else f"Built in are {', '.join(BUILT_IN)}"
    raise NetworkError(
        f"network.factory {name} is not built in; wanted a built-in name, package.module:callable "
        f"or path/file.py:callable. {cure}"
    )


def _check_kwargs(make: Callable[..., Any], factory: str, kwargs: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return  # Written in C: the call itself will tell.
    try:
        signature.bind(**kwargs)
    except TypeError:
        names = [n for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
        unknown = [name for name in kwargs if name not in names]
        missing = [
            name
            for name, parameter in signature.parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and name not in kwargs
        ]
        wrong = [f"unknown {', '.join(unknown)}"] if unknown else []
        wrong += [f"no {', '.join(missing)}"] if missing else []
        near = difflib.get_close_matches(unknown[0], names, n=1) if unknown else []
        raise NetworkError(
            f"network.kwargs has {' and '.join(wrong) or 'what cannot be passed by name'}; "
            f"{factory} takes {', '.join(names) or 'nothing'}"
            f"{f'. Did you mean {near[0]}?' if near else ''}"
        ) from None


def _check_parameters(network: nn.Module, factory: str) -> None:
    empty = True
    for name, parameter in network.named_parameters():
        empty = False
        if nn.parameter.is_lazy(parameter):
            raise NetworkError(
                f"network.factory {factory}: {name} has no shape until the first forward; wanted "
                "all shapes fixed. Replace the lazy layer, or run it once in the factory"
            )
        if parameter.numel() == 0:
            raise NetworkError(
                f"network.factory {factory}: {name} has shape {tuple(parameter.shape)}, so no "
                "values; wanted at least one. Check network.kwargs"
            )
    if empty:
        raise NetworkError(
            f"network.factory {factory} has no parameters; wanted a network with weights to move"
        )
