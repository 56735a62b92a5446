"""The context of exact arithmetic: what it lets pass, what it works out itself, what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vqvideo.entropy.exact_arithmetic import EXACT_OPS, PASSTHROUGH_OPS, ExactArithmetic

X = torch.linspace(-2, 2, 12, dtype=torch.float64).view(3, 4)
ATTENTION = nn.MultiheadAttention(4, 2).double()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("erf", lambda: X.erf()),
        ("einsum", lambda: torch.einsum("ij,kj->ik", X, X)),
        ("cumsum", lambda: X.cumsum(0)),
        ("pow", lambda: X**2),
        ("log_softmax", lambda: F.log_softmax(X, dim=-1)),
        ("linalg_vector_norm", lambda: torch.linalg.vector_norm(X)),
        ("log_", lambda: X.clone().log_()),
        ("multi_head_attention_forward", lambda: ATTENTION(X, X, X)),
        ("add' with alpha", lambda: torch.add(X, X, alpha=3)),
    ],
)
def test_a_function_without_an_exact_form_is_refused_by_its_name(name, call):
    call()
    with pytest.raises(ValueError, match=rf"this prior uses torch's '{name}"), ExactArithmetic():
        call()


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("exact dropout requires evaluation mode", lambda: F.dropout(X, 0.5)),
        ("exact arange requires integers", lambda: torch.arange(0, 1, 0.1)),
        (
            "exact embedding does not support max_norm, got 1.0",
            lambda: F.embedding(torch.tensor([1]), X.clone(), max_norm=1.0),
        ),
    ],
)
def test_an_option_that_computes_more_is_refused(message, call):
    call()
    with pytest.raises(ValueError, match=message), ExactArithmetic():
        call()


def test_a_result_goes_where_a_name_or_out_says():
    mine, other, products = X.clone(), X.clone(), torch.zeros(3, 3, dtype=torch.float64)
    with ExactArithmetic():
        assert mine.sigmoid_() is mine
        assert torch.mm(X, X.T, out=products) is products
        other.addcmul_(X, X, value=-2)
    torch.testing.assert_close(mine, X.sigmoid())
    torch.testing.assert_close(products, X @ X.T, rtol=0, atol=1e-3)
    torch.testing.assert_close(other, X - 2 * X * X)


def test_operations_that_are_fused_elsewhere_round_after_each_one():
    a = torch.tensor([1 + 2.0**-30], dtype=torch.float64)
    with ExactArithmetic():
        squares = torch.addcmul(-(a * a), a, a), torch.lerp(-(a * a), a - a * a, a)
    assert [each.item() for each in squares] == [0, 0]  # one rounding would leave 2**-60


def test_a_network_in_the_context_is_near_what_it_is_without():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Embedding(9, 8), nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Dropout(), nn.ReLU()
    )
    net, codes = net.double().eval(), torch.randint(9, (5, 3))
    with torch.no_grad(), ExactArithmetic():
        found = net(codes)
    torch.testing.assert_close(found, net(codes), rtol=0, atol=1e-3)
    assert not torch.equal(found, net(codes))


def test_no_name_stands_in_both_tables():
    assert not PASSTHROUGH_OPS & set(EXACT_OPS)
