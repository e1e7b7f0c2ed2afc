"""The computer that a benchmark runs on, and what the benchmark has taken of it.

The standard library alone: torch would count towards the peak memory that is measured with this.
"""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path


def processor() -> str:
    """Its model, as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def name() -> str:
    """Cores and model, for what runs on all cores."""
    return f"{os.cpu_count()} cores, {processor()}, shared"


def cpu_seconds() -> float:
    """Processor time so far, of this process and of those it started that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_gb() -> float:
    """The most memory this process has had, in 10⁹ bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
