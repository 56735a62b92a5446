"""The laws of vqvideo.testing hold for every registered part, and each catches a fault."""

from functools import partial

import pytest
import torch
from torch import nn

from vqvideo import testing
from vqvideo.cond import CondSpec
from vqvideo.likelihoods import LIKELIHOODS, GaussianLikelihood
from vqvideo.nets.causal import ReceptiveField
from vqvideo.priors import PRIORS, CausalPrior, Prior, default_prior
from vqvideo.quantizers import QUANTIZERS, EMAQuantizer, VectorQuantizer
from vqvideo.sampling import gumbel_noise
from vqvideo.testing.priors import every_code_in_the_receptive_field_is_seen

BUILT_IN_PRIORS = [(default_prior(rank), rank) for rank in (1, 2, 3)]


def small_prior(name):
    return partial(PRIORS.get(name), width=8, num_layers=3)


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_every_registered_quantizer_keeps_the_laws(name):
    testing.check_quantizer(QUANTIZERS.get(name))


def test_every_registered_prior_is_under_test():
    assert {name for name, _ in BUILT_IN_PRIORS} == set(PRIORS.names())


@pytest.mark.parametrize(("name", "rank"), BUILT_IN_PRIORS)
def test_every_registered_prior_keeps_the_laws(name, rank):
    testing.check_prior(small_prior(name), rank)


@pytest.mark.parametrize("name", LIKELIHOODS.names())
def test_every_registered_likelihood_keeps_the_laws(name):
    testing.check_likelihood(LIKELIHOODS.get(name))


# -- planted faults: quantizers -------------------------------------------------------------


class FarthestWins(VectorQuantizer):
    def _quantize(self, z_e, mask):
        quantized = super()._quantize(z_e, mask)
        codes = (quantized.codes + 1) % self.codebook_size
        return quantized._replace(codes=codes, z_q=self.decode(codes))


class NoisyOutput(VectorQuantizer):
    def _quantize(self, z_e, mask):
        quantized = super()._quantize(z_e, mask)
        return quantized._replace(z_q=quantized.z_q + 1e-6)


class NoStraightThrough(VectorQuantizer):
    def _quantize(self, z_e, mask):
        quantized = super()._quantize(z_e, mask)
        return quantized._replace(z_q=self.decode(quantized.codes) + 0 * z_e)


class MovesInEvaluation(EMAQuantizer):
    def _quantize(self, z_e, mask):
        self.load *= 0.99
        return super()._quantize(z_e, mask)


class FlagInPython(EMAQuantizer):
    """The fault of several published codebooks: a load starts them anew."""

    def _quantize(self, z_e, mask):
        if self.training and not getattr(self, "was_initialised", False):
            self.was_initialised = True
            self.initialised.fill_(False)
        return super()._quantize(z_e, mask)


class ForgetsStatistics(EMAQuantizer):
    """Sums that do not travel with the checkpoint."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register_buffer("sums", self.sums, persistent=False)


class IgnoresTheMask(VectorQuantizer):
    def _quantize(self, z_e, mask):
        return super()._quantize(z_e, None)


class LosesTheLoss(VectorQuantizer):
    def _quantize(self, z_e, mask):
        quantized = super()._quantize(z_e, mask)
        return quantized._replace(commitment_loss=quantized.commitment_loss * 0)


class AcceptsNaN(VectorQuantizer):
    def _quantize(self, z_e, mask):
        return super()._quantize(z_e.nan_to_num(), mask)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (FarthestWins, "the nearest is at"),
        (NoisyOutput, "differs from z_q"),
        (NoStraightThrough, "straight-through gradient is not the identity"),
        (MovesInEvaluation, "evaluation changed"),
        (FlagInPython, "after loading and one more step"),
        (ForgetsStatistics, "after loading and one more step"),
        (IgnoresTheMask, "masked positions change the commitment_loss"),
        (LosesTheLoss, "the commitment loss is 0.00000"),
        (AcceptsNaN, "NaN in z_e was accepted"),
    ],
)
def test_a_planted_fault_in_a_quantizer_is_caught(broken, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_quantizer(broken)


# -- planted faults: priors -----------------------------------------------------------------


class Wrapped(CausalPrior):
    """A small causal prior of any rank, to be broken in one place."""

    def __init__(self, *, rank, codebook_size):
        super().__init__(
            rank=rank,
            codebook_size=codebook_size,
            width=8,
            reaches=(1, 1, 1),
            dilations=(1, 1, 1),
        )


class SeesItself(Wrapped):
    def logits(self, codes, cond=None):
        own = self.embedding(codes).mean(dim=-1)[:, None]
        return super().logits(codes, cond) + own


class SeesTheFuture(Wrapped):
    """Normalising over positions, as batch and group norms do, leaks what comes later."""

    def logits(self, codes, cond=None):
        logits = super().logits(codes, cond)
        return logits / logits.flatten(2).std(dim=2).reshape(len(codes), -1, *(1,) * self.rank)


class BlindAbove(Wrapped):
    """Declares two more columns than it sees."""

    def __init__(self, **options):
        super().__init__(**options)
        field = self.receptive_field
        self.receptive_field = field._replace(left=field.left + 2, columns=field.columns + 2)


class NotNormalised(Wrapped):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) + 0.01


class WrongBias(Wrapped):
    """The classic fault of a cache: something is left out at the start of a row."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        for layer in state.net.layers:
            layer.row_bias = layer.row_bias - layer.left_bias
        return state


class OwnNoise(Wrapped):
    """Steps exactly, but a state that is asked twice answers differently."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        if batch > 2:
            state.head = nn.Sequential(state.head, nn.Dropout(0.5).train())
        return state


class ForgetsUnaskedPositions(Wrapped):
    """A cache that is filled only where somebody asks for logits: wrong around known codes."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        push = state.net.push

        def careless(embedding):
            state.net.is_known = True
            push(embedding)

        state.net.push = careless
        return state


class LeavesATrace(Wrapped):
    def start(self, batch, grid, cond=None):
        with torch.no_grad():
            self.embedding.weight[0, 0] += 1e-3
        return super().start(batch, grid, cond)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (SeesItself, "depend on the code"),
        (SeesTheFuture, "depend on the code"),
        (BlindAbove, "its receptive field says otherwise"),
        (NotNormalised, "probabilities sum to"),
        (WrongBias, "stepping differs from the whole"),
        (OwnNoise, "auto and fixed-point sampling differ"),
        (ForgetsUnaskedPositions, "asked at every 3"),
        (LeavesATrace, "sampling changed|stepping differs|sampling differ"),
    ],
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_planted_fault_in_a_prior_is_caught(broken, message, rank):
    with pytest.raises(AssertionError, match=message):
        testing.check_prior(broken, rank)


def test_a_leak_of_less_than_rounding_is_still_found_by_gradient():
    class Whispers(Wrapped):
        def logits(self, codes, cond=None):
            logits = super().logits(codes, cond)
            return logits + 1e-30 * self.embedding(codes).movedim(-1, 1)[:, :5]

    with pytest.raises(AssertionError, match="a leak"):
        every_code_in_the_receptive_field_is_seen(Whispers, 2)


# -- planted faults: likelihoods ------------------------------------------------------------


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


class NewSampleEachTime(GaussianLikelihood):
    def sample(self, parameters, seed=0):
        return super().sample(parameters, seed=int(torch.randint(10**6, ())))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (OutOfRange, "mode leaves"),
        (AveragesOverTheBatch, "depends on its batch"),
        (Silent, "random data is more probable than the mode"),
        (NewSampleEachTime, "a seed does not repeat"),
    ],
)
def test_a_planted_fault_in_a_likelihood_is_caught(broken, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_likelihood(broken)


def test_noise_is_the_same_for_a_sample_alone_and_in_a_batch():
    alone, together = gumbel_noise(3, 1, 7), gumbel_noise(3, 4, 7)
    for _ in range(200):
        assert torch.equal(next(alone)[0], next(together)[0])


class Unigram(Prior):
    """The least a prior can be: no code depends on another."""

    def __init__(self, *, rank, codebook_size):
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec()
        self.scores = nn.Parameter(torch.zeros(codebook_size))
        self.receptive_field = ReceptiveField(frames=0, rows=0, columns=0, left=0)

    def logits(self, codes, cond=None):
        shape = (1, -1, *(1,) * self.rank)
        return self.scores.view(shape).expand(len(codes), -1, *codes.shape[1:])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_prior_without_embeddings_and_without_a_state_can_keep_the_laws(rank):
    testing.check_prior(Unigram, rank)
