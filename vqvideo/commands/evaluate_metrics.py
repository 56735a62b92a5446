"""Aggregate the rows of an evaluation: means with intervals, compression, codebook usage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from vqvideo.commands.evaluate_rows import MetricsRow
from vqvideo.generator import Generator
from vqvideo.likelihoods import describe_density
from vqvideo.metrics import (
    MAX_PSNR_DB,
    SSIM_MIN_SIZE,
    code_bits,
    compression_ratio,
    estimate_mean,
    psnr_db_from_mse,
)
from vqvideo.report import CodebookReport

WINDOW_KEYS = ("file", "start")  # the entries of a row that are not metrics
BITS_PER_VALUE = {1: 16, 2: 8, 3: 8}  # in uncompressed files, by rank


def compute_metrics(
    generator: Generator, rows: Sequence[MetricsRow], codebook_report: CodebookReport
) -> dict[str, Any]:
    """Return all aggregate metrics of an evaluation as JSON-serializable data."""
    vqvae, config, prior = generator.vqvae, generator.config, generator.prior
    shape = (config.channels, *config.sample_shape)
    codebook_axis = (vqvae.quantizer.num_codebooks,) if vqvae.quantizer.num_codebooks > 1 else ()
    codes = (*vqvae.compute_grid_shape(config.sample_shape), *codebook_axis)
    means = _compute_means(rows)
    error = means["mean_squared_error"]["mean"]
    codebooks = codebook_report.to_dict()["codebooks"]
    return {
        "num_items": len(rows),
        "num_files": len({row["file"] for row in rows}),
        "shape": list(shape),
        "codes": list(codes),
        "codebook_size": vqvae.quantizer.codebook_size,
        "likelihood": config.likelihood.name,
        "is_density": vqvae.likelihood.is_density,
        "is_discrete": vqvae.likelihood.is_discrete,
        "prior": config.prior.name if prior else None,
        "notes": list(_iter_notes(generator, means)),
        "means": means,
        "interval": _describe_interval(rows),
        "psnr_db_of_mean_squared_error": min(psnr_db_from_mse(error), MAX_PSNR_DB),
        "compression": compute_compression(
            shape,
            codes,
            vqvae.quantizer.codebook_size,
            means.get("prior_nats", {}).get("mean"),
            vqvae.likelihood.num_values,
        ),
        "usage": fmean(codebook["usage"] for codebook in codebooks),
        "perplexity": fmean(codebook["perplexity"] for codebook in codebooks),
        "codebooks": codebooks,
        "advice": codebook_report.advice,
    }


def compute_compression(
    shape: Sequence[int],
    codes: Sequence[int],
    codebook_size: int,
    prior_nats: float | None,
    num_values: int | None = None,
) -> dict[str, float | None]:
    """Return the bits of an item uncompressed and of its codes, and the compression ratio.

    Args:
        shape: shape of an item, `(c, *axes)`: audio has 16 bits per value in a file, other data 8.
        codes: shape of its codes, `(*grid)` or `(*grid, s)`.
        codebook_size: K.
        prior_nats: mean of log p(codes) under a learnt prior, the size of the codes after entropy
            coding; None without a prior.
        num_values: number of values that the likelihood distinguishes. The model never sees finer
            differences in a file, so they do not count as compressed. None for a density.

    >>> compute_compression((3, 128, 128), (32, 32), 512, None)["ratio"]  # the paper's, section 4.1
    42.666666666666664
    """
    file_bits = BITS_PER_VALUE[len(shape) - 1]
    bits_per_value = file_bits if num_values is None else min(file_bits, math.log2(num_values))
    data_bits = math.prod(shape) * bits_per_value
    bits = code_bits(math.prod(codes), codebook_size)
    compression = {
        "bits_per_value": bits_per_value,
        "data_bits": data_bits,
        "code_bits": bits,
        "ratio": compression_ratio(data_bits, bits),
    }
    if prior_nats is None:
        return compression
    under_prior = -prior_nats / math.log(2)
    ratio = compression_ratio(data_bits, under_prior)
    return {**compression, "prior_code_bits": under_prior, "prior_ratio": ratio}


def _compute_means(rows: Sequence[MetricsRow]) -> dict[str, dict[str, Any]]:
    """Return the mean of each metric over the items that have it, with its interval."""
    names = dict.fromkeys(name for row in rows for name in row if name not in WINDOW_KEYS)
    means = {}
    for name in names:
        values = [row[name] for row in rows if name in row]
        means[name] = {**estimate_mean(values)._asdict(), "num_items": len(values)}
    return means


def _describe_interval(rows: Sequence[MetricsRow]) -> str:
    num_files = len({row["file"] for row in rows})
    if len(rows) == 1:
        return "a single item has no confidence interval"
    text = (
        f"95 % confidence interval of the mean over {len(rows)} items, assuming that they are "
        f"independent: the mean plus and minus t s / sqrt(n), with s the sample standard deviation "
        f"and t Student's 97.5 % quantile for n - 1 degrees of freedom"
    )
    if num_files == len(rows):
        return f"{text}. Each item is from a different file"
    return (
        f"{text}. The items are windows of {num_files} files; windows of one file are correlated, "
        f"so the true interval is wider"
    )


def _iter_notes(generator: Generator, means: dict[str, Any]) -> Iterator[str]:
    """Yield notes that are needed to read the metrics correctly."""
    likelihood, prior, config = generator.vqvae.likelihood, generator.prior, generator.config
    density = describe_density(likelihood, config.likelihood.name)
    if density:
        yield density
    if prior is None:
        yield (
            "The model has no prior, so there is no prior term and there are no samples; train one "
            "with vqvideo train-prior."
        )
    elif not prior.has_exact_likelihood:
        yield "The prior gives a lower bound of log p(codes), so the prior term is a lower bound."
    if likelihood.is_autoregressive:
        names = "PSNR and SSIM are" if "ssim" in means else "PSNR is"
        yield (
            f"The likelihood is {config.likelihood.name}: a reconstruction is a sample, drawn one "
            f"pass per value, so {names} averaged over only {means['psnr_db']['num_items']} evenly "
            f"spread items, and over samples, not modes."
        )
    if config.rank > 1 and "ssim" not in means:
        size = " x ".join(map(str, config.sample_shape[-2:]))
        yield (
            f"There is no SSIM: it needs at least {SSIM_MIN_SIZE} pixels per side, these images "
            f"are {size}."
        )
