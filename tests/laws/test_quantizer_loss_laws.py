"""Each law of losses and gradients catches the faults planted for it."""

from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.quantizers import EMAQuantizer, FiniteScalarQuantizer, VectorQuantizer
from vqvideo.testing import quantizer_losses as laws
from vqvideo.testing import quantizers

SMALL = {"codebook_size": 7, "code_dim": 4}


class ZeroPerplexityQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(perplexity=quantized.perplexity * 0)


class NegativeLossQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(codebook_loss=-quantized.codebook_loss)


class NoStraightThroughQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=self.decode(quantized.codes) + 0 * z_e)


class ZeroLossQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(commitment_loss=quantized.commitment_loss * 0)


class DetachedQuantizer(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e.detach(), mask)


class DeadChannelQuantizer(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(torch.cat([z_e[:, :1].detach(), z_e[:, 1:]], dim=1), mask)


class ConstantLossQuantizer(EMAQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(commitment_loss=quantized.commitment_loss.detach())


class DetachedCodebookQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(codebook_loss=quantized.codebook_loss.detach())


class FrozenCodebookQuantizer(VectorQuantizer):
    """Its entries wait for a gradient that no loss gives."""

    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(codebook_loss=0 * quantized.codebook_loss)


class SwappedLossesQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(
            codebook_loss=quantized.commitment_loss, commitment_loss=quantized.codebook_loss
        )


class NoStopGradientQuantizer(VectorQuantizer):
    """Both losses move both sides: eq. 3 without its stop-gradients."""

    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        entries = self.dequantize(quantized.codes)
        errors = (z_e - entries).square().movedim(1, -1)
        loss = (errors if mask is None else errors[mask]).mean()
        return quantized._replace(commitment_loss=loss, codebook_loss=loss)


class DetachedInTrainingQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=quantized.z_q.detach()) if self.training else quantized


class VanishingGradientQuantizer(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=quantized.z_q.detach() + 1e-30 * (z_e - z_e.detach()))


class InfiniteLossQuantizer(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e, mask)._replace(commitment_loss=z_e.new_tensor(torch.inf))


FAULTS = [  # the law, the quantizer that breaks it and keeps those before it, what is said
    (
        "training_reaches_z_e_and_every_parameter",
        ConstantLossQuantizer,
        "the commitment loss is .* gives z_e no gradient",
    ),
    (
        "training_reaches_z_e_and_every_parameter",
        SwappedLossesQuantizer,
        "the commitment loss is .* gives z_e no gradient",
    ),
    (
        "training_reaches_z_e_and_every_parameter",
        DetachedCodebookQuantizer,
        "the codebook loss is .* gives no entry a gradient",
    ),
    (
        "training_reaches_z_e_and_every_parameter",
        FrozenCodebookQuantizer,
        "codebook is trainable but gets no gradient",
    ),
    (
        "each_loss_stops_the_other_gradient",
        NoStopGradientQuantizer,
        "the commitment loss gives entries a gradient; only z_e may get one",
    ),
    (
        "gradient_passes_straight_through",
        DetachedInTrainingQuantizer,
        "1 in training: no finite gradient reach",
    ),
    (
        "gradient_reaches_z_e",
        VanishingGradientQuantizer,
        r"channels \[0, 1\] of z_e get no gradient",
    ),
    ("losses_and_perplexity_are_in_range", InfiniteLossQuantizer, "the commitment_loss is inf"),
    (
        "losses_and_perplexity_are_in_range",
        ZeroPerplexityQuantizer,
        r"a perplexity of 0.000 lies outside",
    ),
    ("losses_and_perplexity_are_in_range", NegativeLossQuantizer, "rank 1: the codebook_loss is -"),
    (
        "gradient_passes_straight_through",
        NoStraightThroughQuantizer,
        "gradient is not the identity",
    ),
    ("losses_match_equation_3", ZeroLossQuantizer, "the commitment loss is 0.00000"),
    ("gradient_reaches_z_e", DetachedQuantizer, "no finite gradient reaches z_e"),
    ("gradient_reaches_z_e", DeadChannelQuantizer, r"channels \[0\] of z_e get no gradient"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_losses_is_caught_by_its_law(law, broken, message):
    options = {"levels": (30, 40)} if issubclass(broken, FiniteScalarQuantizer) else SMALL
    found = f"^{broken.__name__} breaks the law {law}: .*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_quantizer(partial(broken, **options))


def test_every_law_of_losses_has_a_planted_fault():
    own = {law.__name__ for law in quantizers.ALL_LAWS if law.__module__ == laws.__name__}
    assert own == {law for law, *_ in FAULTS}
