"""A vision transformer with what timm's have: biases gathered for evaluation, a class token.

With timm installed, `network: {factory: timm:create_model, kwargs: {model_name: …}}` does without.
"""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads, edge):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.biases = nn.Parameter(torch.zeros(heads, edge * edge))
        rows, columns = torch.meshgrid(torch.arange(edge), torch.arange(edge), indexing="ij")
        places = torch.stack([rows.flatten(), columns.flatten()], 1)
        apart = (places[:, None] - places[None]).abs()
        self.register_buffer("index", apart[..., 0] * edge + apart[..., 1], persistent=False)
        self.cache = {}

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.cache = {}  # made anew from the next weights
        return self

    def gathered(self):
        if self.training:
            return self.biases[:, self.index]
        if "biases" not in self.cache:
            self.cache["biases"] = self.biases[:, self.index]
        return self.cache["biases"]

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5 + self.gathered()
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width))


class Block(nn.Module):
    def __init__(self, width, heads, edge):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, edge)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, num_classes=10, width=48, depth=3, patch=8, size=32):
        super().__init__()
        edge = size // patch
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        self.pos_embed = nn.Parameter(torch.randn(1, edge * edge, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, 4, edge) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2) + self.pos_embed
        return self.head(self.norm(self.blocks(x)).mean(1))
