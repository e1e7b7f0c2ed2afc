"""A small language model of bytes, its output layer tied to the embedding as in GPT-2."""

import torch
from torch import nn
from torch.nn import functional as F

TOKENS, LENGTH = 128, 32


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = self.mix(self.norm1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.think(self.norm2(x))


class Model(nn.Module):
    def __init__(self, width=32, heads=4, layers=2):
        super().__init__()
        self.words, self.places = nn.Embedding(TOKENS, width), nn.Embedding(LENGTH, width)
        nn.init.normal_(self.words.weight, std=0.1)
        self.layers = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, TOKENS, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids):  # int64 (n, length)
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.layers(self.words(ids) + self.places(places))
        return {"logits": self.head(self.norm(x))}  # (n, length, tokens)
