"""The laws of quantizers hold for every registered one, and each catches a planted fault."""

from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.quantizers import QUANTIZERS, EMAQuantizer, FiniteScalarQuantizer, VectorQuantizer
from vqvideo.testing import quantizers as laws

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


def test_every_registered_quantizer_is_under_test_with_small_options():
    missing = set(QUANTIZERS.names()) - set(SMALL_QUANTIZERS)
    assert not missing, f"say in SMALL_QUANTIZERS which options make these small: {missing}"


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, several in SMALL_QUANTIZERS.items() for options in several],
)
def test_every_registered_quantizer_keeps_the_laws(name, options):
    testing.check_quantizer(partial(QUANTIZERS.build, name, options))


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_every_registered_quantizer_keeps_the_laws_as_it_is_by_default(name):
    testing.check_quantizer(QUANTIZERS.get(name))


# -- planted faults -------------------------------------------------------------------------


class NeverStarts(EMAQuantizer):
    warming_up = True


class CountsNoCodes(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(perplexity=quantized.perplexity * 0)


class GainsByItsLoss(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(codebook_loss=-quantized.codebook_loss)


class FloatCodes(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(codes=quantized.codes.int())


class NoisyOutput(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=quantized.z_q + 1e-6)


class FarthestWins(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        codes = (quantized.codes + 1) % self.codebook_size
        return quantized._replace(codes=codes, z_q=self.decode(codes))


class NoStraightThrough(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=self.decode(quantized.codes) + 0 * z_e)


class LosesTheLoss(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(commitment_loss=quantized.commitment_loss * 0)


class NoGradientAtAll(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e.detach(), mask)


class DeafChannel(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(torch.cat([z_e[:, :1].detach(), z_e[:, 1:]], dim=1), mask)


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


class ListensToNeighbours(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e - z_e.mean(dim=0), mask)


class RoundsUnderAutocast(FiniteScalarQuantizer):
    def forward(self, z_e, mask=None):
        if torch.is_autocast_enabled("cpu"):
            z_e = z_e.bfloat16()
        return super().forward(z_e, mask)


class IgnoresTheMask(VectorQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e, None)


class LearnsFromTheMasked(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        if self.training and mask is not None:
            super().quantize(z_e, None)
        return quantized


class LossOverNothing(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized if len(z_e) else quantized._replace(commitment_loss=z_e.mean())


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


class AcceptsNaN(VectorQuantizer):
    def forward(self, z_e, mask=None):
        return super().forward(z_e.nan_to_num(), mask)


FAULTS = [  # the law, the quantizer that breaks it and keeps those before it, what is said
    ("warming_up_ends", NeverStarts, "still warms up after 100 steps"),
    ("codes_fit_the_grid", FloatCodes, "codes must be int64, got torch.int32"),
    (
        "decode_gives_z_q",
        NoisyOutput,
        "rank 1: decode.codes. differs from z_q in 176 of 176 numbers",
    ),
    ("losses_and_perplexity_are_in_range", CountsNoCodes, r"a perplexity of 0.000 lies outside"),
    ("losses_and_perplexity_are_in_range", GainsByItsLoss, "rank 1: the codebook_loss is -"),
    (
        "nearest_code_wins",
        FarthestWins,
        r"the vector at \[0, 0\] got an entry .* the nearest is at",
    ),
    ("gradient_passes_straight_through", NoStraightThrough, "gradient is not the identity"),
    ("losses_are_those_of_equation_3", LosesTheLoss, "the commitment loss is 0.00000"),
    ("gradient_reaches_z_e", NoGradientAtAll, "no finite gradient reaches z_e"),
    ("gradient_reaches_z_e", DeafChannel, r"channels \[0\] of z_e get no gradient"),
    ("codebook_moves_in_training_only", MovesInEvaluation, "evaluation changed load"),
    ("two_half_batches_are_one_whole", MovesBeforeStep, "forward changed codebook before step"),
    ("two_half_batches_are_one_whole", StartsFromTheFirstHalf, "two half batches leave another"),
    ("codes_do_not_depend_on_the_batch", ListensToNeighbours, "between it alone and a batch"),
    ("codes_do_not_depend_on_autocast", RoundsUnderAutocast, "of codes differ under autocast"),
    ("masked_positions_count_nowhere", IgnoresTheMask, "change the commitment_loss by"),
    ("masked_positions_count_nowhere", LearnsFromTheMasked, "masked positions change"),
    ("an_empty_batch_gives_no_codes", LossOverNothing, "not finite: commitment_loss nan"),
    ("a_loaded_quantizer_trains_on_as_if_never_saved", FlagInPython, "and one more step"),
    ("a_loaded_quantizer_trains_on_as_if_never_saved", ForgetsStatistics, "and one more step"),
    ("nan_is_refused", AcceptsNaN, "nan in z_e was accepted"),
]


@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_a_quantizer_is_caught_by_its_law(law, broken, message):
    options = {"levels": (30, 40)} if issubclass(broken, FiniteScalarQuantizer) else SMALL
    with pytest.raises(
        AssertionError, match=f"^{broken.__name__} breaks the law {law}: .*{message}"
    ):
        testing.check_quantizer(partial(broken, **options))


def test_every_law_of_quantizers_has_a_planted_fault():
    every = [
        laws.warming_up_ends,
        *laws.LAWS_OF_CODES,
        *laws.LAWS_OF_A_PLAIN_LOOKUP,
        *laws.LAWS_OF_ANY_OTHER,
        *laws.LAWS_OF_ITS_STATE,
    ]
    assert {law.__name__ for law in every} == {law for law, *_ in FAULTS}


def test_what_is_no_quantizer_is_told_what_to_derive_from():
    with pytest.raises(
        AssertionError, match=r"^Linear is no quantizers\.Quantizer: derive it from"
    ):
        testing.check_quantizer(lambda: torch.nn.Linear(2, 2))
