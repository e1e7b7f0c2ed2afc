"""Products with the Hessian of a published network, held to curvlinops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.curvature.hessian import Hessian
from pipeline.evaluation.examples import Examples
from pipeline.problem import data, network, state_dict
from pipeline.problem.criterion import criterion_of
from pipeline.problem.layout import Layout
from pipeline.problem.losses import cross_entropy
from pipeline.spec import DataSpec

ROWS = 256


@pytest.mark.slow
# It asks torch.jit for something when it is imported, and torch for gradients in its own way.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_products_on_the_published_resnet20_are_those_of_curvlinops(shared_data: Path) -> None:
    curvlinops: Any = pytest.importorskip("curvlinops", reason="an oracle of this test alone")
    net = network.build("resnet20", {}, None)
    path = shared_data / "checkpoints/resnet-cifar10/resnet20-12fca82f.th"
    net.load_state_dict(
        state_dict.state_for(state_dict.load(str(path), Layout.of(net)), net), strict=False
    )
    net = net.double().eval()
    asked = DataSpec.model_validate(
        {
            "source": str(shared_data / "cifar10"),
            "splits": {"test": ROWS},
            "select": "head",
            "normalise": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        }
    )
    (own,) = data.load(asked, None, "cross_entropy")
    x, y = torch.tensor(own.inputs).double(), torch.tensor(own.targets)
    ours = Hessian(net, Examples("test", x, y).chunks(32), criterion_of(cross_entropy))
    vectors = torch.from_numpy(np.random.default_rng(0).standard_normal((2, ours.size)))
    found = ours.products(vectors)
    net.requires_grad_(True)
    theirs = curvlinops.HessianLinearOperator(
        net,
        nn.CrossEntropyLoss(),
        list(net.parameters()),
        list(zip(x.split(64), y.split(64), strict=True)),
        check_deterministic=False,
    )
    wanted = theirs @ vectors.T
    torch.testing.assert_close(found, wanted.T, rtol=0, atol=1e-6 * float(wanted.abs().max()))
