"""Interface of priors: p(codes | cond) over a code grid, in raster order or another one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.arguments import check_codes, check_tensor, is_integer
from vqvideo.cond import Cond, CondSpec
from vqvideo.device import get_device
from vqvideo.nets.causal import ReceptiveField
from vqvideo.registry import Registry
from vqvideo.sampling import FilterOptions, Order, PriorState


class Prior(nn.Module, ABC):
    """Interface of all priors; `vqvideo.testing.check_prior` tests its laws.

    A registered builder takes `rank`, `codebook_size` and its own options, and also
    `num_codebooks` if it models several codes per position.

    Attributes:
        rank: number of axes of the code grid.
        codebook_size: K; codes lie in [0, K).
        num_codebooks: s, codes per position. If s > 1, codes have an additional last axis, and
            the codes of a position are modeled in the order of that axis.
        cond: conditions that the prior accepts.
        receptive_field: earlier positions that a position depends on; None means all.
        is_unbounded: whether sampling can continue along the first axis without limit.
        has_exact_likelihood: whether `log_prob` is exact; otherwise it is a lower bound.
    """

    rank: int
    codebook_size: int
    num_codebooks: int = 1
    cond: CondSpec
    receptive_field: ReceptiveField | None = None
    is_unbounded: bool = True
    has_exact_likelihood: ClassVar[bool] = True

    @property
    def device(self) -> torch.device:
        """Device of the weights; the CPU for a prior without weights."""
        return get_device(self)

    @abstractmethod
    def logits(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Return the logits `[b, K, *grid]` of every position, given all earlier positions.

        Codes are `[b, *grid]`; with several codebooks they are `[b, *grid, s]` and the logits are
        `[b, K, *grid, s]`. Logits are strictly causal in the `order` of the prior, by default
        raster order (frame, row, column, codebook). A prior with latents also conditions on the
        latents of these codes; then only its `code_prior` is strictly causal.
        """

    def order(self, shape: tuple[int, ...], seed: int = 0) -> Order:
        """Return the groups in which the codes `[*shape]` of an item are modeled; raster order.

        `logits`, `log_prob`, `generate` and entropy coding use the order with seed 0. A prior in
        another order gives the logits of a code given the codes of all earlier groups; it has no
        step-by-step state.
        """
        return range(math.prod(shape))

    def forward(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Return the training loss, a scalar: by default the NLL in nats per code."""
        logits = self.logits(codes, cond)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return F.cross_entropy(logits, codes.long())

    @property
    def code_prior(self) -> Prior:
        """Prior from which codes are sampled: this prior, unless it samples latents first and
        conditions another prior on them.
        """
        return self

    def sample_latents(
        self,
        batch: int,
        grid: tuple[int, ...],
        cond: Cond | None = None,
        *,
        seed: int | Sequence[int] = 0,
        **options: Unpack[FilterOptions],
    ) -> Cond | None:
        """Return the conditions for `code_prior`.

        A prior without latents returns `cond`. A prior with latents samples them with these
        options of `generate` and returns conditions that hold them.
        """
        return cond

    def log_prob(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Return log p(codes | cond) in nats, `[b]`."""
        logits = self.logits(codes, cond)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        nll = F.cross_entropy(logits, codes.long(), reduction="none")
        return -nll.flatten(1).sum(dim=1)

    def init_state(
        self, batch: int, grid: tuple[int, ...], cond: Cond | None = None
    ) -> PriorState | None:
        """Return a state for step-by-step sampling in raster order, or None if there is none."""
        return None

    def _check_codes(self, codes: Tensor) -> Tensor:
        """Return codes of any integer dtype as int64; raise `ValueError` for any other tensor."""
        check_tensor("codes", codes)
        has_codebook_axis = self.num_codebooks > 1
        is_valid = codes.ndim == 1 + self.rank + has_codebook_axis
        if has_codebook_axis and is_valid:
            is_valid = codes.shape[-1] == self.num_codebooks
        if not is_valid or not is_integer(codes):
            axis = f" and a last axis of {self.num_codebooks} codebooks" * has_codebook_axis
            raise ValueError(
                f"codes must be integers [batch, *grid] with {self.rank} grid axes{axis}, "
                f"got {codes.dtype} {list(codes.shape)}"
            )
        codes = codes.long()
        check_codes("codes", codes, self.codebook_size)
        return codes


PRIORS: Registry[Prior] = Registry("prior", Prior, required_args=("rank", "codebook_size"))


def get_default_prior(rank: int) -> str:
    """Return the name of the default prior for code grids of a rank.

    >>> get_default_prior(3)
    'masked3d'
    """
    return {1: "wavenet", 2: "pixelcnn", 3: "masked3d"}[rank]
