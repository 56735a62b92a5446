"""Base class of priors that consist of an embedding, a network and a head.

Codes are embedded, the network computes the features of each position from earlier positions, and
a small position-wise head computes the logits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.nets.conditioning import CondEmbedding
from vqvideo.priors.base import Prior
from vqvideo.priors.head import CodeHead, IncrementalHead
from vqvideo.sampling import FusedSampler


def embed_codes(table: nn.Embedding, codes: Tensor) -> Tensor:
    """Return the sum `[..., width]` of the embeddings of codes `[..., s]`.

    The table holds the entries of all codebooks, one codebook after another.
    """
    num_codebooks = codes.shape[-1]
    if num_codebooks == 1:
        return table(codes[..., 0].long())  # type: ignore[no-any-return]
    offsets = torch.arange(num_codebooks, device=codes.device) * (
        table.num_embeddings // num_codebooks
    )
    return table(codes + offsets).sum(dim=-2)  # type: ignore[no-any-return]


class NetworkPrior(Prior):
    """Prior of an embedding, a network and a head.

    Args:
        rank: number of axes of the code grid.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels of embedding, network and features.
        cond: conditions that the prior accepts.
        build_net: builds the network, given the channels of the embedded condition; 0 for none.
    """

    def __init__(
        self,
        *,
        rank: int,
        codebook_size: int,
        num_codebooks: int,
        width: int,
        cond: CondSpec | Mapping[str, Any] | None,
        build_net: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec.from_config(cond)
        self.num_codebooks = num_codebooks
        self.embedding = nn.Embedding(num_codebooks * codebook_size, width)
        is_conditional = not self.cond.is_empty
        self.cond_embedding = CondEmbedding(self.cond, rank, width) if is_conditional else None
        self.net = build_net(width if is_conditional else 0)
        self.head = CodeHead(width, codebook_size, num_codebooks)

    @abstractmethod
    def forward_features(self, embeddings: Tensor, cond: Tensor | None) -> Tensor:
        """Return the features `[b, *grid, width]` of each position from the embeddings
        `[b, *grid, width]` of earlier positions and the embedded condition
        `[b, width, t|1, h|1, w|1]`.
        """

    @abstractmethod
    def init_incremental_state(
        self, batch: int, grid: tuple[int, ...], cond: Tensor | None, num_steps: int | None
    ) -> IncrementalState:
        """Return a state that evaluates the network step by step.

        The condition holds for `num_steps` steps along the first axis; None means for all.
        """

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        codes = self._check_codes(codes)
        stacked = codes if self.num_codebooks > 1 else codes[..., None]  # [b, *grid, s]
        embedded_cond = self.embed_cond(cond, len(codes), tuple(stacked.shape[1:-1]))
        logits = self.head(
            self.forward_features(self.embed(stacked), embedded_cond), stacked
        )  # [b, *grid, s, K]
        return logits.movedim(-1, 1).reshape(len(codes), self.codebook_size, *codes.shape[1:])  # type: ignore[no-any-return]

    def embed(self, codes: Tensor) -> Tensor:
        """Return the network's input `[..., width]` for codes `[..., s]`: the sum of their
        embeddings, with a separate embedding for each codebook.
        """
        return embed_codes(self.embedding, codes)

    def embed_cond(self, cond: Cond | None, batch: int, grid: tuple[int, ...]) -> Tensor | None:
        """Return the embedded condition of a grid, `[b, width, t|1, h|1, w|1]`, or None."""
        if cond is None:
            return None
        if self.cond_embedding is None:
            cond.check(self.cond, batch, grid)  # raises unless the condition is empty
            return None
        return self.cond_embedding(cond.to(self.device), batch, grid)  # type: ignore[no-any-return]

    def init_state(
        self, batch: int, grid: tuple[int, ...], cond: Cond | None = None
    ) -> NetworkPriorState:
        return NetworkPriorState(self, batch, grid, cond)


class IncrementalState(Protocol):
    """Step-by-step evaluation of a network over a grid, in raster order."""

    def compute_features(self) -> Tensor:
        """Return the features `[b, c]` of the next position."""

    def push(self, embedding: Tensor) -> None:
        """Append the embedding `[b, c]` of this position and advance to the next."""

    def prefill(self, embeddings: Tensor, num_positions: int) -> None:
        """Process the first positions of `[b, *grid, c]` in one pass; valid only at the start."""

    def set_condition(self, cond: Tensor | None, num_steps: int | None) -> None:
        """Set the condition for the next `num_steps` steps along the first axis; None means for
        all that follow.
        """


class NetworkPriorState:
    """Step-by-step evaluation of a `NetworkPrior`, without gradients; see
    `vqvideo.sampling.PriorState`.
    """

    @torch.no_grad()
    def __init__(
        self, prior: NetworkPrior, batch: int, grid: tuple[int, ...], cond: Cond | None
    ) -> None:
        if len(grid) != prior.rank:
            raise ValueError(f"grid must have {prior.rank} axes, got {grid}")
        self.prior, self.batch, self.inner_shape = prior, batch, tuple(grid[1:])
        embedded_cond = prior.embed_cond(cond, batch, grid)
        self.net = prior.init_incremental_state(
            batch, tuple(grid), embedded_cond, _count_cond_steps(cond, grid[0])
        )
        self.head, self.embedding_weight = (
            IncrementalHead(prior.head),
            prior.embedding.weight.detach(),
        )
        self.position_codes: list[Tensor] = []  # codes of the current position so far
        self.hidden: Tensor | None = None  # hidden features, given `position_codes`

    def logits(self) -> Tensor:
        head = self.head
        if self.hidden is None:
            self.hidden = head.compute_hidden(self.net.compute_features())
            for index, codes in enumerate(self.position_codes):
                self.hidden = head.add_code_embedding(self.hidden, index, codes)
        return head.logits(self.hidden, len(self.position_codes))

    def push(self, codes: Tensor) -> None:
        index = len(self.position_codes)
        self.position_codes.append(codes)
        if len(self.position_codes) < self.prior.num_codebooks:
            if self.hidden is not None:
                self.hidden = self.head.add_code_embedding(self.hidden, index, codes)
            return
        if index == 0:
            self.net.push(self.embedding_weight.index_select(0, codes))
        else:
            self.net.push(self.prior.embed(torch.stack(self.position_codes, dim=-1)).detach())
        self.position_codes, self.hidden = [], None

    @torch.no_grad()
    def prefill(self, codes: Tensor, num_positions: int) -> None:
        if not num_positions:
            return
        stacked = codes if self.prior.num_codebooks > 1 else codes[..., None]
        self.net.prefill(self.prior.embed(stacked), num_positions)

    @torch.no_grad()
    def set_condition(self, cond: Cond | None, num_steps: int) -> None:
        if not self.prior.is_unbounded:
            raise ValueError(
                "this prior cannot continue beyond its grid (`Prior.is_unbounded` is false)"
            )
        embedded_cond = self.prior.embed_cond(cond, self.batch, (num_steps, *self.inner_shape))
        self.net.set_condition(embedded_cond, _count_cond_steps(cond, num_steps))
        self.hidden = None

    def build_fused_sampler(self) -> FusedSampler:
        raise ValueError("it supports convolutional priors only")


def _count_cond_steps(cond: Cond | None, num_steps: int) -> int | None:
    """Return the number of steps for which a condition holds; None means for all."""
    varies = cond is not None and (cond.actions is not None or cond.local is not None)
    return num_steps if varies else None
