"""Quantizers of vector-quantize-pytorch (Phil Wang) under the interface of vqvideo.

Theirs move a codebook inside a training forward; ours must move in `update_codebook()` and nowhere
else. So theirs stay in evaluation mode, the vectors of a step are kept, and `update_codebook()`
passes them on at once, in training mode. That keeps every law of
`vqvideo.testing.check_quantizer`. What is not kept:

- Vectors of a step are kept, not only their sums, so a step needs memory for all of them.
- On several processes theirs add up statistics themselves, and wait for each other: every process
  must see vectors in every step, where ours may see none.
- Entries that nobody uses are not revived by us; `threshold_ema_dead_code` of theirs does so with
  torch's random numbers, which no seed of ours decides. It is off unless asked for; with it, two
  half batches are no longer one whole.
- Their auxiliary losses (diversity, orthogonality, entropy) have no place in `Quantized`.

Of their many options only those are taken that do here what they say. Others would do nothing: the
gradient and the commitment loss are ours (`rotation_trick`, `commitment_weight`), no loss of ours
reaches a codebook or a projection of theirs (`learnable_codebook`, `codebook_dim`), and nothing may
move in a forward (`kmeans_init`). Who asks for one of those is told the ones there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, ResidualVQ, VectorQuantize

from vqvideo.metrics import code_histogram, perplexity
from vqvideo.quantizers import Quantized, Quantizer


class BorrowedQuantizer(Quantizer):
    """One of theirs, that takes `[b, n, d]` and gives vectors and indices.

    Args:
        theirs: the quantizer.
        lookup: the name of its method from indices to vectors.
        z_channels: d.
        codebook_size: K.
        num_codebooks: indices per vector.
        moves: whether it has a codebook that a training forward moves; its gradient is then that
            of section 3.2 of the paper. One without passes on a gradient of its own.
        is_nearest_neighbor: see `Quantizer`.
    """

    def __init__(
        self,
        module: nn.Module,
        decode_method: str,
        *,
        z_channels: int,
        codebook_size: int,
        num_codebooks: int = 1,
        has_codebook: bool = True,
        is_nearest_neighbor: bool = False,
    ) -> None:
        super().__init__()
        self.module, self.has_codebook = module.eval(), has_codebook
        self.decode_method = (
            decode_method  # its name: the method itself would tie a copy to the original
        )
        self.z_channels, self.codebook_size = z_channels, codebook_size
        self.num_codebooks, self.is_nearest_neighbor = num_codebooks, is_nearest_neighbor
        self.code_shape = (num_codebooks,) if num_codebooks > 1 else ()  # the last axis of codes
        self.pending_vectors: list[Tensor] = []

    def train(self, mode: bool = True) -> BorrowedQuantizer:
        """As always, but for theirs, which train in `update_codebook` alone."""
        super().train(mode)
        self.module.eval()
        return self

    def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
        rows = z_e.movedim(1, -1)
        vectors = rows.flatten(1, -2)  # [b, n, d]
        if len(vectors):
            found, codes = self.module(vectors)[:2]
        else:  # which theirs do not take
            found, codes = vectors, vectors.new_zeros(0)
        codes = codes.long().reshape(*rows.shape[:-1], *self.code_shape)
        through = vectors if self.has_codebook else found
        gradient = (through - through.detach()).reshape(rows.shape).movedim(-1, 1)  # and else 0
        z_q = self.dequantize(codes).detach() + gradient
        errors, used = (z_e - z_q.detach()).square().movedim(1, -1), codes
        if mask is not None:
            errors, used, rows = errors[mask], codes[mask], rows[mask]
        if self.training and self.has_codebook:
            self.pending_vectors.append(rows.detach().reshape(-1, self.z_channels))
        nothing = z_e.new_zeros(())
        each = used.reshape(-1, self.num_codebooks).unbind(1)
        perplexities = [perplexity(code_histogram(one, self.codebook_size)) for one in each]
        return Quantized(
            z_q=z_q,
            codes=codes,
            commitment_loss=errors.sum() / max(errors.numel(), 1) if self.has_codebook else nothing,
            codebook_loss=nothing,
            perplexity=torch.stack(perplexities).mean(),
        )

    def dequantize(self, codes: Tensor) -> Tensor:
        grid = codes.shape[: codes.ndim - len(self.code_shape)]
        vectors = codes.new_zeros(0)
        if len(codes):
            vectors = getattr(self.module, self.decode_method)(
                codes.reshape(len(codes), -1, *self.code_shape)
            )
        return vectors.reshape(*grid, self.z_channels).movedim(-1, 1).to(self.compute_dtype)

    @torch.no_grad()
    def update_codebook(self) -> None:
        seen, self.pending_vectors = self.pending_vectors, []
        if seen and len(rows := torch.cat(seen)):
            self.module.train()(rows[None])
            self.module.eval()


def vq(
    *,
    codebook_size: int = 512,
    code_dim: int = 64,
    decay: float = 0.8,
    eps: float = 1e-5,
    use_cosine_sim: bool = False,
    threshold_ema_dead_code: int = 0,
) -> BorrowedQuantizer:
    """`VectorQuantize`, its codebook a moving average; options are called what theirs are."""
    theirs = VectorQuantize(
        dim=code_dim,
        codebook_size=codebook_size,
        decay=decay,
        eps=eps,
        use_cosine_sim=use_cosine_sim,
        threshold_ema_dead_code=threshold_ema_dead_code,
    )
    return BorrowedQuantizer(
        theirs,
        "get_output_from_indices",
        z_channels=code_dim,
        codebook_size=codebook_size,
        is_nearest_neighbor=not use_cosine_sim,
    )


def residual(
    *,
    codebook_size: int = 512,
    code_dim: int = 64,
    num_codebooks: int = 4,
    decay: float = 0.8,
    eps: float = 1e-5,
    threshold_ema_dead_code: int = 0,
) -> BorrowedQuantizer:
    """`ResidualVQ`: each codebook codes what those before it left over."""
    theirs = ResidualVQ(
        dim=code_dim,
        codebook_size=codebook_size,
        num_quantizers=num_codebooks,
        decay=decay,
        eps=eps,
        threshold_ema_dead_code=threshold_ema_dead_code,
    )
    return BorrowedQuantizer(
        theirs,
        "get_output_from_indices",
        z_channels=code_dim,
        codebook_size=codebook_size,
        num_codebooks=num_codebooks,
    )


def fsq(*, levels: Sequence[int] = (8, 5, 5, 5)) -> BorrowedQuantizer:
    """`FSQ`: no codebook, each channel rounded to a few levels."""
    theirs = FSQ(list(levels))
    return BorrowedQuantizer(
        theirs,
        "indices_to_codes",
        z_channels=len(levels),
        codebook_size=theirs.codebook_size,
        has_codebook=False,
    )
