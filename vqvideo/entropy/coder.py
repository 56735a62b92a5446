"""Codes to bytes and back, under a prior, by arithmetic coding.

Encoding and decoding are one walk: code by code, the prior gives the probabilities of the next
code, which become whole numbers (`vqvideo.entropy.frequencies`), and a range coder writes or reads
that code by them. The decoder asks the prior exactly what the encoder asked, in the same order,
and the answers are worked out in exact arithmetic (`vqvideo.entropy.arithmetic`): no machine,
number of threads or company in a batch changes a bit. (A pass over the whole grid would be no less
work for many items, and is another network to write down: its sums are built otherwise.)

What a file says of grid, prior and conditions is not here.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.entropy.arithmetic import ExactArithmetic
from vqvideo.entropy.frequencies import TOTAL, frequencies
from vqvideo.entropy.segment import match, seal, unseal
from vqvideo.identity import fingerprint
from vqvideo.priors import Prior
from vqvideo.sampling import Progress, check_codes
from vqvideo.sampling.states import Recomputed

VERSION = 1  # of all but the prior that decides which bytes codes become
AT_ONCE = 16  # items whose states are in memory together


class PriorCoder:
    """Codes to bytes and back under a prior, the same on every machine.

    It works on the CPU, in float64, with a copy of the prior. A walk takes as many steps for 16
    items as for one, so items are best given many at once; the states of 16 of them are what
    bounds memory. They can be decoded in any grouping, one alone too.

    Attributes:
        fingerprint: of the prior and of this way to encode; codes can be decoded by a coder with
            the fingerprint of the one that encoded them.

    Raises:
        ValueError: a prior whose likelihood is a bound, or whose codebook has one code only.
        ImportError: constriction is missing.
    """

    def __init__(self, prior: Prior) -> None:
        if not prior.exact_likelihood:
            raise ValueError(
                f"{type(prior).__name__} gives a bound on the likelihood of codes, not the "
                f"probability of each, so it cannot compress them; take a prior that is exact"
            )
        if not 2 <= prior.codebook_size < TOTAL:
            raise ValueError(f"codebook_size must lie in [2, 2**24), got {prior.codebook_size}")
        sizes = prior.rank, prior.codebook_size, prior.num_codebooks
        self.fingerprint = fingerprint(prior, context=(VERSION, *sizes))
        self.prior = copy.deepcopy(prior).to("cpu", torch.float64).eval().requires_grad_(False)
        stream = _constriction().stream
        self._coders = stream.queue
        # It gives each code 1 of 2**24, and to each of the rest its weight times the rest / the
        # sum of weights. For weights that are the frequencies less 1 that factor is 1, exactly.
        self._model = stream.model.Categorical(perfect=False)

    def check_fingerprint(self, fingerprint: str) -> None:
        """Raise `ValueError` unless codes with this fingerprint can be decoded here."""
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"these codes were compressed under a prior with fingerprint {fingerprint}, this "
                f"one has {self.fingerprint}; decode them under the prior they were compressed with"
            )

    def encode(
        self, codes: Tensor, cond: Cond | None = None, progress: Progress | None = None
    ) -> list[bytes]:
        """Segments (`vqvideo.entropy.segment`), one for each item.

        Args:
            codes: integers in [0, K), `[b, *grid(, s)]`, b at least 1.
            cond: of the batch; what decodes must be told the same.
            progress: called with how many codes are done and how many there are.

        Raises:
            ValueError: codes or cond do not fit the prior, or it uses a function, or numbers, for
                which there is no exact arithmetic here.
        """
        grid, flat = self._grid_of(codes), codes.to("cpu", torch.int64).flatten(1)
        encoders = [self._coders.RangeEncoder() for _ in flat]
        for items, index, walk in self._steps(len(flat), grid, cond, progress):
            here, weights = flat[items, index], walk.frequencies().sub_(1).numpy()
            symbols = here.numpy().astype(np.int32)
            for item, encoder in enumerate(encoders[items]):
                encoder.encode(symbols[item, None], self._model, weights[item, None])
            walk.push(here)
        each = zip(encoders, flat.numpy(), strict=True)
        return [seal(encoder.get_compressed(), item) for encoder, item in each]

    def decode(
        self,
        segments: Sequence[bytes],
        grid: tuple[int, ...],
        cond: Cond | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Codes int64 `[b, *grid(, s)]` of segments.

        Raises:
            ValueError: a segment is damaged, or does not give the codes it was made of; the
                message names it by its index. Or grid or cond do not fit.
        """
        words = [unseal(segment, index) for index, segment in enumerate(segments)]
        shape = self._shape(len(segments), grid)
        decoders = [self._coders.RangeDecoder(each) for each in words]
        flat = torch.zeros(shape, dtype=torch.int64).flatten(1)
        for items, index, walk in self._steps(len(flat), grid, cond, progress):
            here, weights = flat[items, index], walk.frequencies().sub_(1).numpy()
            for item, decoder in enumerate(decoders[items]):
                here[item] = self._read(decoder, weights[item, None])
            walk.push(here)
        for index, (segment, item) in enumerate(zip(segments, flat.numpy(), strict=True)):
            match(segment, item, index)
        return flat.view(shape)

    def frequencies(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """By what whole numbers each code of `[b, *grid(, s)]` is encoded, `[b, *grid(, s), K]`,
        given those before it: float64, adding up to 2**24.
        """
        grid, flat = self._grid_of(codes), codes.to("cpu", torch.int64).flatten(1)
        result = torch.empty(*flat.shape, self.prior.codebook_size, dtype=torch.float64)
        for items, index, walk in self._steps(len(flat), grid, cond, None):
            result[items, index] = walk.frequencies()
            walk.push(flat[items, index])
        return result.view(*codes.shape, -1)

    def _read(self, decoder: Any, weights: np.ndarray[Any, Any]) -> int:
        try:
            return int(decoder.decode(self._model, weights)[0])
        except AssertionError:  # no encoder writes such words under this prior: the check says so
            return 0

    def _grid_of(self, codes: Tensor) -> tuple[int, ...]:
        prior, several = self.prior, self.prior.num_codebooks > 1
        grid = tuple(codes.shape[1 : codes.ndim - several])
        if codes.is_floating_point() or codes.dtype == torch.bool:
            raise ValueError(f"codes must be integers, got {codes.dtype}")
        if tuple(codes.shape) != self._shape(len(codes) if codes.ndim else 0, grid):
            raise ValueError(
                f"codes must have {prior.num_codebooks} codebooks along their last axis, "
                f"got {list(codes.shape)}"
            )
        check_codes("codes", codes, prior.codebook_size)
        return grid

    def _shape(self, batch: int, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Of codes; raises `ValueError` unless there are any, on a grid that fits the prior."""
        prior = self.prior
        if len(grid) != prior.rank or min(batch, *grid) < 1:
            raise ValueError(
                f"codes of this prior are [batch, *grid] with {prior.rank} grid axes, and here "
                f"there must be at least one; got a batch of {batch} and grid {list(grid)}"
            )
        return (batch, *grid, prior.num_codebooks) if prior.num_codebooks > 1 else (batch, *grid)

    def _steps(
        self, batch: int, grid: tuple[int, ...], cond: Cond | None, progress: Progress | None
    ) -> Iterator[tuple[slice, int, _Walk]]:
        """Each code of each item in turn: the items, the code's index, and the walk that stands
        before it and must be pushed on.
        """
        if cond is not None:
            cond.check(self.prior.cond, batch, grid)
        number = math.prod(grid) * self.prior.num_codebooks
        for first in range(0, batch, AT_ONCE):
            items = slice(first, min(first + AT_ONCE, batch))
            size = items.stop - first
            walk = _Walk(self.prior, self._shape(size, grid), _conditions_of(items, cond))
            for index in range(number):
                yield items, index, walk
                if progress is not None:
                    progress(first * number + (index + 1) * size, batch * number)


class _Walk:
    """A prior in float64, asked code by code in exact arithmetic."""

    def __init__(self, prior: Prior, shape: tuple[int, ...], cond: Cond | None) -> None:
        batch, grid = shape[0], shape[1 : 1 + prior.rank]
        self.arithmetic = ExactArithmetic()
        with self.arithmetic:
            state = prior.start(batch, grid, cond)
        self.state = Recomputed(prior, batch, shape[1:], cond) if state is None else state

    def frequencies(self) -> Tensor:
        """Of the next code, `[b, K]`."""
        with self.arithmetic:
            logits = self.state.logits()
        return frequencies(logits)

    def push(self, codes: Tensor) -> None:
        """Fix it, `[b]`, and go to the next."""
        with self.arithmetic:
            self.state.push(codes)


def _conditions_of(items: slice, cond: Cond | None) -> Cond | None:
    """The conditions of some items, on the CPU and in float64."""
    if cond is None:
        return None
    given = {field.name: getattr(cond, field.name) for field in fields(cond)}
    part = {name: value[items].cpu() for name, value in given.items() if value is not None}
    return Cond(**{name: x.double() if x.is_floating_point() else x for name, x in part.items()})


def _constriction() -> Any:
    try:
        return importlib.import_module("constriction")
    except ImportError as cause:
        raise ImportError(
            "compressing codes needs constriction: pip install 'vqvideo[compress]'"
        ) from cause
