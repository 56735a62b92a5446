"""`vqvideo benchmark bound`: how far log p(x | z_q) + log p(z_q) lies below log p(x).

Section 3.2 of van den Oord et al. 2017 argues that a decoder trained on z_q alone should come to
give no probability to x under other codes, so that the one term says nearly all of the sum over
codes. Here the model is so small that the sum can be done: pictures of 6x6 black and white pixels,
2x2 codes of 6, in all 1,296 grids of codes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqvideo.config import GeneratorConfig, Part, build_generator
from vqvideo.generator import Generator
from vqvideo.media.files import output_file
from vqvideo.modes import evaluating
from vqvideo.report.machine import setting
from vqvideo.report.picture import matplotlib_figure

SIDE, GRID, ENTRIES = 6, (2, 2), 6
FLIPPED = 0.03  # of the pixels: so that pictures take some nats whatever the codes say
HELD_OUT = 128  # pictures that are measured
BATCH = 64


def benchmark_bound(
    *,
    out: str,
    steps: int = 1500,
    seeds: int = 3,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train toy models, both stages at once, and measure both sides on the way.

    Args:
        out: a folder for `bound.json` and `bound.png`.
        steps: of each model.
        seeds: models, with the seeds 0, 1, ...
        overwrite: replace what is there.
        progress: called with (steps done, all).

    Returns:
        `curves`, for each seed a list of points: `step`, `exact` (log p(x) by the sum over all
        codes), `bound` (log p(x | z_q) + log p(z_q)), `best` (the same of the best codes, which
        z_q need not be), all in nats per picture, and the `gap` between the first two.
    """
    if steps < 1 or seeds < 1:
        raise ValueError(f"steps and seeds must be at least 1, got {steps} and {seeds}")
    folder = Path(out)
    files = [folder / name for name in ("bound.json", "bound.png")]
    if not overwrite and any(file.exists() for file in files):
        raise FileExistsError(
            f"{out} holds a bound.json already; give another --out or --overwrite"
        )
    matplotlib_figure()  # missing, it is better known before training than after
    done = itertools.count(1)
    report = progress or (lambda done, total: None)
    curves = [
        list(_trained(seed, steps, lambda: report(next(done), seeds * steps)))
        for seed in range(seeds)
    ]
    found = {"setting": setting(), "steps": steps, "curves": curves}
    folder.mkdir(parents=True, exist_ok=True)
    with output_file(files[0], suffixes=(".json",), overwrite=True) as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n")
    _draw(curves, files[1])
    return found


class LogProb(NamedTuple):
    """What is known of log p(x) of pictures, `[b]` in nats: bound <= best <= exact, always.

    Attributes:
        exact: the sum over all grids of codes.
        bound: its term of the codes that the encoder gives.
        best: its largest term.
    """

    exact: Tensor
    bound: Tensor
    best: Tensor


def exact_log_prob(generator: Generator, x: Tensor) -> LogProb:
    """Log p(x) by the sum over all grids of codes, and two of its terms.

    The bound is one of the very numbers that are summed: worked out for itself, another batch would
    round it another way, and a gap near nothing might fall below nothing.
    """
    codes = every_grid(generator)
    with torch.no_grad(), evaluating(generator):
        assert generator.prior is not None
        prior = generator.prior.log_prob(codes)
        vqvae = generator.vqvae
        _, quantized = vqvae(x)
        own = (quantized.codes[:, None] == codes).flatten(2).all(dim=2).int().argmax(dim=1)
        parameters = vqvae.decoder(vqvae.quantizer.decode(codes))
        terms = [
            vqvae.likelihood.log_prob(parameters, one.expand(len(codes), *one.shape)) + prior
            for one in x
        ]
    each = torch.stack(terms).double()
    bound = each.gather(1, own[:, None])[:, 0]
    return LogProb(exact=each.logsumexp(dim=1), bound=bound, best=each.amax(dim=1))


def every_grid(generator: Generator) -> Tensor:
    """All grids of codes of the toy model, int64 `[n, 2, 2]`."""
    size = generator.vqvae.quantizer.codebook_size
    every = itertools.product(range(size), repeat=GRID[0] * GRID[1])
    return torch.tensor(list(every)).view(-1, *GRID)


def toy_config() -> GeneratorConfig:
    """The model: pictures of 6x6, black and white, as 2x2 codes of 6."""
    nets = {"width": 24, "num_blocks": 1}
    return GeneratorConfig(
        channels=1,
        strides=((3, 3),),
        sample_shape=(SIDE, SIDE),
        rate=0.0,
        encoder=Part("conv", nets),
        quantizer=Part("ema", {"codebook_size": ENTRIES, "code_dim": 8}),
        decoder=Part("conv", nets),
        likelihood=Part("bernoulli"),
        prior=Part("pixelcnn", {"width": 24, "num_layers": 3}),
    )


def pictures(number: int, draw: torch.Generator) -> Tensor:
    """Black pictures `[n, 1, 6, 6]` with one or two white bars, some pixels flipped."""
    x = -torch.ones(number, 1, SIDE, SIDE)
    for picture in x[:, 0]:
        for _ in range(int(torch.randint(1, 3, (), generator=draw))):
            place = int(torch.randint(SIDE, (), generator=draw))
            bar = picture if torch.rand((), generator=draw) < 0.5 else picture.T
            bar[place] = 1.0
    flipped = torch.rand(x.shape, generator=draw) < FLIPPED
    return torch.where(flipped, -x, x)


def _trained(seed: int, steps: int, count: Callable[[], None]) -> Iterator[dict[str, float]]:
    """A model's points on the way; each step teaches the first stage, then the prior its codes."""
    torch.manual_seed(seed)
    generator, draw = build_generator(toy_config()), torch.Generator().manual_seed(seed)
    held_out = pictures(HELD_OUT, torch.Generator().manual_seed(10_000))
    assert generator.prior is not None
    optimizer = torch.optim.Adam(generator.parameters(), lr=2e-3)
    measured = {max(1, round(steps * (i / 30) ** 2)) for i in range(31)}
    for step in range(steps + 1):
        if step in measured:
            yield {"step": step, **_measured(generator, held_out)}
        x = pictures(BATCH, draw)
        found = generator.vqvae.loss(x)
        loss = found.total + generator.prior(found.quantized.codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step:
            count()


def _measured(generator: Generator, x: Tensor) -> dict[str, float]:
    found = exact_log_prob(generator, x)
    means = {**found._asdict(), "gap": found.exact - found.bound}
    return {name: value.mean().item() for name, value in means.items()}


def _draw(curves: list[list[dict[str, float]]], picture: Path) -> None:
    figure = matplotlib_figure()(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, points in enumerate(curves):
        steps = [point["step"] for point in points]
        for color, name in enumerate(("exact", "bound")):
            label = {"exact": "log p(x)", "bound": "log p(x | z_q) + log p(z_q)"}[name]
            values = [point[name] for point in points]
            left.plot(steps, values, f"C{color}", label=None if number else label, linewidth=1)
        right.plot(steps, [point["gap"] for point in points], "C2", linewidth=1)
    left.set_ylabel("nats per picture, held out")
    left.legend()
    right.set_ylabel("gap, nats per picture")
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
