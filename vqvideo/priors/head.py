"""From the features of a position to the logits of its codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CodeHead(nn.Module):
    """A small network that works position by position.

    The codes of a position are told apart by their codebook and drawn in that order: each is told
    those before it at the same position, by adding their embeddings.

    Args:
        width: channels of the features.
        codebook_size: K.
        num_codebooks: s, codes per position.
    """

    def __init__(self, width: int, codebook_size: int, num_codebooks: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.LayerNorm(width),  # over the channels of one position: sees no other position
            nn.ReLU(),
            nn.Linear(width, width),
        )
        earlier = (nn.Embedding(codebook_size, width) for _ in range(num_codebooks - 1))
        self.earlier = nn.ModuleList(earlier)
        self.out = nn.ModuleList(nn.Linear(width, codebook_size) for _ in range(num_codebooks))

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """Logits `[..., s, K]` for features `[..., width]` and the codes `[..., s]` there."""
        hidden = self.hidden(features)
        logits = [self.logits(hidden, 0)]
        for index in range(1, len(self.out)):
            hidden = self.told(hidden, index - 1, codes[..., index - 1])
            logits.append(self.logits(hidden, index))
        if len(logits) == 1:
            return logits[0][..., None, :]  # a copy of all logits would be dear
        return torch.stack(logits, dim=-2)

    def told(self, hidden: Tensor, index: int, codes: Tensor) -> Tensor:
        """Hidden features that know the codes of codebook `index` too."""
        return hidden + self.earlier[index](codes)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, index: int) -> Tensor:
        """Logits `[..., K]` of codebook `index`, the ones before it told."""
        return self.out[index](hidden.relu())  # type: ignore[no-any-return]


class HeadStep:
    """The head for the codes of one position after the other, its weights laid out as the
    matrices that a step multiplies by.
    """

    def __init__(self, head: CodeHead) -> None:
        norm, _, mix = head.hidden
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(mix, nn.Linear)
        self.norm = norm.normalized_shape, norm.weight.detach(), norm.bias.detach(), norm.eps
        self.mix, self.mix_bias = _as_matrix(mix)
        self.earlier = [
            table.weight.detach() for table in head.earlier if isinstance(table, nn.Embedding)
        ]
        each = [_as_matrix(out) for out in head.out if isinstance(out, nn.Linear)]
        self.out, self.out_bias = map(list, zip(*each, strict=True))

    def hidden(self, features: Tensor) -> Tensor:
        """As `CodeHead.hidden`, for features `[b, width]`."""
        normed = F.layer_norm(features, *self.norm)
        return torch.addmm(self.mix_bias, normed.relu_(), self.mix)

    def told(self, hidden: Tensor, index: int, codes: Tensor) -> Tensor:
        """Hidden features that know the codes of codebook `index` too."""
        return hidden + self.earlier[index].index_select(0, codes)

    def logits(self, hidden: Tensor, index: int) -> Tensor:
        """Logits `[b, K]` of codebook `index`, the ones before it told."""
        return torch.addmm(self.out_bias[index], hidden.relu(), self.out[index])


def _as_matrix(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    return linear.weight.T.detach().contiguous(), linear.bias.detach()
