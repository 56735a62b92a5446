"""Base class of quantizers with a codebook: nearest-neighbor search, data-dependent
initialization and revival of dead codes.

`CodebookQuantizer` implements what the `vector` and the `ema` quantizer share: projection to the
codebook space, search, the straight-through gradient, initialization, usage statistics and the
replacement of dead codes. A subclass only defines how entries are updated.

In training, `forward` chooses codes with the current codebook and adds to the statistics of the
step; `update_codebook()` sums these over all processes, updates the codebook and clears them. The
statistics of a step are not buffers: checkpoints are saved between steps, and
DistributedDataParallel overwrites the buffers of all processes by the first one's.

Not here: beta, the weight of the commitment loss (vqvae.py).
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.distributed import all_reduce_sum, broadcast_from_main, is_distributed
from vqvideo.metrics import code_histogram, perplexity
from vqvideo.quantizers.base import Quantized, Quantizer
from vqvideo.quantizers.kmeans import kmeans
from vqvideo.quantizers.reservoir import VectorReservoir
from vqvideo.quantizers.search import nearest_codes
from vqvideo.quantizers.straight_through import CommitmentLoss

USAGE_EMA_RATE = 0.05  # weight of the newest step in `usage_ema` if entries win one vector or more
VECTORS_PER_CLUSTER = 16  # vectors given to k-means, per cluster
CodebookInit = Literal["data", "kmeans"]


class StepStatistics:
    """Statistics of the forward calls of one step.

    Attributes:
        cluster_size: `[K]`, number of vectors assigned to each entry.
        embed_sum: `[K, d]`, sums of these vectors.
        reservoir: a sample of the vectors.
    """

    def __init__(self, entries: Tensor, reservoir_size: int, seed: int) -> None:
        self.cluster_size = entries.new_zeros(len(entries))
        self.embed_sum = torch.zeros_like(entries)
        self.reservoir = VectorReservoir(reservoir_size, seed, entries)


class CodebookQuantizer(Quantizer):
    """One codebook: search, statistics, revival. Subclasses implement the update of entries.

    Attributes:
        codebook: `[K, code_dim]`.
        usage_ema: float `[K]` buffer, moving average of the number of vectors assigned to each
            entry per step, over about 20 steps, or over as many as an entry needs for 20 vectors
            on average. It is shorter than that of the codebook, so dead codes are found early.
        steps: int buffer, number of steps with at least one vector.
        initialized: bool buffer; false until `update_codebook()` has filled the codebook from
            data.
    """

    codebook: Tensor
    usage_ema: Tensor
    steps: Tensor
    initialized: Tensor

    def __init__(
        self,
        *,
        codebook_size: int,
        code_dim: int,
        z_channels: int | None,
        cosine: bool,
        init: CodebookInit,
        warmup_steps: int,
        dead_code_threshold: float,
    ) -> None:
        super().__init__()
        sizes = {"codebook_size": codebook_size, "code_dim": code_dim, "z_channels": z_channels}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if warmup_steps < 1:
            raise ValueError(
                f"warmup_steps must be at least 1, got {warmup_steps}: the codebook is initialized "
                f"from the vectors of the last warm-up step"
            )
        if init not in ("data", "kmeans"):
            raise ValueError(f"init must be 'data' or 'kmeans', got {init!r}")
        if not 0 <= dead_code_threshold < 1:
            raise ValueError(
                f"dead_code_threshold must lie in [0, 1), got {dead_code_threshold}; "
                f"0 disables revival"
            )
        self.codebook_size, self.code_dim = codebook_size, code_dim
        self.z_channels = code_dim if z_channels is None else z_channels
        self.cosine, self.init, self.warmup_steps = cosine, init, warmup_steps
        self.dead_code_threshold = dead_code_threshold
        self.project_in = self.project_out = None
        self.has_projection = self.z_channels != code_dim
        if self.has_projection:
            self.project_in = nn.Linear(self.z_channels, code_dim)
            self.project_out = nn.Linear(code_dim, self.z_channels)
        self.is_nearest_neighbor = not cosine and self.project_in is None
        self.register_buffer("usage_ema", torch.zeros(codebook_size))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("initialized", torch.tensor(False))
        self.step_statistics: StepStatistics | None = None

    # -- the update of entries, implemented by subclasses -----------------------------------

    @abstractmethod
    def _codebook_loss(self, vectors: Tensor, codes: Tensor, entries: Tensor) -> Tensor:
        """Return the second term of eq. 3, or zero.

        Args:
            vectors: `[n, d]`.
            codes: int64 `[n]`, the entry of each vector.
            entries: `[K, d]`.
        """

    @abstractmethod
    def _update_entries(self, cluster_size: Tensor, embed_sum: Tensor) -> None:
        """Update the codebook with one step's statistics: `cluster_size` `[K]`, `embed_sum`
        `[K, d]`.
        """

    @abstractmethod
    def _replace_entries(self, indices: Tensor, vectors: Tensor, cluster_size: Tensor) -> None:
        """Replace the entries at `indices` `[m]` by `vectors` `[m, d]` and reset their statistics
        as if `cluster_size` `[m]` vectors per step had been assigned to them.
        """

    # -- the interface ----------------------------------------------------------------------

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        """Implement `Quantizer.quantize`."""
        rows = z_e.movedim(1, -1)
        vectors = self._project(rows.reshape(-1, self.z_channels))
        entries = self._get_entries().to(vectors.dtype)
        codes = nearest_codes(vectors.detach(), entries.detach())
        if self.training and self.is_warming_up:
            nearest = vectors.detach().clone()
        else:
            nearest = entries.detach().index_select(0, codes)
        flat_mask = None if mask is None else mask.flatten()
        z_q, commitment_loss = CommitmentLoss.apply(vectors, nearest, flat_mask)
        if self.project_out is not None:
            z_q = _apply_linear(z_q, self.project_out)
        valid_vectors, valid_codes = vectors.detach(), codes
        if flat_mask is not None:
            valid_vectors, valid_codes = valid_vectors[flat_mask], valid_codes[flat_mask]
        counts = code_histogram(valid_codes, self.codebook_size)
        if self.training:
            step = self.step_statistics = self.step_statistics or self._build_step_statistics(
                vectors
            )
            step.cluster_size += counts
            step.embed_sum.index_add_(0, valid_codes, valid_vectors)
            items = vectors.detach().view(*rows.shape[:-1], self.code_dim).flatten(1, -2)
            step.reservoir.add(items, None if mask is None else mask.flatten(1))
        return Quantized(
            z_q=z_q.view(rows.shape).movedim(-1, 1),
            codes=codes.view(rows.shape[:-1]),
            commitment_loss=commitment_loss,
            codebook_loss=self._codebook_loss(valid_vectors, valid_codes, entries),
            perplexity=perplexity(counts),
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        """Implement `Quantizer.dequantize`."""
        z_q = self._get_entries().to(self.compute_dtype)[codes.flatten()]
        if self.project_out is not None:
            z_q = _apply_linear(z_q, self.project_out)
        return z_q.view(*codes.shape, self.z_channels).movedim(-1, 1)

    @property
    def is_warming_up(self) -> bool:
        """Return whether z_e still passes unquantized in training; see `Quantizer`."""
        return not self.initialized

    @torch.no_grad()
    def update_codebook(self) -> None:
        """Update the codebook; see `Quantizer`. All processes must call it."""
        statistics, self.step_statistics = self.step_statistics, None
        if statistics is None:
            if not is_distributed():
                return
            # Empty statistics, since the other processes wait for this one.
            statistics = self._build_step_statistics(self.codebook.to(self.compute_dtype))
        cluster_size = all_reduce_sum(statistics.cluster_size).to(self.usage_ema.dtype)
        if not cluster_size.any():
            return
        self.steps += 1
        if not self.is_warming_up:
            # With less than one vector per entry, average over more steps: an entry without
            # vectors in a few steps is not dead then.
            self.usage_ema.lerp_(
                cluster_size, USAGE_EMA_RATE * min(1.0, cluster_size.mean().item())
            )
            self._update_entries(
                cluster_size, all_reduce_sum(statistics.embed_sum).to(self.codebook.dtype)
            )
            self._revive_dead_codes(statistics.reservoir)
        elif self.steps >= self.warmup_steps:
            self._init_codebook(statistics.reservoir, int(cluster_size.sum()))

    # -- codebook space ---------------------------------------------------------------------

    def _project(self, vectors: Tensor) -> Tensor:
        """Project rows of z_e `[n, z_channels]` to the codebook space `[n, code_dim]`."""
        if self.project_in is not None:
            vectors = _apply_linear(vectors, self.project_in)
        return F.normalize(vectors, dim=1) if self.cosine else vectors

    def _get_entries(self) -> Tensor:
        return F.normalize(self.codebook, dim=1) if self.cosine else self.codebook

    # -- statistics, initialization and revival ---------------------------------------------

    def _build_step_statistics(self, like: Tensor) -> StepStatistics:
        entries = like.new_empty(self.codebook_size, self.code_dim)
        return StepStatistics(entries, self._get_reservoir_size(), int(self.steps))

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.step_statistics = None  # gathered with the codebook that was replaced

    def _get_reservoir_size(self) -> int:
        if not self.is_warming_up:
            return self.codebook_size if self.dead_code_threshold else 0
        if self.steps + 1 < self.warmup_steps:
            return 0
        return self.codebook_size * (VECTORS_PER_CLUSTER if self.init == "kmeans" else 1)

    def _init_codebook(self, reservoir: VectorReservoir, num_vectors: int) -> None:
        """Initialize the codebook from the reservoir of a step of `num_vectors` vectors."""
        vectors = reservoir.sample(reservoir.size)
        missing = self.codebook_size - len(vectors)
        if missing > 0:
            warnings.warn(
                f"the codebook is initialized from a step of {len(vectors)} vectors for "
                f"{self.codebook_size} codes, so {missing} entries start as noisy copies; use "
                f"larger batches or a smaller codebook_size to initialize all of them from data",
                stacklevel=2,
            )
            vectors = torch.cat([vectors, _make_noisy_copies(vectors, missing)])
        if self.init == "kmeans":
            vectors = kmeans(vectors, self.codebook_size)
        vectors = broadcast_from_main(vectors)  # k-means may differ between devices
        self.usage_ema.fill_(num_vectors / self.codebook_size)
        all_indices = torch.arange(self.codebook_size, device=vectors.device)
        self._replace_entries(all_indices, vectors.to(self.codebook.dtype), self.usage_ema)
        self.initialized.fill_(True)

    def _revive_dead_codes(self, reservoir: VectorReservoir) -> None:
        """Replace entries whose `usage_ema` is below `dead_code_threshold` times its mean."""
        mean_usage = self.usage_ema.mean()
        dead = torch.nonzero(self.usage_ema < self.dead_code_threshold * mean_usage).flatten()
        if len(dead):
            vectors = reservoir.sample(len(dead)).to(self.codebook.dtype)
            dead = dead[: len(vectors)]
            self.usage_ema[dead] = mean_usage
            self._replace_entries(dead, vectors, self.usage_ema[dead])


def _apply_linear(vectors: Tensor, layer: nn.Linear) -> Tensor:
    """Apply a linear layer in the dtype of the vectors: float32 also in a bfloat16 model."""
    return F.linear(vectors, layer.weight.to(vectors.dtype), layer.bias.to(vectors.dtype))


def _make_noisy_copies(vectors: Tensor, num_copies: int) -> Tensor:
    """Return `num_copies` copies of the vectors with noise, the same on every process."""
    generator = torch.Generator().manual_seed(num_copies)
    noise = torch.randn(num_copies, vectors.shape[1], generator=generator).to(vectors)
    copies = vectors[torch.arange(num_copies, device=vectors.device) % len(vectors)]
    return copies + 0.1 * vectors.std(dim=0, correction=0) * noise
