"""The laws every part must keep, ours and a plugin's.

Each `check_...` function takes something that builds the part, runs every law on it and raises
`AssertionError` saying whose part broke which law, what was found instead, and where to read on.
In a downstream project:

    from vqvideo.testing import check_model, check_quantizer

    def test_my_quantizer_keeps_the_laws():
        check_quantizer(MyQuantizer)

    def test_my_model_keeps_the_laws():
        check_model("my-model", sample_shape=(8, 16, 16))

Laws are functions in order, so that the first that breaks says most; `vqvideo.testing.quantizers`,
`.priors`, `.likelihoods`, `.autoencoders`, `.models` and `.entropy` list them.

Answers are computed a second, dumber way; grids have a different size on every axis, so that a
transposed axis fails; noise is put on all weights of a prior first, since a layer that starts at
zero would make any law hold. What must hold in training is looked at in training mode; what is
loaded goes into a part built under another seed, so that nothing is right by chance.
"""

from vqvideo.testing.autoencoders import check_decoder, check_encoder
from vqvideo.testing.entropy import check_entropy_coding
from vqvideo.testing.likelihoods import check_likelihood
from vqvideo.testing.models import check_model
from vqvideo.testing.priors import check_prior
from vqvideo.testing.quantizers import check_quantizer

__all__ = [
    "check_decoder",
    "check_encoder",
    "check_entropy_coding",
    "check_likelihood",
    "check_model",
    "check_prior",
    "check_quantizer",
]
