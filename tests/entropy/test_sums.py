"""Sums in exact arithmetic: right, and the same to the bit in whatever order."""

import itertools
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from vqvideo.entropy import functional

CLOSE = {"rtol": 0, "atol": 2e-3}


def make_numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_rounding_goes_to_the_nearest_whole_multiple_and_to_even_between_two():
    x = torch.tensor([0.25, 0.75, -0.25, -1.3, 5e4 + 0.3], dtype=torch.float64)
    assert functional.round_to_bits(x, bits=1).tolist() == [0, 1, 0, -1.5, 50000.5]
    many = make_numbers(999) * 1e3
    expected = [round(Fraction(each) * 2**14) / 2**14 for each in many.tolist()]
    assert functional.round_to_bits(many).tolist() == expected


def test_a_product_is_the_exact_sum_of_products_of_rounded_factors():
    x, weight = make_numbers(2, 7), make_numbers(7, 3) * 10
    exact = [
        [
            sum(to_fraction(a) * to_fraction(b) for a, b in zip(row, column, strict=True))
            for column in w
        ]
        for row, w in ((row, weight.T.tolist()) for row in x.tolist())
    ]
    assert functional.matmul(x, weight).tolist() == [[float(each) for each in row] for row in exact]


def to_fraction(x):
    return Fraction(round(Fraction(x) * 2**14), 2**14)


def compute_permuted(compute, number):
    """What `compute` gives for terms in six orders."""
    orders = [torch.randperm(number, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    return [compute(order) for order in orders]


def are_all_equal(results):
    return all(torch.equal(one, results[0]) for one in results)


def test_products_sums_and_norms_are_the_same_in_any_order_which_torch_its_own_are_not():
    x, weight, bias = make_numbers(5, 997), make_numbers(997, 3), make_numbers(997)
    for exact, plain in (
        (lambda i: functional.matmul(x[:, i], weight[i]), lambda i: x[:, i] @ weight[i]),
        (lambda i: functional.reduce_sum(x[:, i], -1), lambda i: x[:, i].sum(-1)),
        (
            lambda i: functional.layer_norm(x[:, i], (997,), bias[i], bias[i])[:, i.argsort()],
            lambda i: F.layer_norm(x[:, i], (997,), bias[i], bias[i])[:, i.argsort()],
        ),
        (
            lambda i: functional.softmax(x[:, i], -1)[:, i.argsort()],
            lambda i: x[:, i].softmax(-1)[:, i.argsort()],
        ),
    ):
        assert are_all_equal(compute_permuted(exact, 997))
        assert not are_all_equal(compute_permuted(plain, 997))


def test_attention_is_the_same_in_any_order_of_its_keys_and_channels():
    query, key, value = (
        make_numbers(2, 3, 4, 97),
        make_numbers(2, 3, 97, 97),
        make_numbers(2, 3, 97, 6),
    )

    def attend(order):
        there = key[:, :, order][..., order]
        return functional.scaled_dot_product_attention(query[..., order], there, value[:, :, order])

    assert are_all_equal(compute_permuted(attend, 97))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_are_those_of_torch(rank):
    x, weight, bias = (
        make_numbers(2, 6, *(7, 5, 4)[:rank]),
        make_numbers(3, 6, *(3, 2, 1)[:rank]),
        make_numbers(3),
    )
    conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    for padding, dilation in itertools.product((0, (2, 1, 0)[:rank]), (1, (2, 3, 1)[:rank])):
        given = {"padding": padding, "dilation": dilation}
        found = functional.conv(x, weight, bias, **given)
        torch.testing.assert_close(found, conv(x, weight, bias, **given), **CLOSE)
    shuffled = [functional.conv(x[:, i], weight[:, i]) for i in itertools.permutations(range(6))]
    assert are_all_equal(shuffled)


def test_products_norms_and_attention_are_those_of_torch():
    x, weight, bias = make_numbers(2, 5, 6), make_numbers(4, 6), make_numbers(4)
    query, key, value = (
        make_numbers(2, 3, 4, 8),
        make_numbers(2, 3, 4, 8).flip(2),
        make_numbers(2, 3, 4, 5),
    )
    mask = torch.ones(4, 4, dtype=torch.bool).tril(1)
    attend = F.scaled_dot_product_attention
    for found, expected in (
        (functional.linear(x, weight, bias), F.linear(x, weight, bias)),
        (functional.linear(x, weight), F.linear(x, weight)),
        (functional.linear(x[..., :3], weight[:, :3]), F.linear(x[..., :3], weight[:, :3])),
        (functional.addmm(bias, x, weight.T), bias + x @ weight.T),
        (functional.reduce_sum(x, (0, 2), keepdim=True), x.sum((0, 2), keepdim=True)),
        (functional.reduce_sum(x), x.sum()),
        (functional.layer_norm(x, (6,), weight[0], weight[1]), F.layer_norm(x, (6,), *weight[:2])),
        (functional.softmax(9 * x, 1), (9 * x).softmax(1)),
        (functional.scaled_dot_product_attention(query, key, value), attend(query, key, value)),
        (
            functional.scaled_dot_product_attention(query, key, value, mask),
            attend(query, key, value, mask),
        ),
        (
            functional.scaled_dot_product_attention(query, key, value, is_causal=True),
            attend(query, key, value, is_causal=True),
        ),
    ):
        torch.testing.assert_close(found, expected, **CLOSE)


def test_sums_of_whole_numbers_and_of_few_terms_are_not_rounded():
    assert functional.reduce_sum(torch.tensor([2**60, 1])).item() == 2**60 + 1
    x = torch.tensor([[4096.0, 2.0**-30]], dtype=torch.float64)
    assert functional.matmul(x, x.T).item() == 4096.0**2 + 2.0**-60


@pytest.mark.parametrize("huge", [3e6, float("inf"), float("nan"), 1e300])
def test_numbers_too_large_for_exact_sums_are_refused(huge):
    x = make_numbers(2, 9)
    x[1, 4] = huge
    with pytest.raises(ValueError, match=r"too large for exact arithmetic: a sum of 9 products"):
        functional.matmul(x, make_numbers(9, 3) * 4)
    with pytest.raises(ValueError, match="too large for exact arithmetic"):
        functional.reduce_sum(x * 200, -1)


def test_what_has_no_exact_form_is_refused_with_what_came():
    x = make_numbers(2, 3, 4)
    for call, message in (
        (lambda: functional.round_to_bits(x.float()), "require float64, got torch.float32"),
        (lambda: functional.conv(x, x, stride=2), "a stride of 1 and one group, got 2 and 1"),
        (lambda: functional.conv(x, x, groups=3), "a stride of 1 and one group, got 1 and 3"),
        (lambda: functional.layer_norm(x, (3, 4)), r"one normalized axis, got shape \(3, 4\)"),
        (
            lambda: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1),
            "requires dropout_p=0, got 0.1",
        ),
        (
            lambda: functional.scaled_dot_product_attention(x, x, x, x),
            "must be bool, got torch.float64",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
