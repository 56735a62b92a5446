"""Sampling a code from logits with the Gumbel-max trick.

Noise is generated per sample and per position: the code at a position is the argmax of the filtered
logits plus the noise of that position. So all sampling methods, and all splits of a batch, give the
same codes for the same seed, and a test of a cached method is a test for equality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqvideo.arguments import NUM_SEEDS, check_seed

# Noise is generated in chunks of fixed size, so that it does not depend on how it is requested.
NOISE_CHUNK_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Sampling parameters, applied in the order temperature, top-k, top-p.

    Attributes:
        temperature: divisor of the logits; 0 selects the most probable code.
        top_k: number of most probable codes to keep; None keeps all.
        top_p: cumulative probability; keeps the smallest set of most probable codes that reaches
            it; None keeps all.
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
    def is_identity(self) -> bool:
        """Return whether the logits remain unchanged."""
        return self.temperature == 1 and self.top_k is None and self.top_p in (None, 1)

    def check(self, codebook_size: int) -> None:
        """Raise `ValueError` if top_k is larger than K."""
        if self.top_k is not None and self.top_k > codebook_size:
            raise ValueError(f"top_k is {self.top_k}, but there are {codebook_size} codes")

    def sample(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Return codes, int64 `[...]`, given logits and Gumbel noise, both `[..., K]`."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        if self.is_identity:
            return (logits.float() + noise).argmax(dim=-1)
        logits = logits.float()
        shifted = logits - logits.amax(dim=-1, keepdim=True)  # avoids overflow at low temperature
        return (self.filter(shifted) + noise).argmax(dim=-1)

    def filter(self, logits: Tensor) -> Tensor:
        """Return logits `[..., K]` divided by the temperature, with -inf for filtered codes."""
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
    """Stream of Gumbel noise `[b, K]`, position by position.

    Sample i has its own random stream, which depends only on `seed` and i; with one seed per
    sample, only on the i-th seed.
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
            keys = [(item_seed, 0) for item_seed in seed]
        else:
            keys = [(seed, sample) for sample in range(batch)]
        # numpy is faster than torch here: exponential variates take a tenth of the time, and the
        # logarithm in `peek` a third.
        sequences = [
            np.random.SeedSequence((check_seed(item_seed) % NUM_SEEDS, sample))
            for item_seed, sample in keys
        ]
        self.generators = [np.random.Generator(np.random.SFC64(seq)) for seq in sequences]
        self.codebook_size, self.device = codebook_size, device
        self.chunk = torch.empty(0)
        self.offset = 0  # position within the chunk

    def peek(self, max_positions: int) -> Tensor:
        """Return noise `[n, b, K]` of the next n positions without advancing;
        1 <= n <= `max_positions`.
        """
        if self.offset == len(self.chunk):
            shape = (NOISE_CHUNK_SIZE, self.codebook_size)
            uniform = np.stack([generator.random(shape) for generator in self.generators], axis=1)
            with np.errstate(divide="ignore"):  # a zero becomes -inf: the code is never sampled
                exponential = -np.log(uniform, out=uniform).astype(np.float32)
                gumbel = -np.log(exponential, out=exponential)
            self.chunk = torch.from_numpy(gumbel).to(self.device)
            self.offset = 0
        return self.chunk[self.offset : self.offset + max_positions]

    def next(self) -> Tensor:
        """Return the noise `[b, K]` of the next position and advance by one."""
        if self.offset == len(self.chunk):
            self.peek(1)
        self.offset += 1
        return self.chunk[self.offset - 1]

    def read(self, num_positions: int) -> Tensor:
        """Return the noise `[b, n, K]` of the next n positions and advance by n."""
        return torch.stack([self.next() for _ in range(num_positions)], dim=1)

    def skip(self, num_positions: int) -> None:
        """Advance by `num_positions` positions."""
        while num_positions:
            num_skipped = len(self.peek(num_positions))
            self.offset += num_skipped
            num_positions -= num_skipped
