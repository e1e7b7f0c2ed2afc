from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the private Ray come first.

    Ray reads its settings, the token's too, when it is imported; once another test has imported it,
    a private one can no longer be started in this process.
    """
    items.sort(key=lambda item: "ray" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """One private Ray for all tests: it takes ten seconds to start."""
    from cluster.workers import local

    with local.private(workers=3, gpus=0, object_bytes=0) as module:
        yield module
