"""A table of K vectors that finds nearest entries, starts from data and keeps itself in use.

`CodebookQuantizer` does all that the `vector` and the `ema` quantizer have in common: the
search, the straight-through gradient, data-dependent initialisation, the count of how much each
entry is used and the revival of entries that no longer are. A subclass says only how entries
move. Every flag and statistic is a buffer, so loading a checkpoint and training on re-initialises
nothing; what is gathered between two steps is not stored, since a checkpoint is taken at a step.

Not here: beta, the weight of the commitment loss (vqvae.py).
"""

from __future__ import annotations

import warnings
from abc import abstractmethod

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import pack, rearrange, unpack
from torch import Tensor

from vqvideo.metrics import code_histogram, perplexity
from vqvideo.quantizers.base import NotFiniteError, Quantized, Quantizer

LOAD_DECAY = 0.95
Shapes = list[tuple[int, ...] | list[int]]  # as einops packs them
GROUP = 32  # entries among which the largest score is looked for at once
SCORES_AT_ONCE = 2**21  # floats: 8 MiB of scores stay in cache; K x N never exists whole


@torch.no_grad()
def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the entry nearest to each vector: int64 `[n]`; ties go to the lowest index.

    Args:
        vectors: float32 `[n, d]`.
        codebook: float32 `[K, d]`.

    The entry at the smallest |x - e|^2 has the largest x.e - |e|^2 / 2, one matrix product. Its
    rows are worked through in chunks that stay in cache, and the largest score is looked for first
    by groups and then within one, since a maximum is far quicker to find than its place.
    """
    # Far from the origin the score is a difference of large numbers; a median stays with most
    # entries when one is far out.
    centre = codebook.median(dim=0).values
    entries = F.pad(codebook - centre, (0, 0, 0, -len(codebook) % GROUP))
    bias = entries.square().sum(dim=1) / -2
    bias[len(codebook) :] = -torch.inf  # what fills up the last group never wins
    rows = max(1, SCORES_AT_ONCE // len(entries))
    scores = vectors.new_empty(min(rows, len(vectors)), len(entries))
    codes = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    for start in range(0, len(vectors), rows):
        chunk = vectors[start : start + rows] - centre
        groups = torch.addmm(bias, chunk, entries.T, out=scores[: len(chunk)])
        groups = groups.unflatten(1, (-1, GROUP))
        group = groups.amax(dim=2).argmax(dim=1)
        member = groups[torch.arange(len(chunk), device=group.device), group].argmax(dim=1)
        codes[start : start + rows] = group * GROUP + member
    return codes


class CodebookQuantizer(Quantizer):
    """One codebook: search, statistics, revival. Subclasses implement how entries move.

    Attributes:
        load: float `[K]` buffer, moving average of how many vectors each entry wins per step,
            over some twenty steps: revival must be quicker than the codebook is.
        initialised: bool buffer; false until the first training batch has filled the codebook.
    """

    codebook: Tensor
    load: Tensor
    initialised: Tensor
    pending_counts: Tensor
    pending_sums: Tensor
    candidates: Tensor

    def __init__(
        self,
        *,
        codebook_size: int,
        code_dim: int,
        revive_below: float,
        auto_step: bool,
    ) -> None:
        super().__init__()
        if codebook_size < 1 or code_dim < 1:
            raise ValueError(
                f"codebook_size and code_dim must be at least 1, got {codebook_size}, {code_dim}"
            )
        if not 0 <= revive_below < 1:
            raise ValueError(f"revive_below must lie in [0, 1), got {revive_below}; 0 means never")
        self.codebook_size = codebook_size
        self.code_dim = code_dim
        self.revive_below = revive_below
        self.auto_step = auto_step
        self.register_buffer("load", torch.zeros(codebook_size))
        self.register_buffer("initialised", torch.tensor(False))
        shape = (codebook_size, code_dim)
        self.register_buffer("pending_counts", torch.zeros(codebook_size), persistent=False)
        self.register_buffer("pending_sums", torch.zeros(shape), persistent=False)
        self.register_buffer("candidates", torch.zeros(0, code_dim), persistent=False)

    # -- how entries move: the part in which quantizers differ ------------------------------

    @abstractmethod
    def _codebook_loss(self, vectors: Tensor, nearest: Tensor) -> Tensor:
        """Second term of eq. 3, or zero."""

    @abstractmethod
    def _move(self, counts: Tensor, sums: Tensor) -> None:
        """Move the codebook by the vectors of one step: `counts` `[K]`, `sums` `[K, d]`."""

    @abstractmethod
    def _place(self, entries: Tensor, vectors: Tensor, load: Tensor) -> None:
        """Put `vectors` `[m, d]` at the indices `entries` `[m]`, all memory of the old gone, as
        if each had been winning `load` (a scalar) vectors per step.
        """

    # -- the interface ----------------------------------------------------------------------

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        if z_e.ndim < 3 or z_e.shape[1] != self.code_dim:
            raise ValueError(
                f"z_e must be [batch, code_dim={self.code_dim}, *grid], got {list(z_e.shape)}"
            )
        with torch.autocast(z_e.device.type, enabled=False):
            return self._quantize(z_e.float(), mask)

    def _quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        vectors, grid = pack([rearrange(z_e, "b d ... -> b ... d")], "* d")
        _check_finite(vectors, z_e)
        seen = vectors if mask is None else vectors[mask.flatten()]
        if self.training and not self.initialised and len(seen):
            self._initialise(seen.detach())
        codes = nearest_codes(vectors.detach(), self.codebook.detach().float())
        nearest = self.codebook[codes].float()
        won = codes if mask is None else codes[mask.flatten()]
        close = nearest if mask is None else nearest[mask.flatten()]
        counts = code_histogram(won, self.codebook_size)
        if self.training:
            self._gather(seen.detach(), won, counts)
        quantized = Quantized(
            z_q=self._to_grid(_straight_through(vectors, nearest), grid).to(self.codebook.dtype),
            codes=unpack(codes, grid, "*")[0],
            commitment_loss=_mean_square(seen - close.detach()),
            codebook_loss=self._codebook_loss(seen.detach(), close),
            perplexity=perplexity(counts),
        )
        if self.training and self.auto_step:
            self.step()
        return quantized

    def decode(self, codes: Tensor) -> Tensor:
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise ValueError(
                f"codes must lie in [0, {self.codebook_size}), "
                f"got values from {int(codes.min())} to {int(codes.max())}"
            )
        return rearrange(self.codebook[codes], "b ... d -> b d ...")

    @torch.no_grad()
    def step(self) -> None:
        counts, sums = _summed(self.pending_counts), _summed(self.pending_sums)
        if counts.sum() > 0:
            self.load.lerp_(counts, 1 - LOAD_DECAY)
            self._move(counts, sums)
            self._revive()
        self.pending_counts.zero_()
        self.pending_sums.zero_()
        self.candidates = self.candidates[:0]

    # -- statistics, start and revival ------------------------------------------------------

    def _gather(self, vectors: Tensor, codes: Tensor, counts: Tensor) -> None:
        self.pending_counts += counts
        vectors = vectors.to(self.pending_sums.dtype)
        self.pending_sums.index_add_(0, codes, vectors)
        self.candidates = torch.cat([self.candidates, _some(vectors, self.codebook_size)])

    @torch.no_grad()
    def _initialise(self, vectors: Tensor) -> None:
        """Fill the codebook with vectors of the first batch, the same on every process."""
        start = _some(vectors, self.codebook_size)
        missing = self.codebook_size - len(start)
        if missing:
            warnings.warn(
                f"the first batch has {len(vectors)} vectors for {self.codebook_size} codes, so "
                f"{missing} entries start as noisy copies; larger batches or a smaller "
                f"codebook_size would start them all from data",
                stacklevel=2,
            )
            extra = start[torch.randint(len(start), (missing,), device=start.device)]
            noise = torch.randn_like(extra) * vectors.std(dim=0, correction=0)
            start = torch.cat([start, extra + 0.1 * noise])
        start = _from_first_process(start).to(self.codebook.dtype)
        number = _summed(torch.tensor(float(len(vectors)), device=start.device))
        self.load.fill_(number / self.codebook_size)
        everywhere = torch.arange(self.codebook_size, device=start.device)
        self._place(everywhere, start, self.load.mean())
        self.initialised.fill_(True)

    def _revive(self) -> None:
        """Replace entries whose load fell below `revive_below` times the mean load."""
        mean_load = self.load.mean()
        dead = torch.nonzero(self.load < self.revive_below * mean_load).flatten()
        vectors = _from_first_process(_some(self.candidates, len(dead)))
        dead = dead[: len(vectors)]
        if len(dead):
            self.load[dead] = mean_load
            self._place(dead, vectors, mean_load)

    @staticmethod
    def _to_grid(vectors: Tensor, grid: Shapes) -> Tensor:
        return rearrange(unpack(vectors, grid, "* d")[0], "b ... d -> b d ...")


def _straight_through(vectors: Tensor, nearest: Tensor) -> Tensor:
    """The entries to the bit, with the gradient of the vectors (section 3.2 of the paper)."""
    return nearest.detach() + (vectors - vectors.detach())


def _mean_square(difference: Tensor) -> Tensor:
    return difference.square().sum() / max(difference.numel(), 1)  # an empty batch costs 0


def _check_finite(vectors: Tensor, z_e: Tensor) -> None:
    if not torch.isfinite(vectors.detach().sum()):  # one pass; a sum hides no NaN or infinity
        bad = torch.nonzero(~torch.isfinite(z_e.detach()))
        if len(bad):
            raise NotFiniteError(
                f"z_e holds {len(bad)} values that are NaN or infinite, "
                f"the first at [batch, channel, *grid] = {bad[0].tolist()}"
            )


def _some(vectors: Tensor, number: int) -> Tensor:
    """At most `number` different rows of `vectors`, drawn at random."""
    return vectors[torch.randperm(len(vectors), device=vectors.device)[:number]]


def _summed(x: Tensor) -> Tensor:
    """`x` added up over all processes; asked at each call, so it never matters whether a
    quantizer was built before or after the process group.
    """
    if dist.is_available() and dist.is_initialized():
        x = x.clone()
        dist.all_reduce(x)
    return x


def _from_first_process(x: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x
