"""Names from specs and stores are checked once; text that was not is harmless where it goes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.geometry.grid import Extent, Grid
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.naming import NamingError, fault, require, shown
from pipeline.spec_file import SpecError
from pipeline.store.errors import StoreError
from pipeline.store.store import Store


def create(path: Path) -> Store:
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    return Store.create(str(path), Grid(2, 1, 1), ["train"], ["loss"], [frame], {"spec": {}})


@pytest.mark.parametrize(
    "name", ["train", "test-2", "тест", "two words", "w₀", "a:b", "50 %", "名" * 66]
)
def test_ordinary_names_of_every_script_are_fine(name: str) -> None:
    assert fault(name) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("x/../../escaped", "has a slash in it"),
        ("x\\y", "has a slash in it"),
        ("..", "begins with a dot"),
        (".hidden", "begins with a dot"),
        (" x", "begins with a dot, or with or ends in a space"),
        ("\x1b[2Jx", "'\\u001b[2Jx' has a control character in it"),
        ("a\nb", "'a\\u000ab' has a control character in it"),
        ("a\x9b2J", "'a\\u009b2J' has a control character in it"),
        ("gpj.\u202eexe", "'gpj.\\u202eexe' has a control character in it"),
        ("a\ud800", "has a control character in it"),
        ("名" * 67, "201 bytes, and 200 are the most"),
        ("", "'' is no name"),
        (7, "7 is no name"),
    ],
)
def test_what_is_no_name_is_told(name: object, found: str) -> None:
    assert found in str(fault(name))
    with pytest.raises(NamingError, match="^a split of x.zarr: ") as caught:
        require(["train", name], "a split of x.zarr")
    assert str(caught.value).isprintable()


def test_text_for_a_terminal_steers_nothing() -> None:
    steering = (
        "\x1b]0;title\x07\x1b[2J\x9b2J\r\x08\u202e\u2066\u200b\ufeff\U000e0041\u2028\ud800\x7f"
    )
    told = shown(f"ä 名 é\u200d{steering}")
    assert told.startswith("ä 名 é\u200d\\u001b]0;title\\u0007")
    assert told.isascii() is False
    assert not any(c in told for c in steering if not c.isprintable())
    assert shown("a\n\tb\r", keep="\n\t") == "a\n\tb\\u000d"
    # JSON stays JSON, of the same value.
    assert json.loads(shown(json.dumps("\x7f\x1b"))) == "\x7f\x1b"


def test_a_split_of_a_spec_is_a_name(bowl: Any) -> None:
    with pytest.raises(SpecError, match=r"data.splits: 'x/../../escaped' has a slash in it"):
        bowl(data={"source": "data.npz", "splits": {"x/../../escaped": 4}})


@pytest.mark.parametrize("name", ["..", ".x"])
def test_the_name_of_a_run_is_one_of_a_file(bowl: Any, name: str) -> None:
    with pytest.raises(SpecError, match="name: '.*' begins with a dot"):
        bowl(name=name)


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"splits": ["x/../../escaped"]}, "split"),
        ({"quantities": ["../loss"]}, "quantity"),
        ({"anchors": ["\x1b[2J"]}, "anchor"),
        ({"plane": {"frames": ["a\nb"]}}, "frame"),
        ({"spec": {"name": "../../etc/cron.d/x"}}, "name"),
    ],
)
def test_the_names_of_a_store_are_checked_when_it_is_opened(
    tmp_path: Path, facts: dict[str, Any], what: str
) -> None:
    store = create(tmp_path / "x.zarr")
    about = Path(store.url) / "zarr.json"
    content = json.loads(about.read_text())
    content["attributes"] |= facts
    about.write_text(json.dumps(content))
    with pytest.raises(NamingError, match=f"^a {what} of .*x.zarr: "):
        Store.open(store.url)


def test_a_store_that_is_written_has_no_links_in_it(tmp_path: Path) -> None:
    store = create(tmp_path / "x.zarr")
    (tmp_path / "y.zarr").symlink_to(store.url)
    Store.open(str(tmp_path / "y.zarr"), writable=True).write_note("a.json", {})
    for place in (".lossatlas/quarantine", "loss", "loss/c"):
        link = Path(store.url) / place
        if link.exists():
            link.rename(tmp_path / "away")
        link.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match=f"x.zarr/{place} is a link to .*/elsewhere; wanted"):
            Store.open(store.url, writable=True)
        Store.open(store.url)
        link.unlink()
        if (tmp_path / "away").exists():
            (tmp_path / "away").rename(link)
