"""What can be wrong with a store."""

from __future__ import annotations

from pipeline.errors import LossatlasError


class StoreError(LossatlasError):
    """The store is missing, is something else, or holds damaged chunks."""


class TakenError(StoreError):
    """There is already something at the place of a new store."""
