"""Words: what is said of a network, a loss, a selection; and what is left out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline import caption


@pytest.mark.parametrize(
    ("factory", "label", "class_name", "shown"),
    [
        ("preresnet20", None, "PreResNet", "PreResNet-20"),
        ("/home/me/my_model.py:build", None, "MyNet", "MyNet (my_model.py)"),
        ("my_model.py:MyNet", None, "MyNet", "MyNet (my_model.py)"),
        ("timm.models:LeViT", None, "LeViT", "LeViT (timm.models)"),
        ("torchvision.models:resnet18", None, "ResNet", "ResNet (torchvision.models:resnet18)"),
        ("my_model.py:build", "cnn", "MyNet", "cnn"),
        ("my_model.py:build", None, "", "build (my_model.py)"),
    ],
)
def test_a_network_has_a_name(factory: str, label: str | None, class_name: str, shown: str) -> None:
    assert caption.network_label(factory, label, class_name) == shown


@pytest.mark.parametrize(
    ("loss", "given", "positions", "unit", "measure"),
    [
        ("cross_entropy", None, 0, "nats per example", "nats per example"),
        ("cross_entropy", None, 1, "nats per token", "nats per token"),
        ("cross_entropy", None, 2, "nats per position", "nats per position"),
        ("mse", None, 0, "", "mean squared error"),
        ("l1", None, 1, "", "mean absolute error"),
        ("huber", None, 0, "", "Huber loss"),
        ("nll", None, 1, "nats per token", "nats per token"),
        ("bce_with_logits", None, 0, "nats per example", "nats per example"),
        ("bce_with_logits", None, 1, "nats per output", "nats per output"),
        ("own.py:loss", None, 0, "", ""),
        ("own.py:loss", "mm", 1, "mm", "mm"),
    ],
)
def test_a_loss_has_its_own_unit(
    loss: str, given: str | None, positions: int, unit: str, measure: str
) -> None:
    assert caption.loss_unit(loss, given, positions) == unit
    assert caption.measures(loss, unit)["loss"] == measure


def test_a_number_says_its_unit_where_it_has_one() -> None:
    assert caption.amount(0.01, "nats per example") == "0.01 nats"
    assert caption.amount(0.01, "nats per token") == "0.01 nats per token"
    assert caption.amount(0.01, "") == "0.01"


def old(loss: str | None = None, **network: Any) -> dict[str, Any]:
    """The attributes of a store that is older than labels and units."""
    evaluate = {} if loss is None else {"loss": loss}
    return {"spec": {"evaluate": evaluate, "network": {"factory": "mlp"}}, "network": network}


def test_an_older_store_claims_no_more_than_it_knows() -> None:
    assert caption.words(old()) == {"network": "MLP", "labels": [], "unit": "nats"}
    assert caption.words(old("mse"))["unit"] == ""
    assert caption.words(old("a.py:own"))["unit"] == ""
    assert caption.words({})["network"] == ""
    made = caption.words(old("mse", factory="/x/m.py:build"))
    assert made["network"] == "build (m.py)"


@pytest.mark.parametrize("said", ["none in this network", None, ""])
def test_no_word_of_batch_norm_where_there_is_none(said: str | None) -> None:
    assert caption.batch_norm(old(batch_norm=said)) == ""
    assert caption.batch_norm({}) == caption.batch_norm(old()) == ""
    kept = "frozen: running statistics of a.pt"
    assert caption.batch_norm(old(batch_norm=kept)) == kept


def test_a_selection_is_called_what_it_was() -> None:
    def attrs(**how: str) -> dict[str, Any]:
        return {"data": {split: {"select": select} for split, select in how.items()}}

    sizes = {"train": 1000, "test": 500}
    same = attrs(train="seeded", test="seeded")
    assert caption.counts(same, sizes) == "1,000 train + 500 test examples (seeded sample)"
    mixed = attrs(train="stratified", test="seeded")
    assert caption.counts(mixed, sizes) == (
        "1,000 train (class-stratified) + 500 test (seeded sample) examples"
    )
    # An older store does not know whether its targets were classes.
    asked = {"spec": {"data": {"select": "stratified"}}}
    assert caption.counts(asked, sizes).endswith("examples (seeded sample)")
    asked = {"spec": {"data": {"select": "head"}}}
    assert caption.counts(asked, sizes).endswith("examples (first rows)")
    assert caption.counts({}, sizes) == "1,000 train + 500 test examples"


def test_own_losses_are_told_the_worst_first() -> None:
    def entry(anchor: str, split: str, loss: float, own: float) -> dict[str, Any]:
        return {"anchor": anchor, "file": "b.pt", "split": split, "loss": loss, "own": own}

    assert caption.own_losses({}, {}) == []
    one = old(own_losses=[entry("end", "train", 3.489, 1.0823)])
    assert caption.own_losses(one, {}) == ["end: 3.49 here, 1.08 with its own statistics"]
    assert caption.own_losses(one, {"end": "Adam"})[0].startswith("Adam: 3.49 here")
    many = old(
        own_losses=[
            entry("start", "train", 0.5, 0.4),
            entry("bend", "train", math.nan, 0.4),
            entry("end", "train", 2.0, 1.0),
            entry("end", "test", 3.0, 1.0),
        ]
    )
    told = caption.own_losses(many, {})
    assert told[0] == "bend (train): nan here, 0.4 with its own statistics"
    assert told[1] == "end (test): 3 here, 1 with its own statistics"
    assert len(told) == 3
    assert caption.shortened(told) == f"{told[0]}; 2 more"
    assert caption.shortened(told, 3) == "; ".join(told)
    assert caption.shortened([]) == ""
