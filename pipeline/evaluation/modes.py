"""Networks that do more in `train()` and `eval()` than set a flag."""

from __future__ import annotations

from torch import nn


def has_modes(network: nn.Module) -> bool:
    """Whether a module of `network` has a `train()` or `eval()` of its own.

    What it computes there may depend on the weights (attention biases that are gathered once for
    evaluation), so both are called at every point.
    """
    return any(
        "train" in vars(module)
        or "eval" in vars(module)
        or type(module).train is not nn.Module.train
        or type(module).eval is not nn.Module.eval
        for module in network.modules()
    )
