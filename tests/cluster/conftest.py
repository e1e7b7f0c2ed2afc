from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """One private Ray for all tests: it takes ten seconds to start."""
    from cluster.workers import local

    with local.private(workers=3, gpus=0, object_bytes=0) as module:
        yield module
