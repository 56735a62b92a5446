"""The quantizers compared by `tools/benchmark.py quantizer`: our `ema` quantizer and its peer.

The peer is the `VectorQuantize` of vector-quantize-pytorch with an EMA codebook and replacement of
dead codes; all other options keep their defaults.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vqvideo.quantizers import EMAQuantizer, codebook, search

EMA_DECAY, COMMITMENT_WEIGHT = 0.99, 0.25  # for both
NOISE_STD = 0.7  # of a vector around its entry; entries have a standard deviation of 1


class ProblemSize(NamedTuple):
    """The size of a quantization problem.

    Attributes:
        num_vectors: N, number of vectors.
        code_dim: D, dimension of a vector.
        codebook_size: K, number of entries.
    """

    num_vectors: int
    code_dim: int
    codebook_size: int


PROBLEM_SIZES = {
    "S1": ProblemSize(2048, 64, 512),
    "S2": ProblemSize(16384, 64, 512),
    "S3": ProblemSize(16384, 256, 1024),
    "S4": ProblemSize(8192, 256, 8192),
    "S5": ProblemSize(65536, 64, 1024),
    "S6": ProblemSize(4096, 64, 65536),
}


class Problem:
    """A codebook and vectors around its entries, always with the same seed.

    Attributes:
        size: the size of the problem.
        codebook: `[K, D]`.
        vectors: `[N, D]`.
        vectors_per_entry: average number of vectors assigned to an entry.
    """

    def __init__(self, size: ProblemSize) -> None:
        rng = torch.Generator().manual_seed(0)
        self.size = size
        self.codebook = torch.randn(size.codebook_size, size.code_dim, generator=rng)
        indices = torch.randint(size.codebook_size, (size.num_vectors,), generator=rng)
        noise = torch.randn(size.num_vectors, size.code_dim, generator=rng)
        self.vectors = self.codebook[indices] + NOISE_STD * noise
        self.vectors_per_entry = size.num_vectors / size.codebook_size


class Implementation(ABC):
    """A quantizer and its input.

    Attributes:
        quantizer: the module, in the mode set by `reset`.
        initial_state: the state dict that `reset` restores.
        z_e: the vectors of the problem in the layout of this quantizer; shares their memory.
    """

    quantizer: nn.Module
    initial_state: dict[str, Tensor]
    z_e: Tensor

    def reset(self, *, training: bool) -> None:
        """Restore the initial codebook and averages, and clear gradients."""
        self.z_e.grad = None
        self.quantizer.load_state_dict(self.initial_state)
        self.quantizer.train(training)

    @abstractmethod
    def train_step(self) -> object:
        """Run forward, backward and the codebook update."""

    @torch.no_grad()
    def eval_step(self) -> Any:
        """Run forward only, as in evaluation; call `reset(training=False)` first."""
        return self.quantizer(self.z_e.detach())

    @abstractmethod
    def compute_codes(self) -> Tensor:
        """Return the codes `[N]` of `eval_step`."""


class VQVideoEMA(Implementation):
    """Our `ema` quantizer, with input in channels-last memory layout."""

    quantizer: EMAQuantizer

    def __init__(self, problem: Problem) -> None:
        _, code_dim, codebook_size = problem.size
        self.quantizer = EMAQuantizer(
            codebook_size=codebook_size, code_dim=code_dim, ema_decay=EMA_DECAY
        )
        self.quantizer.auto_update = True
        self.z_e = problem.vectors[None].mT.detach().requires_grad_()
        self.initial_state = {
            "codebook": problem.codebook,
            "cluster_size": torch.full((codebook_size,), problem.vectors_per_entry),
            "embed_sum": problem.codebook * problem.vectors_per_entry,
            "usage_ema": torch.full((codebook_size,), problem.vectors_per_entry),
            "steps": torch.tensor(1),
            "initialized": torch.tensor(True),
        }

    def train_step(self) -> object:
        """Run forward, backward and the codebook update."""
        quantized = self.quantizer(self.z_e)
        (quantized.z_q.sum() + COMMITMENT_WEIGHT * quantized.commitment_loss).backward()
        return quantized

    def compute_codes(self) -> Tensor:
        """Return the codes `[N]` of `eval_step`."""
        codes: Tensor = self.eval_step().codes
        return codes.flatten()


class VectorQuantizePyTorch(Implementation):
    """The `VectorQuantize` of vector-quantize-pytorch."""

    def __init__(self, problem: Problem) -> None:
        _, code_dim, codebook_size = problem.size
        self.quantizer = import_peer()(
            dim=code_dim,
            codebook_size=codebook_size,
            decay=EMA_DECAY,
            threshold_ema_dead_code=2,
            commitment_weight=COMMITMENT_WEIGHT,
        )
        self.z_e = problem.vectors[None].detach().requires_grad_()
        self.initial_state = {
            "_codebook.initted": torch.tensor(True),
            "_codebook.embed": problem.codebook[None],
            "_codebook.embed_avg": problem.codebook[None] * problem.vectors_per_entry,
            "_codebook.cluster_size": torch.full((1, codebook_size), problem.vectors_per_entry),
        }

    def train_step(self) -> object:
        """Run forward, backward and the codebook update."""
        z_q, codes, loss = self.quantizer(self.z_e)
        (z_q.sum() + loss).backward()
        return z_q, codes, loss

    def compute_codes(self) -> Tensor:
        """Return the codes `[N]` of `eval_step`."""
        codes: Tensor = self.eval_step()[1]
        return codes.flatten()


IMPLEMENTATIONS: dict[str, type[VQVideoEMA] | type[VectorQuantizePyTorch]] = {
    "ours": VQVideoEMA,
    "peer": VectorQuantizePyTorch,
}


def import_peer() -> type[nn.Module]:
    """Return the class of the peer; raise `ImportError` with instructions if not installed."""
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError as error:
        raise ImportError(
            "the benchmark compares with vector-quantize-pytorch; install it with: "
            "pip install 'vqvideo[bench]'"
        ) from error
    peer: type[nn.Module] = VectorQuantize
    return peer


# -- search paths -------------------------------------------------------------------------------


def has_fast_path() -> bool:
    """Return whether our search takes its fast path on this machine."""
    return search._has_fast_onednn()


@contextlib.contextmanager
def select_search_path(*, fast: bool) -> Iterator[None]:
    """Force our search onto the fast or the plain path within the context."""
    with _patch_attribute(search, "_has_fast_onednn", lambda: fast):
        yield


@contextlib.contextmanager
def override_codes(codes: Tensor) -> Iterator[None]:
    """Replace the search of our quantizers by the given `codes` within the context."""
    with _patch_attribute(codebook, "nearest_codes", lambda vectors, entries: codes):
        yield


@contextlib.contextmanager
def _patch_attribute(module: object, name: str, value: object) -> Iterator[None]:
    # unittest.mock would take as long as the smallest search.
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
