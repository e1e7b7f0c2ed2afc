"""What a machine can do at most, measured: matrix products and copies; and how to time on it.

Processor time on a CPU, since these machines are shared; a synchronised clock on CUDA. The best of
several, since whatever disturbs a measurement makes it longer. torch alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

import torch

from benchmarks import host

_SIDES = {"cpu": 1024, "cuda": 8192}
_COPIED_BYTES = {"cpu": 64 << 20, "cuda": 2 << 30}


def facts(device: str = "cpu") -> dict[str, Any]:
    """What belongs beside every figure: date, machine, torch and its threads."""
    return {
        "date": date.today().isoformat(),
        "machine": name(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def name(device: str = "cpu") -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return host.processor()


def best_seconds(call: Callable[[], object], device: str = "cpu", repeats: int = 5) -> float:
    """Of `call`, after one that is not counted."""
    call()
    return min(seconds(call, device) for _ in range(repeats))


def seconds(call: Callable[[], object], device: str = "cpu") -> float:
    """Of one `call`."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        call()
        torch.cuda.synchronize(device)
        return time.perf_counter() - began
    began = time.process_time()
    call()
    return time.process_time() - began


def matmul_rate(
    device: str = "cpu", dtype: torch.dtype = torch.float32, side: int | None = None
) -> float:
    """FLOP a second of a square matrix product of random numbers, by default a large one.

    On a CPU torch has two libraries for it. What multiplies matrices is not always the faster one,
    and convolutions use the other, oneDNN: the rate is that of the better.
    """
    side = side or _SIDES[torch.device(device).type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    products: list[Callable[[], object]] = [lambda: a @ b]
    if a.device.type == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available():
        of_onednn = a.to_mkldnn(), b.to_mkldnn()
        products.append(lambda: torch.ops.aten.mkldnn_linear(*of_onednn))
    return 2 * side**3 / min(best_seconds(product, device) for product in products)


def copy_bandwidth(device: str = "cpu") -> float:
    """Bytes a second of a copy far larger than the caches, those read and those written."""
    count = _COPIED_BYTES[torch.device(device).type] // 4
    a, b = torch.randn(count, device=device), torch.empty(count, device=device)
    return 8 * count / best_seconds(lambda: b.copy_(a), device)
