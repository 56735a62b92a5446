"""The mu-law scale of sound: fine near silence, coarse where it is loud."""

import math

import pytest
import torch

from vqvideo.likelihoods import AutoregressiveLikelihood, CategoricalLikelihood
from vqvideo.likelihoods.base import from_levels, mu_law_compress, mu_law_expand, to_levels

ALL_LEVELS = torch.arange(256)


def build_small_autoregressive():
    prior = {"width": 4, "num_layers": 1}
    return AutoregressiveLikelihood(rank=1, channels=1, num_features=3, prior=prior, mu_law=True)


BOTH = pytest.mark.parametrize(
    "build", [lambda: CategoricalLikelihood(mu_law=True), build_small_autoregressive]
)


@pytest.mark.parametrize(
    ("x", "y"), [(0, 0), (1, 1), (-1, -1), (0.5, 0.875703), (-0.01, -0.228477), (1 / 255, 0.125)]
)
def test_known_values(x, y):
    assert mu_law_compress(torch.tensor(float(x))).item() == pytest.approx(y, abs=1e-5)
    assert mu_law_expand(torch.tensor(float(y))).item() == pytest.approx(x, abs=1e-5)


def test_it_is_the_formula_of_wavenet_section_2_2():
    for x in torch.linspace(-1, 1, 41, dtype=torch.float64).tolist():
        expected = math.copysign(1, x) * math.log(1 + 255 * abs(x)) / math.log(1 + 255)
        assert mu_law_compress(torch.tensor(x).double()).item() == pytest.approx(expected, rel=1e-6)


def test_one_is_the_inverse_of_the_other():
    x = torch.linspace(-1, 1, 501, dtype=torch.float64)
    torch.testing.assert_close(mu_law_expand(mu_law_compress(x)), x)
    torch.testing.assert_close(mu_law_compress(mu_law_expand(x)), x)
    assert (mu_law_compress(x).diff() > 0).all()


@BOTH
def test_all_256_values_have_their_own_numbers(build):
    likelihood = build()
    values = likelihood.from_levels(ALL_LEVELS)
    assert values.dtype == torch.float32
    assert torch.equal(likelihood.to_levels(values), ALL_LEVELS)
    assert values[[0, 255]].tolist() == pytest.approx([-1, 1])
    assert values.abs().max() <= 1
    torch.testing.assert_close(values, -values.flip(0))


@BOTH
def test_steps_are_finest_near_silence_and_grow_from_there(build):
    values = build().from_levels(ALL_LEVELS).double()
    steps = values.diff()
    assert steps.argmin() == 127
    loud, quiet = steps[128:], steps[:127]
    assert (loud.diff() > 0).all() and (quiet.diff() < 0).all()
    assert steps[127] < 2 / 255 / 40  # of even steps, 40 would fit into one
    assert steps[254] > 2 / 255 * 2


@BOTH
def test_what_lies_between_two_values_is_the_nearer_one_on_the_scale(build):
    x = torch.rand(2, 1, 50, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = build().to_levels(x)
    scale = mu_law_compress(mu_law_expand(from_levels(ALL_LEVELS, 256)))
    for value, level in zip(x.flatten(), found.flatten(), strict=True):
        assert level == (scale - mu_law_compress(value)).abs().argmin()


def test_without_it_values_lie_evenly():
    likelihood = CategoricalLikelihood()
    assert torch.equal(likelihood.from_levels(ALL_LEVELS), from_levels(ALL_LEVELS, 256))
    x = torch.rand(40) * 2 - 1
    assert torch.equal(likelihood.to_levels(x), to_levels(x, 256))


@BOTH
def test_near_silence_is_resolved_as_even_steps_do_not(build):
    quiet = torch.tensor([0.0005, 0.001, 0.002])
    assert len(build().to_levels(quiet).unique()) == 3
    assert len(to_levels(quiet, 256).unique()) == 1


def test_a_categorical_likelihood_scores_the_number_on_the_scale():
    parameters = torch.randn(1, 256, 3)
    x = torch.tensor([[[0.004, -0.7, 1.0]]])
    expected = 0.0
    for place in range(3):
        y = mu_law_compress(x[0, 0, place]).item()
        nats = parameters[0, :, place].log_softmax(0)
        expected += nats[round((y + 1) * 127.5)].item()
    found = CategoricalLikelihood(mu_law=True).log_prob(parameters, x)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_mode_of_a_categorical_one_is_the_value_on_the_scale():
    parameters = torch.zeros(1, 256, 1)
    parameters[0, 150] = 1
    expected = mu_law_expand(torch.tensor(150 / 127.5 - 1)).item()
    mode = CategoricalLikelihood(mu_law=True).mode(parameters)
    assert mode.item() == pytest.approx(expected)
    assert 0.003 < expected < 0.01


@BOTH
def test_data_out_of_range_is_said_as_it_is_and_not_on_the_scale(build):
    message = r"must lie in \[-1, 1\] for a likelihood over 256 values, got values from -3 to 255"
    with pytest.raises(ValueError, match=message):
        build().to_levels(torch.tensor([0.0, -3.0, 255.0]))
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        build().to_levels(torch.tensor([float("nan")]))


@BOTH
def test_half_precision_is_widened_before_the_logarithm(build):
    x = build().from_levels(ALL_LEVELS).half()
    assert (build().to_levels(x) - ALL_LEVELS).abs().max() <= 1
