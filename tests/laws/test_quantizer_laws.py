"""The laws of quantizers hold for every registered one; faults are planted in the files beside this
one, one for each file of laws.
"""

from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.quantizers import QUANTIZERS, VectorQuantizer
from vqvideo.testing import (
    evaluation,
    quantizer_codes,
    quantizer_losses,
    quantizer_states,
    quantizers,
)

SMALL = {"codebook_size": 7, "code_dim": 4}
SMALL_QUANTIZERS = {
    "vector": [
        SMALL,
        {**SMALL, "init": "kmeans"},
        {**SMALL, "cosine": True},
        {**SMALL, "z_channels": 6, "warmup_steps": 2},
    ],
    "ema": [
        SMALL,
        {**SMALL, "init": "kmeans", "warmup_steps": 3},
        {**SMALL, "cosine": True},
        {**SMALL, "z_channels": 6},
        {"codebook_size": 33, "code_dim": 1},
    ],
    "finite-scalar": [{"levels": (2, 3, 4)}, {"levels": (8, 5, 5, 5)}],
    "product": [
        {"part": SMALL},
        {"num_codebooks": 3, "part": {"name": "vector", **SMALL, "z_channels": 2}},
        {"part": {"name": "finite-scalar", "levels": (3, 5)}},
        {"num_codebooks": 1, "part": SMALL},
    ],
    "residual": [{"part": SMALL}, {"num_codebooks": 3, "part": {"name": "vector", **SMALL}}],
}


def test_every_registered_quantizer_is_under_test_with_small_options():
    missing = set(QUANTIZERS.list_names()) - set(SMALL_QUANTIZERS)
    assert not missing, f"say in SMALL_QUANTIZERS which options make these small: {missing}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, several in SMALL_QUANTIZERS.items() for options in several],
)
def test_every_registered_quantizer_keeps_the_laws(name, options):
    testing.check_quantizer(partial(QUANTIZERS.build, name, options))


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTIZERS.list_names())
def test_every_registered_quantizer_keeps_the_laws_as_it_is_by_default(name):
    testing.check_quantizer(QUANTIZERS.get(name))


def test_every_law_is_of_a_file_that_has_its_planted_faults():
    files = (evaluation, quantizer_codes, quantizer_losses, quantizer_states)
    assert {law.__module__ for law in quantizers.ALL_LAWS} == {file.__name__ for file in files}


def test_what_is_no_quantizer_is_refused_with_the_base_class():
    with pytest.raises(
        AssertionError, match=r"^Linear is not a quantizers\.Quantizer; derive it from"
    ):
        testing.check_quantizer(lambda: torch.nn.Linear(2, 2))


def test_an_error_in_training_goes_through_with_a_note_on_the_law_and_the_part():
    class Raises(VectorQuantizer):
        def quantize(self, z_e, mask):
            raise KeyError("codes")

    with pytest.raises(KeyError) as raised:
        testing.check_quantizer(partial(Raises, **SMALL))
    assert raised.value.__notes__[0].startswith("raised by Raises under the law warming_up_ends\n")
