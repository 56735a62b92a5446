"""Entropy coding of codes under a prior, with a range coder.

Encoding and decoding share one loop: group by group in the order of the prior (code by code in
raster order), the prior gives the probabilities of the next codes, these are converted to integer
frequencies (`vqvideo.entropy.frequencies`), and a range coder writes or reads the codes with them.
The decoder evaluates the prior on the same inputs in the same order as the encoder, in exact
arithmetic (`vqvideo.entropy.exact_arithmetic`), so the bits do not depend on the machine, the
number of threads or the other items of a batch. (The encoder cannot use a parallel pass over the
whole grid, since its sums round differently; for many items that would not save work either.)

The metadata of a code file (grid, prior, conditions) is not handled here.
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

from vqvideo.arguments import check_codes, to_int64
from vqvideo.cond import Cond
from vqvideo.entropy.exact_arithmetic import ExactArithmetic
from vqvideo.entropy.frequencies import TOTAL_FREQUENCY, logits_to_frequencies
from vqvideo.entropy.segment import check_codes_crc, pack_segment, unpack_segment
from vqvideo.identity import fingerprint
from vqvideo.priors import Prior
from vqvideo.sampling import ProgressCallback
from vqvideo.sampling.states import UncachedPriorState

VERSION = 1  # version of the encoding, apart from the prior
BATCH_SIZE = 16  # number of items whose states are in memory at the same time


class PriorCoder:
    """Lossless encoder and decoder of codes under a prior, reproducible on every machine.

    It runs on the CPU, in float64, with a copy of the prior. Items are processed in batches of 16,
    which take as many steps as a single item, so pass many items at once; the batch size bounds
    the memory. Items can be decoded in any grouping.

    Attributes:
        fingerprint: fingerprint of the prior and of the encoding. Codes can be decoded only by a
            coder with the fingerprint of their encoder.

    Raises:
        ValueError: the likelihood of the prior is only a lower bound, or its codebook has a single
            code or too many.
        ImportError: constriction is not installed.
    """

    def __init__(self, prior: Prior) -> None:
        if not prior.has_exact_likelihood:
            raise ValueError(
                f"{type(prior).__name__} gives a bound on the likelihood of codes, not the "
                f"probability of each code, so it cannot compress them; use a prior with an exact "
                f"likelihood"
            )
        if not 2 <= prior.codebook_size < TOTAL_FREQUENCY:
            raise ValueError(f"codebook_size must lie in [2, 2**24), got {prior.codebook_size}")
        sizes = prior.rank, prior.codebook_size, prior.num_codebooks
        self.fingerprint = fingerprint(prior, context=(VERSION, *sizes))
        self.prior = copy.deepcopy(prior).to("cpu", torch.float64).eval().requires_grad_(False)
        stream = _import_constriction().stream
        self._coders = stream.queue
        # The model gives each code a frequency of 1 of 2**24 and distributes the remainder in
        # proportion to the weights. If the weights are the frequencies minus 1, they add up to
        # the remainder, so the frequencies result exactly.
        self._model = stream.model.Categorical(perfect=False)

    def check_fingerprint(self, fingerprint: str) -> None:
        """Raise `ValueError` unless codes with this fingerprint can be decoded here."""
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"these codes were compressed under a prior with fingerprint {fingerprint}, but "
                f"this prior has {self.fingerprint}; decode them with the prior of the encoder"
            )

    def encode(
        self, codes: Tensor, cond: Cond | None = None, progress: ProgressCallback | None = None
    ) -> list[bytes]:
        """Encode codes to segments (`vqvideo.entropy.segment`), one per item.

        Args:
            codes: integers in [0, K), `[b, *grid(, s)]`, b at least 1.
            cond: conditions of the batch; decoding requires the same conditions.
            progress: callback, called with (number of codes done, total number of codes).

        Raises:
            ValueError: codes or cond do not match the prior, or the prior uses an operation or
                values that exact arithmetic does not support.
        """
        grid, flat = self._get_grid(codes), codes.to("cpu", torch.int64).flatten(1)
        encoders = [self._coders.RangeEncoder() for _ in flat]
        for items, group, state in self._iterate_groups(len(flat), grid, cond, progress):
            current, weights = flat[items, group], state.compute_frequencies().sub_(1).numpy()
            symbols = current.numpy().astype(np.int32).reshape(weights.shape[:2])
            for item, encoder in enumerate(encoders[items]):
                encoder.encode(symbols[item], self._model, weights[item])
            state.push(current)
        encoded = zip(encoders, flat.numpy(), strict=True)
        return [pack_segment(encoder.get_compressed(), item) for encoder, item in encoded]

    def decode(
        self,
        segments: Sequence[bytes],
        grid: tuple[int, ...],
        cond: Cond | None = None,
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """Decode segments to codes, int64 `[b, *grid(, s)]`.

        Raises:
            ValueError: a segment is damaged, or its decoded codes fail the checksum; the message
                gives the index of the segment. Or grid or cond do not match the prior.
        """
        words = [unpack_segment(segment, index) for index, segment in enumerate(segments)]
        shape = self._get_codes_shape(len(segments), grid)
        decoders = [self._coders.RangeDecoder(item_words) for item_words in words]
        flat = torch.zeros(shape, dtype=torch.int64).flatten(1)
        for items, group, state in self._iterate_groups(len(flat), grid, cond, progress):
            weights = state.compute_frequencies().sub_(1).numpy()
            for item, decoder in enumerate(decoders[items], items.start):
                flat[item, group] = self._decode_group(decoder, weights[item - items.start])
            state.push(flat[items, group])
        for index, (segment, item) in enumerate(zip(segments, flat.numpy(), strict=True)):
            check_codes_crc(segment, item, index)
        return flat.view(shape)

    def compute_frequencies(self, codes: Tensor, cond: Cond | None = None) -> Tensor:
        """Return the integer frequencies `[b, *grid(, s), K]` with which codes `[b, *grid(, s)]`
        are encoded, each given the codes before it: float64, with a sum of 2**24.
        """
        grid, flat = self._get_grid(codes), codes.to("cpu", torch.int64).flatten(1)
        result = torch.empty(*flat.shape, self.prior.codebook_size, dtype=torch.float64)
        for items, group, state in self._iterate_groups(len(flat), grid, cond, None):
            frequencies = state.compute_frequencies()
            result[items, group] = frequencies.reshape(result[items, group].shape)
            state.push(flat[items, group])
        return result.view(*codes.shape, -1)

    def _decode_group(self, decoder: Any, weights: np.ndarray[Any, Any]) -> Tensor:
        try:
            codes = decoder.decode(self._model, weights)
        except AssertionError:  # invalid words under this prior; the CRC of the codes reports it
            codes = np.zeros(len(weights), np.int32)
        return torch.from_numpy(codes.astype(np.int64))

    def _get_grid(self, codes: Tensor) -> tuple[int, ...]:
        prior, has_codebook_axis = self.prior, self.prior.num_codebooks > 1
        grid = tuple(codes.shape[1 : codes.ndim - has_codebook_axis])
        if tuple(codes.shape) != self._get_codes_shape(len(codes) if codes.ndim else 0, grid):
            raise ValueError(
                f"codes must have {prior.num_codebooks} codebooks along their last axis, "
                f"got {list(codes.shape)}"
            )
        check_codes("codes", to_int64("codes", codes), prior.codebook_size)
        return grid

    def _get_codes_shape(self, batch: int, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of codes; raise `ValueError` if it is empty or the rank is wrong."""
        prior = self.prior
        if len(grid) != prior.rank or min(batch, *grid) < 1:
            raise ValueError(
                f"codes of this prior must be [batch, *grid] with {prior.rank} grid axes and must "
                f"not be empty; got a batch of {batch} and grid {list(grid)}"
            )
        return (batch, *grid, prior.num_codebooks) if prior.num_codebooks > 1 else (batch, *grid)

    def _iterate_groups(
        self,
        batch: int,
        grid: tuple[int, ...],
        cond: Cond | None,
        progress: ProgressCallback | None,
    ) -> Iterator[tuple[slice, int | Tensor, _ExactPriorState]]:
        """Yield the slice of items, the indices of a group of codes and the prior state, for each
        group of the prior's order in turn.

        The state stands before that group; the caller must push its codes.
        """
        if cond is not None:
            cond.check(self.prior.cond, batch, grid)
        num_codes = math.prod(grid) * self.prior.num_codebooks
        order = self.prior.order(self._get_codes_shape(batch, grid)[1:])
        for start in range(0, batch, BATCH_SIZE):
            items = slice(start, min(start + BATCH_SIZE, batch))
            size = items.stop - start
            state = _ExactPriorState(
                self.prior, self._get_codes_shape(size, grid), _slice_cond(items, cond)
            )
            num_done = start * num_codes
            for group in order:
                yield items, group, state
                num_done += size * (group.numel() if isinstance(group, Tensor) else 1)
                if progress is not None:
                    progress(num_done, batch * num_codes)


class _ExactPriorState:
    """Step-by-step evaluation of a prior in float64 and exact arithmetic."""

    def __init__(self, prior: Prior, shape: tuple[int, ...], cond: Cond | None) -> None:
        batch, grid = shape[0], shape[1 : 1 + prior.rank]
        self.arithmetic = ExactArithmetic()
        with self.arithmetic:
            state = prior.init_state(batch, grid, cond)
        self.state = UncachedPriorState(prior, batch, shape[1:], cond) if state is None else state

    def compute_frequencies(self) -> Tensor:
        """Return the integer frequencies of the m codes of the next group, `[b, m, K]`."""
        with self.arithmetic:
            logits = self.state.logits()
        # constriction reads the rows of contiguous arrays only
        logits = logits.reshape(len(logits), -1, logits.shape[-1]).contiguous()
        return logits_to_frequencies(logits)

    def push(self, codes: Tensor) -> None:
        """Append the codes of the next group and advance."""
        with self.arithmetic:
            self.state.push(codes)


def _slice_cond(items: slice, cond: Cond | None) -> Cond | None:
    """Return the conditions of a slice of items, on the CPU and in float64."""
    if cond is None:
        return None
    values = {field.name: getattr(cond, field.name) for field in fields(cond)}
    sliced = {name: value[items].cpu() for name, value in values.items() if value is not None}
    return Cond(**{name: x.double() if x.is_floating_point() else x for name, x in sliced.items()})


def _import_constriction() -> Any:
    try:
        return importlib.import_module("constriction")
    except ImportError as cause:
        raise ImportError(
            "compressing codes requires constriction: pip install 'vqvideo[compress]'"
        ) from cause
