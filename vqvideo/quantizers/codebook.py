"""A table of K vectors that finds nearest entries, starts from data and keeps itself in use.

`CodebookQuantizer` does all that the `vector` and the `ema` quantizer have in common: projection
to the space of the codebook, search, the straight-through gradient, start, the count of how much
each entry is used and the revival of entries that no longer are. A subclass says only how entries
move.

In training, `forward` chooses codes with the codebook as it was and adds to what the step has
seen; `step()` adds that up over all processes, moves the codebook and forgets it. What a step has
seen is no buffer: a checkpoint is taken between steps, and wrappers for several processes copy
the buffers of the first process over those of the others.

Not here: beta, the weight of the commitment loss (vqvae.py).
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.metrics import code_histogram, perplexity
from vqvideo.processes import are_several, of_the_first, summed
from vqvideo.quantizers.base import Quantized, Quantizer
from vqvideo.quantizers.kmeans import kmeans
from vqvideo.quantizers.sample import Sample
from vqvideo.quantizers.search import nearest_codes
from vqvideo.quantizers.straight_through import Commitment

LOAD_SHARE = 0.05  # of the newest step in an entry's load, where entries win one vector or more
VECTORS_PER_CLUSTER = 16  # that k-means looks at
Start = Literal["data", "kmeans"]


class Seen:
    """What the forward calls of one step have seen.

    Attributes:
        counts: `[K]`, vectors won by each entry.
        sums: `[K, d]`, their sums.
        sample: some of the vectors.
    """

    def __init__(self, entries: Tensor, sample_size: int, seed: int) -> None:
        self.counts = entries.new_zeros(len(entries))
        self.sums = torch.zeros_like(entries)
        self.sample = Sample(sample_size, seed, entries)


class CodebookQuantizer(Quantizer):
    """One codebook: search, statistics, revival. Subclasses implement how entries move.

    Attributes:
        codebook: `[K, code_dim]`.
        load: float `[K]` buffer, moving average of how many vectors each entry wins per step,
            over some twenty steps, or as many as an entry needs for twenty vectors: revival must
            be quicker than the codebook is.
        steps: int buffer, how many steps have seen vectors.
        started: bool buffer; false until `step()` has filled the codebook from data.
    """

    codebook: Tensor
    load: Tensor
    steps: Tensor
    started: Tensor

    def __init__(
        self,
        *,
        codebook_size: int,
        code_dim: int,
        z_channels: int | None,
        cosine: bool,
        start: Start,
        warmup_steps: int,
        revive_below: float,
    ) -> None:
        super().__init__()
        sizes = {"codebook_size": codebook_size, "code_dim": code_dim, "z_channels": z_channels}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if warmup_steps < 1:
            raise ValueError(
                f"warmup_steps must be at least 1, got {warmup_steps}: the codebook starts from "
                f"the vectors of its last warm-up step"
            )
        if start not in ("data", "kmeans"):
            raise ValueError(f"start must be 'data' or 'kmeans', got {start!r}")
        if not 0 <= revive_below < 1:
            raise ValueError(f"revive_below must lie in [0, 1), got {revive_below}; 0 means never")
        self.codebook_size, self.code_dim = codebook_size, code_dim
        self.z_channels = code_dim if z_channels is None else z_channels
        self.cosine, self.start, self.warmup_steps = cosine, start, warmup_steps
        self.revive_below = revive_below
        self.project_in = self.project_out = None
        if self.z_channels != code_dim:
            self.project_in = nn.Linear(self.z_channels, code_dim)
            self.project_out = nn.Linear(code_dim, self.z_channels)
        self.plain_lookup = not cosine and self.project_in is None
        self.register_buffer("load", torch.zeros(codebook_size))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("started", torch.tensor(False))
        self.seen: Seen | None = None

    # -- how entries move: the part in which quantizers differ ------------------------------

    @abstractmethod
    def _codebook_loss(self, vectors: Tensor, codes: Tensor, entries: Tensor) -> Tensor:
        """Second term of eq. 3 for vectors `[n, d]` that won the `codes` `[n]` of `entries`
        `[K, d]`, or zero.
        """

    @abstractmethod
    def _move(self, counts: Tensor, sums: Tensor) -> None:
        """Move the codebook by the vectors of one step: `counts` `[K]`, `sums` `[K, d]`."""

    @abstractmethod
    def _place(self, entries: Tensor, vectors: Tensor, load: Tensor) -> None:
        """Put `vectors` `[m, d]` at the indices `entries` `[m]`, all memory of the old gone, as
        if they had been winning `load` `[m]` vectors per step.
        """

    # -- the interface ----------------------------------------------------------------------

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        """See `Quantizer`."""
        rows = z_e.movedim(1, -1)
        vectors = self._projected(rows.reshape(-1, self.z_channels))
        entries = self._entries().to(vectors.dtype)
        codes = nearest_codes(vectors.detach(), entries.detach())
        if self.training and self.warming_up:
            nearest = vectors.detach().clone()
        else:
            nearest = entries.detach().index_select(0, codes)
        counted = None if mask is None else mask.flatten()
        z_q, commitment_loss = Commitment.apply(vectors, nearest, counted)
        if self.project_out is not None:
            z_q = _linear(z_q, self.project_out)
        seen, won = vectors.detach(), codes
        if counted is not None:
            seen, won = seen[counted], won[counted]
        counts = code_histogram(won, self.codebook_size)
        if self.training:
            step = self.seen = self.seen or self._new_step(vectors)
            step.counts += counts
            step.sums.index_add_(0, won, seen)
            items = vectors.detach().view(*rows.shape[:-1], self.code_dim).flatten(1, -2)
            step.sample.add(items, None if mask is None else mask.flatten(1))
        return Quantized(
            z_q=z_q.view(rows.shape).movedim(-1, 1),
            codes=codes.view(rows.shape[:-1]),
            commitment_loss=commitment_loss,
            codebook_loss=self._codebook_loss(seen, won, entries),
            perplexity=perplexity(counts),
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        z_q = self._entries().to(self.wide)[codes.flatten()]
        if self.project_out is not None:
            z_q = _linear(z_q, self.project_out)
        return z_q.view(*codes.shape, self.z_channels).movedim(-1, 1)

    @property
    def warming_up(self) -> bool:
        """See `Quantizer`."""
        return not self.started

    @torch.no_grad()
    def step(self) -> None:
        """See `Quantizer`. On several processes all must call it."""
        seen, self.seen = self.seen, None
        if seen is None:
            if not are_several():
                return
            seen = self._new_step(self.codebook.to(self.wide))  # the others wait for this one
        counts = summed(seen.counts).to(self.load.dtype)
        if not counts.any():
            return
        self.steps += 1
        if not self.warming_up:
            # Where they win less, the load looks further back: silence is no death then.
            self.load.lerp_(counts, LOAD_SHARE * min(1.0, counts.mean().item()))
            self._move(counts, summed(seen.sums).to(self.codebook.dtype))
            self._revive(seen.sample)
        elif self.steps >= self.warmup_steps:
            self._begin(seen.sample, int(counts.sum()))

    # -- the space of the codebook ----------------------------------------------------------

    def _projected(self, vectors: Tensor) -> Tensor:
        """Rows of z_e `[n, z_channels]` where the codebook is: `[n, code_dim]`."""
        if self.project_in is not None:
            vectors = _linear(vectors, self.project_in)
        return F.normalize(vectors, dim=1) if self.cosine else vectors

    def _entries(self) -> Tensor:
        return F.normalize(self.codebook, dim=1) if self.cosine else self.codebook

    # -- statistics, start and revival ------------------------------------------------------

    def _new_step(self, like: Tensor) -> Seen:
        entries = like.new_empty(self.codebook_size, self.code_dim)
        return Seen(entries, self._sample_size(), int(self.steps))

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.seen = None  # it was seen by the codebook that was here before

    def _sample_size(self) -> int:
        if not self.warming_up:
            return self.codebook_size if self.revive_below else 0
        if self.steps + 1 < self.warmup_steps:
            return 0
        return self.codebook_size * (VECTORS_PER_CLUSTER if self.start == "kmeans" else 1)

    def _begin(self, sample: Sample, number: int) -> None:
        """Fill the codebook from the `number` vectors of this step."""
        vectors = sample.drawn(sample.size)
        missing = self.codebook_size - len(vectors)
        if missing > 0:
            warnings.warn(
                f"the codebook starts from a step of {len(vectors)} vectors for "
                f"{self.codebook_size} codes, so {missing} entries start as noisy copies; larger "
                f"batches or a smaller codebook_size would start them all from data",
                stacklevel=2,
            )
            vectors = torch.cat([vectors, _noisy_copies(vectors, missing)])
        if self.start == "kmeans":
            vectors = kmeans(vectors, self.codebook_size)
        vectors = of_the_first(vectors)  # k-means need not end alike on two devices
        self.load.fill_(number / self.codebook_size)
        everywhere = torch.arange(self.codebook_size, device=vectors.device)
        self._place(everywhere, vectors.to(self.codebook.dtype), self.load)
        self.started.fill_(True)

    def _revive(self, sample: Sample) -> None:
        """Replace entries whose load fell below `revive_below` times the mean load."""
        mean_load = self.load.mean()
        dead = torch.nonzero(self.load < self.revive_below * mean_load).flatten()
        if len(dead):
            vectors = sample.drawn(len(dead)).to(self.codebook.dtype)
            dead = dead[: len(vectors)]
            self.load[dead] = mean_load
            self._place(dead, vectors, self.load[dead])


def _linear(vectors: Tensor, layer: nn.Linear) -> Tensor:
    """A layer in the type of the vectors: a quantizer is float32 in a bfloat16 model too."""
    return F.linear(vectors, layer.weight.to(vectors.dtype), layer.bias.to(vectors.dtype))


def _noisy_copies(vectors: Tensor, number: int) -> Tensor:
    """`number` vectors near the given ones, the same on every process."""
    draw = torch.Generator().manual_seed(number)
    noise = torch.randn(number, vectors.shape[1], generator=draw).to(vectors)
    copies = vectors[torch.arange(number, device=vectors.device) % len(vectors)]
    return copies + 0.1 * vectors.std(dim=0, correction=0) * noise
