"""Head of a prior: the logits of a position's codes from its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CodeHead(nn.Module):
    """Small position-wise network.

    The codes of a position are modeled in the order of their codebooks. Each is conditioned on
    the earlier codes of the same position by adding their embeddings to the hidden features.

    Args:
        width: channels of the features.
        codebook_size: K.
        num_codebooks: s, codes per position.
    """

    def __init__(self, width: int, codebook_size: int, num_codebooks: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.LayerNorm(width),  # over the channels of one position only, to stay causal
            nn.ReLU(),
            nn.Linear(width, width),
        )
        embeddings = (nn.Embedding(codebook_size, width) for _ in range(num_codebooks - 1))
        self.code_embeddings = nn.ModuleList(embeddings)
        self.out = nn.ModuleList(nn.Linear(width, codebook_size) for _ in range(num_codebooks))

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """Return logits `[..., s, K]` for features `[..., width]` and codes `[..., s]`."""
        hidden = self.hidden(features)
        logits = [self.logits(hidden, 0)]
        for index in range(1, len(self.out)):
            hidden = self.add_code_embedding(hidden, index - 1, codes[..., index - 1])
            logits.append(self.logits(hidden, index))
        if len(logits) == 1:
            return logits[0][..., None, :]  # `stack` would copy all logits
        return torch.stack(logits, dim=-2)

    def add_code_embedding(self, hidden: Tensor, index: int, codes: Tensor) -> Tensor:
        """Condition the hidden features on the codes of codebook `index`."""
        return hidden + self.code_embeddings[index](codes)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, index: int) -> Tensor:
        """Return the logits `[..., K]` of codebook `index`, given conditioned hidden features."""
        return self.out[index](hidden.relu())  # type: ignore[no-any-return]
