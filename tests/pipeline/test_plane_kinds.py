"""Best-fit planes, patches and given directions: from a spec to the numbers of a quadratic bowl."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline import opening, plan, prepare, spec
from pipeline.errors import InputsChangedError, LossatlasError
from pipeline.fingerprint import differences
from pipeline.geometry import film_planes, planes
from pipeline.geometry.directions import given_directions, normalised, random_directions
from pipeline.geometry.plane import PlaneError, patch
from pipeline.prepare import PrepareError
from pipeline.problem.layout import Layout
from pipeline.spec import RenderSpec
from pipeline.spec_file import SpecError
from pipeline.store.store import Store
from pipeline.task import TileRenderer
from tests.bowl import write_bowl

MakeSpec = Callable[..., RenderSpec]
EPOCHS = 6


@pytest.fixture
def path(tmp_path: Path) -> np.ndarray:
    """The weights, float32 (6, 6), of six checkpoints in the folder of the bowl."""
    folder = tmp_path / "bowl"
    folder.mkdir()
    steps = np.random.default_rng(5).standard_normal((EPOCHS, 6))
    weights = np.cumsum(steps, axis=0).astype("f4")
    for epoch, theta in enumerate(weights):
        save_file({"theta": torch.tensor(theta)}, folder / f"epoch-{epoch}.safetensors")
    return weights


def _render(read: RenderSpec) -> Store:
    prepared = prepare.prepare(read)
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 2))
    _finish(prepared, store)
    return store


def _finish(prepared: prepare.Prepared, store: Store) -> None:
    renderer = TileRenderer(prepared.inputs, store.url)
    for tile in store.pending():
        renderer(tile)


def _fit(**keys: Any) -> dict[str, Any]:
    return {"kind": "fit", "weights": "epoch-*.safetensors", **keys}


# Best-fit planes


def test_a_best_fit_plane_of_a_bowl(bowl: MakeSpec, path: np.ndarray) -> None:
    store = _render(bowl(plane=_fit()))
    exact = path.astype("f8")
    _, values, rows = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)
    rows *= np.sign(rows @ (exact[-1] - exact[0]))[:, None]
    x, y = store.grid.axes(store.extent())
    weights = exact.mean(axis=0) + x[:, None] * rows[0] + y[:, None, None] * rows[1]
    np.testing.assert_allclose(store.read("loss", "train"), (weights**2).mean(axis=2), rtol=1e-6)
    facts = store.attrs["plane"]
    assert facts["kind"], facts["units"] == ("fit", "euclidean")
    assert facts["components"] == [1, 2]
    assert facts["explained"] == pytest.approx((values**2 / (values**2).sum())[:2].tolist())
    places = (exact - exact.mean(axis=0)) @ rows[:2].T
    low, high = places.min(axis=0), places.max(axis=0)
    margin = 0.2 * (high - low)
    extent = store.extent()
    assert (extent.x0, extent.y0) == pytest.approx(tuple(low - margin))
    assert (extent.x1, extent.y1) == pytest.approx(tuple(high + margin))
    first, last = store.anchors()
    assert (first.name, last.name) == ("first", "last")
    assert (first.x, first.y) == pytest.approx(tuple(places[0]))
    assert last.off_plane == pytest.approx(
        np.linalg.norm((exact[-1] - exact.mean(axis=0)) @ rows[2:].T), rel=1e-5
    )


def test_a_plane_through_the_last_weights_of_the_last_few(bowl: MakeSpec, path: np.ndarray) -> None:
    prepared = prepare.prepare(bowl(plane=_fit(last=4, centre="last", components=[2, 1])))
    plane = prepared.first_plane()
    np.testing.assert_array_equal(plane.origin, path[-1].astype("f8"))
    centred = path[-4:].astype("f8") - path[-1]
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    assert abs(plane.u @ rows[1]) == pytest.approx(1)
    assert abs(plane.v @ rows[0]) == pytest.approx(1)
    assert prepared.facts["plane"]["checkpoints"] == 4
    last = prepared.frames[0].anchors[1]
    assert (last.x, last.y, last.off_plane) == pytest.approx((0, 0, 0))


def test_a_list_may_hold_patterns_and_a_folder_is_one(
    bowl: MakeSpec, path: np.ndarray, tmp_path: Path
) -> None:
    other = tmp_path / "bowl" / "other"
    other.mkdir()
    for epoch in range(3):
        theta = torch.arange(6) * float(epoch + 1) ** 2
        save_file({"theta": theta}, other / f"epoch-{epoch}.safetensors")
    both = bowl(plane=_fit(weights=["epoch-*.safetensors", "other/epoch-2.safetensors"]))
    assert prepare.prepare(both).facts["plane"]["checkpoints"] == EPOCHS + 1
    with pytest.raises(LossatlasError, match="lie on a line"):
        prepare.prepare(bowl(plane=_fit(weights="other")))


def test_a_list_and_a_pattern_give_the_same_plane(bowl: MakeSpec, path: np.ndarray) -> None:
    listed = [f"epoch-{epoch}.safetensors" for epoch in (0, 3, 1, 4, 2, 5)]
    one, other = (prepare.prepare(bowl(plane=_fit(weights=w))) for w in (listed, _fit()["weights"]))
    for name in ("origin", "u", "v"):
        np.testing.assert_array_equal(
            getattr(one.first_plane(), name), getattr(other.first_plane(), name)
        )
    assert one.frames[0].extent == other.frames[0].extent


def test_weights_that_several_runs_have_in_common_count_once(
    bowl: MakeSpec, path: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "bowl"
    alone = prepare.prepare(bowl(plane=_fit()))
    (folder / "fresh-0.safetensors").write_bytes((folder / "epoch-0.safetensors").read_bytes())
    both = prepare.prepare(bowl(plane=_fit(weights=["fresh-*", "epoch-*"])))
    for name in ("origin", "u", "v"):
        np.testing.assert_array_equal(
            getattr(both.first_plane(), name), getattr(alone.first_plane(), name)
        )
    loop = prepare.prepare(bowl(plane=_fit(weights=["epoch-*", "fresh-*"])))  # ends where it began
    first, last = loop.frames[0].anchors
    assert (first.x, first.y) == (last.x, last.y)


def test_a_render_goes_on_with_the_files_that_it_began_with(
    bowl: MakeSpec, path: np.ndarray, tmp_path: Path
) -> None:
    asked = bowl(plane=_fit())
    prepared = prepare.prepare(asked)
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 2))
    more = torch.tensor(path[-1] + 1)
    save_file({"theta": more}, tmp_path / "bowl" / "epoch-6.safetensors")
    resumed = prepare.prepare_resume(store)
    assert resumed.fingerprint == prepared.fingerprint
    _finish(resumed, store)
    changed = differences(store.attrs["parts"], prepare.prepare(asked).parts)
    assert any(line.startswith("plane.weights[6]") for line in changed)
    save_file({"theta": more}, tmp_path / "bowl" / "epoch-2.safetensors")
    with pytest.raises(PrepareError, match=r"plane\.fit"):
        prepare.prepare_resume(store)


def test_curve_checkpoints_stand_for_their_bends(
    bowl: MakeSpec, path: np.ndarray, tmp_path: Path
) -> None:
    for epoch, theta in enumerate(path[:4]):
        points = {f"theta_{i}": torch.tensor(t) for i, t in enumerate((path[4], theta, path[5]))}
        save_file(points, tmp_path / "bowl" / f"bend-{epoch}.safetensors")
    alone = bowl(plane=_fit(weights=[f"epoch-{epoch}.safetensors" for epoch in range(4)]))
    bends = prepare.prepare(bowl(plane=_fit(weights="bend-*")))
    np.testing.assert_array_equal(bends.first_plane().u, prepare.prepare(alone).first_plane().u)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"weights": []}, r"plane.weights: found \[\]; wanted a pattern"),
        ({"weights": 5}, "plane.weights: found 5; wanted a pattern"),
        ({"weights": ["a.safetensors", "b.safetensors"]}, "has 2 checkpoints; kind: fit wants 3"),
        ({"weights": "none-*.pt"}, "no checkpoint in .*none"),
        ({"weights": "epoch-[01]*"}, "2 checkpoints; kind: fit wants 3 to 4,096.*interpolation"),
        ({"weights": ["a.safetensors"]}, "has 1 checkpoint; .* Use kind: random around it"),
        ({"last": 7}, "plane.last is 7 and plane.weights has 6 .* Use a smaller one"),
        ({"last": 2}, "greater than or equal to 3"),
        ({"components": [2, 2]}, "two different"),
        ({"components": [1, 6]}, "component 6 and the weights have 5"),
        (
            {"weights": ["a.safetensors", "b.safetensors", "a.safetensors"]},
            "names .*a.safetensors twice",
        ),
        (
            {"weights": ["a.safetensors", "b.safetensors", "copy.safetensors"]},
            "hold 2 different sets of weights; .* Use kind: interpolation for two",
        ),
        ({"weights": ["a.safetensors", "b.safetensors", "seven.safetensors"]}, r"theta \(7\)"),
        (
            {"weights": ["a.safetensors", "b.safetensors", "norms.safetensors"]},
            "the network not",
        ),
        ({"weights": ["a.safetensors", "b.safetensors", "nan.safetensors"]}, "NaN or inf"),
        ({"weights": ["a.safetensors", "b.safetensors", "gone.safetensors"]}, "no such file"),
        ({"margin": 0.1, "extent": [0, 1, 0, 1]}, "both margin and extent"),
        ({"frames": "epoch-*", "labels": ["a", "b"]}, "labels"),
    ],
)
def test_what_has_no_best_fit_plane_is_one_line(
    bowl: MakeSpec, path: np.ndarray, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "bowl"
    save_file({"theta": torch.ones(7)}, folder / "seven.safetensors")
    save_file({"theta": torch.ones(6), "bn.weight": torch.ones(6)}, folder / "norms.safetensors")
    save_file({"theta": torch.full((6,), torch.nan)}, folder / "nan.safetensors")
    write_bowl(folder)
    (folder / "copy.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    with pytest.raises(LossatlasError, match=message) as caught:
        prepare.prepare(bowl(plane=_fit(**keys)))
    assert "\n" not in str(caught.value)


def test_too_many_checkpoints_are_refused(
    bowl: MakeSpec, path: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planes.fit_planes, "_MOST", 5)
    with pytest.raises(LossatlasError, match=r"6 checkpoints; kind: fit wants 3 to 5.*plane\.last"):
        prepare.prepare(bowl(plane=_fit()))


# A film along a trajectory


def test_each_frame_of_a_film_has_its_weights_in_the_middle(
    bowl: MakeSpec, path: np.ndarray
) -> None:
    still = prepare.prepare(bowl(plane=_fit()))
    store = _render(bowl(plane=_fit(frames="epoch-*")))
    assert store.frames == EPOCHS
    assert store.attrs["plane"]["frames"] == [f"epoch-{epoch}" for epoch in range(EPOCHS)]
    plane, extent = still.first_plane(), store.extent()
    wanted = still.frames[0].extent
    assert (extent.x1, extent.y1) == pytest.approx((-extent.x0, -extent.y0))
    assert extent.x1 - extent.x0 == pytest.approx(wanted.x1 - wanted.x0)
    assert extent.y1 - extent.y0 == pytest.approx(wanted.y1 - wanted.y0)
    x, y = store.grid.axes(extent)
    for frame, middle in enumerate(path.astype("f8")):
        weights = middle + x[:, None] * plane.u + y[:, None, None] * plane.v
        np.testing.assert_allclose(
            store.read("loss", "train", frame), (weights**2).mean(axis=2), rtol=1e-6
        )
        assert [(a.name, a.x, a.y, a.off_plane) for a in store.anchors(frame)] == [("θ", 0, 0, 0)]


def test_a_film_needs_no_weights_beside_its_frames(
    bowl: MakeSpec, path: np.ndarray, tmp_path: Path
) -> None:
    one = prepare.prepare(bowl(plane={"kind": "fit", "frames": "epoch-*"}))
    other = prepare.prepare(bowl(plane=_fit(frames="epoch-*")))
    assert one.fingerprint == other.fingerprint
    folder = tmp_path / "bowl"
    shutil.copy(folder / "epoch-1.safetensors", folder / "same-2.safetensors")
    few = [f"{name}.safetensors" for name in ("epoch-0", "epoch-1", "same-2")]
    with pytest.raises(LossatlasError, match=r"checkpoints of plane\.frames hold 2 different sets"):
        prepare.prepare(bowl(plane={"kind": "fit", "frames": few}))


def test_a_frame_that_was_replaced_is_found(path: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "bowl"
    read = spec.read(write_bowl(folder, plane=_fit(frames="epoch-*")))
    prepared = prepare.prepare(read)
    save_file({"theta": torch.ones(6)}, folder / "epoch-2.safetensors")
    layout = prepared.evaluator.layout
    prepared.inputs.planes.of_frame(1, layout)
    with pytest.raises(InputsChangedError, match="frame 2"):
        prepared.inputs.planes.of_frame(2, layout)


def test_planes_of_a_film_are_of_another_network(path: np.ndarray, tmp_path: Path) -> None:
    found = film_planes.Trajectory(
        np.zeros(7), np.zeros(7), (str(tmp_path / "bowl" / "epoch-0.safetensors"),), ("",)
    )
    layout = Layout({"theta": (7,)}, {"theta": ("theta",)}, {}, frozenset(), frozenset(), ())
    with pytest.raises(InputsChangedError, match="not the same network"):
        found.of_frame(0, layout)


# Patches


def _patch(path: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    w1, w2, w3, w4 = path[:4].astype("f8")
    return (1 - beta) * ((1 - alpha) * w1 + alpha * w2) + beta * ((1 - alpha) * w3 + alpha * w4)


def test_a_patch_between_four_weights_of_a_bowl(bowl: MakeSpec, path: np.ndarray) -> None:
    weights = [f"epoch-{epoch}.safetensors" for epoch in range(4)]
    store = _render(bowl(plane={"kind": "patch", "weights": weights}))
    x, y = store.grid.axes(store.extent())
    assert (x[0], x[-1], y[0], y[-1]) == pytest.approx((-0.2, 1.2, -0.2, 1.2))
    wanted = [[np.mean(_patch(path, alpha, beta) ** 2) for alpha in x] for beta in y]
    np.testing.assert_allclose(store.read("loss", "train"), wanted, rtol=1e-6)
    assert store.attrs["plane"]["units"] == "patch"
    corners = [(a.x, a.y, a.off_plane) for a in store.anchors()]
    assert corners == [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)]


def test_the_nearest_point_of_a_patch(path: np.ndarray) -> None:
    bent = patch(*path[:4].astype("f8"))
    for alpha, beta in ((0, 0), (1, 0), (0, 1), (1, 1), (0.3, 0.8)):
        found = bent.project(_patch(path, alpha, beta))
        assert found == pytest.approx((alpha, beta, 0), abs=1e-6)
    random = np.random.default_rng(0)
    shares = np.linspace(-3, 4, 141)
    for theta in 2 * random.standard_normal((5, 6)):
        points = [[bent.weights(a, b) for a in shares] for b in shares]
        nearest = np.linalg.norm(np.array(points) - theta, axis=2).min()
        _, _, off = bent.project(theta)
        assert off <= nearest + 1e-9
        assert off == pytest.approx(nearest, rel=1e-2)


def test_a_patch_that_is_flat_has_no_bend() -> None:
    square = np.array([[0, 0, 7], [2, 0, 7], [0, 1, 7], [2, 1, 7]], "f8")
    flat = patch(*square)
    assert not flat.w.any()  # type: ignore[union-attr]
    assert flat.project(np.array([1.0, 0.25, 9.0])) == pytest.approx((0.5, 0.25, 2))
    with pytest.raises(PlaneError, match="identical"):
        patch(square[0], square[1], square[2], square[2])


def test_a_patch_wants_four_weights(bowl: MakeSpec) -> None:
    with pytest.raises(SpecError, match="wants four checkpoints"):
        bowl(plane={"kind": "patch", "weights": ["a.safetensors", "b.safetensors"]})


# Directions

SHAPES = {"conv": (4, 3, 2), "bias": (4,), "scale": ()}
SIZE = 24 + 4 + 1


def _vectors(count: int, size: int = SIZE) -> list[np.ndarray]:
    return list(np.random.default_rng(1).standard_normal((count, size)))


def test_lengths_of_directions() -> None:
    origin, direction = _vectors(2)
    none = normalised(direction, origin, SHAPES, "none", "none")
    np.testing.assert_array_equal(none, direction)
    ignoring = normalised(direction, origin, SHAPES, "none", "bias_norm")
    np.testing.assert_array_equal(ignoring, [*direction[:24], *np.zeros(5)])
    layer = normalised(direction, origin, SHAPES, "layer", "none")
    for part in (slice(0, 24), slice(24, 28), slice(28, 29)):
        scale = np.linalg.norm(origin[part]) / np.linalg.norm(direction[part])
        np.testing.assert_allclose(layer[part], direction[part] * scale)
    filters = normalised(direction, origin, SHAPES, "filter", "none")
    norms = np.linalg.norm(filters[:24].reshape(4, 6), axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(origin[:24].reshape(4, 6), axis=1))
    np.testing.assert_array_equal(filters[24:], layer[24:])  # a bias counts as one filter


@pytest.mark.parametrize(
    ("normalise", "units"),
    [("filter", "filter-normalised"), ("layer", "layer-normalised"), ("none", "directions")],
)
def test_units_say_how_directions_are_normalised(normalise: Any, units: str) -> None:
    origin, u, v = _vectors(3)
    assert given_directions(origin, [u, v], SHAPES, normalise).units == units
    assert random_directions(origin, SHAPES, 0, normalise).units == units


def test_given_directions_on_a_bowl(bowl: MakeSpec, path: np.ndarray) -> None:
    plane = {
        "kind": "directions",
        "weights": ["epoch-5.safetensors"],
        "directions": ["epoch-0.safetensors", "epoch-1.safetensors"],
        "normalise": "none",
        "ignore": "none",
        "extent": [-1, 2, -0.5, 0.5],
    }
    store = _render(bowl(plane=plane))
    origin, u, v = path[[5, 0, 1]].astype("f8")
    x, y = store.grid.axes(store.extent())
    weights = origin + x[:, None] * u + y[:, None, None] * v
    np.testing.assert_allclose(store.read("loss", "train"), (weights**2).mean(axis=2), rtol=1e-6)
    assert store.attrs["plane"]["names"] == ["epoch-0", "epoch-1"]
    parts = store.attrs["parts"]
    for changes in ({"normalise": "layer"}, {"directions": plane["directions"][::-1]}):
        other = prepare.prepare(bowl(plane=plane | changes))
        assert differences(parts, other.parts)


def test_one_direction_gives_a_line(bowl: MakeSpec, path: np.ndarray) -> None:
    plane = {
        "kind": "directions",
        "weights": ["epoch-5.safetensors"],
        "directions": ["epoch-0.safetensors"],
        "normalise": "layer",
        "ignore": "none",
    }
    store = _render(bowl(plane=plane, grid={"width": 5, "height": 1}))
    x, _ = store.grid.axes(store.extent())
    np.testing.assert_array_equal(x, [-1, -0.5, 0, 0.5, 1])
    origin, u = path[[5, 0]].astype("f8")
    u *= np.linalg.norm(origin) / np.linalg.norm(u)
    wanted = ((origin + x[:, None] * u) ** 2).mean(axis=1)
    np.testing.assert_allclose(store.read("loss", "train")[0], wanted, rtol=1e-6)
    with pytest.raises(SpecError, match="directions is a line and wants 1"):
        bowl(plane=plane)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"directions": []}, "0 entries; wanted one or two"),
        ({"extent": [0, 1]}, "has 2 numbers; wanted four"),
        ({}, r"directions\[0\] is zero without biases and norms"),  # theta has one axis
        ({"ignore": "none", "directions": ["a.safetensors", "a.safetensors"]}, "parallel"),
        ({"directions": ["seven.safetensors"] * 2}, r"plane.directions\[0\].*7 values"),
        ({"normalise": "wide"}, "'filter', 'layer' or 'none'"),
    ],
)
def test_directions_that_span_no_plane_are_one_line(
    bowl: MakeSpec, path: np.ndarray, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    save_file({"theta": torch.ones(7)}, tmp_path / "bowl" / "seven.safetensors")
    plane = {
        "kind": "directions",
        "weights": ["c.safetensors"],
        "directions": ["a.safetensors", "b.safetensors"],
    }
    with pytest.raises(LossatlasError, match=message):
        prepare.prepare(bowl(plane=plane | keys))


def test_random_planes_may_be_normalised_otherwise(bowl: MakeSpec) -> None:
    plane = {"kind": "random", "weights": ["a.safetensors"]}
    usual = prepare.prepare(bowl(plane=plane))
    assert not usual.first_plane().u.any()  # theta is a bias
    assert "plane.normalise" not in usual.parts  # stores of earlier versions can be resumed
    other = prepare.prepare(bowl(plane=plane | {"normalise": "none", "ignore": "none"}))
    random = np.random.Generator(np.random.PCG64(0))
    np.testing.assert_array_equal(other.first_plane().u, random.standard_normal(6))
    assert other.parts["plane.normalise"] == "none"


# Attention heads


def test_a_head_counts_as_one_filter() -> None:
    """Two heads of three rows each have the norms of the origin's, and rows keep their shares."""
    generator = np.random.default_rng(0)
    origin, direction = generator.standard_normal((2, 6 * 4 + 2 * 2))
    shapes = {"attn.qkv.weight": (6, 4), "head.weight": (2, 2)}
    found = normalised(direction, origin, shapes, "filter", "bias_norm", {"attn.*": 2})
    for head in range(2):
        part = slice(12 * head, 12 * (head + 1))
        scale = np.linalg.norm(origin[part]) / np.linalg.norm(direction[part])
        np.testing.assert_allclose(found[part], scale * direction[part], rtol=1e-14)
    plain = normalised(direction, origin, shapes, "filter", "bias_norm")
    np.testing.assert_array_equal(found[24:], plain[24:])
    assert not np.allclose(found[:24], plain[:24])


@pytest.mark.parametrize(
    ("heads", "told"),
    [
        ({"attn.*": 4}, r"attn.weight \(6, 4\) does not divide into 4 heads"),
        ({"x": 2}, "no parameter"),
    ],
)
def test_heads_that_do_not_fit_are_one_line(heads: dict[str, int], told: str) -> None:
    with pytest.raises(PlaneError, match=told):
        random_directions(np.ones(24), {"attn.weight": (6, 4)}, 0, heads=heads)


def test_heads_want_filters_and_are_in_the_fingerprint(bowl: MakeSpec) -> None:
    plane = {"kind": "random", "weights": ["a.safetensors"]}
    plain = prepare.prepare(bowl(plane=plane))
    with_heads = prepare.prepare(bowl(plane=plane | {"heads": {"theta": 2}, "ignore": "none"}))
    assert with_heads.parts["plane.heads"] == {"theta": 2}
    assert "plane.heads" not in plain.parts
    with pytest.raises(LossatlasError, match="plane.heads is given without normalise: filter"):
        bowl(plane=plane | {"heads": {"theta": 2}, "normalise": "layer"})
