"""Sums in exact arithmetic: right, and the same to the bit in whatever order."""

import itertools
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from vqvideo.entropy import sums

CLOSE = {"rtol": 0, "atol": 2e-3}


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_rounding_goes_to_the_nearest_whole_multiple_and_to_even_between_two():
    x = torch.tensor([0.25, 0.75, -0.25, -1.3, 5e4 + 0.3], dtype=torch.float64)
    assert sums.rounded(x, bits=1).tolist() == [0, 1, 0, -1.5, 50000.5]
    many = numbers(999) * 1e3
    expected = [round(Fraction(each) * 2**14) / 2**14 for each in many.tolist()]
    assert sums.rounded(many).tolist() == expected


def test_a_product_is_the_exact_sum_of_products_of_rounded_factors():
    x, weight = numbers(2, 7), numbers(7, 3) * 10
    exact = [
        [sum(_fraction(a) * _fraction(b) for a, b in zip(row, column, strict=True)) for column in w]
        for row, w in ((row, weight.T.tolist()) for row in x.tolist())
    ]
    assert sums.product(x, weight).tolist() == [[float(each) for each in row] for row in exact]


def _fraction(x):
    return Fraction(round(Fraction(x) * 2**14), 2**14)


def in_any_order(compute, number):
    """What `compute` gives for terms in six orders."""
    orders = [torch.randperm(number, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    return [compute(order) for order in orders]


def all_equal(results):
    return all(torch.equal(one, results[0]) for one in results)


def test_products_sums_and_norms_are_the_same_in_any_order_which_torch_its_own_are_not():
    x, weight, bias = numbers(5, 997), numbers(997, 3), numbers(997)
    for exact, plain in (
        (lambda i: sums.product(x[:, i], weight[i]), lambda i: x[:, i] @ weight[i]),
        (lambda i: sums.total(x[:, i], -1), lambda i: x[:, i].sum(-1)),
        (
            lambda i: sums.layer_norm(x[:, i], (997,), bias[i], bias[i])[:, i.argsort()],
            lambda i: F.layer_norm(x[:, i], (997,), bias[i], bias[i])[:, i.argsort()],
        ),
        (
            lambda i: sums.softmax(x[:, i], -1)[:, i.argsort()],
            lambda i: x[:, i].softmax(-1)[:, i.argsort()],
        ),
    ):
        assert all_equal(in_any_order(exact, 997))
        assert not all_equal(in_any_order(plain, 997))


def test_attention_is_the_same_in_any_order_of_its_keys_and_channels():
    query, key, value = numbers(2, 3, 4, 97), numbers(2, 3, 97, 97), numbers(2, 3, 97, 6)

    def attend(order):
        there = key[:, :, order][..., order]
        return sums.attention(query[..., order], there, value[:, :, order])

    assert all_equal(in_any_order(attend, 97))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_are_those_of_torch(rank):
    x, weight, bias = numbers(2, 6, *(7, 5, 4)[:rank]), numbers(3, 6, *(3, 2, 1)[:rank]), numbers(3)
    conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    for padding, dilation in itertools.product((0, (2, 1, 0)[:rank]), (1, (2, 3, 1)[:rank])):
        given = {"padding": padding, "dilation": dilation}
        found = sums.convolution(x, weight, bias, **given)
        torch.testing.assert_close(found, conv(x, weight, bias, **given), **CLOSE)
    shuffled = [sums.convolution(x[:, i], weight[:, i]) for i in itertools.permutations(range(6))]
    assert all_equal(shuffled)


def test_products_norms_and_attention_are_those_of_torch():
    x, weight, bias = numbers(2, 5, 6), numbers(4, 6), numbers(4)
    query, key, value = numbers(2, 3, 4, 8), numbers(2, 3, 4, 8).flip(2), numbers(2, 3, 4, 5)
    mask = torch.ones(4, 4, dtype=torch.bool).tril(1)
    attend = F.scaled_dot_product_attention
    for found, expected in (
        (sums.linear(x, weight, bias), F.linear(x, weight, bias)),
        (sums.linear(x, weight), F.linear(x, weight)),
        (sums.linear(x[..., :3], weight[:, :3]), F.linear(x[..., :3], weight[:, :3])),
        (sums.added_product(bias, x, weight.T), bias + x @ weight.T),
        (sums.total(x, (0, 2), keepdim=True), x.sum((0, 2), keepdim=True)),
        (sums.total(x), x.sum()),
        (sums.layer_norm(x, (6,), weight[0], weight[1]), F.layer_norm(x, (6,), *weight[:2])),
        (sums.softmax(9 * x, 1), (9 * x).softmax(1)),
        (sums.attention(query, key, value), attend(query, key, value)),
        (sums.attention(query, key, value, mask), attend(query, key, value, mask)),
        (
            sums.attention(query, key, value, is_causal=True),
            attend(query, key, value, is_causal=True),
        ),
    ):
        torch.testing.assert_close(found, expected, **CLOSE)


def test_sums_of_whole_numbers_and_of_few_terms_are_not_rounded():
    assert sums.total(torch.tensor([2**60, 1])).item() == 2**60 + 1
    x = torch.tensor([[4096.0, 2.0**-30]], dtype=torch.float64)
    assert sums.product(x, x.T).item() == 4096.0**2 + 2.0**-60


@pytest.mark.parametrize("huge", [3e6, float("inf"), float("nan"), 1e300])
def test_numbers_too_large_for_exact_sums_are_refused(huge):
    x = numbers(2, 9)
    x[1, 4] = huge
    with pytest.raises(ValueError, match=r"too large for exact arithmetic: a sum of 9 products"):
        sums.product(x, numbers(9, 3) * 4)
    with pytest.raises(ValueError, match="too large for exact arithmetic"):
        sums.total(x * 200, -1)


def test_what_has_no_exact_form_is_refused_with_what_came():
    x = numbers(2, 3, 4)
    for call, message in (
        (lambda: sums.rounded(x.float()), "for float64, got torch.float32"),
        (lambda: sums.convolution(x, x, stride=2), "a stride of 1 and one group, got 2 and 1"),
        (lambda: sums.convolution(x, x, groups=3), "a stride of 1 and one group, got 1 and 3"),
        (lambda: sums.layer_norm(x, (3, 4)), r"over one axis, got \(3, 4\)"),
        (lambda: sums.attention(x, x, x, dropout_p=0.1), "without dropout, got 0.1"),
        (lambda: sums.attention(x, x, x, x), "must hold truth values, got torch.float64"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
