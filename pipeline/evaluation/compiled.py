"""A network's forward pass, compiled by torch for one device and the shapes it is used with.

The operators after a convolution or a product (normalising, activation, sum) become one kernel,
which reads its input once. The products themselves stay with the libraries.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import LossatlasError, described

# A kernel for every shape: each split has chunks of two sizes, and more where memory runs out.
_MOST_SHAPES = 64


class CompileError(LossatlasError):
    """The network cannot be compiled, or there is no compiler."""


class Compiled:
    """The forward pass of `network`, compiled when it is first called with a shape.

    It is compiled as a whole or not at all. A part that torch left to Python, or stopped compiling
    after some calls, would be computed in another way from then on, and show as a seam.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        # The warning recommends TF32, which `arithmetic` decides on.
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")

    @functools.cached_property
    def _forward(self) -> Callable[..., Any]:
        return torch.compile(self._network, fullgraph=True, dynamic=False, options=_options())

    def __call__(self, *inputs: Tensor, **named: Tensor) -> Any:
        """What the network returns for `inputs` (n, …).

        Raises:
            CompileError: it cannot be compiled as a whole.
        """
        from torch._dynamo import config, exc  # takes a second

        try:
            with config.patch(recompile_limit=_MOST_SHAPES):
                return self._forward(*inputs, **named)
        except (exc.TorchDynamoException, exc.FailOnRecompileLimitHit, OSError) as error:
            cause = _innermost(error)
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
            # After the reason, torch tells how to see its logs.
            told = described(cause).partition(" Set TORCHDYNAMO")[0][:200]
            raise CompileError(
                f"evaluate.compile: the network cannot be compiled ({told}); wanted a forward that "
                "torch.compile takes whole, a C++ compiler with Python's headers, and a writable "
                "TORCHINDUCTOR_CACHE_DIR. Leave evaluate.compile out"
            ) from error


def _options() -> dict[str, str | int | bool | Callable[..., Any]]:
    from torch._inductor import config

    # In this process: torch's helper processes would outlive a worker that is killed. And
    # deterministic: otherwise it measures on the device which way of summing is faster.
    options = {"compile_threads": 1, "deterministic": True}
    return {name: value for name, value in options.items() if hasattr(config, name)}


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
