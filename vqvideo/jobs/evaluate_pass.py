"""The pass of `vqvideo evaluate`: what a model says of each item, and how near it comes to it.

    item -> encoder -> codes -> decoder -> p(x | z_q) -> reconstruction term -> rows of figures
                         |                     `------> mode -> PSNR, SSIM -----^
                         `---> p(codes), learnt and uniform --------------------^

Batch by batch; of an item a row of figures is kept, of all of them how often each code came.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

from vqvideo.cond import Cond
from vqvideo.data.clips import ClipDataset, Sample, cond_of
from vqvideo.data.corrupt import TooManyCorruptError
from vqvideo.generator import Generator
from vqvideo.media import MediaError
from vqvideo.metrics import BEST_PSNR_DB, LEAST_SIDE, bits_per_dim, psnr_db_of_mse, ssim_measure
from vqvideo.modes import evaluating
from vqvideo.report import CodebookReport
from vqvideo.report.codebook import CodebookWatch
from vqvideo.score import Score
from vqvideo.spectra import mel_distance
from vqvideo.vqvae import VQVAEOutput

Row = dict[str, Any]
"""Of one item: `file` and `start`, and its figures by name."""


class Scored(NamedTuple):
    """What a pass gives.

    Attributes:
        rows: one for each window that could be read, in their order.
        indices: which windows those are.
        codebooks: how the codebook did over them.
    """

    rows: list[Row]
    indices: list[int]
    codebooks: CodebookReport


@torch.no_grad()
def score_items(
    generator: Generator,
    data: ClipDataset,
    indices: Sequence[int],
    *,
    batch_size: int,
    advance: Callable[[int], None],
) -> Scored:
    """A row for each of the items `indices` of the data, and how the codebook did.

    A row holds the terms of `terms_of` and, unless the likelihood is autoregressive, whose mode
    takes a pass for each value, what `nearness` says. Windows that cannot be read have none, since
    another in their place would count twice; `data.skipped` names their files.

    Args:
        generator: with or without a prior.
        data: windows that fit it.
        indices: of the windows to score.
        batch_size: how many at a time.
        advance: called with the number of items of each batch.

    Raises:
        FloatingPointError: a figure is NaN or infinite; the message names the window.
        MediaError: not one of the windows can be read, or too many files cannot.
        ValueError: the data lacks what the prior takes.
    """
    rows, kept = list[Row](), list[int]()
    device = next(generator.vqvae.parameters()).device
    with evaluating(generator):
        watch = CodebookWatch(generator.vqvae.quantizer, device)
        for start in range(0, len(indices), batch_size):
            some = indices[start : start + batch_size]
            samples = _readable(data, some)
            if samples:
                batch = default_collate(list(samples.values()))
                for index, figures in zip(samples, _figures(generator, batch, watch), strict=True):
                    place = _place(data, index)
                    _check_finite(figures, place)
                    rows.append({**place, **figures})
                kept += samples
            advance(len(some))
        if not rows:
            raise MediaError(
                f"not one of {len(indices)} windows can be read, so there is nothing to score; "
                f"mend their files: {data.skipped[0][1]}"
            )
        return Scored(rows, kept, watch.report())


def _readable(data: ClipDataset, indices: Sequence[int]) -> dict[int, Sample]:
    """Those of the windows that can be read, by their indices."""
    found = {}
    for index in indices:
        try:
            found[index] = data.read(index)
        except TooManyCorruptError:
            raise
        except MediaError:  # the data set remembers file and reason
            continue
    return found


def _figures(generator: Generator, batch: Sample, watch: CodebookWatch) -> list[dict[str, float]]:
    """Those of each item of a batch; the codebook is watched on the way."""
    vqvae = generator.vqvae
    x = batch["x"].to(next(vqvae.parameters()).device)
    z_e = vqvae.z_e(x)
    quantized = vqvae.quantizer(z_e)
    watch.add(z_e, quantized.codes)
    cond = told(generator, batch)
    parameters = vqvae.parameters_of(quantized.z_q, generator.for_decoder(cond))
    terms = terms_of(generator.log_prob(x, cond, output=VQVAEOutput(parameters, quantized)))
    if vqvae.likelihood.is_autoregressive:
        return list(terms)
    near = nearness(x, vqvae.likelihood.mode(parameters), int(generator.config.rate))
    return [{**one, **other} for one, other in zip(terms, near, strict=True)]


def terms_of(score: Score) -> Iterator[dict[str, float]]:
    """The terms of the bound of each item, by name.

    `reconstruction`, `prior` and `bound`, their sum; `uniform`, -N ln K, and `uniform_bound`, the
    sum with that one. Each as `NAME_nats`, log-probabilities, and as `NAME_bits_per_dim`, which is
    what they cost; that is left out where the likelihood is a density, and what belongs to the
    prior where there is none.

    >>> terms = torch.tensor([-6.0]), torch.tensor([-2.0]), torch.tensor([-4.0])
    >>> list(terms_of(Score(*terms, num_dims=2, gives_bits=False)))[0]["uniform_bound_nats"]
    -10.0
    """
    reconstruction, uniform = _wide(score.reconstruction), _wide(score.uniform)
    nats = {"reconstruction": reconstruction}
    if score.prior is not None:
        prior = _wide(score.prior)
        nats |= {"prior": prior, "bound": reconstruction + prior}
    nats |= {"uniform": uniform, "uniform_bound": reconstruction + uniform}
    columns = {f"{name}_nats": value for name, value in nats.items()}
    if score.gives_bits:
        for name, value in nats.items():
            columns[f"{name}_bits_per_dim"] = bits_per_dim(-value, score.num_dims)
    for item in range(len(reconstruction)):
        yield {name: column[item].item() for name, column in columns.items()}


def nearness(
    x: Tensor, again: Tensor, sample_rate: int | None = None
) -> Iterator[dict[str, float]]:
    """How near reconstructions `[b, c, *axes]` are to their originals, item by item.

    `mean_squared_error` of data in [-1, 1]; `psnr_db`, at most 100; of pictures that are large
    enough `ssim`, of clips its mean over the frames; of sound, whose rate in Hz must be given, the
    multi-scale `mel_distance` (see `vqvideo.spectra`).
    """
    has_ssim = x.ndim > 3 and min(x.shape[-2:]) >= LEAST_SIDE
    for original, other in zip(x.float(), again.float(), strict=True):
        error = (other - original).square().mean().item()
        near = {"mean_squared_error": error, "psnr_db": min(psnr_db_of_mse(error), BEST_PSNR_DB)}
        if has_ssim:
            near["ssim"] = ssim_measure()(_frames(other), _frames(original)).mean().item()
        if x.ndim == 3:
            assert sample_rate is not None
            near["mel_distance"] = mel_distance(original, other, sample_rate).mean().item()
        yield near


def told(generator: Generator, batch: Sample) -> Cond | None:
    """What prior and decoder are told about a batch; None if they take nothing."""
    return cond_of(batch, generator.takes, next(generator.parameters()).device)


def _wide(nats: Tensor) -> Tensor:
    """In float64, which not every device has."""
    return nats.cpu().double()


def _frames(item: Tensor) -> Tensor:
    """Pictures `[n, c, h, w]` of an image `[c, h, w]` or a clip `[c, t, h, w]`."""
    return item[None] if item.ndim == 3 else item.movedim(1, 0)


def _place(data: ClipDataset, index: int) -> Row:
    item, start = data.window(index)
    return {"file": os.fspath(item.path), "start": start}


def _check_finite(figures: dict[str, float], place: Row) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            is_term = name.endswith(("_nats", "_bits_per_dim"))
            what = "log-probability" if is_term else "reconstruction"
            raise FloatingPointError(
                f"{name} of {place['file']} from {place['start']} is {value}; this model gives no "
                f"finite {what} there, so no mean over the data exists. Look for NaN in its "
                f"weights, or score an earlier checkpoint"
            )
