"""The laws every part must keep, ours and a plugin's.

Each `check_...` function takes something that builds the part, runs every law on it and raises
`AssertionError` saying which law broke and where. In a downstream project:

    from vqvideo.testing import check_quantizer

    def test_my_quantizer_keeps_the_laws():
        check_quantizer(MyQuantizer)

Answers are computed a second, dumber way; grids have a different size on every axis, so that a
transposed axis fails; noise is put on all weights of a prior first, since a layer that starts at
zero would make any law hold.
"""

from vqvideo.testing.autoencoders import check_decoder, check_encoder
from vqvideo.testing.entropy import check_entropy_coding
from vqvideo.testing.likelihoods import check_likelihood
from vqvideo.testing.priors import check_prior
from vqvideo.testing.quantizers import check_quantizer

__all__ = [
    "check_decoder",
    "check_encoder",
    "check_entropy_coding",
    "check_likelihood",
    "check_prior",
    "check_quantizer",
]
