"""Which code of a store or a training may run.

A store holds code, and anyone who can write the store can change it. Code runs if a spec on this
machine named the same code before, with the same arguments. Any other code runs only if the user,
who has seen it, gives its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline import machine_notes
from pipeline.errors import LossatlasError
from pipeline.fingerprint import digest_of_parts
from pipeline.loss_spec import AsksLoss
from pipeline.problem import usercode
from pipeline.problem.usercode import UserCode, UserCodeError
from pipeline.spec import DataSpec, NetworkSpec

_DIGITS = 32
_METRICS = "metrics."


class TrustError(LossatlasError):
    """A store or a training names code that is not trusted on this machine."""


@dataclass(frozen=True)
class Codes:
    """The user's own code behind a spec, by value."""

    network: UserCode | None
    loss: UserCode | None
    data: UserCode | None
    metrics: Mapping[str, UserCode] = field(default_factory=dict)

    def by_role(self) -> dict[str, UserCode | None]:
        """Each by what it is for: network, loss, data, and metrics.<name>."""
        of_metrics = {f"{_METRICS}{name}": code for name, code in self.metrics.items()}
        return {"network": self.network, "loss": self.loss, "data": self.data, **of_metrics}

    @staticmethod
    def of_roles(codes: Mapping[str, UserCode | None]) -> Codes:
        """The inverse of `by_role`; roles that are missing have no code."""
        metrics = {
            role.removeprefix(_METRICS): code
            for role, code in codes.items()
            if code is not None and role.startswith(_METRICS)
        }
        return Codes(codes.get("network"), codes.get("loss"), codes.get("data"), metrics)


@dataclass(frozen=True)
class Named:
    """The code that a spec names, built-in networks and losses left out.

    Attributes:
        functions: for people, one each: `network model.py:build (sha256 0123456789ab)`.
        digest: over functions, sources, and what the network's factory is given; empty where there
            is no code.
    """

    functions: tuple[str, ...]
    digest: str

    def __str__(self) -> str:
        return ", ".join(self.functions)


def read_codes(network: NetworkSpec, data: DataSpec, loss: AsksLoss) -> Codes:
    """The user's own code that a spec names, from its files.

    Raises:
        UserCodeError: a file cannot be read, or imports what cannot travel.
    """
    names = {"network": network.factory, "data": data.source, **_functions(loss)}
    return Codes.of_roles({role: usercode.source_of(name) for role, name in names.items()})


def named(network: NetworkSpec, data: DataSpec, loss: AsksLoss, codes: Codes) -> Named:
    """The code in a spec; `codes` has the sources of what is in files."""
    functions, parts, by_role = [], [], codes.by_role()
    for role, name in _called(network, data, loss).items():
        # A path is a name on one machine; the code it leads to counts by its digest.
        name, code = name.rpartition("/")[2], by_role.get(role)
        source = f"sha256 {code.digest[:12]}" if code else "of an installed package"
        functions.append(f"{role} {name} ({source})")
        parts.append([role, name, code.digest if code else None])
    if not parts:
        return Named((), "")
    content = json.dumps([parts, network.model_dump(mode="json")["kwargs"]], sort_keys=True)
    return Named(tuple(functions), hashlib.sha256(content.encode()).hexdigest()[:_DIGITS])


def note(code: Named) -> None:
    """Remember that a spec on this machine named `code`: the same code may run again."""
    if code.digest and not _known(code):
        machine_notes.write(f"code {code.digest}", functions=list(code.functions))


def require(
    place: str, code: Named, given: str | None, tell: Callable[[str], None] | None = None
) -> None:
    """See that `code`, as `place` has it, may run here.

    Args:
        place: absolute path or URL of a store, or the folder of a training.
        code: what it names.
        given: the digest that the user gave (`--trust`), if any.
        tell: takes one line on what runs because the user gave its digest.

    Raises:
        TrustError: no spec on this machine named it, and the digest given is none or another.
    """
    if given is not None and code.digest and given == code.digest:
        if tell is not None:
            tell(f"runs the code in {place}: {code}")
        return
    if given is None and (not code.digest or _known(code)):
        return
    if not code.digest:
        raise TrustError(f"{place} names no code; wanted no --trust. Leave it out")
    found = "that no spec of yours here named" if given is None else f"other than --trust {given}"
    raise TrustError(
        f"{place} names code {found}: {code}; wanted your word that it may run with your rights. "
        "Look at it (lossatlas info RUN --json, or training.json), then add --trust "
        f"{code.digest}"
    )


def recorded(
    facts: Mapping[str, Any], network: NetworkSpec, data: DataSpec, loss: AsksLoss, where: str
) -> Codes:
    """The code that a store or a training has kept, held to its digests. Nothing of it is run.

    Args:
        facts: the store's attributes, or what training.json says.
        network, data, loss: of the spec in it.
        where: it is, for the message.

    Raises:
        UserCodeError: sources, digests and fingerprint do not belong together.
    """
    parts, kept = facts.get("parts") or {}, facts.get("code") or {}
    if digest_of_parts(parts) != facts.get("fingerprint"):
        raise UserCodeError(
            f"{where}: its fingerprint is not that of the parts it lists, so it was changed; "
            "wanted what the run began with. Put the old one back, or begin a new one"
        )
    codes: dict[str, UserCode | None] = {}
    for role, name in _called(network, data, loss).items():
        file = _file(name)
        if file is None:
            continue
        code = usercode.recorded(kept.get(role) or {}, where)
        listed = parts.get(f"{role}.code", parts.get(f"evaluate.{role}.code"))
        # The fingerprint has no part for the code of the data: the examples have one.
        if code.entry != file or (role != "data" and listed != code.digest):
            raise UserCodeError(
                f"{where}: the code of {code.entry} ({code.digest[:12]}…) is not what it lists for "
                f"{role} {file} ({str(listed)[:12]}…); wanted what the run began with. Put the old "
                "one back, or begin a new one"
            )
        codes[role] = code
    return Codes.of_roles(codes)


def _functions(loss: AsksLoss) -> dict[str, str]:
    """The loss and the metrics that a spec names: role → name."""
    return {"loss": loss.loss, **{f"{_METRICS}{name}": f for name, f in loss.metrics.items()}}


def _called(network: NetworkSpec, data: DataSpec, loss: AsksLoss) -> dict[str, str]:
    """The functions that a spec names: role → name."""
    of_loss = _functions(loss)
    names = {"network": network.factory, "loss": of_loss.pop("loss"), "data": data.source}
    names |= of_loss
    called = {role: name for role, name in names.items() if _file(name) is not None}
    if ":" in network.factory:
        called["network"] = network.factory
    return called


def _file(name: str) -> str | None:
    """The file's name in `path/file.py:callable`; None for any other name."""
    file, _, _ = name.rpartition(":")
    return file.rpartition("/")[2] if file.endswith(".py") else None


def _known(code: Named) -> bool:
    return bool(machine_notes.read(f"code {code.digest}"))
