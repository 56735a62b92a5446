"""What priors have in common that are a network between an embedding of codes and a head.

Codes are embedded, the network turns them into features of each position from earlier ones, and a
small head that works position by position gives the logits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.nets.cond import CondEmbedding
from vqvideo.priors.base import Prior
from vqvideo.priors.head import CodeHead, HeadStep
from vqvideo.sampling import Drawer


def embedded(table: nn.Embedding, codes: Tensor) -> Tensor:
    """The sum `[..., width]` of the embeddings of codes `[..., s]`; the table holds the entries of
    one codebook after the other.
    """
    number = codes.shape[-1]
    if number == 1:
        return table(codes[..., 0])  # type: ignore[no-any-return]
    first = torch.arange(number, device=codes.device) * (table.num_embeddings // number)
    return table(codes + first).sum(dim=-2)  # type: ignore[no-any-return]


class NetworkPrior(Prior):
    """Embedding, network, head.

    Args:
        rank: axes of the code grid.
        codebook_size: K.
        num_codebooks: s, codes per position.
        width: channels of embedding, network and features.
        cond: what the prior can be told.
        net: makes the network, given the channels of what it is told, 0 for nothing.
    """

    def __init__(
        self,
        *,
        rank: int,
        codebook_size: int,
        num_codebooks: int,
        width: int,
        cond: CondSpec | Mapping[str, Any] | None,
        net: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec.of(cond)
        self.num_codebooks = num_codebooks
        self.embedding = nn.Embedding(num_codebooks * codebook_size, width)
        conditioned = not self.cond.is_empty
        self.cond_embedding = CondEmbedding(self.cond, rank, width) if conditioned else None
        self.net = net(width if conditioned else 0)
        self.head = CodeHead(width, codebook_size, num_codebooks)

    @abstractmethod
    def features(self, embedded: Tensor, told: Tensor | None) -> Tensor:
        """Features `[b, *grid, width]` of each position from what earlier ones were embedded as,
        `[b, *grid, width]`, told `[b, width, t|1, h|1, w|1]`.
        """

    @abstractmethod
    def walk(
        self, batch: int, grid: tuple[int, ...], told: Tensor | None, steps: int | None
    ) -> NetworkWalk:
        """The network step by step, told of so many steps along the first axis, or of all."""

    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        self._check(codes)
        each = codes if self.num_codebooks > 1 else codes[..., None]
        told = self.tell(cond, len(codes), tuple(each.shape[1:-1]))
        logits = self.head(self.features(self.embed(each), told), each)  # [b, *grid, s, K]
        return logits.movedim(-1, 1).reshape(len(codes), self.codebook_size, *codes.shape[1:])  # type: ignore[no-any-return]

    def embed(self, codes: Tensor) -> Tensor:
        """What the network gets `[..., width]` for the codes `[..., s]` of positions: the sum of
        their embeddings, each codebook with its own.
        """
        return embedded(self.embedding, codes)

    def tell(self, cond: Cond | None, batch: int, grid: tuple[int, ...]) -> Tensor | None:
        """What the network is told of a grid, `[b, width, t|1, h|1, w|1]`."""
        if cond is None:
            return None
        if self.cond_embedding is None:
            cond.check(self.cond, batch, grid)  # raises unless it is empty
            return None
        return self.cond_embedding(cond.to(self.device), batch, grid)  # type: ignore[no-any-return]

    def start(self, batch: int, grid: tuple[int, ...], cond: Cond | None = None) -> NetworkState:
        return NetworkState(self, batch, grid, cond)


class NetworkWalk(Protocol):
    """A network over a grid in raster order, position by position."""

    def features(self) -> Tensor:
        """Features `[b, c]` of the next position."""

    def push(self, embedding: Tensor) -> None:
        """Take the embedding `[b, c]` of this position and go to the next."""

    def prefill(self, embedded: Tensor, positions: int) -> None:
        """Take the first positions of `[b, *grid, c]` at once; only at the very start."""

    def tell(self, told: Tensor | None, steps: int | None) -> None:
        """What holds for the next steps along the first axis, or for all that follow."""


class NetworkState:
    """The step-by-step form of a `NetworkPrior`, without gradients; see
    `vqvideo.sampling.PriorState`.
    """

    @torch.no_grad()
    def __init__(
        self, prior: NetworkPrior, batch: int, grid: tuple[int, ...], cond: Cond | None
    ) -> None:
        if len(grid) != prior.rank:
            raise ValueError(f"grid must have {prior.rank} grid axes, got {grid}")
        self.prior, self.batch, self.inner = prior, batch, tuple(grid[1:])
        told = prior.tell(cond, batch, grid)
        self.net = prior.walk(batch, tuple(grid), told, _lasting(cond, grid[0]))
        self.head, self.table = HeadStep(prior.head), prior.embedding.weight.detach()
        self.here: list[Tensor] = []  # codes of this position so far
        self.hidden: Tensor | None = None  # of this position, told the codes so far

    def logits(self) -> Tensor:
        head = self.head
        if self.hidden is None:
            self.hidden = head.hidden(self.net.features())
            for index, codes in enumerate(self.here):
                self.hidden = head.told(self.hidden, index, codes)
        return head.logits(self.hidden, len(self.here))

    def push(self, codes: Tensor) -> None:
        index = len(self.here)
        self.here.append(codes)
        if len(self.here) < self.prior.num_codebooks:
            if self.hidden is not None:
                self.hidden = self.head.told(self.hidden, index, codes)
            return
        if index == 0:
            self.net.push(self.table.index_select(0, codes))
        else:
            self.net.push(self.prior.embed(torch.stack(self.here, dim=-1)).detach())
        self.here, self.hidden = [], None

    @torch.no_grad()
    def prefill(self, codes: Tensor, positions: int) -> None:
        if not positions:
            return
        each = codes if self.prior.num_codebooks > 1 else codes[..., None]
        self.net.prefill(self.prior.embed(each), positions)

    @torch.no_grad()
    def tell(self, cond: Cond | None, steps: int) -> None:
        if not self.prior.endless:
            raise ValueError("this prior knows no step beyond its grid; see `Prior.endless`")
        told = self.prior.tell(cond, self.batch, (steps, *self.inner))
        self.net.tell(told, _lasting(cond, steps))
        self.hidden = None

    def fused(self) -> Drawer:
        raise ValueError("it is for convolutional priors")


def _lasting(cond: Cond | None, steps: int) -> int | None:
    """For how many of the steps it was given for a condition holds; None is for ever."""
    varies = cond is not None and (cond.actions is not None or cond.local is not None)
    return steps if varies else None
