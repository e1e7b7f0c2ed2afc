"""A classifier of texts as transformers has them, written out so that nothing needs installing."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class SequenceClassifierOutput:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


class Classifier(nn.Module):
    def __init__(self, words=100, length=16, width=32, labels=3):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.encoder = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True, norm_first=True)
        self.classifier = nn.Linear(width, labels)

    def forward(self, input_ids, attention_mask):
        x = self.words(input_ids) + self.places.weight[: input_ids.shape[1]]
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        kept = attention_mask[..., None]
        return SequenceClassifierOutput(self.classifier((x * kept).sum(1) / kept.sum(1)))
