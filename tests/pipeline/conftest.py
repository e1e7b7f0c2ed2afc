from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipeline import spec
from tests.bowl import write_bowl


@pytest.fixture
def bowl(tmp_path: Path) -> Callable[..., spec.RenderSpec]:
    """Makes the bowl's spec, with changes, in a folder of its own."""
    return lambda **changes: spec.read(write_bowl(tmp_path / "bowl", **changes))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As a worker has it; two that wait for each other are slow where others are busy too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
