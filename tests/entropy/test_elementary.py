"""Elementary functions: near torch's own, and made of operations that round once."""

import math
from fractions import Fraction

import pytest
import torch

from vqvideo.entropy import elementary

ANGLES = torch.cat([torch.linspace(-7, 7, 2001), torch.linspace(-9e5, 9e5, 2003)]).double()
NUMBERS = torch.linspace(-40, 40, 4001).double()


@pytest.mark.parametrize(
    ("name", "reference", "at", "close"),
    [
        ("sigmoid", torch.sigmoid, NUMBERS, 1e-10),
        ("tanh", torch.tanh, NUMBERS, 1e-10),
        ("gelu", torch.nn.functional.gelu, NUMBERS, 1e-6),
        ("cos", torch.cos, ANGLES, 1e-9),
        ("sin", torch.sin, ANGLES, 1e-9),
    ],
)
def test_a_function_is_near_torch_its_own(name, reference, at, close):
    difference = getattr(elementary, name)(at) - reference(at)
    assert difference.abs().max() < close


def test_exp_is_right_to_nine_digits_over_all_its_range():
    x = torch.linspace(-699, 699, 5003).double()
    expected = torch.tensor([math.exp(each) for each in x.tolist()], dtype=torch.float64)
    assert (elementary.exp(x) / expected - 1).abs().max() < 1e-9
    ends = torch.tensor([-math.inf, -1e9, 0, 1e9]).double()
    assert elementary.exp(ends)[2] == 1
    assert torch.equal(elementary.exp(ends)[[0, 3]], elementary.exp(ends.clamp(-700, 700))[[1, 3]])


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh", "gelu"])
def test_what_is_no_number_stays_none(name):
    assert getattr(elementary, name)(torch.tensor([math.nan]).double()).isnan().all()


def test_linspace_and_logspace_are_those_of_torch():
    for steps in (1, 2, 7):
        given = {"steps": steps, "dtype": torch.float64}
        near = {"rtol": 1e-14, "atol": 1e-14}
        torch.testing.assert_close(
            elementary.linspace(-1, 0.5, **given), torch.linspace(-1, 0.5, **given), **near
        )
        torch.testing.assert_close(
            elementary.logspace(0, -0.8, base=1e4, **given),
            torch.logspace(0, -0.8, base=1e4, **given),
            **near,
        )


def test_the_approximate_form_of_gelu_is_refused():
    with pytest.raises(ValueError, match=r"approximate='none', got 'tanh'"):
        elementary.gelu(NUMBERS, approximate="tanh")


def test_each_basic_operation_of_torch_is_rounded_once():
    """All else rests on it. Fractions know no rounding, and turning one into a float rounds it
    to the nearest.
    """
    torch.manual_seed(0)
    a, b = torch.randn(2, 999, dtype=torch.float64) * 2.0 ** torch.randint(-9, 9, (2, 999))
    pairs = [(Fraction(x), Fraction(y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    third = Fraction(1 / 3)
    for found, expected in (
        (a + b, [x + y for x, y in pairs]),
        (a - b, [x - y for x, y in pairs]),
        (a * b, [x * y for x, y in pairs]),
        (a / b, [x / y for x, y in pairs]),
        (a / (1 / 3), [x / third for x, _ in pairs]),
        (elementary.ONE / a, [1 / x for x, _ in pairs]),
    ):
        assert found.tolist() == [float(each) for each in expected]


def test_roots_are_right_to_the_last_bit_or_nearly():
    x = torch.cat([NUMBERS.abs(), 2.0 ** torch.arange(-900, 900).double()])
    expected = torch.tensor([math.sqrt(each) for each in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(elementary.sqrt(x), expected, rtol=3e-16, atol=1e-100)
    assert elementary.sqrt(torch.tensor([-1.0, math.nan, -math.inf]).double()).isnan().all()
