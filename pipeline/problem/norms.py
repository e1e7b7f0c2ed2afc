"""Which of a network's modules are batch norms, and which buffers are theirs."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

_KEPT = ("running_mean", "running_var", "num_batches_tracked")


def has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def step_counts(network: nn.Module) -> set[str]:
    """The names of `num_batches_tracked` of torch's norms, which no forward pass in eval reads."""
    return {
        f"{prefix}.num_batches_tracked" if prefix else "num_batches_tracked"
        for prefix, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, _NormBase)
    }


def running_statistics(network: nn.Module) -> set[str]:
    """The names of the buffers that batch norms of torch's keep."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, _BatchNorm)
        for name, _ in module.named_buffers(recurse=False)
        if name in _KEPT
    }
