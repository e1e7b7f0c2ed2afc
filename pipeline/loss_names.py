"""The built-in losses by name, and what they are in words. Nothing here imports torch."""

from __future__ import annotations

from typing import Literal

Mean = Literal["example", "token"]

SHOWN = {"mse": "mean squared error", "l1": "mean absolute error", "huber": "Huber loss"}
"""What pictures call the numbers of losses that have no unit."""
IN_NATS = ("cross_entropy", "nll", "bce_with_logits")
BUILT_IN = (*IN_NATS, *SHOWN)
OF_CLASSES = ("cross_entropy", "nll")
"""Those whose targets are classes, so that positions may be left out or weighed."""
WITH_ERROR = IN_NATS
"""Those that have an error, the fraction misclassified."""
