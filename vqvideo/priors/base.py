"""What every prior is: p(codes | cond) over a code grid, in raster order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.nets.causal import ReceptiveField
from vqvideo.registry import Registry
from vqvideo.sampling import FilterOptions, PriorState, check_codes


class Prior(nn.Module, ABC):
    """Interface of all priors; `vqvideo.testing.check_prior` holds its laws.

    A registered builder takes `rank` and `codebook_size` besides its own options, and
    `num_codebooks` if it models several codes per position.

    Attributes:
        rank: axes of the code grid.
        codebook_size: K; codes lie in [0, K).
        num_codebooks: s, codes per position; with s > 1 codes carry one more, last axis, and
            those of a position come in its order.
        cond: what the prior can be told.
        receptive_field: which earlier positions a position depends on; None means all.
        endless: whether the first axis of its grids may go on without end, memory permitting.
        exact_likelihood: whether `log_prob` is exact or a lower bound.
    """

    rank: int
    codebook_size: int
    num_codebooks: int = 1
    cond: CondSpec
    receptive_field: ReceptiveField | None = None
    endless: bool = True
    exact_likelihood: ClassVar[bool] = True

    @property
    def device(self) -> torch.device:
        """Where the weights are; a prior without weights works on the CPU."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @abstractmethod
    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Logits `[b, K, *grid]` of every position given all earlier ones, for codes
        `[b, *grid]`; strictly causal in raster order (frame, row, column, codebook). With several
        codebooks `[b, K, *grid, s]` for codes `[b, *grid, s]`. (Of a prior with latents, given
        those of these codes too; what is strictly causal is its `drawn_from`.)
        """

    def forward(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """What training minimises: a scalar, here the nats per code that codes take."""
        logits = self.logits(codes, cond)
        return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), codes)

    @property
    def drawn_from(self) -> Prior:
        """The prior that draws codes: this one, unless it draws latents first and another draws
        codes that is told them.
        """
        return self

    def draw_latents(
        self,
        batch: int,
        grid: tuple[int, ...],
        cond: Cond | None = None,
        *,
        seed: int | Sequence[int] = 0,
        **options: Unpack[FilterOptions],
    ) -> Cond | None:
        """What `drawn_from` is to be told: `cond`, and latents if this prior has some, drawn by
        these options of `generate`.
        """
        return cond

    def log_prob(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Log p(codes | cond) in nats, `[b]`."""
        logits = self.logits(codes, cond)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        nats = F.cross_entropy(logits, codes, reduction="none")
        return -nats.flatten(1).sum(dim=1)

    def start(
        self, batch: int, grid: tuple[int, ...], cond: Cond | None = None
    ) -> PriorState | None:
        """A state for step-by-step sampling, or None if there is none."""
        return None

    def _check(self, codes: Tensor) -> None:
        several = self.num_codebooks > 1
        fits = codes.ndim == 1 + self.rank + several
        if several and fits:
            fits = codes.shape[-1] == self.num_codebooks
        if not fits or codes.is_floating_point() or codes.dtype == torch.bool:
            last = f", and {self.num_codebooks} codebooks last" if several else ""
            raise ValueError(
                f"codes must be integers [batch, *grid] with {self.rank} grid axes{last}, "
                f"got {codes.dtype} {list(codes.shape)}"
            )
        check_codes("codes", codes, self.codebook_size)


PRIORS: Registry[Prior] = Registry("prior", Prior, needs=("rank", "codebook_size"))


def one_rank_only(name: str, rank: int, works: int) -> None:
    """Raise `ValueError` when a prior that is made for one rank is asked for another."""
    if rank != works:
        raise ValueError(
            f"prior {name!r} is for code grids of rank {works}, not {rank}; "
            f"for rank {rank} choose {default_prior(rank)!r}"
        )


def default_prior(rank: int) -> str:
    """The name of the prior for code grids of a rank: WaveNet, PixelCNN, masked 3D convolution.

    >>> default_prior(3)
    'masked3d'
    """
    return {1: "wavenet", 2: "pixelcnn", 3: "masked3d"}[rank]
