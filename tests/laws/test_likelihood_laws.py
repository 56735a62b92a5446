"""The laws of likelihoods hold for every registered one, and each catches a planted fault."""

from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.likelihoods import (
    LIKELIHOODS,
    AutoregressiveLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    LogisticMixtureLikelihood,
)
from vqvideo.modes import eval_mode
from vqvideo.recipes.speech.mel import MelLikelihood
from vqvideo.testing import likelihoods as laws

SMALL = {"width": 4, "num_layers": 1}


def build_small_autoregressive(*, rank, channels, mu_law=False):
    return AutoregressiveLikelihood(
        rank=rank,
        channels=channels,
        num_features=4,
        prior={"width": 4, "num_layers": 1},
        mu_law=mu_law,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", LIKELIHOODS.list_names())
def test_every_registered_likelihood_keeps_the_laws(name):
    small = {"autoregressive": build_small_autoregressive}
    ranks = (1,) if name == "mel" else (1, 2, 3)
    testing.check_likelihood(small.get(name, LIKELIHOODS.get(name)), ranks)


@pytest.mark.slow
@pytest.mark.parametrize("build", [CategoricalLikelihood, build_small_autoregressive])
def test_likelihoods_over_the_mu_law_scale_keep_the_laws(build):
    testing.check_likelihood(partial(build, mu_law=True), (1,), channel_counts=(1,))


# -- planted faults -------------------------------------------------------------------------


class AutocastRoundingLikelihood(GaussianLikelihood):
    def log_prob(self, parameters, x):
        nats = super().log_prob(parameters, x)
        return nats.bfloat16() if torch.is_autocast_enabled("cpu") else nats


class OutOfRangeSampleLikelihood(GaussianLikelihood):
    def sample(self, parameters, seed=0, **options):
        return super().sample(parameters, seed, **options) * 3


class BatchAverageLikelihood(GaussianLikelihood):
    def log_prob(self, parameters, x):
        nats = super().log_prob(parameters, x)
        return nats.mean().expand_as(nats)


class OutOfRangeModeLikelihood(GaussianLikelihood):
    def mode(self, parameters):
        return parameters * 10


class ZeroLogProbLikelihood(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) * 0


class OffGridModeLikelihood(LogisticMixtureLikelihood):
    def mode(self, parameters):
        return (super().mode(parameters) + 0.003).clamp(-1, 1)


class WrongLevelsLikelihood(CategoricalLikelihood):
    """Values on the mu-law scale, numbered as if they lay evenly."""

    def __init__(self):
        super().__init__(mu_law=True)

    def to_levels(self, x):
        return CategoricalLikelihood().to_levels(x)


class UnseededLikelihood(GaussianLikelihood):
    def sample(self, parameters, seed=0, **options):
        return super().sample(parameters, seed=int(torch.randint(10**6, ())), **options)


class WarmModeLikelihood(GaussianLikelihood):
    def sample_stream(self, pieces, *, temperature=0.0, seed=0):
        return super().sample_stream(pieces, temperature=max(temperature, 1e-3), seed=seed)


class ShiftedSeedLikelihood(GaussianLikelihood):
    def sample_stream(self, pieces, *, temperature=0.0, seed=0):
        return super().sample_stream(pieces, temperature=temperature, seed=seed // 2)


class GradientKeepingLikelihood(GaussianLikelihood):
    def sample_stream(self, pieces, *, temperature=0.0, seed=0):
        if temperature:
            return super().sample_stream(pieces, temperature=temperature, seed=seed)
        return map(self.mode, pieces)


class NegativeTemperatureLikelihood(GaussianLikelihood):
    def sample_stream(self, pieces, *, temperature=0.0, seed=0):
        return super().sample_stream(pieces, temperature=abs(temperature), seed=seed)


class OverflowingLikelihood(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) - 0 * parameters.exp().flatten(1).sum(dim=1)


class StatelessStreamLikelihood(AutoregressiveLikelihood):
    def __init__(self, *, rank, channels):
        super().__init__(rank=rank, channels=channels, num_features=4, prior=SMALL)

    def sample_stream(self, pieces, **options):
        for piece in pieces:
            if piece.shape[2]:
                yield from super().sample_stream([piece], **options)


class UnnormalizedLikelihood(CategoricalLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) + 0.01


class ShiftedSampleLikelihood(LogisticMixtureLikelihood):
    def sample(self, parameters, seed=0, **options):
        return (super().sample(parameters, seed, **options) - 16 / 255).clamp(-1, 1)


class IndependentChannelsLikelihood(LogisticMixtureLikelihood):
    def sample(self, parameters, seed=0, **options):
        mixed = parameters.clone().unflatten(1, (self.num_mixtures, -1))
        pairs = {3: 0, 6: 1, 10: 3}[mixed.shape[2]]
        mixed[:, :, mixed.shape[2] - pairs :] = 0
        return super().sample(mixed.flatten(1, 2), seed, **options)


class ConstantTemperatureLikelihood(CategoricalLikelihood):
    def sample(self, parameters, seed=0, *, temperature=1.0):
        return super().sample(parameters, seed)


class SamplingScoreLikelihood(MelLikelihood):
    def sample(self, parameters, seed=0, *, temperature=1.0):
        return self.mode(parameters)


class BatchDependentScore(MelLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x - x.mean(dim=0))


class DiscreteScore(MelLikelihood):
    num_values = 80


class NonFiniteScore(MelLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) + 0 * x.flatten(1).norm(dim=1).log()


class PositionAverageLikelihood(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) / x[0].numel()


class ShiftedDensityLikelihood(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) + 1000 * x[0].numel()


class WideSampleLikelihood(GaussianLikelihood):
    def sample(self, parameters, seed=0, *, temperature=1.0):
        return super().sample(parameters, seed, temperature=5 * temperature)


class CentredSampleLikelihood(GaussianLikelihood):
    def sample(self, parameters, seed=0, *, temperature=1.0):
        return super().sample(parameters * 0, seed, temperature=temperature)


class OffPeakModeLikelihood(GaussianLikelihood):
    def mode(self, parameters):
        return super().mode(parameters) * 0.8


class UnsavedScaleLikelihood(GaussianLikelihood):
    scale = 1.0

    def observe(self, x):
        self.scale = 1 + x.std().item()

    def log_prob(self, parameters, x):
        return super().log_prob(parameters * self.scale, x)


class SwitchingLikelihood(GaussianLikelihood):
    def sample_stream(self, chunks, **options):
        with eval_mode(self):
            yield from super().sample_stream(chunks, **options)


class BoundedLikelihood(GaussianLikelihood):
    """A distribution over [-1, 1] alone, which refuses everything else: no fault."""

    def log_prob(self, parameters, x):
        if x.abs().max() > 1:
            raise ValueError("data must lie in [-1, 1]")
        means = parameters.float()
        spread = torch.distributions.Normal(means, self.variance.sqrt())
        mass = spread.cdf(torch.ones_like(means)) - spread.cdf(-torch.ones_like(means))
        return (spread.log_prob(x.float()) - mass.log()).flatten(1).sum(dim=1)

    def sample(self, parameters, seed=0, *, temperature=1.0):
        """By rejection."""
        draw, means = torch.Generator().manual_seed(seed), parameters.float()
        found = torch.full_like(means, torch.inf)
        while (outside := found.abs() > 1).any():
            noise = torch.randn(means.shape, generator=draw) * (temperature * self.variance).sqrt()
            found = torch.where(outside, means + noise, found)
        return found


def test_a_density_that_refuses_what_is_no_data_keeps_the_laws_of_densities():
    for law in laws.DENSITY_LAWS:
        for channels in (1, 2):
            law(BoundedLikelihood, 2, channels)


FAULTS = [  # the law, the likelihood that breaks it and keeps those before it, what is said
    ("items_are_scored_independently", BatchAverageLikelihood, "depends on its batch: .* alone"),
    ("items_are_scored_independently", BatchDependentScore, "depends on its batch: .* alone"),
    (
        "the_mode_is_data",
        OutOfRangeModeLikelihood,
        r"mode must lie in \[-1, 1\], got values from -",
    ),
    ("the_mode_is_data", ZeroLogProbLikelihood, "random data is more probable than the mode"),
    ("the_mode_is_data", OffGridModeLikelihood, "mode must only have the 256 values"),
    ("the_mode_is_data", WrongLevelsLikelihood, "mode must only have the 256 values"),
    (
        "sample_stream_is_the_mode_or_a_sample",
        UnseededLikelihood,
        "not repeatable with the same seed",
    ),
    (
        "sample_stream_is_the_mode_or_a_sample",
        WarmModeLikelihood,
        "at temperature 0 does not return the mode",
    ),
    (
        "sample_stream_is_the_mode_or_a_sample",
        ShiftedSeedLikelihood,
        "does not return the sample of that seed",
    ),
    (
        "sample_stream_is_the_mode_or_a_sample",
        GradientKeepingLikelihood,
        "the output of sample_stream must not require gradients",
    ),
    (
        "sample_stream_is_the_mode_or_a_sample",
        NegativeTemperatureLikelihood,
        "must raise ValueError for a temperature below 0",
    ),
    (
        "large_parameters_stay_finite",
        OverflowingLikelihood,
        "large parameters, got a log_prob of nan",
    ),
    ("large_parameters_stay_finite", NonFiniteScore, "data of 0.0 and .* a log_prob of nan"),
    (
        "autocast_changes_little",
        AutocastRoundingLikelihood,
        "under autocast, got torch.bfloat16",
    ),
    (
        "samples_are_data",
        OutOfRangeSampleLikelihood,
        r"sample must lie in \[-1, 1\], got values from -",
    ),
    (
        "chunking_does_not_change_samples",
        StatelessStreamLikelihood,
        r"of \[1, 1.* steps",
    ),
    (
        "an_unnormalized_likelihood_refuses_to_sample",
        SamplingScoreLikelihood,
        "sample must raise ValueError, since is_normalized",
    ),
    ("the_mode_is_data", DiscreteScore, "mode must only have the 80 values"),
    (
        "a_loaded_likelihood_is_the_one_that_was_saved",
        UnsavedScaleLikelihood,
        "values of log_prob: the state_dict is incomplete",
    ),
    (
        "log_prob_sums_over_positions",
        PositionAverageLikelihood,
        "log_prob is not a sum over positions",
    ),
    (
        "a_density_integrates_to_one",
        ShiftedDensityLikelihood,
        "of 1 channels integrates to inf, not 1",
    ),
    (
        "samples_follow_the_density",
        WideSampleLikelihood,
        "functions of 1 channels differ by",
    ),
    (
        "samples_follow_the_density",
        CentredSampleLikelihood,
        "functions of 1 channels differ by",
    ),
    (
        "the_mode_is_the_peak_of_the_density",
        OffPeakModeLikelihood,
        r"the mode \[.*\] has .* nats, but \[",
    ),
    ("probabilities_sum_to_one", UnnormalizedLikelihood, "sum to 1.01.*, not 1"),
    (
        "samples_follow_the_probabilities",
        ShiftedSampleLikelihood,
        "channels differ by",
    ),
    (
        "samples_follow_the_probabilities",
        IndependentChannelsLikelihood,
        "of 2 channels differ by",
    ),
    (
        "a_lower_temperature_is_less_random",
        ConstantTemperatureLikelihood,
        "must be more probable than at 1, got .* nats",
    ),
    (
        "a_likelihood_in_training_mode_is_evaluated_unchanged",
        SwitchingLikelihood,
        "evaluation switches the mode of the part, which other threads see",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_a_likelihood_is_caught_by_its_law(law, broken, message):
    ranks = (1,) if issubclass(broken, MelLikelihood) else (1, 2, 3)
    counted = (2,) if broken is IndependentChannelsLikelihood else (1,)  # two take a while
    with pytest.raises(
        AssertionError, match=f"^{broken.__name__} breaks the law {law}: .*{message}"
    ):
        testing.check_likelihood(broken, ranks, channel_counts=counted)


def test_every_law_of_likelihoods_has_a_planted_fault():
    every = [
        *laws.LAWS,
        *laws.DISTRIBUTION_LAWS,
        *laws.UNNORMALIZED_LAWS,
        *laws.DISCRETE_LAWS,
        *laws.DENSITY_LAWS,
        *laws.TEMPERATURE_LAWS,
    ]
    assert {law.__name__ for law in every} == {law for law, *_ in FAULTS}


def test_what_is_no_likelihood_is_refused_with_the_base_class():
    with pytest.raises(
        AssertionError, match=r"^int is not a likelihoods\.Likelihood; derive it from"
    ):
        testing.check_likelihood(lambda: 3)
