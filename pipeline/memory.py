"""How much memory is free, and refusing files that declare more.

A file of a few kilobytes may unpack to terabytes. The size that a header declares is compared with
the free memory before anything is unpacked.
"""

from __future__ import annotations

import math
from pathlib import Path

from pipeline import format
from pipeline.errors import LossatlasError

_SMALL_BYTES = 64 * 2**20  # not worth a look

# Of each version of control groups: its limit, what is used, and what of that can be given back.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


class RoomError(LossatlasError):
    """Something needs more memory than is free."""


def require(bytes_: int, what: str, cure: str) -> None:
    """See that `bytes_` fit into the memory that is free now.

    Raises:
        RoomError: they do not; it gives both numbers and the cure.
    """
    if bytes_ <= _SMALL_BYTES:
        return
    free = available()
    if bytes_ > free:
        raise RoomError(
            f"{what} unpacks to {format.size(bytes_)} and {format.size(free)} of memory are "
            f"free; wanted what fits. {cure}"
        )


def available(root: Path = Path("/")) -> float:
    """Bytes that a process may still take: the machine's, or its control group's if those are
    fewer. Infinite where nothing tells (no Linux).

    Args:
        root: where /proc and /sys are.
    """
    free = math.inf
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = 1024.0 * int(line.split()[1])
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            group = root / "sys/fs/cgroup" / controllers
            # In a container the path may be the host's; the mount's own root then has the limit.
            below = [group / path.lstrip("/"), *(group / path.lstrip("/")).parents]
            free = min([free, *(_left(each) for each in below if each.is_relative_to(group))])
    return free


def _left(group: Path) -> float:
    """What a control group may still take, in bytes."""
    for limit, used, given_back in _FILES:
        try:
            most, now = (int((group / name).read_text()) for name in (limit, used))
        except (OSError, ValueError):  # no such file, or `max`
            continue
        cached = [int(li.split()[1]) for li in _lines(group / "memory.stat") if given_back in li]
        return max(0, most - now + sum(cached[:1]))
    return math.inf


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
