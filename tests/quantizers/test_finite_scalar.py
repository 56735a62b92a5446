"""Finite scalar quantization against a loop over numbers (Mentzer et al. 2023, section 3)."""

import itertools
import math

import pytest
import torch

from vqvideo.metrics import perplexity
from vqvideo.quantizers import FiniteScalarQuantizer
from vqvideo.testing.grids import GRIDS

LEVELS = [(2,), (3,), (2, 3, 4), (8, 5, 5, 5), (5, 6, 7, 8), (4, 4), (7, 2, 2)]


def quantize_by_hand(value, levels):
    """The level, 0 to `levels` - 1, and the quantized value of one number, as in the paper."""
    half = (levels - 1) * (1 + 1e-3) / 2
    offset = 0.5 if levels % 2 == 0 else 0.0
    bounded = math.tanh(value + math.atanh(offset / half)) * half - offset
    return bounded, round(bounded) + levels // 2, round(bounded) / (levels // 2)


def enumerate_codes(quantizer):
    return torch.arange(quantizer.codebook_size)[None]


@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_each_number_is_bounded_and_rounded_by_itself(levels, rank):
    torch.manual_seed(rank)
    quantizer = FiniteScalarQuantizer(levels=levels)
    z_e = 2 * torch.randn(2, len(levels), *GRIDS[rank], dtype=torch.float64)
    out = quantizer(z_e)
    assert out.codes.shape == (2, *GRIDS[rank])
    for place in itertools.product(range(2), *map(range, GRIDS[rank])):
        item, *position = place
        code, radix = 0, 1
        for channel, number in enumerate(levels):
            at = (item, channel, *position)
            bounded, level, value = quantize_by_hand(z_e[at].item(), number)
            assert abs(bounded - math.floor(bounded) - 0.5) > 1e-6, "an unlucky seed: a tie"
            assert out.z_q[at].item() == pytest.approx(value)
            code += level * radix
            radix *= number
        assert out.codes[place] == code


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_every_code_decodes_to_another_point_in_the_cube_from_minus_1_to_1(levels):
    quantizer = FiniteScalarQuantizer(levels=levels)
    points = quantizer.decode(enumerate_codes(quantizer))[0].T
    assert points.shape == (math.prod(levels), len(levels))
    assert len(points.unique(dim=0)) == math.prod(levels)
    assert points.abs().max() <= 1
    for channel, number in enumerate(levels):
        values = points[:, channel].unique().tolist()
        half = number // 2
        expected = [(level - half) / half for level in range(number)]
        assert values == pytest.approx(expected)


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_the_first_channel_counts_least(levels):
    quantizer = FiniteScalarQuantizer(levels=levels)
    points = quantizer.decode(enumerate_codes(quantizer))[0].T
    in_order = itertools.product(*(range(number) for number in reversed(levels)))
    for code, digits in enumerate(in_order):
        for channel, digit in enumerate(reversed(digits)):
            half = levels[channel] // 2
            assert points[code, channel].item() == pytest.approx((digit - half) / half)


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_every_code_is_reached_by_some_z_e(levels):
    """A sweep of each channel from far below to far above finds all levels in order."""
    quantizer = FiniteScalarQuantizer(levels=levels)
    reached = []
    for channel, number in enumerate(levels):
        z_e = torch.zeros(1, len(levels), 4001)
        z_e[0, channel] = torch.linspace(-20, 20, 4001)
        z_q = quantizer(z_e).z_q[0, channel]
        assert (z_q.diff() >= 0).all(), "not monotone"
        values = z_q.unique()
        assert len(values) == number
        assert values[0] == -1
        assert values[-1] == (1 if number % 2 else (number - 1 - number // 2) / (number // 2))
        reached.append([z_e[0, channel][z_q == value].mean() for value in values])
    combinations = torch.tensor(list(itertools.product(*reached))).T[None]
    codes = quantizer(combinations).codes
    assert codes.flatten().sort().values.tolist() == list(range(math.prod(levels)))


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_a_decoded_code_is_found_again_from_vectors_that_the_bound_brings_back_to_it(levels):
    quantizer = FiniteScalarQuantizer(levels=levels)
    codes = enumerate_codes(quantizer)
    points = quantizer.decode(codes).double()
    number = torch.tensor(levels)[:, None]
    half, offset = (number - 1) * 1.001 / 2, (number % 2 == 0) * 0.5
    z_e = torch.atanh((points * (number // 2) + offset) / half) - torch.atanh(offset / half)
    out = quantizer(z_e)
    assert torch.equal(out.codes, codes)
    torch.testing.assert_close(out.z_q, points)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_however_large_the_numbers_the_outermost_levels_are_the_last(levels, sign):
    quantizer = FiniteScalarQuantizer(levels=levels)
    expected = quantizer.decode(torch.tensor([[0 if sign < 0 else math.prod(levels) - 1]]))
    for size in (30.0, 1e4, 1e30):
        out = quantizer(torch.full((1, len(levels), 1), sign * size))
        assert torch.equal(out.z_q, expected)


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_the_middle_of_z_e_is_0_in_z_q_whether_levels_are_even_or_odd(levels):
    z_q = FiniteScalarQuantizer(levels=levels)(torch.zeros(1, len(levels), 3)).z_q
    assert torch.equal(z_q, torch.zeros_like(z_q))


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_the_gradient_passes_the_rounding_and_the_bound(levels):
    quantizer = FiniteScalarQuantizer(levels=levels)
    z_e = torch.randn(2, len(levels), 7, dtype=torch.float64, requires_grad=True)
    incoming = torch.randn_like(z_e)
    (outgoing,) = torch.autograd.grad(quantizer(z_e).z_q, z_e, incoming)
    for item, channel, position in itertools.product(range(2), range(len(levels)), range(7)):
        at, number = (item, channel, position), levels[channel]
        value = z_e[at].item()
        slope = (
            quantize_by_hand(value + 1e-6, number)[0] - quantize_by_hand(value - 1e-6, number)[0]
        ) / 2e-6
        expected = incoming[at].item() * slope / (number // 2)
        assert outgoing[at].item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_there_is_nothing_to_train_to_save_or_to_lose():
    quantizer = FiniteScalarQuantizer(levels=(3, 5)).train()
    assert not list(quantizer.parameters())
    assert not quantizer.state_dict()
    assert not quantizer.is_warming_up
    assert not quantizer.is_nearest_neighbor
    out = quantizer(torch.randn(2, 2, 9))
    assert out.commitment_loss == out.codebook_loss == 0


def test_the_perplexity_counts_what_the_mask_lets_count():
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer(levels=(3, 5))
    z_e, mask = torch.randn(2, 2, 30), torch.rand(2, 30) < 0.5
    out = quantizer(z_e, mask)
    expected = perplexity(torch.bincount(out.codes[mask], minlength=15))
    torch.testing.assert_close(out.perplexity, expected)
    assert quantizer(z_e).perplexity != out.perplexity


def test_training_and_evaluation_are_the_same():
    quantizer = FiniteScalarQuantizer(levels=(3, 5))
    z_e = torch.randn(2, 2, 9)
    torch.testing.assert_close(quantizer.train()(z_e), quantizer.eval()(z_e), rtol=0, atol=0)


@pytest.mark.parametrize("levels", [(), (1,), (5, 1), (4, 0), (-3,)])
def test_fewer_than_two_levels_are_refused(levels):
    with pytest.raises(ValueError, match="levels must be one or more integers >= 2, got"):
        FiniteScalarQuantizer(levels=levels)


def test_levels_may_be_any_sequence():
    assert FiniteScalarQuantizer(levels=[3, 5]).codebook_size == 15
    assert FiniteScalarQuantizer(levels=(8, 8, 8, 5, 5, 5)).codebook_size == 64_000


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("number", [8, 513, 1203, 5001])
def test_in_another_precision_values_are_only_rounded(number, dtype):
    quantizer = FiniteScalarQuantizer(levels=(number,)).to(dtype)
    half = number // 2
    expected = torch.tensor([(level - half) / half for level in range(number)]).to(dtype)
    assert torch.equal(quantizer.decode(enumerate_codes(quantizer)).flatten(), expected)


@pytest.mark.parametrize("levels", [(1001,), (2001, 5), (2, 3)])
def test_the_outermost_codes_are_in_range_however_large_z_e_is(levels):
    quantizer = FiniteScalarQuantizer(levels=levels).eval()
    for sign in (-1, 1):
        z_e = torch.full((1, len(levels), 2), sign * 1e4)
        out = quantizer(z_e)
        assert 0 <= out.codes.min() <= out.codes.max() < quantizer.codebook_size
        assert torch.equal(quantizer.decode(out.codes), out.z_q)
        assert out.z_q.abs().max() <= 1
