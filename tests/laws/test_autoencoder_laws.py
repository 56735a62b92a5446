"""Laws of encoders and decoders that no fault in nets/test_autoencoder.py breaks."""

import pytest

from vqvideo.nets.autoencoder import PatchifyEncoder
from vqvideo.testing import check_encoder


class ForgetsItsChannels(PatchifyEncoder):
    def __init__(self, **options):
        super().__init__(**options)
        self.channels = 1


def test_a_planted_fault_in_what_an_encoder_says_is_caught_by_its_law():
    message = (
        r"^ForgetsItsChannels breaks the law an_encoder_says_what_it_is: the encoder says rank, "
        r"channels and downsampling are \(2, 1, \(4, 4\)\), not \(2, 3, \(4, 4\)\)\n"
    )
    with pytest.raises(AssertionError, match=message):
        check_encoder(
            lambda **shared: ForgetsItsChannels(widths=(4, 4), num_blocks=(1, 1), **shared), 2
        )
