from functools import partial

import pytest
from furrow.encoder import PoolEncoder
from furrow.prior import FurrowPrior
from furrow.quantizer import SignQuantizer

from vqvideo.testing import check_encoder, check_prior, check_quantizer


def test_the_quantizer_keeps_all_laws():
    check_quantizer(partial(SignQuantizer, num_bits=3))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_encoder_keeps_all_laws(rank):
    check_encoder(partial(PoolEncoder, width=8), rank)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_prior_keeps_all_laws(rank):
    check_prior(partial(FurrowPrior, width=8), rank)
