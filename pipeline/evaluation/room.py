"""Memory: what is said where it runs out, and giving it back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator

import torch

from pipeline.errors import LossatlasError, is_out_of_memory, one_line
from pipeline.evaluation.examples import EvaluateError


class NoRoomError(EvaluateError, MemoryError):
    """The device's memory is full: another device, or another moment, may have room."""


@contextlib.contextmanager
def room_on(device: str) -> Iterator[None]:
    """Say plainly where `device` cannot even hold what an evaluator begins with.

    Raises:
        NoRoomError: torch ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, LossatlasError) or not is_out_of_memory(error):
            raise
        raise NoRoomError(
            f"{device} has no room for the network and the data ({one_line(error, 300)}); wanted "
            "memory for both. Use a larger device, or fewer examples in data.splits"
        ) from None


def keep_freed_memory() -> None:
    # glibc hands freed memory back to the kernel, and fetches it again for the next layer, until
    # it has seen a large block freed. A large network's activations are such blocks; a small one
    # would pay a tenth of its time (docs/log.md). Nothing touches this one.
    torch.empty(4 << 20, dtype=torch.uint8)


def give_back_memory(device: torch.device) -> None:
    """Let others have what evaluators that are gone have held of `device`, or evaluations."""
    # CUDA graphs hold themselves in a cycle, and so do chunks that waited at a barrier.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    # Each thread's freed memory stays with it, and with recompute each chunk has a thread.
    with contextlib.suppress(AttributeError, OSError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
