"""Train two seeds on two moons and write moons/: arrays, and checkpoints as Lightning has them.

python examples/lightning/train.py
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def moons(count, seed):
    random = np.random.default_rng(seed)
    labels = (random.random(count) < 0.2).astype(np.int64)  # one class is rare
    angle = np.pi * random.random(count)
    x, y = np.cos(angle), np.sin(angle)
    points = np.stack([np.where(labels, 1 - x, x), np.where(labels, 0.5 - y, y)], 1)
    return (points + random.normal(0, 0.15, points.shape)).astype(np.float32), labels


def main(epochs=30):
    folder = HERE / "moons"
    folder.mkdir(exist_ok=True)
    for seed, split in enumerate(("train", "test")):
        x, y = moons(512, seed)
        np.save(folder / f"{split}_x.npy", x)
        np.save(folder / f"{split}_y.npy", y)
    spec = importlib.util.spec_from_file_location("module", HERE / "module.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x, y = (torch.tensor(each) for each in moons(512, 0))
    for seed in range(2):
        torch.manual_seed(seed)
        network = module.Classifier()
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(epochs):
            for index, rows in enumerate(torch.randperm(len(y)).split(64)):
                loss = network.training_step((x[rows], y[rows]), index)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        checkpoint = {
            "epoch": epochs,
            "global_step": epochs * 8,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": network.state_dict(),
            "optimizer_states": [optimiser.state_dict()],
            "hyper_parameters": {"width": 32},
        }
        torch.save(checkpoint, folder / f"seed{seed}.ckpt")
        print(f"seed {seed}: loss of the last batch {loss.item():.3f}")


if __name__ == "__main__":
    main()
