"""Whose code may run: stores and trainings that nobody here has written are only looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import machine_notes, opening, prepare
from pipeline.geometry.grid import Grid
from pipeline.problem import trust, usercode
from pipeline.problem.trust import TrustError
from pipeline.problem.usercode import UserCodeError
from pipeline.spec import RenderSpec
from pipeline.store.store import Store
from pipeline.training import connect, fit
from pipeline.training.run_folder import TrainingError
from pipeline.training.spec import FitSpec
from tests.bowl import BOWL

RUNS = "from pathlib import Path\nPath({!r}).touch()\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has noted nothing yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def store(bowl: Callable[..., RenderSpec]) -> Store:
    prepared = prepare.prepare(bowl())
    return opening.create(prepared, Grid(7, 5, 3))[0]


def another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))


def changed(store: Store, change: Callable[[dict[str, Any]], object]) -> Store:
    """The store after somebody has rewritten its attributes."""
    about = Path(store.url) / "zarr.json"
    content = json.loads(about.read_text())
    change(content["attributes"])
    about.write_text(json.dumps(content))
    return Store.open(store.url)


def test_code_of_a_spec_here_runs_again_wherever_its_store_lies(
    store: Store, tmp_path: Path
) -> None:
    prepare.prepare_resume(store)
    Path(store.url).rename(tmp_path / "moved.zarr")
    prepare.prepare_resume(Store.open(str(tmp_path / "moved.zarr")))


def test_other_code_is_named_and_wants_its_digest(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_machine(monkeypatch, tmp_path)
    told: list[str] = []
    with pytest.raises(TrustError) as caught:
        prepare.prepare_resume(store, tell=told.append)
    sources, digest = store.attrs["code"]["network"]["digest"], prepare.code_in(store).digest
    assert str(caught.value) == (
        f"{store.url} names code that no spec of yours here named: network bowl.py:Bowl (sha256 "
        f"{sources[:12]}); wanted your word that it may run with your rights. Look at it "
        f"(lossatlas info RUN --json, or training.json), then add --trust {digest}"
    )
    with pytest.raises(TrustError, match=f"code other than --trust 123: .* add --trust {digest}"):
        prepare.prepare_resume(store, "123")
    assert told == []
    prepare.prepare_resume(store, digest, told.append)
    assert told == [f"runs the code in {store.url}: network bowl.py:Bowl (sha256 {sources[:12]})"]
    with pytest.raises(TrustError, match="no spec of yours"):
        prepare.prepare_resume(store)  # it was said for one time


def test_a_spec_that_matches_a_store_answers_for_its_code(
    bowl: Callable[..., RenderSpec], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_machine(monkeypatch, tmp_path)
    opening.create(prepare.prepare(bowl()), Grid(7, 5, 3))
    prepare.prepare_resume(store)


def test_what_is_built_in_needs_no_word(tmp_path: Path) -> None:
    built_in = trust.Named((), "")
    trust.require("x.zarr", built_in, None)
    trust.note(built_in)
    assert not (tmp_path / "state").exists()
    with pytest.raises(TrustError, match="x.zarr names no code; wanted no --trust. Leave it out"):
        trust.require("x.zarr", built_in, "abc")


def test_other_arguments_are_other_code(store: Store) -> None:
    """What an installed function does may lie in what it is given: `torch.hub:load`."""
    again = changed(store, lambda facts: facts["spec"]["network"].update(kwargs={"size": 7}))
    with pytest.raises(TrustError, match="names code that no spec of yours here named"):
        prepare.prepare_resume(again)


@pytest.mark.parametrize("factory", ["os:system", "some.package:build"])
def test_an_installed_function_is_code_too(store: Store, tmp_path: Path, factory: str) -> None:
    ran = tmp_path / "ran"
    network = {"factory": factory, "kwargs": {"command": f"touch {ran}"}}
    again = changed(store, lambda facts: facts["spec"].update(network=network))
    with pytest.raises(TrustError, match=rf"network {factory} \(of an installed package\)"):
        prepare.prepare_resume(again)
    assert not ran.exists()


def tampered(facts: dict[str, Any], ran: Path) -> dict[str, Any]:
    code: dict[str, Any] = facts["code"]["network"]
    code["files"][code["entry"]] = RUNS.format(str(ran)) + code["files"][code["entry"]]
    return code


def rehashed(facts: dict[str, Any], ran: Path) -> dict[str, Any]:
    code = tampered(facts, ran)
    code["digest"] = usercode._digest(code["entry"], code["files"])
    return code


def relisted(facts: dict[str, Any], ran: Path) -> None:
    facts["parts"]["network.code"] = rehashed(facts, ran)["digest"]


def test_code_is_held_to_its_digest_its_part_and_the_fingerprint_before_it_runs(
    store: Store, tmp_path: Path
) -> None:
    original = (Path(store.url) / "zarr.json").read_text()
    ran = tmp_path / "ran"
    for change, message in (
        (tampered, "the code of bowl.py has the digest .*… is recorded, so it was changed after"),
        (rehashed, "the code of bowl.py .* is not what it lists for network bowl.py"),
        (relisted, "its fingerprint is not that of the parts it lists, so it was changed"),
        (lambda facts, _: facts["code"].update(network=None), "holds code without its files"),
        (lambda facts, _: facts["code"]["network"].update(entry="x.py"), "without its files"),
    ):
        again = changed(store, lambda facts, change=change: change(facts, ran))
        with pytest.raises(UserCodeError, match=message):
            prepare.prepare_resume(again)
        assert not ran.exists()
        (Path(store.url) / "zarr.json").write_text(original)
    prepare.prepare_resume(Store.open(store.url))


def test_a_file_on_this_machine_is_not_read_for_a_store(store: Store, tmp_path: Path) -> None:
    """A store that names a file but does not hold it would get whatever is there."""
    mine = tmp_path / "mine.py"
    mine.write_text(RUNS.format(str(tmp_path / "ran")) + "def load(split): ...\n")
    again = changed(store, lambda facts: facts["spec"]["data"].update(source=f"{mine}:load"))
    with pytest.raises(UserCodeError, match="holds code without its files"):
        prepare.prepare_resume(again)
    assert not (tmp_path / "ran").exists()


def trained(tmp_path: Path) -> fit.Prepared:
    (tmp_path / "bowl.py").write_text(BOWL)
    np.savez(tmp_path / "data.npz", x=np.zeros((8, 1), "f4"), y=np.ones((8, 6), "f4"))
    spec = {
        "name": "bowl",
        "network": {"factory": f"{tmp_path}/bowl.py:Bowl"},
        "data": {"source": f"{tmp_path}/data.npz", "splits": {"train": 8}},
        "loss": "mse",
        "train": {"epochs": 1, "batch": 8, "lr": 0.1},
        "out": str(tmp_path / "out"),
    }
    prepared = fit.prepare(FitSpec.model_validate(spec))
    fit.fit(prepared)
    return prepared


def test_the_folder_of_a_training_is_held_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = trained(tmp_path)
    fit.prepare_again(prepared.folder)
    another_machine(monkeypatch, tmp_path)
    with pytest.raises(TrustError, match=f"{prepared.folder} names code .* network bowl.py:Bowl"):
        fit.prepare_again(prepared.folder)
    fit.prepare_again(prepared.folder, prepared.code.digest)
    about, ran = prepared.folder / "training.json", tmp_path / "ran"
    facts = json.loads(about.read_text())
    tampered(facts, ran)
    about.write_text(json.dumps(facts))
    with pytest.raises(UserCodeError, match="so it was changed after it was kept"):
        fit.prepare_again(prepared.folder, prepared.code.digest)
    assert not ran.exists()
    with pytest.raises(TrainingError, match="holds the training of a mode"):
        connect.prepare_again(prepared.folder)


def test_notes_are_for_this_user_alone(tmp_path: Path) -> None:
    machine_notes.write("code abc", functions=["network a.py:b"])
    (note,) = (tmp_path / "state/lossatlas").iterdir()
    assert (note.stat().st_mode & 0o777, note.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert machine_notes.read("code abc")["functions"] == ["network a.py:b"]
    assert machine_notes.read("code xyz") == {}
    note.chmod(0o666)
    assert machine_notes.read("code abc") == {}
    note.chmod(0o600)
    note.write_text(json.dumps({"about": "another"}))
    assert machine_notes.read("code abc") == {}


def test_no_place_for_notes_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    machine_notes.write("code abc", functions=[])
    assert machine_notes.read("code abc") == {}
