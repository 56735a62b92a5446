"""`tools/benchmark.py bound`: how far log p(x | z_q) + log p(z_q) lies below log p(x).

Section 3.2 of van den Oord et al. 2017 argues that a decoder trained on z_q only should assign no
probability to x under other codes, so that this one term dominates the sum over all codes. Here the
model is small enough to compute the sum: images of 6x6 black and white pixels, 2x2 codes out of 6,
1,296 code grids in total.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.atomic import replace_file, write_text
from vqvideo.config import GeneratorConfig, PartConfig, build_generator
from vqvideo.generator import Generator
from vqvideo.modes import eval_mode
from vqvideo.report.codebook_plot import import_figure_class
from vqvideo.report.environment import collect_environment

IMAGE_SIZE, GRID_SHAPE, CODEBOOK_SIZE = 6, (2, 2), 6
FLIP_PROB = 0.03  # of each pixel, so that images have some entropy given their codes
NUM_TEST_IMAGES = 128
BATCH_SIZE = 64


def benchmark_bound(
    *,
    out: str,
    steps: int = 1500,
    seeds: int = 3,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train toy models, both stages jointly, and evaluate log p(x) and its bound during training.

    Args:
        out: a folder for `bound.json` and `bound.png`.
        steps: training steps of each model.
        seeds: number of models, with seeds 0, 1, ...
        overwrite: replace existing files.
        progress: called with (steps done, total steps).

    Returns:
        `curves`, for each seed a list of points: `step`, `exact` (log p(x) as the sum over all
        codes), `elbo` (log p(x | z_q) + log p(z_q)), `max_term` (the same for the best codes,
        which may differ from z_q), all in nats per image, and the `gap` between the first two.
    """
    if steps < 1 or seeds < 1:
        raise ValueError(f"steps and seeds must be at least 1, got {steps} and {seeds}")
    folder = Path(out)
    files = [folder / name for name in ("bound.json", "bound.png")]
    if not overwrite and any(file.exists() for file in files):
        raise FileExistsError(
            f"{out} already holds a bound.json; give another --out or --overwrite"
        )
    import_figure_class()  # raises before training if matplotlib is missing
    done = itertools.count(1)
    on_progress = progress or (lambda done, total: None)
    curves = [
        list(_train_toy_model(seed, steps, lambda: on_progress(next(done), seeds * steps)))
        for seed in range(seeds)
    ]
    results = {"environment": collect_environment(), "steps": steps, "curves": curves}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(files[0], json.dumps(results, indent=2) + "\n")
    _plot_curves(curves, files[1])
    return results


class LogLikelihood(NamedTuple):
    """Log p(x) of images and two lower bounds, `[b]` in nats: elbo <= max_term <= exact.

    Attributes:
        exact: log of the sum over all code grids.
        elbo: log of the term for the codes of the encoder.
        max_term: log of the largest term.
    """

    exact: Tensor
    elbo: Tensor
    max_term: Tensor


def compute_exact_log_prob(generator: Generator, x: Tensor) -> LogLikelihood:
    """Compute log p(x) as the sum over all code grids, and two of its terms.

    The bound is taken from the summed terms. Computed separately, in another batch, it would be
    rounded differently and a small gap could become negative.
    """
    codes = enumerate_code_grids(generator)
    with torch.no_grad(), eval_mode(generator):
        assert generator.prior is not None
        prior_log_prob = generator.prior.log_prob(codes)
        vqvae = generator.vqvae
        _, quantized = vqvae(x)
        encoder_index = (
            (quantized.codes[:, None] == codes).flatten(2).all(dim=2).int().argmax(dim=1)
        )
        parameters = vqvae.decoder(vqvae.quantizer.decode(codes))
        rows = [
            vqvae.likelihood.log_prob(parameters, image.expand(len(codes), *image.shape))
            + prior_log_prob
            for image in x
        ]
    terms = torch.stack(rows).double()
    bound = terms.gather(1, encoder_index[:, None])[:, 0]
    return LogLikelihood(exact=terms.logsumexp(dim=1), elbo=bound, max_term=terms.amax(dim=1))


def enumerate_code_grids(generator: Generator) -> Tensor:
    """Return all code grids of the toy model, int64 `[n, 2, 2]`."""
    size = generator.vqvae.quantizer.codebook_size
    grids = itertools.product(range(size), repeat=GRID_SHAPE[0] * GRID_SHAPE[1])
    return torch.tensor(list(grids)).view(-1, *GRID_SHAPE)


def build_toy_config() -> GeneratorConfig:
    """Return the config of the toy model: 6x6 black and white images as 2x2 codes out of 6."""
    nets = {"width": 24, "num_blocks": 1}
    return GeneratorConfig(
        channels=1,
        strides=((3, 3),),
        sample_shape=(IMAGE_SIZE, IMAGE_SIZE),
        rate=0.0,
        encoder=PartConfig("conv", nets),
        quantizer=PartConfig("ema", {"codebook_size": CODEBOOK_SIZE, "code_dim": 8}),
        decoder=PartConfig("conv", nets),
        likelihood=PartConfig("bernoulli"),
        prior=PartConfig("pixelcnn", {"width": 24, "num_layers": 3}),
    )


def sample_bar_images(num_images: int, rng: torch.Generator) -> Tensor:
    """Sample black images `[n, 1, 6, 6]` with one or two white bars and some flipped pixels."""
    x = -torch.ones(num_images, 1, IMAGE_SIZE, IMAGE_SIZE)
    for image in x[:, 0]:
        for _ in range(int(torch.randint(1, 3, (), generator=rng))):
            index = int(torch.randint(IMAGE_SIZE, (), generator=rng))
            rows = image if torch.rand((), generator=rng) < 0.5 else image.T
            rows[index] = 1.0
    flipped = torch.rand(x.shape, generator=rng) < FLIP_PROB
    return torch.where(flipped, -x, x)


def _train_toy_model(
    seed: int, steps: int, on_step_end: Callable[[], None]
) -> Iterator[dict[str, float]]:
    """Train a toy model, both stages in each step, and yield its metrics during training."""
    torch.manual_seed(seed)
    generator, rng = build_generator(build_toy_config()), torch.Generator().manual_seed(seed)
    test_images = sample_bar_images(NUM_TEST_IMAGES, torch.Generator().manual_seed(10_000))
    assert generator.prior is not None
    optimizer = torch.optim.Adam(generator.parameters(), lr=2e-3)
    eval_steps = {max(1, round(steps * (i / 30) ** 2)) for i in range(31)}
    for step in range(steps + 1):
        if step in eval_steps:
            yield {"step": step, **_evaluate_toy_model(generator, test_images)}
        x = sample_bar_images(BATCH_SIZE, rng)
        losses = generator.vqvae.loss(x)
        loss = losses.total + generator.prior(losses.quantized.codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step:
            on_step_end()


def _evaluate_toy_model(generator: Generator, x: Tensor) -> dict[str, float]:
    log_probs = compute_exact_log_prob(generator, x)
    values = {**log_probs._asdict(), "gap": log_probs.exact - log_probs.elbo}
    return {name: value.mean().item() for name, value in values.items()}


def _plot_curves(curves: list[list[dict[str, float]]], path: Path) -> None:
    figure = import_figure_class()(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for seed, points in enumerate(curves):
        steps = [point["step"] for point in points]
        for color, name in enumerate(("exact", "elbo")):
            label = {"exact": "log p(x)", "elbo": "log p(x | z_q) + log p(z_q)"}[name]
            values = [point[name] for point in points]
            left.plot(steps, values, f"C{color}", label=None if seed else label, linewidth=1)
        right.plot(steps, [point["gap"] for point in points], "C2", linewidth=1)
    left.set_ylabel("nats per test image")
    left.legend()
    right.set_ylabel("gap, nats per image")
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
