from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import spec
from tests.bowl import write_bowl


@pytest.fixture
def bowl(tmp_path: Path) -> Callable[..., spec.RenderSpec]:
    """Makes the bowl's spec, with changes, in a folder of its own."""
    return lambda **changes: spec.read(write_bowl(tmp_path / "bowl", **changes))
