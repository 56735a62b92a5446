"""The loop of `vqvideo evaluate`: log-probabilities and reconstruction metrics of each item.

    item -> encoder -> codes -> decoder -> p(x | z_q) -> reconstruction term -> rows of metrics
                         |                     `------> mode -> PSNR, SSIM -----^
                         `---> p(codes), learnt and uniform --------------------^

The data is processed batch by batch. A row of metrics is kept per item, and the usage count of each
code over all items.
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
from vqvideo.data.clips import ClipDataset, Sample, cond_from_batch
from vqvideo.data.corrupt_files import TooManyCorruptError
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.media import MediaError
from vqvideo.metrics import MAX_PSNR_DB, SSIM_MIN_SIZE, bits_per_dim, build_ssim, psnr_db_from_mse
from vqvideo.modes import eval_mode
from vqvideo.report import CodebookReport
from vqvideo.report.codebook import CodebookMonitor
from vqvideo.score import Score
from vqvideo.spectra import mel_distance
from vqvideo.vqvae import VQVAEOutput

MetricsRow = dict[str, Any]
"""The metrics of one item by name, with the `file` and `start` of its window."""


class ScoringResult(NamedTuple):
    """Result of `score_items`.

    Attributes:
        rows: one row per readable window, in order.
        indices: indices of those windows.
        codebook_report: statistics of the codebook over them.
    """

    rows: list[MetricsRow]
    indices: list[int]
    codebook_report: CodebookReport


@torch.no_grad()
def score_items(
    generator: Generator,
    data: ClipDataset,
    indices: Sequence[int],
    *,
    batch_size: int,
    advance: Callable[[int], None],
) -> ScoringResult:
    """Compute a row of metrics for each window of `indices`, and statistics of the codebook.

    A row has the terms of `compute_elbo_terms` and the metrics of `compute_reconstruction_metrics`;
    the latter are omitted for an autoregressive likelihood, whose mode takes one pass per value.
    Unreadable windows have no row, since a replacement would count twice; `data.skipped` lists
    their files.

    Args:
        generator: a model with or without a prior.
        data: windows that fit the model.
        indices: indices of the windows to score.
        batch_size: windows per batch.
        advance: called with the number of items of each batch.

    Raises:
        FloatingPointError: a metric is NaN or infinite; the message names the window.
        MediaError: none of the windows can be read, or too many files cannot.
        ValueError: the data lacks a condition of the prior.
    """
    rows, readable_indices = list[MetricsRow](), list[int]()
    device = get_device(generator.vqvae)
    with eval_mode(generator):
        monitor = CodebookMonitor(generator.vqvae.quantizer, device)
        for start in range(0, len(indices), batch_size):
            batch_indices = indices[start : start + batch_size]
            samples = _read_windows(data, batch_indices)
            if samples:
                batch = default_collate(list(samples.values()))
                for index, metrics in zip(
                    samples, _compute_item_metrics(generator, batch, monitor), strict=True
                ):
                    window = _locate_window(data, index)
                    _check_finite(metrics, window)
                    rows.append({**window, **metrics})
                readable_indices += samples
            advance(len(batch_indices))
        if not rows:
            raise MediaError(
                f"none of {len(indices)} windows can be read, so there is nothing to score; repair "
                f"or replace their files: {data.skipped[0][1]}"
            )
        return ScoringResult(rows, readable_indices, monitor.compute())


def _read_windows(data: ClipDataset, indices: Sequence[int]) -> dict[int, Sample]:
    """Return the readable windows by index."""
    samples = {}
    for index in indices:
        try:
            samples[index] = data.read(index)
        except TooManyCorruptError:
            raise
        except MediaError:  # the data set records file and reason
            continue
    return samples


def _compute_item_metrics(
    generator: Generator, batch: Sample, monitor: CodebookMonitor
) -> list[dict[str, float]]:
    """Return the metrics of each item of a batch, and update the codebook monitor."""
    vqvae = generator.vqvae
    x = batch["x"].to(get_device(vqvae))
    z_e = vqvae.compute_z_e(x)
    quantized = vqvae.quantizer(z_e)
    monitor.update(z_e, quantized.codes)
    cond = get_batch_cond(generator, batch)
    parameters = vqvae.predict_parameters(quantized.z_q, generator.select_decoder_cond(cond))
    terms = compute_elbo_terms(
        generator.log_prob(x, cond, output=VQVAEOutput(parameters, quantized))
    )
    if vqvae.likelihood.is_autoregressive:
        return list(terms)
    reconstruction_metrics = compute_reconstruction_metrics(
        x, vqvae.likelihood.mode(parameters), int(generator.config.rate)
    )
    return [
        {**term, **metrics} for term, metrics in zip(terms, reconstruction_metrics, strict=True)
    ]


def compute_elbo_terms(score: Score) -> Iterator[dict[str, float]]:
    """Yield the terms of the bound of each item, by name.

    The terms are `reconstruction`, `prior` and their sum `elbo`; `uniform`, -N ln K, and
    `uniform_elbo`, the sum of `reconstruction` and `uniform`. Each is given as `NAME_nats`, a
    log-probability, and as `NAME_bits_per_dim`, its cost. Bits per dimension are omitted if the
    likelihood is a density, `prior` and `elbo` if there is no prior.

    >>> terms = torch.tensor([-6.0]), torch.tensor([-2.0]), torch.tensor([-4.0])
    >>> row, = compute_elbo_terms(Score(*terms, num_dims=2, is_discrete=False))
    >>> row["uniform_elbo_nats"]
    -10.0
    """
    reconstruction, uniform = _to_float64(score.reconstruction), _to_float64(score.uniform)
    nats = {"reconstruction": reconstruction}
    if score.prior is not None:
        prior = _to_float64(score.prior)
        nats |= {"prior": prior, "elbo": reconstruction + prior}
    nats |= {"uniform": uniform, "uniform_elbo": reconstruction + uniform}
    columns = {f"{name}_nats": value for name, value in nats.items()}
    if score.is_discrete:
        for name, value in nats.items():
            columns[f"{name}_bits_per_dim"] = bits_per_dim(-value, score.num_dims)
    for item in range(len(reconstruction)):
        yield {name: column[item].item() for name, column in columns.items()}


def compute_reconstruction_metrics(
    x: Tensor, reconstruction: Tensor, sample_rate: int | None = None
) -> Iterator[dict[str, float]]:
    """Yield the metrics of each reconstruction against its original, both `[b, c, *axes]`.

    The metrics are `mean_squared_error` of data in [-1, 1]; `psnr_db`, at most 100; `ssim` of
    images that are large enough, for clips averaged over frames; and for audio, whose `sample_rate`
    in Hz is required, the multi-scale `mel_distance` (see `vqvideo.spectra`).
    """
    has_ssim = x.ndim > 3 and min(x.shape[-2:]) >= SSIM_MIN_SIZE
    for original, reconstructed in zip(x.float(), reconstruction.float(), strict=True):
        error = (reconstructed - original).square().mean().item()
        metrics = {
            "mean_squared_error": error,
            "psnr_db": min(psnr_db_from_mse(error), MAX_PSNR_DB),
        }
        if has_ssim:
            metrics["ssim"] = (
                build_ssim()(_to_frames(reconstructed), _to_frames(original)).mean().item()
            )
        if x.ndim == 3:
            assert sample_rate is not None
            metrics["mel_distance"] = (
                mel_distance(original, reconstructed, sample_rate).mean().item()
            )
        yield metrics


def get_batch_cond(generator: Generator, batch: Sample) -> Cond | None:
    """Return the conditions of prior and decoder for a batch; None if they take none."""
    return cond_from_batch(batch, generator.cond_keys, get_device(generator))


def _to_float64(nats: Tensor) -> Tensor:
    """Convert to float64 on the CPU, since not every device supports it."""
    return nats.cpu().double()


def _to_frames(item: Tensor) -> Tensor:
    """Return an image `[c, h, w]` or a clip `[c, t, h, w]` as images `[n, c, h, w]`."""
    return item[None] if item.ndim == 3 else item.movedim(1, 0)


def _locate_window(data: ClipDataset, index: int) -> MetricsRow:
    item, start = data.get_window(index)
    return {"file": os.fspath(item.path), "start": start}


def _check_finite(metrics: dict[str, float], window: MetricsRow) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            is_term = name.endswith(("_nats", "_bits_per_dim"))
            quantity = "log-probability" if is_term else "reconstruction"
            raise FloatingPointError(
                f"{name} of {window['file']} from {window['start']} is {value}: the {quantity} is "
                f"not finite, so no mean over the data exists. Check the weights for NaN, or score "
                f"an earlier checkpoint"
            )
