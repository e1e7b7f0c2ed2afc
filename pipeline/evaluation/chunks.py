"""How many examples go through a network at once."""

from __future__ import annotations

# The largest activation of one chunk, in bytes. On a CPU it has to stay in the cache: twice as much
# costs a quarter of the speed (docs/log.md). A GPU is fastest with large chunks, and where the
# calibrating set is one chunk (decision 019): 8,192 images of a ResNet-20, about two gigabytes.
_CHUNK_BYTES = {"cpu": 2 << 20, "cuda": 512 << 20}
_LARGEST_CHUNK = {"cpu": 512, "cuda": 8192}


def chunk_size(bytes_an_example: int, device: str) -> int:
    """How many examples whose largest activation takes so many bytes; `device` is cpu or cuda."""
    # Independent of free memory and of speed: all workers have to choose the same size.
    fitting = max(1, _CHUNK_BYTES[device] // max(1, bytes_an_example))
    return min(_LARGEST_CHUNK[device], 1 << (fitting.bit_length() - 1))
