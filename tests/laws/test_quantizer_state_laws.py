"""Each law of what a quantizer keeps catches the faults planted for it."""

from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.quantizers import EMAQuantizer, VectorQuantizer
from vqvideo.testing import quantizer_states as laws
from vqvideo.testing import quantizers

SMALL = {"codebook_size": 7, "code_dim": 4}


class NeverStarts(EMAQuantizer):
    warming_up = True


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


class EntriesOfItsOwn(EMAQuantizer):
    """A codebook that the checkpoint does not hold."""

    def __init__(self, **options):
        super().__init__(**options)
        self.own = torch.randn(self.codebook_size, self.code_dim)

    def _entries(self):
        return self.own


FAULTS = [  # the law, the quantizer that breaks it and keeps those before it, what is said
    ("warming_up_ends", NeverStarts, "still warms up after 100 steps"),
    (
        "a_loaded_quantizer_is_the_one_that_was_saved",
        EntriesOfItsOwn,
        "numbers of codes otherwise: something is not in the state_dict",
    ),
    ("codebook_moves_in_training_only", MovesInEvaluation, "evaluation changed load"),
    ("two_half_batches_are_one_whole", MovesBeforeStep, "forward changed codebook before step"),
    ("two_half_batches_are_one_whole", StartsFromTheFirstHalf, "two half batches leave another"),
    ("masked_positions_count_nowhere", IgnoresTheMask, "change the commitment_loss by"),
    ("masked_positions_count_nowhere", LearnsFromTheMasked, "masked positions change"),
    ("an_empty_batch_gives_no_codes", LossOverNothing, "not finite: commitment_loss nan"),
    ("a_loaded_quantizer_trains_on_as_if_never_saved", FlagInPython, "and one more step"),
    ("a_loaded_quantizer_trains_on_as_if_never_saved", ForgetsStatistics, "and one more step"),
    ("nan_is_refused", AcceptsNaN, "nan in z_e was accepted"),
]


@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_states_is_caught_by_its_law(law, broken, message):
    found = f"^{broken.__name__} breaks the law {law}: .*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_quantizer(partial(broken, **SMALL))


def test_every_law_of_states_has_a_planted_fault():
    own = {law.__name__ for law in quantizers.EVERY if law.__module__ == laws.__name__}
    assert own == {law for law, *_ in FAULTS}
