"""Keeping the weights of a training of your own, so that its trajectory can be drawn."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from pipeline.training.run_folder import write_tensors


def keep(network: nn.Module, folder: str | Path, step: int, epoch: float | None = None) -> Path:
    """Write the network's weights and buffers to a file, whole or not at all.

    To be called now and then in a training loop, by one process. The files of a folder are a
    trajectory: `plane: {kind: fit, weights: folder}`.

    Args:
        network: any; what DistributedDataParallel, DataParallel or `torch.compile` put around it is
            taken off.
        folder: for the files; it is made where it is missing.
        step: steps done, for the name of the file: `step-000300.safetensors`.
        epoch: epochs done, noted in the file; None for not known.

    Returns:
        The file.

    Raises:
        TrainingError: the place cannot be written.
    """
    state = unwrapped(network).state_dict()
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    path = Path(folder) / f"step-{step:06d}.safetensors"
    facts = {"step": step} | ({} if epoch is None else {"epoch": epoch})
    write_tensors(path, tensors, facts)
    return path


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside of torch's wrappers, which put a prefix before every name."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(network, parallel):
            network = network.module
        elif isinstance(getattr(network, "_orig_mod", None), nn.Module):
            network = network._orig_mod  # type: ignore[assignment]
        else:
            return network
