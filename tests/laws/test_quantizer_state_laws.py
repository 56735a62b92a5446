"""Each law of what a quantizer keeps catches the faults planted for it."""

from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.quantizers import EMAQuantizer, VectorQuantizer
from vqvideo.testing import quantizer_states as laws
from vqvideo.testing import quantizers

SMALL = {"codebook_size": 7, "code_dim": 4}


class NeverInitializedQuantizer(EMAQuantizer):
    is_warming_up = True


class EvalUpdatingQuantizer(EMAQuantizer):
    def quantize(self, z_e, mask):
        self.usage_ema *= 0.99
        return super().quantize(z_e, mask)


class EarlyUpdatingQuantizer(EMAQuantizer):
    def quantize(self, z_e, mask):
        if self.training and not self.is_warming_up:
            self.codebook *= 0.999
        return super().quantize(z_e, mask)


class FirstMicroBatchInitQuantizer(EMAQuantizer):
    """The fault of codebooks that start in the first forward call."""

    def quantize(self, z_e, mask):
        if self.step_statistics is not None and self.is_warming_up:
            mask = torch.zeros(len(z_e), *z_e.shape[2:], dtype=torch.bool)
        return super().quantize(z_e, mask)


class MaskIgnoringQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e, None)


class MaskedUpdateQuantizer(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        if self.training and mask is not None:
            super().quantize(z_e, None)
        return quantized


class EmptyBatchNaNQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized if len(z_e) else quantized._replace(commitment_loss=z_e.mean())


class UnsavedFlagQuantizer(EMAQuantizer):
    """The fault of several published codebooks: a load starts them anew."""

    def quantize(self, z_e, mask):
        if self.training and not getattr(self, "was_started", False):
            self.was_started = True
            self.initialized.fill_(False)
        return super().quantize(z_e, mask)


class UnsavedStatisticsQuantizer(EMAQuantizer):
    """Sums that do not travel with the checkpoint."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register_buffer("embed_sum", self.embed_sum, persistent=False)


class NaNAcceptingQuantizer(VectorQuantizer):
    def forward(self, z_e, mask=None):
        return super().forward(z_e.nan_to_num(), mask)


class UnsavedEntriesQuantizer(EMAQuantizer):
    """A codebook that the checkpoint does not hold."""

    def __init__(self, **options):
        super().__init__(**options)
        self.own = torch.randn(self.codebook_size, self.code_dim)

    def _get_entries(self):
        return self.own


FAULTS = [  # the law, the quantizer that breaks it and keeps those before it, what is said
    ("warming_up_ends", NeverInitializedQuantizer, "still warming up after 100 steps"),
    (
        "a_loaded_quantizer_is_the_one_that_was_saved",
        UnsavedEntriesQuantizer,
        "values of codes: the state_dict is incomplete",
    ),
    (
        "the_codebook_changes_only_in_training",
        EvalUpdatingQuantizer,
        "evaluation changed usage_ema",
    ),
    (
        "two_half_batches_equal_one_batch",
        EarlyUpdatingQuantizer,
        "forward changed codebook before update_codebook",
    ),
    (
        "two_half_batches_equal_one_batch",
        FirstMicroBatchInitQuantizer,
        "two half batches leave another",
    ),
    ("masked_positions_are_ignored", MaskIgnoringQuantizer, "change the commitment_loss by"),
    ("masked_positions_are_ignored", MaskedUpdateQuantizer, "masked positions change"),
    ("an_empty_batch_has_no_codes", EmptyBatchNaNQuantizer, "not finite: commitment_loss nan"),
    ("a_loaded_quantizer_trains_on_as_if_never_saved", UnsavedFlagQuantizer, "and one more step"),
    (
        "a_loaded_quantizer_trains_on_as_if_never_saved",
        UnsavedStatisticsQuantizer,
        "and one more step",
    ),
    ("nan_is_refused", NaNAcceptingQuantizer, "nan in z_e was accepted"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_states_is_caught_by_its_law(law, broken, message):
    found = f"^{broken.__name__} breaks the law {law}: .*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_quantizer(partial(broken, **SMALL))


def test_every_law_of_states_has_a_planted_fault():
    own = {law.__name__ for law in quantizers.ALL_LAWS if law.__module__ == laws.__name__}
    assert own == {law for law, *_ in FAULTS}
