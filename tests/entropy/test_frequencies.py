"""From logits to whole numbers."""

import math

import pytest
import torch

from vqvideo.entropy.frequencies import TOTAL_FREQUENCY, logits_to_frequencies


@pytest.mark.parametrize("size", [2, 7, 1024, 5000])
@pytest.mark.parametrize("sharpness", [0, 1, 30])
def test_frequencies_are_whole_numbers_of_at_least_1_near_the_probabilities(size, sharpness):
    draw = torch.Generator().manual_seed(size)
    logits = torch.randn(3, 2, size, generator=draw, dtype=torch.float64) * sharpness + 1e3
    found = logits_to_frequencies(logits)
    assert torch.equal(found, found.round())
    assert found.min() >= 1
    assert found.sum(-1).tolist() == [[TOTAL_FREQUENCY, TOTAL_FREQUENCY]] * 3
    expected = 1 + (TOTAL_FREQUENCY - size) * logits.softmax(-1)
    assert (found - expected).abs().max() <= size  # what is left over goes to the first of the best


def test_what_is_left_over_goes_to_the_first_of_the_best():
    found = logits_to_frequencies(torch.zeros(3, dtype=torch.float64) - 7)
    assert found.tolist() == [TOTAL_FREQUENCY // 3 + 1, TOTAL_FREQUENCY // 3, TOTAL_FREQUENCY // 3]


def test_frequencies_do_not_change_with_the_company():
    logits = torch.randn(9, 37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = logits_to_frequencies(logits)
    assert all(
        torch.equal(logits_to_frequencies(each), row)
        for each, row in zip(logits, together, strict=True)
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        logits_to_frequencies(torch.tensor([0.0, bad], dtype=torch.float64))
