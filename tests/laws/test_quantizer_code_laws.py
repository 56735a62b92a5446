"""Each law of codes catches the faults planted for it."""

from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.quantizers import FiniteScalarQuantizer, VectorQuantizer
from vqvideo.testing import quantizer_codes as laws
from vqvideo.testing import quantizers

SMALL = {"codebook_size": 7, "code_dim": 4}


class FloatCodesQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(codes=quantized.codes.int())


class NoisyQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=quantized.z_q + 1e-6)


class FarthestCodeQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        codes = (quantized.codes + 1) % self.codebook_size
        return quantized._replace(codes=codes, z_q=self.decode(codes))


class BatchDependentQuantizer(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e - z_e.mean(dim=0), mask)


class AutocastQuantizer(FiniteScalarQuantizer):
    def forward(self, z_e, mask=None):
        if torch.is_autocast_enabled("cpu"):
            z_e = z_e.bfloat16()
        return super().forward(z_e, mask)


class UnquantizedInTrainingQuantizer(VectorQuantizer):
    """In training it passes z_e on as it is, and names codes that it does not use."""

    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        return quantized._replace(z_q=z_e) if self.training else quantized


class SingleCodeQuantizer(FiniteScalarQuantizer):
    def quantize(self, z_e, mask):
        quantized = super().quantize(z_e, mask)
        codes = quantized.codes * 0
        z_q = self.dequantize(codes) + (z_e - z_e.detach())
        return quantized._replace(codes=codes, z_q=z_q, perplexity=torch.ones(()))


class WrongPerplexityQuantizer(VectorQuantizer):
    def quantize(self, z_e, mask):
        return super().quantize(z_e, mask)._replace(perplexity=torch.tensor(2.0))


FAULTS = [  # the law, the quantizer that breaks it and keeps those before it, what is said
    ("codes_fit_the_grid", FloatCodesQuantizer, "codes must be int64, got torch.int32"),
    (
        "decode_returns_z_q",
        NoisyQuantizer,
        "rank 1: decode.codes. differs from z_q in 176 of 176 values",
    ),
    (
        "decode_returns_z_q",
        UnquantizedInTrainingQuantizer,
        "rank 1 in training: decode.codes. differs from z_q",
    ),
    (
        "codes_distinguish_vectors",
        SingleCodeQuantizer,
        "all 44 vectors got the code 0 of codebook 0, of 1200",
    ),
    (
        "the_perplexity_matches_the_codes",
        WrongPerplexityQuantizer,
        "the perplexity is 2.000, but the codes give",
    ),
    (
        "vectors_get_their_nearest_code",
        FarthestCodeQuantizer,
        r"the vector at \[0, 0\] got an entry .* the nearest is at",
    ),
    ("codes_do_not_depend_on_the_batch", BatchDependentQuantizer, "between alone and in a batch"),
    ("codes_do_not_depend_on_autocast", AutocastQuantizer, "of codes differ under autocast"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_codes_is_caught_by_its_law(law, broken, message):
    options = {"levels": (30, 40)} if issubclass(broken, FiniteScalarQuantizer) else SMALL
    found = f"^{broken.__name__} breaks the law {law}: .*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_quantizer(partial(broken, **options))


def test_every_law_of_codes_has_a_planted_fault():
    own = {law.__name__ for law in quantizers.ALL_LAWS if law.__module__ == laws.__name__}
    assert own == {law for law, *_ in FAULTS}
