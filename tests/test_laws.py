"""The laws of quantizers and likelihoods hold for every registered one, and each catches a fault.

Those of priors are in priors/test_prior_laws.py.
"""

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
from vqvideo.quantizers import (
    QUANTIZERS,
    EMAQuantizer,
    FiniteScalarQuantizer,
    VectorQuantizer,
)

SMALL = {"codebook_size": 7, "code_dim": 4}
SMALL_QUANTIZERS = {
    "vector": [
        SMALL,
        {**SMALL, "start": "kmeans"},
        {**SMALL, "cosine": True},
        {**SMALL, "z_channels": 6, "warmup_steps": 2},
    ],
    "ema": [
        SMALL,
        {**SMALL, "start": "kmeans", "warmup_steps": 3},
        {**SMALL, "cosine": True},
        {**SMALL, "z_channels": 6},
        {"codebook_size": 33, "code_dim": 1},
    ],
    "finite_scalar": [{"levels": (2, 3, 4)}, {"levels": (8, 5, 5, 5)}],
    "product": [
        {"part": SMALL},
        {"num_codebooks": 3, "part": {"name": "vector", **SMALL, "z_channels": 2}},
        {"part": {"name": "finite_scalar", "levels": (3, 5)}},
        {"num_codebooks": 1, "part": SMALL},
    ],
    "residual": [{"part": SMALL}, {"num_codebooks": 3, "part": {"name": "vector", **SMALL}}],
}


def test_every_registered_quantizer_is_under_test():
    assert set(SMALL_QUANTIZERS) == set(QUANTIZERS.names())


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, several in SMALL_QUANTIZERS.items() for options in several],
)
def test_every_registered_quantizer_keeps_the_laws(name, options):
    testing.check_quantizer(partial(QUANTIZERS.build, name, options))


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_every_registered_quantizer_keeps_the_laws_as_it_is_by_default(name):
    testing.check_quantizer(QUANTIZERS.get(name))


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


# -- planted faults: quantizers -------------------------------------------------------------


class FarthestWins(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        codes = (quantized.codes + 1) % self.codebook_size
        return quantized._replace(codes=codes, z_q=self.decode(codes))


class NoisyOutput(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=quantized.z_q + 1e-6)


class NoStraightThrough(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=self.decode(quantized.codes) + 0 * z_e)


class NoGradientAtAll(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e.detach(), mask)


class DeafChannel(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(torch.cat([z_e[:, :1].detach(), z_e[:, 1:]], dim=1), mask)


class FloatCodes(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(codes=quantized.codes.int())


class MovesInEvaluation(EMAQuantizer):
    def quantize(self, z_e, mask):
        self.load *= 0.99
        return super().quantize(z_e, mask)


class MovesBeforeStep(EMAQuantizer):
    def quantize(self, z_e, mask):
        if self.training and not self.warming_up:
            self.codebook *= 0.999
        return super().quantize(z_e, mask)


class StartsFromTheFirstHalf(EMAQuantizer):
    """The fault of codebooks that start in the first forward call."""

    def quantize(self, z_e, mask):
        if self.seen is not None and self.warming_up:
            mask = torch.zeros(len(z_e), *z_e.shape[2:], dtype=torch.bool)
        return super().quantize(z_e, mask)


class FlagInPython(EMAQuantizer):
    """The fault of several published codebooks: a load starts them anew."""

    def quantize(self, z_e, mask):
        if self.training and not getattr(self, "was_started", False):
            self.was_started = True
            self.started.fill_(False)
        return super().quantize(z_e, mask)


class ForgetsStatistics(EMAQuantizer):
    """Sums that do not travel with the checkpoint."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register_buffer("sums", self.sums, persistent=False)


class IgnoresTheMask(VectorQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e, None)


class LearnsFromTheMasked(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        if self.training and mask is not None:
            super().quantize(z_e, None)
        return quantized


class LosesTheLoss(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(commitment_loss=quantized.commitment_loss * 0)


class LossOverNothing(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized if len(z_e) else quantized._replace(commitment_loss=z_e.mean())


class AcceptsNaN(VectorQuantizer):
    def forward(self, z_e, mask=None):
        return super().forward(z_e.nan_to_num(), mask)


class ListensToNeighbours(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e - z_e.mean(dim=0), mask)


class RoundsUnderAutocast(FiniteScalarQuantizer):
    def forward(self, z_e, mask=None):
        if torch.is_autocast_enabled("cpu"):
            z_e = z_e.bfloat16()
        return super().forward(z_e, mask)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (FarthestWins, "the nearest is at"),
        (FloatCodes, "codes must be int64, got torch.int32"),
        (NoisyOutput, "differs from z_q"),
        (NoStraightThrough, "straight-through gradient is not the identity"),
        (MovesInEvaluation, "evaluation changed"),
        (MovesBeforeStep, "forward changed codebook before step"),
        (StartsFromTheFirstHalf, "two half batches leave another"),
        (FlagInPython, "after loading and one more step"),
        (ForgetsStatistics, "after loading and one more step"),
        (IgnoresTheMask, "masked positions change the commitment_loss"),
        (LearnsFromTheMasked, "masked positions change"),
        (LosesTheLoss, "the commitment loss is 0.00000"),
        (LossOverNothing, "losses of an empty batch are not finite"),
        (AcceptsNaN, "nan in z_e was accepted"),
    ],
)
def test_a_planted_fault_in_a_quantizer_is_caught(broken, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_quantizer(partial(broken, **SMALL))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (NoGradientAtAll, "no finite gradient reaches z_e"),
        (ListensToNeighbours, "differ between it alone and a batch"),
        (RoundsUnderAutocast, "codes differ under autocast"),
        (DeafChannel, r"channels \[0\] of z_e get no gradient"),
    ],
)
def test_a_planted_fault_in_a_quantizer_without_a_codebook_is_caught(broken, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_quantizer(partial(broken, levels=(30, 40)))


# -- planted faults: likelihoods ------------------------------------------------------------

FEW = {"width": 4, "num_layers": 1}


class OutOfRange(GaussianLikelihood):
    def mode(self, parameters):
        return parameters * 10


class AveragesOverTheBatch(GaussianLikelihood):
    def log_prob(self, parameters, x):
        nats = super().log_prob(parameters, x)
        return nats.mean().expand_as(nats)


class Silent(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) * 0


class AboveOne(CategoricalLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) + 0.01


class BetweenTheValues(LogisticMixtureLikelihood):
    def mode(self, parameters):
        return (super().mode(parameters) + 0.003).clamp(-1, 1)


class LowersSamples(LogisticMixtureLikelihood):
    def sample(self, parameters, seed=0, **options):
        return (super().sample(parameters, seed, **options) - 16 / 255).clamp(-1, 1)


class ForgetsChannelsBefore(LogisticMixtureLikelihood):
    def sample(self, parameters, seed=0, **options):
        mixed = parameters.clone().unflatten(1, (self.num_mixtures, -1))
        pairs = {3: 0, 6: 1, 10: 3}[mixed.shape[2]]
        mixed[:, :, mixed.shape[2] - pairs :] = 0
        return super().sample(mixed.flatten(1, 2), seed, **options)


class Overflows(GaussianLikelihood):
    def log_prob(self, parameters, x):
        return super().log_prob(parameters, x) - 0 * parameters.exp().flatten(1).sum(dim=1)


class NewSampleEachTime(GaussianLikelihood):
    def sample(self, parameters, seed=0, **options):
        return super().sample(parameters, seed=int(torch.randint(10**6, ())), **options)


class Lukewarm(GaussianLikelihood):
    def drawn(self, pieces, *, temperature=0.0, seed=0):
        return super().drawn(pieces, temperature=max(temperature, 1e-3), seed=seed)


class NeverCold(CategoricalLikelihood):
    def sample(self, parameters, seed=0, *, temperature=1.0):
        return super().sample(parameters, seed)


class DrawsOtherSeeds(GaussianLikelihood):
    def drawn(self, pieces, *, temperature=0.0, seed=0):
        return super().drawn(pieces, temperature=temperature, seed=seed // 2)


class DrawsEachPieceAnew(AutoregressiveLikelihood):
    def __init__(self, *, rank, channels):
        super().__init__(rank=rank, channels=channels, features=4, prior=FEW)

    def drawn(self, pieces, **options):
        for piece in pieces:
            if piece.shape[2]:
                yield from super().drawn([piece], **options)


class KeepsGradients(GaussianLikelihood):
    def drawn(self, pieces, *, temperature=0.0, seed=0):
        if temperature:
            return super().drawn(pieces, temperature=temperature, seed=seed)
        return map(self.mode, pieces)


class HotterThanAllowed(GaussianLikelihood):
    def drawn(self, pieces, *, temperature=0.0, seed=0):
        return super().drawn(pieces, temperature=abs(temperature), seed=seed)


class NumbersEvenly(CategoricalLikelihood):
    """Values on the mu-law scale, numbered as if they lay evenly."""

    def __init__(self):
        super().__init__(mu_law=True)

    def to_levels(self, x):
        return CategoricalLikelihood().to_levels(x)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (OutOfRange, "mode leaves"),
        (AveragesOverTheBatch, "depends on its batch"),
        (Silent, "random data is more probable than the mode"),
        (NewSampleEachTime, "a seed does not repeat"),
        (AboveOne, "come to 1.01.*, not 1"),
        (BetweenTheValues, "mode gives other values than the 256"),
        (LowersSamples, "samples are not distributed as log_prob says"),
        (ForgetsChannelsBefore, "samples are not distributed as log_prob says"),
        (Overflows, "far off gives a log_prob of nan"),
        (Lukewarm, "at temperature 0 is not the mode"),
        (NeverCold, "what is drawn at temperature 0.1 has .* nats, no more than"),
        (DrawsOtherSeeds, "drawn at temperature 1 is not the sample of that seed"),
        (DrawsEachPieceAnew, r"pieces of \[1, 1.* steps give something else than the whole"),
        (KeepsGradients, "drawn keeps what gradients need"),
        (HotterThanAllowed, "a temperature below 0 was accepted"),
        (NumbersEvenly, "mode gives other values than the 256"),
    ],
)
def test_a_planted_fault_in_a_likelihood_is_caught(broken, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_likelihood(broken)


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


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (DrawsFromNoDistribution, "says it is not normalised, and yet it gives samples"),
        (SeesItsBatch, "depends on its batch"),
        (CountsItsBands, "gives other values than the 80|num_values must be None"),
        (CannotBeSilent, "data at 0.0 under parameters far off gives a log_prob of nan"),
    ],
)
def test_a_planted_fault_in_a_score_that_is_not_normalised_is_caught(broken, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_likelihood(broken, (1,))
