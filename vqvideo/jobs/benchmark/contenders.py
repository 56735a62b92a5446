"""What `vqvideo benchmark quantizer` compares: our `ema` quantizer and its peer, on one input.

The peer is the `VectorQuantize` of vector-quantize-pytorch, as a codebook by moving average with
revival of dead codes; all else is left as its authors set it.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vqvideo.quantizers import EMAQuantizer, codebook, search

DECAY, COMMITMENT = 0.99, 0.25  # of both
NOISE = 0.7  # standard deviation of a vector around its entry, whose own is 1


class Size(NamedTuple):
    """How much there is to do.

    Attributes:
        num_vectors: N.
        code_dim: D.
        codebook_size: K.
    """

    num_vectors: int
    code_dim: int
    codebook_size: int


SIZES = {
    "S1": Size(2048, 64, 512),
    "S2": Size(16384, 64, 512),
    "S3": Size(16384, 256, 1024),
    "S4": Size(8192, 256, 8192),
    "S5": Size(65536, 64, 1024),
    "S6": Size(4096, 64, 65536),
}


class Problem:
    """Vectors that lie around the entries of a codebook, the same at each call.

    Attributes:
        size: what it was made for.
        codebook: `[K, D]`.
        vectors: `[N, D]`.
        load: how many vectors an entry wins on average.
    """

    def __init__(self, size: Size) -> None:
        draw = torch.Generator().manual_seed(0)
        self.size = size
        self.codebook = torch.randn(size.codebook_size, size.code_dim, generator=draw)
        chosen = torch.randint(size.codebook_size, (size.num_vectors,), generator=draw)
        noise = torch.randn(size.num_vectors, size.code_dim, generator=draw)
        self.vectors = self.codebook[chosen] + NOISE * noise
        self.load = size.num_vectors / size.codebook_size


class Contender(ABC):
    """A quantizer and the input that it gets.

    Attributes:
        quantizer: in the mode that `prepare` was told.
        state: what `prepare` brings back.
        z_e: the vectors of the problem in the shape that this quantizer takes; same memory.
    """

    quantizer: nn.Module
    state: dict[str, Tensor]
    z_e: Tensor

    def prepare(self, *, training: bool) -> None:
        """The codebook and its averages as they were at first, and no gradient."""
        self.z_e.grad = None
        self.quantizer.load_state_dict(self.state)
        self.quantizer.train(training)

    @abstractmethod
    def step(self) -> object:
        """Forward, backward, and the codebook moved."""

    @torch.no_grad()
    def lookup(self) -> Any:
        """Forward alone, what evaluation does; `prepare` for it with `training=False`."""
        return self.quantizer(self.z_e.detach())

    @abstractmethod
    def codes(self) -> Tensor:
        """The codes of `lookup`: `[N]`."""


class Ours(Contender):
    """The `ema` quantizer. Its input is what a network in channels-last memory gives."""

    quantizer: EMAQuantizer

    def __init__(self, problem: Problem) -> None:
        _, code_dim, codebook_size = problem.size
        self.quantizer = EMAQuantizer(
            codebook_size=codebook_size, code_dim=code_dim, ema_decay=DECAY
        )
        self.quantizer.auto_step = True
        self.z_e = problem.vectors[None].mT.detach().requires_grad_()
        self.state = {
            "codebook": problem.codebook,
            "counts": torch.full((codebook_size,), problem.load),
            "sums": problem.codebook * problem.load,
            "load": torch.full((codebook_size,), problem.load),
            "steps": torch.tensor(1),
            "started": torch.tensor(True),
        }

    def step(self) -> object:
        """See `Contender`."""
        quantized = self.quantizer(self.z_e)
        (quantized.z_q.sum() + COMMITMENT * quantized.commitment_loss).backward()
        return quantized

    def codes(self) -> Tensor:
        """See `Contender`."""
        found: Tensor = self.lookup().codes
        return found.flatten()


class Peer(Contender):
    """`VectorQuantize` of vector-quantize-pytorch."""

    def __init__(self, problem: Problem) -> None:
        _, code_dim, codebook_size = problem.size
        self.quantizer = peer_class()(
            dim=code_dim,
            codebook_size=codebook_size,
            decay=DECAY,
            threshold_ema_dead_code=2,
            commitment_weight=COMMITMENT,
        )
        self.z_e = problem.vectors[None].detach().requires_grad_()
        self.state = {
            "_codebook.initted": torch.tensor(True),
            "_codebook.embed": problem.codebook[None],
            "_codebook.embed_avg": problem.codebook[None] * problem.load,
            "_codebook.cluster_size": torch.full((1, codebook_size), problem.load),
        }

    def step(self) -> object:
        """See `Contender`."""
        z_q, codes, loss = self.quantizer(self.z_e)
        (z_q.sum() + loss).backward()
        return z_q, codes, loss

    def codes(self) -> Tensor:
        """See `Contender`."""
        found: Tensor = self.lookup()[1]
        return found.flatten()


CONTENDERS: dict[str, type[Ours] | type[Peer]] = {"ours": Ours, "peer": Peer}


def peer_class() -> type[nn.Module]:
    """The peer, or an `ImportError` that says how to get it."""
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError as error:
        raise ImportError(
            "the quantizer is compared with vector-quantize-pytorch; install it with: "
            "pip install 'vqvideo[bench]'"
        ) from error
    peer: type[nn.Module] = VectorQuantize
    return peer


# -- which way our search goes ------------------------------------------------------------------


def has_fast_path() -> bool:
    """Whether our search takes its fast path on this machine."""
    return search._has_fast_onednn()


@contextlib.contextmanager
def on_path(*, fast: bool) -> Iterator[None]:
    """Our search on the path that is given, whatever the machine."""
    with _replaced(search, "_has_fast_onednn", lambda: fast):
        yield


@contextlib.contextmanager
def given_codes(codes: Tensor) -> Iterator[None]:
    """Our quantizers without their search, whose answer is `codes`: what is left is the rest."""
    with _replaced(codebook, "nearest_codes", lambda vectors, entries: codes):
        yield


@contextlib.contextmanager
def _replaced(module: object, name: str, other: object) -> Iterator[None]:
    # unittest.mock does this too, but takes as long as the smallest search
    before = getattr(module, name)
    setattr(module, name, other)
    try:
        yield
    finally:
        setattr(module, name, before)
