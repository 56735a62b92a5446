"""What the rows of a pass come to: means with their intervals, compression, use of the codebook."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from vqvideo.generator import Generator
from vqvideo.jobs.evaluate_pass import Row
from vqvideo.likelihoods import density_note
from vqvideo.metrics import (
    BEST_PSNR_DB,
    LEAST_SIDE,
    code_bits,
    compression_ratio,
    mean_and_interval,
    psnr_db_of_mse,
)
from vqvideo.report import CodebookReport

PLACE = ("file", "start")  # of a row, beside its figures
BITS_OF_A_VALUE = {1: 16, 2: 8, 3: 8}  # in files, by rank


def figures_of(
    generator: Generator, rows: Sequence[Row], codebooks: CodebookReport
) -> dict[str, Any]:
    """All figures of an evaluation but those of single items, as plain data that JSON can hold."""
    vqvae, config, prior = generator.vqvae, generator.config, generator.prior
    shape = (config.channels, *config.sample_shape)
    several = (vqvae.quantizer.num_codebooks,) if vqvae.quantizer.num_codebooks > 1 else ()
    codes = (*vqvae.grid_shape(config.sample_shape), *several)
    means = _means(rows)
    error = means["mean_squared_error"]["mean"]
    each = codebooks.to_dict()["codebooks"]
    return {
        "num_items": len(rows),
        "num_files": len({row["file"] for row in rows}),
        "shape": list(shape),
        "codes": list(codes),
        "codebook_size": vqvae.quantizer.codebook_size,
        "likelihood": config.likelihood.name,
        "is_density": vqvae.likelihood.is_density,
        "gives_bits": vqvae.likelihood.gives_bits,
        "prior": config.prior.name if prior else None,
        "notes": list(_notes(generator, means)),
        "means": means,
        "interval": _interval(rows),
        "psnr_db_of_mean_squared_error": min(psnr_db_of_mse(error), BEST_PSNR_DB),
        "compression": compression(
            shape,
            codes,
            vqvae.quantizer.codebook_size,
            means.get("prior_nats", {}).get("mean"),
            vqvae.likelihood.num_values,
        ),
        "usage": fmean(one["usage"] for one in each),
        "perplexity": fmean(one["perplexity"] for one in each),
        "codebooks": each,
        "advice": codebooks.advice,
    }


def compression(
    shape: Sequence[int],
    codes: Sequence[int],
    codebook_size: int,
    prior_nats: float | None,
    num_values: int | None = None,
) -> dict[str, float | None]:
    """Bits of an item uncompressed, of its codes, and how many times fewer those are.

    Args:
        shape: of an item, `(c, *axes)`: a value of sound has 16 bits in a file, others 8.
        codes: of an item, `(*grid)` or `(*grid, s)`.
        codebook_size: K.
        prior_nats: mean of log p(codes) under a learnt prior, whose bits an entropy coder takes;
            None without a prior.
        num_values: how many values the likelihood tells apart; what a file says beyond them the
            model never sees, and must not be credited with. None for a density.

    >>> compression((3, 128, 128), (32, 32), 512, None)["ratio"]  # the paper's, section 4.1
    42.666666666666664
    """
    in_file = BITS_OF_A_VALUE[len(shape) - 1]
    each = in_file if num_values is None else min(in_file, math.log2(num_values))
    data_bits = math.prod(shape) * each
    bits = code_bits(math.prod(codes), codebook_size)
    found = {
        "bits_per_value": each,
        "data_bits": data_bits,
        "code_bits": bits,
        "ratio": compression_ratio(data_bits, bits),
    }
    if prior_nats is None:
        return found
    under_prior = -prior_nats / math.log(2)
    ratio = compression_ratio(data_bits, under_prior)
    return {**found, "prior_code_bits": under_prior, "prior_ratio": ratio}


def _means(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Of each figure the mean over the items that have it, and its interval."""
    names = dict.fromkeys(name for row in rows for name in row if name not in PLACE)
    means = {}
    for name in names:
        values = [row[name] for row in rows if name in row]
        means[name] = {**mean_and_interval(values)._asdict(), "num_items": len(values)}
    return means


def _interval(rows: Sequence[Row]) -> str:
    files = len({row["file"] for row in rows})
    if len(rows) == 1:
        return "there is none of a single item"
    words = (
        f"95 % confidence interval of the mean over {len(rows)} items, as if they were drawn "
        f"independently of each other: the mean plus and minus t s / sqrt(n), s the sample "
        f"standard deviation, t Student's 97.5 % quantile for n - 1 degrees of freedom"
    )
    if files == len(rows):
        return f"{words}. Each item is from a file of its own"
    return (
        f"{words}. They are windows of {files} files; those of one file are alike, so the true "
        f"interval is wider"
    )


def _notes(generator: Generator, means: dict[str, Any]) -> Iterator[str]:
    """What must be said in words, lest figures be misread."""
    likelihood, prior, config = generator.vqvae.likelihood, generator.prior, generator.config
    density = density_note(likelihood, config.likelihood.name)
    if density:
        yield density
    if prior is None:
        yield (
            "The model has no prior yet, so there is no prior term and there are no samples; "
            "vqvideo train-prior makes one."
        )
    elif not prior.exact_likelihood:
        yield "The prior gives a lower bound of log p(codes), so its term is one too."
    if likelihood.is_autoregressive:
        both = "PSNR and SSIM are" if "ssim" in means else "PSNR is"
        yield (
            f"The likelihood is {config.likelihood.name}: a reconstruction is drawn, a pass for "
            f"each value, so {both} of {means['psnr_db']['num_items']} items only, evenly spread, "
            f"and of samples, not of what is most probable."
        )
    if config.rank > 1 and "ssim" not in means:
        size = " x ".join(map(str, config.sample_shape[-2:]))
        yield f"There is no SSIM: it takes {LEAST_SIDE} pixels a side, these pictures are {size}."
