"""The plain codebook: each vector of z_e becomes the nearest of K entries.

z_e `[b, z_channels, *grid]` holds a vector per position; its code is k = argmin_j |z_e - e_j|, and
z_q = e_k. The argmin has no gradient, so that of z_q passes to z_e unchanged (straight-through).
What moves the entries differs (van den Oord et al. 2017):

- `vector`: the gradient of the second term of eq. 3, |sg[z_e] - e_k|^2, the codebook loss.
- `ema`: moving averages (appendix A.1, eq. 6 to 8). With n_k the number of vectors of a step that
  chose entry k and s_k their sum, N_k <- gamma N_k + (1 - gamma) n_k,
  m_k <- gamma m_k + (1 - gamma) s_k, e_k <- m_k / N_k.

The third term, |z_e - sg[e_k]|^2, is the commitment loss; its weight beta is in vqvae.py.
In training, `forward` chooses codes with the current codebook and adds to n and s, several times
per step if gradients are accumulated. `update_codebook()` then sums them over all processes, moves
the entries and replaces dead ones; in the first steps it initializes the codebook instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.arguments import check_count
from vqvideo.distributed import all_reduce_sum, broadcast_from_main, is_distributed
from vqvideo.metrics import code_histogram, perplexity
from vqvideo.quantizers.base import QUANTIZERS, Quantized, Quantizer
from vqvideo.quantizers.initialization import CodebookInit, build_entries, get_sample_size
from vqvideo.quantizers.reservoir import VectorReservoir
from vqvideo.quantizers.search import nearest_codes
from vqvideo.quantizers.straight_through import CommitmentLoss

USAGE_EMA_RATE = 0.05  # weight of the newest step in `usage_ema` if entries win one vector or more
EPSILON = 1e-5  # in vectors


class StepStatistics(NamedTuple):
    """Statistics of the forward calls of one step: n `[K]`, s `[K, d]`, a sample of vectors."""

    cluster_size: Tensor
    embed_sum: Tensor
    reservoir: VectorReservoir


class CodebookQuantizer(Quantizer):
    """One codebook; a subclass registers it and says how its entries are updated.

    Args:
        codebook_size: K, the number of entries.
        code_dim: d, the dimension of an entry.
        z_channels: channels of z_e and z_q; None means code_dim. Any other number is projected to
            code_dim and back by learned linear layers; losses are computed in code_dim.
        cosine: choose by cosine similarity: z_e and entries are L2-normalized first.
        init: "data", entries start as vectors of a step, or "kmeans", as centres of their clusters.
        warmup_steps: steps, at least 1, in which z_e passes unquantized; the last one initializes.
        dead_code_threshold: an entry that gets less than this fraction of the mean number of
            vectors per entry is dead and replaced by a vector of the step; 0 disables revival.
    """

    codebook: Tensor  # `[K, code_dim]`
    usage_ema: Tensor  # `[K]`, moving average of n over fewer steps than N, to find dead codes
    steps: Tensor  # number of steps with at least one vector
    initialized: Tensor  # bool, whether the codebook was filled from data

    def __init__(
        self,
        *,
        codebook_size: int = 512,
        code_dim: int = 64,
        z_channels: int | None = None,
        cosine: bool = False,
        init: CodebookInit = "data",
        warmup_steps: int = 1,
        dead_code_threshold: float = 0.02,
    ) -> None:
        super().__init__()
        self.codebook_size, self.code_dim = codebook_size, code_dim
        self.z_channels = code_dim if z_channels is None else z_channels
        for name in ("codebook_size", "code_dim", "z_channels"):
            check_count(name, getattr(self, name))
        if warmup_steps < 1:
            reason = "the codebook is initialized from the vectors of the last warm-up step"
            raise ValueError(f"warmup_steps must be at least 1, got {warmup_steps}: {reason}")
        if init not in ("data", "kmeans"):
            raise ValueError(f"init must be 'data' or 'kmeans', got {init!r}")
        if not 0 <= dead_code_threshold < 1:
            raise ValueError(
                f"dead_code_threshold must lie in [0, 1), got {dead_code_threshold}; "
                f"0 disables revival"
            )
        self.cosine, self.init, self.warmup_steps = cosine, init, warmup_steps
        self.dead_code_threshold = dead_code_threshold
        self.has_projection = self.z_channels != code_dim
        self.project_in = nn.Linear(self.z_channels, code_dim) if self.has_projection else None
        self.project_out = nn.Linear(code_dim, self.z_channels) if self.has_projection else None
        self.is_nearest_neighbor = not cosine and not self.has_projection
        self.register_buffer("usage_ema", torch.zeros(codebook_size))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("initialized", torch.tensor(False))
        self.step_statistics: StepStatistics | None = None  # no buffers: DDP overwrites them
        self._register_codebook(torch.randn(codebook_size, code_dim))

    def _register_codebook(self, entries: Tensor) -> None:
        self.register_buffer("codebook", entries)

    def _codebook_loss(self, vectors: Tensor, codes: Tensor, entries: Tensor) -> Tensor:
        """Return the second term of eq. 3 for vectors `[n, d]` with `codes` `[n]`; here zero."""
        return torch.zeros((), device=vectors.device)

    def _update_entries(self, cluster_size: Tensor, embed_sum: Tensor) -> None:
        """Update the entries by n `[K]` and s `[K, d]` of a step; by default do nothing."""

    def _replace_entries(self, indices: Tensor, vectors: Tensor, cluster_size: Tensor) -> None:
        """Replace entries `[m]` by `vectors` `[m, d]` that win `cluster_size` `[m]` per step."""
        self.codebook.data[indices] = vectors

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        rows = z_e.movedim(1, -1)
        vectors = _apply_linear(rows.reshape(-1, self.z_channels), self.project_in)
        vectors = F.normalize(vectors, dim=1) if self.cosine else vectors
        entries = self._get_entries().to(vectors.dtype)
        codes = nearest_codes(vectors.detach(), entries.detach())
        nearest = entries.detach().index_select(0, codes)
        if self.training and self.is_warming_up:
            nearest = vectors.detach().clone()
        valid = None if mask is None else mask.flatten()
        z_q, commitment_loss = CommitmentLoss.apply(vectors, nearest, valid)  # straight-through
        valid_vectors, valid_codes = vectors.detach(), codes
        if valid is not None:
            valid_vectors, valid_codes = valid_vectors[valid], codes[valid]
        counts = code_histogram(valid_codes, self.codebook_size)
        if self.training:
            statistics = self.step_statistics or self._build_step_statistics(vectors)
            statistics.cluster_size.add_(counts)
            statistics.embed_sum.index_add_(0, valid_codes, valid_vectors)
            items = vectors.detach().view(*rows.shape[:-1], self.code_dim).flatten(1, -2)
            statistics.reservoir.add(items, None if mask is None else mask.flatten(1))
            self.step_statistics = statistics
        return Quantized(
            z_q=_apply_linear(z_q, self.project_out).view(rows.shape).movedim(-1, 1),
            codes=codes.view(rows.shape[:-1]),
            commitment_loss=commitment_loss,
            codebook_loss=self._codebook_loss(valid_vectors, valid_codes, entries),
            perplexity=perplexity(counts),
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        nearest = self._get_entries().to(self.compute_dtype)[codes.flatten()]
        z_q = _apply_linear(nearest, self.project_out)
        return z_q.view(*codes.shape, self.z_channels).movedim(-1, 1)

    def _get_entries(self) -> Tensor:
        return F.normalize(self.codebook, dim=1) if self.cosine else self.codebook

    @property
    def is_warming_up(self) -> bool:
        return not self.initialized

    @torch.no_grad()
    def update_codebook(self) -> None:
        """Update the codebook; see `Quantizer`. All processes must call it."""
        statistics, self.step_statistics = self.step_statistics, None
        if statistics is None and not is_distributed():
            return
        if statistics is None:  # the other processes wait for this one
            statistics = self._build_step_statistics(self.codebook.to(self.compute_dtype))
        cluster_size = all_reduce_sum(statistics.cluster_size).to(self.usage_ema.dtype)
        if not cluster_size.any():
            return
        self.steps += 1
        if not self.is_warming_up:
            # With few vectors, average over more steps: an entry that gets none in one is not dead.
            self.usage_ema.lerp_(
                cluster_size, USAGE_EMA_RATE * min(1.0, cluster_size.mean().item())
            )
            embed_sum = all_reduce_sum(statistics.embed_sum).to(self.codebook.dtype)
            self._update_entries(cluster_size, embed_sum)
            self._revive_dead_codes(statistics.reservoir)
        elif self.steps >= self.warmup_steps:
            self._init_codebook(statistics.reservoir, int(cluster_size.sum()))

    def _build_step_statistics(self, like: Tensor) -> StepStatistics:
        """Return the statistics of a step without vectors, in the dtype of `like` `[n, d]`."""
        sample_size = self.codebook_size if self.dead_code_threshold else 0
        if self.is_warming_up:
            is_last = self.steps + 1 >= self.warmup_steps
            sample_size = get_sample_size(self.codebook_size, self.init) if is_last else 0
        sums = like.new_zeros(self.codebook_size, self.code_dim)
        reservoir = VectorReservoir(sample_size, int(self.steps), like)
        return StepStatistics(sums.new_zeros(self.codebook_size), sums, reservoir)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.step_statistics = None  # gathered with the codebook that was replaced

    def _init_codebook(self, reservoir: VectorReservoir, num_vectors: int) -> None:
        """Initialize the codebook from the reservoir of a step of `num_vectors` vectors."""
        entries = build_entries(reservoir.sample(reservoir.size), self.codebook_size, self.init)
        entries = broadcast_from_main(entries)  # k-means may differ between devices
        indices = torch.arange(len(entries), device=entries.device)
        self.usage_ema.fill_(num_vectors / self.codebook_size)
        self._replace_entries(indices, entries.to(self.codebook.dtype), self.usage_ema)
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


@QUANTIZERS.register("vector")
class VectorQuantizer(CodebookQuantizer):
    """Codebook trained by gradient; see `CodebookQuantizer` for its options.

    Call `update_codebook()` after the optimizer step, which would otherwise move revived entries.
    Start a weight average after the initialization, or it includes entries from before.
    """

    def _register_codebook(self, entries: Tensor) -> None:
        self.codebook = nn.Parameter(entries)

    def _codebook_loss(self, vectors: Tensor, codes: Tensor, entries: Tensor) -> Tensor:
        if self.training and self.is_warming_up:
            return 0 * entries.sum()  # zero, since DDP raises for parameters without a gradient
        nearest = F.embedding(codes, entries)
        return F.mse_loss(nearest, vectors, reduction="sum") / max(vectors.numel(), 1)


@QUANTIZERS.register("ema")
class EMAQuantizer(CodebookQuantizer):
    """Codebook of moving averages; see `CodebookQuantizer` for the other options.

    No gradient reaches it. The quotient of eq. 8 is (m_k + eps e_k) / (N_k + eps), so that an entry
    stays in place when its N_k approaches zero. Revival also resets N_k and m_k.

    Args:
        ema_decay: gamma in [0, 1); the paper uses 0.99.

    >>> quantizer = EMAQuantizer(codebook_size=8, code_dim=4).eval()
    >>> quantizer(torch.zeros(2, 4, 3, 5)).codes.shape
    torch.Size([2, 3, 5])
    """

    cluster_size: Tensor
    embed_sum: Tensor

    def __init__(
        self,
        *,
        codebook_size: int = 512,
        code_dim: int = 64,
        z_channels: int | None = None,
        cosine: bool = False,
        ema_decay: float = 0.99,
        init: CodebookInit = "data",
        warmup_steps: int = 1,
        dead_code_threshold: float = 0.02,
    ) -> None:
        super().__init__(
            codebook_size=codebook_size,
            code_dim=code_dim,
            z_channels=z_channels,
            cosine=cosine,
            init=init,
            warmup_steps=warmup_steps,
            dead_code_threshold=dead_code_threshold,
        )
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {ema_decay}")
        self.ema_decay = ema_decay

    def _register_codebook(self, entries: Tensor) -> None:
        super()._register_codebook(entries)
        self.register_buffer("cluster_size", torch.zeros(len(entries)))
        self.register_buffer("embed_sum", torch.zeros_like(entries))

    def _update_entries(self, cluster_size: Tensor, embed_sum: Tensor) -> None:
        self.cluster_size.lerp_(cluster_size, 1 - self.ema_decay)
        self.embed_sum.lerp_(embed_sum, 1 - self.ema_decay)
        numerator = self.codebook.mul_(EPSILON).add_(self.embed_sum)
        numerator.div_((self.cluster_size + EPSILON)[:, None])

    def _replace_entries(self, indices: Tensor, vectors: Tensor, cluster_size: Tensor) -> None:
        super()._replace_entries(indices, vectors, cluster_size)
        self.cluster_size[indices] = cluster_size
        self.embed_sum[indices] = vectors * cluster_size[:, None]


def _apply_linear(vectors: Tensor, layer: nn.Linear | None) -> Tensor:
    """Apply a layer, if any, in the dtype of the vectors: float32 also in a bfloat16 model."""
    if layer is None:
        return vectors
    return F.linear(vectors, layer.weight.to(vectors.dtype), layer.bias.to(vectors.dtype))
