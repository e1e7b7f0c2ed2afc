"""Make texts of numbers, train the classifier on them, and write texts/: data and weights.

    python examples/hugging-face/train.py

A text's class is which third of the vocabulary most of its words are from.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

HERE = Path(__file__).parent
WORDS, LENGTH = 100, 16


def texts(count, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    own = random.integers(0, WORDS // 3, (count, LENGTH)) + WORDS // 3 * labels[:, None]
    ids = np.where(random.random((count, LENGTH)) < 0.6, own, random.integers(0, WORDS, own.shape))
    mask = np.arange(LENGTH) < random.integers(4, LENGTH + 1, count)[:, None]
    return ids * mask, mask.astype(np.int64), labels


def main(epochs=8):
    folder = HERE / "texts"
    folder.mkdir(exist_ok=True)
    for seed, split in enumerate(("train", "test")):
        ids, mask, labels = texts(1024, seed)
        np.savez(folder / f"{split}.npz", x_input_ids=ids, x_attention_mask=mask, y=labels)
    spec = importlib.util.spec_from_file_location("model", HERE / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    network = module.Classifier()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    ids, mask, labels = (torch.tensor(each) for each in texts(1024, 0))
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(64):
            loss = F.cross_entropy(network(ids[rows], mask[rows]).logits, labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    print(f"loss of the last batch {loss.item():.3f}")
    save_file(network.state_dict(), folder / "model.safetensors")


if __name__ == "__main__":
    main()
