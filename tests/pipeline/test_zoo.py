"""Networks as people use them: written here, and those of libraries where these can be imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.evaluation.crosscheck import crosscheck
from pipeline.evaluation.plain_torch import PlainTorch
from pipeline.problem import usercode
from pipeline.problem.checkpoint import Known
from pipeline.problem.criterion import Criterion, named
from pipeline.problem.problem import Problem
from tests.pipeline import zoo
from tests.pipeline.zoo import Case, seeded, worst

# Of a loss: float32 networks, float64 references.
TOLERANCE = 2e-6


@pytest.mark.parametrize("name", zoo.ZOO)
def test_networks_against_float64(name: str) -> None:
    case = seeded(zoo.ZOO[name])
    assert worst(case) < TOLERANCE
    assert worst(case, chunk=None) < TOLERANCE


def test_the_reference_is_another_number_when_a_weight_is_another() -> None:
    """So that the comparison can fail."""
    case = seeded(zoo.ZOO["LSTM, two layers, a tuple out"])
    changed = Case(case.network, case.inputs, (case.targets + 1) % 40, case.exact)
    apart = Case(case.network, case.inputs, case.targets, changed.exact, named("cross_entropy"))
    assert worst(apart) < TOLERANCE
    wrong = Case(case.network, case.inputs, case.targets, lambda n, x, y: case.exact(n, x, 39 - y))
    assert worst(wrong) > 1e-3


def imported(module: str, name: str) -> Any:
    """Something of a library, or a test that is skipped: an extension may want another torch."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{module} cannot be imported here ({error}); it is in the extra zoo")


def of_timm(name: str) -> Case:
    create = imported("timm", "create_model")
    network = create(name, pretrained=False, num_classes=5, img_size=32)
    return Case(network, *zoo._images(32), zoo._classes)


def of_levit() -> Case:
    network = imported("timm", "create_model")("levit_128s", pretrained=False, num_classes=5)
    return Case(network, *zoo._images(224, 4), zoo._classes)


def of_torchvision(name: str) -> Case:
    network = imported("torchvision.models", name)(num_classes=5)
    return Case(network, *zoo._images(32), zoo._classes)


def of_bert() -> Case:
    config = imported("transformers", "BertConfig")(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=40,
        num_labels=3,
        max_position_embeddings=16,
    )
    case = zoo.bert()
    network = imported("transformers", "BertForSequenceClassification")(config)
    return Case(network, case.inputs, case.targets, lambda n, x, y: F.cross_entropy(n(**x)[0], y))


def of_gpt2() -> Case:
    config = imported("transformers", "GPT2Config")(
        n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=16
    )
    network = imported("transformers", "GPT2LMHeadModel")(config)
    case = zoo.gpt2()
    own = Criterion("cross_entropy", named("cross_entropy").function, mean="token")
    return Case(network, case.inputs, case.targets, case.exact, own)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        *(of_bert, of_gpt2, of_levit),
        lambda: of_timm("vit_tiny_patch16_224"),
        lambda: of_torchvision("resnet18"),
        lambda: of_torchvision("mobilenet_v2"),
    ],
    ids=["bert", "gpt2", "levit", "vit", "resnet18", "mobilenet"],
)
def test_networks_of_libraries_against_float64(make: Callable[[], Case]) -> None:
    assert worst(seeded(make), chunk=4) < 10 * TOLERANCE


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_check_at_the_start_passes_a_bert(tmp_path: Path) -> None:
    """With the buffers, the tied weights and the output that the library's networks have."""
    imported("transformers", "BertForSequenceClassification")
    kwargs: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 40,
    }

    code = usercode.UserCode(
        "bert.py", {"bert.py": BERT}, usercode._digest("bert.py", {"bert.py": BERT})
    )
    case = zoo.bert()
    splits = {"train": (case.inputs, case.targets % 2)}
    problem = Problem("bert.py:build", kwargs, code, "cross_entropy", None, splits)
    state = problem.network(seed=3).state_dict()
    plain = PlainTorch(problem, {}, "recompute", "train")
    crosscheck(plain, [Known("θ", "a.pt", state)], 4096)
    assert np.isfinite(plain.evaluate(Known("θ", "a.pt", state)).losses).all()
    assert torch.is_tensor(state["classifier.weight"])


BERT = """
from transformers import BertConfig, BertForSequenceClassification

def build(**kwargs):
    return BertForSequenceClassification(BertConfig(**kwargs))
"""
