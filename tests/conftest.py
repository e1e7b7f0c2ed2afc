"""Settings that all tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pipeline.store.store import Store

# The machines that run this are shared: a slow example says nothing about the code.
settings.register_profile("lossatlas", deadline=None, max_examples=50)
settings.load_profile("lossatlas")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that use the private Ray come first, and all in one process; other files stay whole.

    Ray reads its settings, the token's too, when it is imported: once another test has imported it,
    a private one can no longer be started in this process.
    """
    with_ray = {item.path for item in items if "ray" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in with_ray)
    for item in items:
        group = "ray" if item.path in with_ray else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real checkpoints and images beside the checkout; skips where there are none."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the development data in {folder}")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many KiB of its own; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(kib: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("needs the right to mount a tmpfs")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def refined_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A render that was refined to its end, most of its points predicted. For reading."""
    from tests.refining import refined_in  # torch: not for those who need none

    return refined_in(tmp_path_factory.mktemp("refined"))


@pytest.fixture(scope="session")
def begun_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same after 16 steps: its first pass is through, its second is not. For reading."""
    from tests.refining import refined_in  # torch: not for those who need none

    return refined_in(tmp_path_factory.mktemp("begun"), steps=16)


@pytest.fixture(scope="session")
def begun_film(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A film of two frames after its first pass. For reading."""
    from tests.refining import refined_in  # torch: not for those who need none

    return refined_in(tmp_path_factory.mktemp("film"), steps=26, frames=2)


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one whenever keys of a store are listed folder by folder."""
    from pipeline.store import keys

    listed: list[object] = []
    folders = keys.folders
    monkeypatch.setattr(keys, "folders", lambda *asked: listed.append(asked) or folders(*asked))
    return listed


@pytest.fixture(scope="session", autouse=True)
def _own_notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This machine's notes of runs go to a folder of these tests, in processes they start too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
