"""Settings that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# The machines that run this are shared: a slow example says nothing about the code.
settings.register_profile("lossatlas", deadline=None, max_examples=50)
settings.load_profile("lossatlas")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real checkpoints and images beside the checkout; skips where there are none."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the development data in {folder}")
    return folder
