"""Small files that unpack to more than there is are refused by what their headers declare."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from pipeline import memory
from pipeline.memory import RoomError, available, require
from pipeline.problem import checkpoint, data
from pipeline.spec import DataSpec

BIG = 80 * 2**20


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 70e6)


def load(source: Path, split: str = "train") -> None:
    data.load(DataSpec(source=str(source), splits={split: 1}))


def test_both_numbers_and_the_cure_are_told() -> None:
    require(64 * 2**20, "x.npz", "Cure")
    with pytest.raises(RoomError) as caught:
        require(3 * 10**12, "x.npz", "Give another")
    assert str(caught.value) == (
        "x.npz unpacks to 3.0 TB and 70.0 MB of memory are free; wanted what fits. Give another"
    )


def test_an_npz_that_unpacks_to_too_much(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.zeros(BIG, "u1"), y=np.zeros(1, "i8"))
    assert path.stat().st_size < 10**6
    with pytest.raises(RoomError, match="data.npz: x unpacks to 83.9 MB and 70.0 MB of memory"):
        load(path)


def test_a_parquet_file_of_repeated_values(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    table = pyarrow.table({"label": np.zeros(BIG // 8, "i8"), "img": [b""] * (BIG // 8)})
    pyarrow.parquet.write_table(table, path)
    assert path.stat().st_size < 10**6
    with pytest.raises(RoomError, match="train.parquet: label unpacks to 83.9 MB"):
        load(path)


def test_a_parquet_file_with_an_image_of_too_much(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    table = pyarrow.table({"label": [0], "img": [{"bytes": bytes(BIG), "path": "x"}]})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 10**6
    with pytest.raises(RoomError, match="train.parquet: img unpacks to 83.9 MB"):
        load(path)


def test_an_image_that_declares_too_many_pixels(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        Image.new("1", (8000, 8000)).save(folder / "a.png")
    assert (folder / "a.png").stat().st_size < 10**5
    with pytest.raises(RoomError, match="a.png unpacks to 256 MB .* Replace it"):
        load(tmp_path)


def test_images_that_are_too_many_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path / "train/one", tmp_path / "train/two"):
        folder.mkdir(parents=True)
        for name in "abc":
            Image.new("L", (2000, 1000)).save(folder / f"{name}.png")
    monkeypatch.setattr(memory, "_SMALL_BYTES", 0)
    monkeypatch.setattr(memory, "available", lambda: 20e6)
    with pytest.raises(RoomError, match="6 images such as .*.png unpacks to"):
        data.load(DataSpec(source=str(tmp_path), splits={"train": 6}))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    for name in ("a.safetensors", "a.pt", "train.npz"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(BIG)
    for name in ("a.safetensors", "a.pt"):
        with pytest.raises(RoomError, match=f"{name} unpacks to 83.9 MB"):
            checkpoint.load(str(tmp_path / name))
    with pytest.raises(RoomError, match="train.npz unpacks to 83.9 MB"):
        load(tmp_path)


def test_a_checkpoint_whose_members_unpack_to_too_much(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(BIG))
    (tmp_path / "a.pt").write_bytes(content.getvalue())
    with pytest.raises(RoomError, match="a.pt unpacks to 83.9 MB .* more memory"):
        checkpoint.load(str(tmp_path / "a.pt"))


def test_a_checkpoint_of_one_value_a_billion_times(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 10**5
    with pytest.raises(RoomError, match="a.pt unpacks to 4.0 TB"):
        checkpoint.load(str(path))


def test_what_is_free_is_the_least_of_machine_and_control_groups(tmp_path: Path) -> None:
    assert available(tmp_path) == math.inf

    def write(path: str, content: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    assert available(tmp_path) == 8_192_000
    write("proc/self/cgroup", "0::/a/b\n")
    write("sys/fs/cgroup/a/b/memory.max", "max\n")
    write("sys/fs/cgroup/a/b/memory.current", "1\n")
    assert available(tmp_path) == 8_192_000
    write("sys/fs/cgroup/a/memory.max", "5000\n")
    write("sys/fs/cgroup/a/memory.current", "3000\n")
    write("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 500\n")
    assert available(tmp_path) == 2500
    write("proc/self/cgroup", "4:memory:/c\n1:cpu:/\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "700\n")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "900\n")
    assert available(tmp_path) == 0
