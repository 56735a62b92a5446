"""How one code is chosen from logits, and the noise it is chosen with.

Noise is drawn per sample and per position (Gumbel-max): the code at a position is the argmax of
filtered logits plus that position's noise. So every way of evaluating the prior, and every way of
splitting a batch, gives the same codes for the same seed, and whether a cache is right becomes a
test of equality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

POSITIONS_AT_ONCE = 64  # noise is drawn in blocks of fixed length, so a stream of it never depends
# on who asks for it


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a code is chosen from logits: temperature, then top-k, then top-p.

    Attributes:
        temperature: logits are divided by it; 0 takes the most probable code.
        top_k: keep the k most probable codes.
        top_p: keep the smallest set of most probable codes that holds this probability.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be a finite number >= 0, got {self.temperature}")
        if self.top_k is not None and (not isinstance(self.top_k, int) or self.top_k < 1):
            raise ValueError(f"top_k must be an integer of at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")

    @property
    def is_plain(self) -> bool:
        """Whether logits are taken as they are."""
        return self.temperature == 1 and self.top_k is None and self.top_p in (None, 1)

    def check(self, codebook_size: int) -> None:
        """Raise `ValueError` when top_k is larger than K."""
        if self.top_k is not None and self.top_k > codebook_size:
            raise ValueError(f"top_k is {self.top_k}, but there are {codebook_size} codes")

    def choose(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Codes int64 `[...]` for logits and Gumbel noise, both `[..., K]`."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        if self.is_plain:
            return (logits.float() + noise).argmax(dim=-1)
        logits = logits.float()
        largest_is_zero = logits - logits.amax(dim=-1, keepdim=True)  # a cold one overflows not
        return (self.filter(largest_is_zero) + noise).argmax(dim=-1)

    def filter(self, logits: Tensor) -> Tensor:
        """Logits `[..., K]` over the temperature, codes that are filtered out at -inf."""
        self.check(logits.shape[-1])
        logits = logits / max(self.temperature, torch.finfo(logits.dtype).tiny)
        if self.top_k is not None:
            order = logits.sort(dim=-1, descending=True, stable=True).indices
            kept = torch.zeros_like(logits, dtype=torch.bool)
            kept.scatter_(-1, order[..., : self.top_k], True)
            logits = logits.masked_fill(~kept, -math.inf)
        if self.top_p is not None and self.top_p < 1:
            ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
            before = ranked.cumsum(dim=-1) - ranked
            dropped = torch.zeros_like(before, dtype=torch.bool)
            dropped.scatter_(-1, order, before >= self.top_p)
            logits = logits.masked_fill(dropped, -math.inf)
        return logits


class GumbelNoise:
    """Gumbel noise `[b, K]` of one position after the other.

    Sample b has its own stream, which depends on `seed` and b alone; with a seed for each sample,
    on the b-th of them alone.
    """

    def __init__(
        self,
        seed: int | Sequence[int],
        batch: int,
        codebook_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if isinstance(seed, Sequence):
            if len(seed) != batch:
                raise ValueError(f"{batch} samples need {batch} seeds, got {len(seed)}")
            keys = [(each, 0) for each in seed]
        else:
            keys = [(seed, sample) for sample in range(batch)]
        if not all(isinstance(each, int) for each, _ in keys):
            raise ValueError(f"a seed must be an integer, got {seed}")
        # Not torch's generator, whose exponential numbers take ten times as long, nor below its
        # logarithm, which takes three times as long.
        sequences = [np.random.SeedSequence((each % 2**64, sample)) for each, sample in keys]
        self.streams = [np.random.Generator(np.random.SFC64(each)) for each in sequences]
        self.codebook_size, self.device = codebook_size, device
        self.block = torch.empty(0)
        self.used = 0  # positions of the block

    def ahead(self, most: int) -> Tensor:
        """Noise `[n, b, K]` of the next positions: at least one, at most `most`."""
        if self.used == len(self.block):
            shape = (POSITIONS_AT_ONCE, self.codebook_size)
            uniform = np.stack([stream.random(shape) for stream in self.streams], axis=1)
            with np.errstate(divide="ignore"):  # a zero becomes -inf: a code that is not drawn
                exponential = -np.log(uniform, out=uniform).astype(np.float32)
                gumbel = -np.log(exponential, out=exponential)
            self.block = torch.from_numpy(gumbel).to(self.device)
            self.used = 0
        return self.block[self.used : self.used + most]

    def next(self) -> Tensor:
        """Noise `[b, K]` of the next position, and go on by one."""
        if self.used == len(self.block):
            self.ahead(1)
        self.used += 1
        return self.block[self.used - 1]

    def skip(self, positions: int) -> None:
        """Go on by so many positions."""
        while positions:
            here = len(self.ahead(positions))
            self.used += here
            positions -= here
