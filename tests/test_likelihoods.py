"""What the laws of likelihoods leave open: the right numbers, by a dumber way."""

from __future__ import annotations

import math

import pytest
import torch

from vqvideo import Cond, build, media
from vqvideo.likelihoods import (
    AutoregressiveLikelihood,
    BernoulliLikelihood,
    CategoricalLikelihood,
    LogisticMixtureLikelihood,
)
from vqvideo.likelihoods.base import from_levels, to_levels


def make_bytes(*shape: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return media.from_uint8(torch.randint(256, shape, dtype=torch.uint8, generator=draw))


def test_levels_are_the_bytes_of_files_and_come_back_to_the_bit():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_levels(media.from_uint8(every), 256), every.long())
    assert torch.equal(from_levels(every, 256), media.from_uint8(every))


def test_categorical_is_the_softmax_at_the_byte():
    parameters, x = torch.randn(2, 512, 3), make_bytes(2, 2, 3)
    expected = torch.zeros(2)
    for item in range(2):
        for channel in range(2):
            for place in range(3):
                logits = [parameters[item, 2 * v + channel, place].item() for v in range(256)]
                value = round((x[item, channel, place].item() + 1) * 127.5)
                total = math.log(sum(map(math.exp, logits)))
                expected[item] += logits[value] - total
    torch.testing.assert_close(CategoricalLikelihood().log_prob(parameters, x), expected)


def test_bernoulli_is_the_sigmoid_of_the_parameter():
    x = torch.tensor([[[1.0, -1.0]]])
    nats = BernoulliLikelihood().log_prob(torch.tensor([[[2.0, 0.5]]]), x).item()
    assert nats == pytest.approx(-math.log(1 + math.exp(-2)) - math.log(1 + math.exp(0.5)))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@pytest.mark.parametrize("x", [(-1.0, 1.0), (1.0, -1.0), (51 / 127.5 - 1, 200 / 127.5 - 1)])
def test_a_logistic_mixture_is_differences_of_its_distribution_functions(x):
    """Two channels, the second's mean moved by the first; ends get all that lies beyond."""
    number = 3
    likelihood = LogisticMixtureLikelihood(num_mixtures=number)
    parameters = torch.randn(1, likelihood.num_parameters(2), 1, dtype=torch.float64)
    each = parameters.view(number, 6)
    weights = each[:, 0].softmax(0)
    expected = 0.0
    for k in range(number):
        probability = weights[k].item()
        for channel in range(2):
            mean = each[k, 1 + channel].item() + (2 * k + 1) / number - 1
            mean += math.tanh(each[k, 5].item()) * x[0] if channel else 0.0
            scale = math.exp(each[k, 3 + channel].item()) / (2 * number)
            below = sigmoid((x[channel] - 1 / 255 - mean) / scale) if x[channel] > -1 else 0.0
            above = sigmoid((x[channel] + 1 / 255 - mean) / scale) if x[channel] < 1 else 1.0
            probability *= above - below
        expected += probability
    nats = likelihood.log_prob(parameters, torch.tensor(x).view(1, 2, 1))
    assert nats.item() == pytest.approx(math.log(expected), rel=1e-5)


@pytest.mark.parametrize(("rank", "channels"), [(1, 1), (2, 3), (3, 2)])
def test_an_autoregressive_likelihood_is_a_prior_over_bytes_conditioned_on_the_parameters(
    rank, channels
):
    axes = (5, 4, 3)[:rank]
    likelihood = AutoregressiveLikelihood(
        rank=rank, channels=channels, num_features=4, prior={"width": 8, "num_layers": 2}
    ).eval()
    x, parameters = make_bytes(2, channels, *axes), torch.randn(2, 4, *axes)
    codes = ((x + 1) * 127.5).round().long().movedim(1, -1)
    codes = codes if channels > 1 else codes[..., 0]
    logits = likelihood.prior.logits(codes, Cond(local=parameters)).log_softmax(dim=1)
    chosen = logits.gather(1, codes[:, None]).flatten(1).sum(dim=1)
    torch.testing.assert_close(likelihood.log_prob(parameters, x), chosen)
    drawn = likelihood.sample(parameters, seed=1)
    assert torch.equal(from_levels(to_levels(drawn, 256), 256), drawn)
    other = likelihood.log_prob(-parameters, x)
    assert not torch.allclose(other, likelihood.log_prob(parameters, x))


def test_data_out_of_range_is_refused_with_what_to_do():
    message = r"must lie in \[-1, 1\] for a likelihood over 256 values, got values from 0 to 255"
    with pytest.raises(ValueError, match=message):
        CategoricalLikelihood().log_prob(torch.zeros(1, 256, 2), torch.tensor([[[0.0, 255.0]]]))


def test_options_that_make_no_likelihood_are_refused():
    with pytest.raises(ValueError, match="num_mixtures must be at least 1, got 0"):
        LogisticMixtureLikelihood(num_mixtures=0)
    with pytest.raises(ValueError, match="built for 1 channels, got 3"):
        AutoregressiveLikelihood(rank=1, channels=1).num_parameters(3)


@pytest.mark.parametrize("likelihood", ["logistic-mixture", "categorical", "autoregressive"])
def test_a_model_gives_bits_per_dimension_of_all_that_it_needs_to_say(likelihood):
    part = {"name": likelihood}
    if likelihood == "autoregressive":
        part |= {"num_features": 4, "prior": {"width": 8, "num_layers": 2}}
    narrow = {"width": 8, "num_blocks": 1}
    generator = build(
        "image",
        likelihood=part,
        encoder=narrow,
        decoder=narrow,
        quantizer={"codebook_size": 8, "code_dim": 4},
        prior={"width": 8, "num_layers": 2},
    )
    x = make_bytes(2, 3, 12, 8)
    score = generator.log_prob(x)
    codes = generator.vqvae.encode(x)
    parameters = generator.vqvae.decoder(generator.vqvae.quantizer.decode(codes))
    torch.testing.assert_close(
        score.reconstruction, generator.vqvae.likelihood.log_prob(parameters, x)
    )
    torch.testing.assert_close(score.prior, generator.prior.log_prob(codes))
    torch.testing.assert_close(score.uniform, torch.full((2,), -3 * 2 * math.log(8)))
    nats = -(score.reconstruction + score.prior)
    torch.testing.assert_close(score.bits_per_dim, nats / math.log(2) / (3 * 12 * 8))
    assert generator.vqvae.decode(codes).shape == x.shape
    generator.prior = None
    alone = generator.log_prob(x)
    assert alone.prior is None
    torch.testing.assert_close(alone.elbo, alone.reconstruction + alone.uniform)
