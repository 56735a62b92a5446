"""`python tools/benchmark.py bits` and `bound`: the right sums, by a dumber way."""

from __future__ import annotations

import itertools
import json
import math
import sys

import pytest
import torch
from benchmarks.baselines import VAEBaseline, VIMCOBaseline, VQVAEBaseline
from benchmarks.bits import (
    BitsBenchmarkConfig,
    Trial,
    benchmark_bits,
    build_baseline,
)
from benchmarks.bits_table import format_bits_table
from benchmarks.bound import (
    benchmark_bound,
    build_toy_config,
    compute_exact_log_prob,
    enumerate_code_grids,
    sample_bar_images,
)
from benchmarks.cli import main
from torch import nn

from vqvideo import media
from vqvideo.config import build_generator
from vqvideo.likelihoods import BernoulliLikelihood

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    draw = torch.Generator().manual_seed(0)
    for number in range(20):
        image = torch.rand(3, 1, 1, generator=draw).expand(3, 8, 8) * 2 - 1
        media.write_image(folder / f"{number:02d}.png", image)
    return folder


def run_benchmark(images, out, **changes):
    small = {"width": 8, "size": (8, 8), "steps": 6, "batch_size": 4, "seeds": 2}
    return BitsBenchmarkConfig(data=str(images), out=str(out), **{**small, **changes})


class Fixed(nn.Module):
    """An encoder or decoder that gives its only parameter, whatever it is asked."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self, x):
        return self.values.expand(len(x), *self.values.shape[1:])


def test_the_latents_of_a_vae_cost_their_divergence_from_the_prior():
    torch.manual_seed(0)
    encoded = torch.randn(1, 4, 3)
    model = VAEBaseline(Fixed(encoded), nn.Identity(), BernoulliLikelihood())
    x = torch.ones(2, 2, 3)
    posterior = torch.distributions.Normal(encoded[:, :2], (encoded[:, 2:] / 2).exp())
    prior = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    expected = torch.distributions.kl_divergence(posterior, prior).sum()
    torch.testing.assert_close(model.negative_elbo(x).kl, expected.expand(2))
    assert model.negative_elbo(x).reconstruction.shape == (2,)


def test_codes_cost_their_number_times_the_logarithm_of_the_codebook(images, tmp_path):
    model = build_baseline(
        run_benchmark(images, tmp_path), "vq-vae-product", Trial(3, 16, 1e-3)
    ).eval()
    assert isinstance(model, VQVAEBaseline)
    nats = model.negative_elbo(torch.zeros(2, 3, 8, 8))
    torch.testing.assert_close(nats.kl, torch.full((2,), 2 * 2 * 3 * math.log(16)))


class Table(nn.Module):
    """A decoder that looks up a logit for each value of the one latent."""

    def forward(self, z):
        return z


def test_the_gradient_of_vimco_is_that_of_its_bound_on_average():
    """One latent of three values, two samples: the bound by enumeration of all nine pairs."""
    torch.manual_seed(0)
    logits = torch.tensor([[[0.5], [-0.3], [0.1]]], dtype=torch.float64)
    model = VIMCOBaseline(
        Fixed(logits),
        Table(),
        BernoulliLikelihood(),
        num_latents=1,
        codebook_size=3,
        code_dim=1,
        num_samples=2,
    ).double()
    shown = torch.tensor([1.2, -0.7, 0.4], dtype=torch.float64)
    with torch.no_grad():
        model.embeddings.copy_(shown.view(1, 3, 1))

    free = logits.clone().requires_grad_()
    q = free.flatten().log_softmax(0)
    weight = torch.nn.functional.logsigmoid(shown) + math.log(1 / 3) - q
    pairs = itertools.product(range(3), repeat=2)
    bound = sum(
        (q[i] + q[j]).exp() * (torch.logaddexp(weight[i], weight[j]) - math.log(2))
        for i, j in pairs
    )
    expected = torch.autograd.grad(-bound, free)[0].flatten()

    loss = model.loss(torch.ones(200_000, 1, 1, dtype=torch.float64))
    loss.backward()
    torch.testing.assert_close(model.encoder.values.grad.flatten(), expected, rtol=0.1, atol=4e-3)
    assert -model.negative_elbo(
        torch.ones(200_000, 1, 1)
    ).reconstruction.mean().item() == pytest.approx(bound.item(), abs=3e-3)


@pytest.mark.filterwarnings("ignore:the codebook is initialized from a step")
def test_every_method_is_tried_trained_and_measured_and_what_is_done_is_kept(images, tmp_path):
    found = benchmark_bits(run_benchmark(images, tmp_path))
    assert set(found["methods"]) == {
        "vae",
        "vq-vae-gradient",
        "vq-vae-ema",
        "vq-vae-product",
        "vimco",
    }
    for method, each in found["methods"].items():
        assert len(each["trials"]) == 6
        assert [run["seed"] for run in each["runs"]] == [0, 1]
        best = min(each["trials"], key=lambda run: run["bits"] or math.inf)
        for run in each["runs"]:
            assert run["trial"] == best["trial"]
            assert run["bits"] == pytest.approx(run["data_bits"] + run["latent_bits"])
            assert run["steps"] == 6
            assert run["images"] == 2, method
    kept = json.loads((tmp_path / "bits.json").read_text())
    assert kept["methods"] == found["methods"]
    (tmp_path / "vae-seed-1.json").unlink()
    seconds = found["methods"]["vimco"]["runs"][0]["seconds"]
    again = benchmark_bits(run_benchmark(images, tmp_path))
    assert again["methods"]["vimco"]["runs"][0]["seconds"] == seconds
    bits = [each["methods"]["vae"]["runs"][1]["bits"] for each in (found, again)]
    assert bits[0] == pytest.approx(bits[1], rel=1e-6)
    table = format_bits_table(found)
    assert "vq-vae-gradient" in table and "of VAE" in table
    with pytest.raises(ValueError, match="holds runs with other settings"):
        benchmark_bits(run_benchmark(images, tmp_path, steps=7))


def test_the_command_of_bits_prints_a_table(images, tmp_path, capsys):
    words = ["--data", str(images), "--out", str(tmp_path / "out"), "--width", "8", "--size", "8x8"]
    words += ["--steps", "3", "--batch-size", "4", "--seeds", "1", "--methods", "vae"]
    words += ["--codebook-sizes", "16", "--learning-rates", "0.003"]
    assert main(["bits", *words]) == 0
    assert "vae" in capsys.readouterr().out
    assert (tmp_path / "out" / "bits.json").is_file()


def test_every_method_has_as_many_trials_of_its_options(images, tmp_path):
    few = run_benchmark(images, tmp_path, codebook_sizes=(16, 64), learning_rates=(0.1,))
    assert few.build_trials("vq-vae-ema") == [Trial(1, 16, 0.1), Trial(1, 64, 0.1)]
    assert few.build_trials("vq-vae-product") == [Trial(2, 4, 0.1), Trial(2, 16, 0.1)]
    assert few.build_trials("vae") == [Trial(8, 0, 0.1), Trial(32, 0, 0.1)]


def test_impossible_benchmarks_are_refused(images, tmp_path):
    with pytest.raises(ValueError, match="unknown method 'gan'; choose from: vae, "):
        run_benchmark(images, tmp_path, methods=("gan",))
    with pytest.raises(ValueError, match="learning_rates must not be empty"):
        run_benchmark(images, tmp_path, learning_rates=())
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        run_benchmark(images, tmp_path, seeds=0)


def test_the_sum_over_codes_is_that_of_each_grid_by_itself():
    torch.manual_seed(0)
    small = build_toy_config().merge(quantizer={"codebook_size": 3})
    generator = build_generator(small).eval()
    x = sample_bar_images(2, torch.Generator().manual_seed(1))
    exact, bound, best = compute_exact_log_prob(generator, x)
    grids = enumerate_code_grids(generator)
    assert len(grids) == len({tuple(grid.flatten().tolist()) for grid in grids}) == 3**4
    for item in range(2):
        total, largest = 0.0, -math.inf
        for grid in grids:
            z_q = generator.vqvae.quantizer.decode(grid[None])
            parameters = generator.vqvae.decoder(z_q)
            nats = generator.vqvae.likelihood.log_prob(parameters, x[item : item + 1])
            nats = (nats + generator.prior.log_prob(grid[None])).item()
            total, largest = total + math.exp(nats), max(largest, nats)
        assert exact[item].item() == pytest.approx(math.log(total), abs=1e-4)
        assert best[item].item() == pytest.approx(largest, abs=1e-4)
    torch.testing.assert_close(bound.float(), generator.log_prob(x).elbo, atol=1e-4, rtol=0)
    assert (bound <= best).all() and (best <= exact).all()


def test_a_bound_without_matplotlib_is_refused_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    def refuse(*step):
        raise AssertionError("it trains")

    with pytest.raises(ImportError, match=r"pip install 'vqvideo\[report\]'"):
        benchmark_bound(out=str(tmp_path / "out"), steps=1, seeds=1, progress=refuse)


def test_the_gap_of_a_toy_is_measured_on_the_way_and_drawn(tmp_path, capsys):
    out = tmp_path / "bound"
    assert main(["bound", "--out", str(out), "--steps", "4", "--seeds", "1"]) == 0
    assert str(out / "bound.png") in capsys.readouterr().out
    curve = json.loads((out / "bound.json").read_text())["curves"][0]
    assert curve[0]["step"] == 1 and curve[-1]["step"] == 4
    assert all(point["gap"] >= 0 for point in curve)
    assert (out / "bound.png").stat().st_size > 5000
    with pytest.raises(FileExistsError, match="give another --out or --overwrite"):
        benchmark_bound(out=str(out))
