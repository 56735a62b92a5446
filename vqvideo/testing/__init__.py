"""The laws that every part must keep, built-in or from a plugin.

Each `check_...` function takes a callable that builds the part, checks every law on it and raises
`AssertionError` on the first that breaks. The message names the part and the law, says what was
expected and what was got, and points to the relevant documentation. In a downstream project:

    from vqvideo.testing import check_model, check_quantizer

    def test_my_quantizer_keeps_the_laws():
        check_quantizer(MyQuantizer)

    def test_my_model_keeps_the_laws():
        check_model("my-model", sample_shape=(8, 16, 16))

Laws are functions, ordered so that the first failure is the most informative one;
`vqvideo.testing.quantizers`, `.priors`, `.likelihoods`, `.autoencoders`, `.models` and `.entropy`
list them.

Expected values are computed by a second, simpler method. Grids have a different size on every
axis, so that a transposed axis fails. Noise is added to all weights of a prior first, since a
layer initialized to zero would satisfy any law. Laws about training are checked in training mode.
A state dict is loaded into a part built under another seed, so that nothing matches by chance.
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
