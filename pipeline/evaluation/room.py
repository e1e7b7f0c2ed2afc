"""Memory of a device: the error where it runs out, and freeing it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator

import torch

from pipeline.errors import LossatlasError, is_out_of_memory, one_line
from pipeline.evaluation.examples import EvaluateError


class NoRoomError(EvaluateError, MemoryError):
    """The device's memory is full. Another device may have room, or this one later."""


@contextlib.contextmanager
def room_on(device: str) -> Iterator[None]:
    """Turn torch's errors into one line where `device` cannot hold a network and its data.

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
    # glibc returns freed memory to the kernel and fetches it again for the next layer, until one
    # large block was freed. A large network's activations are such blocks; a small network would
    # lose a tenth of its time (docs/log.md). This block is allocated and freed for that alone.
    torch.empty(4 << 20, dtype=torch.uint8)


def give_back_memory(device: torch.device) -> None:
    """Free the memory on `device` that past evaluators and evaluations held."""
    # CUDA graphs are in reference cycles, and so are chunks that waited at a barrier.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    # A thread keeps the memory that it freed, and with recompute each chunk has a thread.
    with contextlib.suppress(AttributeError, OSError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
