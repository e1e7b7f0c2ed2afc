"""The parts of a fingerprint that say how a loss is computed; only those that are not usual.

Stores and trainings of earlier versions have none of them.
"""

from __future__ import annotations

from typing import Any

from pipeline.loss_spec import AsksLoss, mean_of
from pipeline.problem.trust import Codes
from pipeline.spec import NetworkSpec


def parts_of_network(precision: str) -> dict[str, Any]:
    """The precision of a network that does not compute in float32; earlier versions all did."""
    return {} if precision == "float32" else {"network.precision": precision}


def parts_of_loss(
    network: NetworkSpec, asked: AsksLoss, codes: Codes, prefix: str
) -> dict[str, Any]:
    """The parts, by key; `prefix` is where the spec has the loss, such as `evaluate.`."""
    parts: dict[str, Any] = {}
    if network.output is not None:
        parts["network.output"] = network.output
    options = asked.loss_options
    if options is not None:
        given = options.model_dump(mode="json", exclude_none=True)
        parts |= {f"{prefix}loss_options.{key}": value for key, value in given.items()}
    if mean_of(asked) != "example":
        parts[f"{prefix}mean"] = mean_of(asked)
    for name, called in asked.metrics.items():
        parts[f"{prefix}metrics.{name}"] = called.rpartition("/")[2]
        parts[f"{prefix}metrics.{name}.code"] = codes.metrics[name].digest
    return parts
