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
    MelLikelihood,
)
from vqvideo.testing import likelihoods as laws

FEW = {"width": 4, "num_layers": 1}


def small_autoregressive(*, rank, channels, mu_law=False):
    return AutoregressiveLikelihood(
        rank=rank,
        channels=channels,
        features=4,
        prior={"width": 4, "num_layers": 1},
        mu_law=mu_law,
    )


@pytest.mark.parametrize("name", LIKELIHOODS.names())
def test_every_registered_likelihood_keeps_the_laws(name):
    small = {"autoregressive": small_autoregressive}
    ranks = (1,) if name == "mel" else (1, 2, 3)
    testing.check_likelihood(small.get(name, LIKELIHOODS.get(name)), ranks)


@pytest.mark.parametrize("build", [CategoricalLikelihood, small_autoregressive])
def test_likelihoods_over_the_mu_law_scale_keep_the_laws(build):
    testing.check_likelihood(partial(build, mu_law=True), (1,), counted=(1,))


# -- planted faults -------------------------------------------------------------------------


class RoundsUnderAutocast(GaussianLikelihood):
    def log_prob(self, parameters, x):
        nats = super().log_prob(parameters, x)
        return nats.bfloat16() if torch.is_autocast_enabled("cpu") else nats


class SamplesOutOfRange(GaussianLikelihood):
    def sample(self, parameters, seed=0, **options):
        return super().sample(parameters, seed, **options) * 3


class AveragesOverTheBatch(GaussianLikelihood):
    def log_prob(self, parameters, x):
        nats = super().log_prob(parameters, x)
        return nats.mean().expand_as(nats)


class OutOfRange(GaussianLikelihood):
    def mode(self, parameters):
        return parameters * 10


class Silent(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) * 0


class BetweenTheValues(LogisticMixtureLikelihood):
    def mode(self, parameters):
        return (super().mode(parameters) + 0.003).clamp(-1, 1)


class NumbersEvenly(CategoricalLikelihood):
    """Values on the mu-law scale, numbered as if they lay evenly."""

    def __init__(self):
        super().__init__(mu_law=True)

    def to_levels(self, x):
        return CategoricalLikelihood().to_levels(x)


class NewSampleEachTime(GaussianLikelihood):
    def sample(self, parameters, seed=0, **options):
        return super().sample(parameters, seed=int(torch.randint(10**6, ())), **options)


class Lukewarm(GaussianLikelihood):
    def drawn(self, pieces, *, temperature=0.0, seed=0):
        return super().drawn(pieces, temperature=max(temperature, 1e-3), seed=seed)


class DrawsOtherSeeds(GaussianLikelihood):
    def drawn(self, pieces, *, temperature=0.0, seed=0):
        return super().drawn(pieces, temperature=temperature, seed=seed // 2)


class KeepsGradients(GaussianLikelihood):
    def drawn(self, pieces, *, temperature=0.0, seed=0):
        if temperature:
            return super().drawn(pieces, temperature=temperature, seed=seed)
        return map(self.mode, pieces)


class HotterThanAllowed(GaussianLikelihood):
    def drawn(self, pieces, *, temperature=0.0, seed=0):
        return super().drawn(pieces, temperature=abs(temperature), seed=seed)


class Overflows(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) - 0 * parameters.exp().flatten(1).sum(dim=1)


class DrawsEachPieceAnew(AutoregressiveLikelihood):
    def __init__(self, *, rank, channels):
        super().__init__(rank=rank, channels=channels, features=4, prior=FEW)

    def drawn(self, pieces, **options):
        for piece in pieces:
            if piece.shape[2]:
                yield from super().drawn([piece], **options)


class AboveOne(CategoricalLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) + 0.01


class LowersSamples(LogisticMixtureLikelihood):
    def sample(self, parameters, seed=0, **options):
        return (super().sample(parameters, seed, **options) - 16 / 255).clamp(-1, 1)


class ForgetsChannelsBefore(LogisticMixtureLikelihood):
    def sample(self, parameters, seed=0, **options):
        mixed = parameters.clone().unflatten(1, (self.num_mixtures, -1))
        pairs = {3: 0, 6: 1, 10: 3}[mixed.shape[2]]
        mixed[:, :, mixed.shape[2] - pairs :] = 0
        return super().sample(mixed.flatten(1, 2), seed, **options)


class NeverCold(CategoricalLikelihood):
    def sample(self, parameters, seed=0, *, temperature=1.0):
        return super().sample(parameters, seed)


class DrawsFromNoDistribution(MelLikelihood):
    def sample(self, parameters, seed=0, *, temperature=1.0):
        return self.mode(parameters)


class SeesItsBatch(MelLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x - x.mean(dim=0))


class CountsItsBands(MelLikelihood):
    num_values = 80


class CannotBeSilent(MelLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) + 0 * x.flatten(1).norm(dim=1).log()


class AveragesOverPositions(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) / x[0].numel()


class AThousandNatsMore(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) + 1000 * x[0].numel()


class SamplesTooWide(GaussianLikelihood):
    def sample(self, parameters, seed=0, *, temperature=1.0):
        return super().sample(parameters, seed, temperature=5 * temperature)


class ForgetsWhereItIs(GaussianLikelihood):
    def sample(self, parameters, seed=0, *, temperature=1.0):
        return super().sample(parameters * 0, seed, temperature=temperature)


class BesideThePeak(GaussianLikelihood):
    def mode(self, parameters):
        return super().mode(parameters) * 0.8


class ScaleInPython(GaussianLikelihood):
    scale = 1.0

    def observe(self, x):
        self.scale = 1 + x.std().item()

    def log_prob(self, parameters, x):
        return super().log_prob(parameters * self.scale, x)


class WithinBounds(GaussianLikelihood):
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
    for law in laws.LAWS_OF_A_DENSITY:
        for channels in (1, 2):
            law(WithinBounds, 2, channels)


FAULTS = [  # the law, the likelihood that breaks it and keeps those before it, what is said
    ("an_item_is_scored_by_itself", AveragesOverTheBatch, "depends on its batch: .* alone"),
    ("an_item_is_scored_by_itself", SeesItsBatch, "depends on its batch: .* alone"),
    ("the_mode_is_data", OutOfRange, r"mode leaves \[-1, 1\]: values from -"),
    ("the_mode_is_data", Silent, "random data is more probable than the mode"),
    ("the_mode_is_data", BetweenTheValues, "mode gives other values than the 256"),
    ("the_mode_is_data", NumbersEvenly, "mode gives other values than the 256"),
    ("what_is_drawn_is_mode_or_sample", NewSampleEachTime, "a seed does not repeat"),
    ("what_is_drawn_is_mode_or_sample", Lukewarm, "at temperature 0 is not the mode"),
    ("what_is_drawn_is_mode_or_sample", DrawsOtherSeeds, "is not the sample of that seed"),
    ("what_is_drawn_is_mode_or_sample", KeepsGradients, "drawn keeps what gradients need"),
    ("what_is_drawn_is_mode_or_sample", HotterThanAllowed, "a temperature below 0 was accepted"),
    ("far_parameters_give_numbers", Overflows, "far off gives a log_prob of nan"),
    ("far_parameters_give_numbers", CannotBeSilent, "data at 0.0 under .* a log_prob of nan"),
    ("autocast_changes_little", RoundsUnderAutocast, "under autocast log_prob is torch.bfloat16"),
    ("samples_are_data", SamplesOutOfRange, r"sample leaves \[-1, 1\]: values from -"),
    ("pieces_of_an_autoregressive_one_decide_nothing", DrawsEachPieceAnew, r"of \[1, 1.* steps"),
    ("there_are_no_samples", DrawsFromNoDistribution, "not normalised, and yet it gives samples"),
    ("the_mode_is_data", CountsItsBands, "mode gives other values than the 80"),
    (
        "a_loaded_likelihood_is_the_one_that_was_saved",
        ScaleInPython,
        "numbers of log_prob otherwise: something is not in the state_dict",
    ),
    ("nats_of_positions_add_up", AveragesOverPositions, "log_prob is no sum over positions"),
    ("a_density_integrates_to_one", AThousandNatsMore, "of 1 channels integrates to inf, not 1"),
    ("samples_are_spread_as_the_density", SamplesTooWide, "functions of 1 channels are .* apart"),
    ("samples_are_spread_as_the_density", ForgetsWhereItIs, "functions of 1 channels are .* apart"),
    ("the_mode_is_the_peak_of_the_density", BesideThePeak, r"the mode \[.*\] has .* nats, \["),
    ("probabilities_sum_to_one", AboveOne, "come to 1.01.*, not 1"),
    ("samples_come_as_often_as_they_are_probable", LowersSamples, "channels are .* apart"),
    ("samples_come_as_often_as_they_are_probable", ForgetsChannelsBefore, "of 2 channels are"),
    ("a_lower_temperature_is_less_random", NeverCold, "has .* nats, no more than the"),
]


@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_a_likelihood_is_caught_by_its_law(law, broken, message):
    ranks = (1,) if issubclass(broken, MelLikelihood) else (1, 2, 3)
    counted = (2,) if broken is ForgetsChannelsBefore else (1,)  # two take a while
    with pytest.raises(
        AssertionError, match=f"^{broken.__name__} breaks the law {law}: .*{message}"
    ):
        testing.check_likelihood(broken, ranks, counted=counted)


def test_every_law_of_likelihoods_has_a_planted_fault():
    every = [
        *laws.LAWS,
        *laws.LAWS_OF_A_DISTRIBUTION,
        *laws.LAWS_OF_A_SCORE,
        *laws.LAWS_OF_PROBABILITIES,
        *laws.LAWS_OF_A_DENSITY,
        *laws.LAWS_OF_TEMPERATURE,
    ]
    assert {law.__name__ for law in every} == {law for law, *_ in FAULTS}


def test_what_is_no_likelihood_is_told_what_to_derive_from():
    with pytest.raises(AssertionError, match=r"^int is no likelihoods\.Likelihood: derive it from"):
        testing.check_likelihood(lambda: 3)
