"""What a user chose for running, as against what is rendered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cluster.errors import ClusterError
from cluster.scheduling.selection import Selection, parse
from cluster.workers.devices import DeviceChoice


@dataclass(frozen=True)
class Options:
    """How to run: `address` of a Ray cluster to join, `selection` of a film's frames.

    `other_versions` allows another torch or numpy than the store was begun with.
    """

    executor: Literal["ray", "serial"] = "ray"
    workers: int | None = None
    device: DeviceChoice = "auto"
    address: str | None = None
    quiet: bool = False
    log: Literal["text", "json"] = "text"
    other_versions: bool = False
    selection: Selection = field(default_factory=Selection)


def from_command_line(how: dict[str, Any]) -> Options:
    """The options of a command line, checked against each other.

    Raises:
        ClusterError: two of them exclude each other, or --frames is no range.
    """
    if how["executor"] == "serial":
        for option in ("address", "workers"):
            if how[option] not in (None, 1):
                raise ClusterError(
                    f"--{option} {how[option]} with --executor serial, which renders in this "
                    f"process alone; wanted one of them. Leave out --{option}"
                )
    chosen = {name: value for name, value in how.items() if name not in ("frames", "every")}
    return Options(**chosen, selection=selection_of(how))


def selection_of(how: dict[str, Any]) -> Selection:
    """What --frames and --every say."""
    return replace(parse(how["frames"] or "0:"), every=how["every"])
