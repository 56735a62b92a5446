"""What all quantizers take, give and refuse: shapes, types, precisions, messages."""

import copy
import math

import pytest
import torch

from vqvideo.quantizers import (
    QUANTIZERS,
    EMAQuantizer,
    NotFiniteError,
    VectorQuantizer,
    manual_updates,
)
from vqvideo.testing.grids import GRIDS, find_differences

BOTH = [EMAQuantizer, VectorQuantizer]
SMALL = {"codebook_size": 6, "code_dim": 4}
KINDS = {
    "ema": ("ema", SMALL),
    "vector": ("vector", SMALL),
    "ema projected": ("ema", {**SMALL, "z_channels": 7}),
    "vector cosine": ("vector", {**SMALL, "cosine": True}),
    "vector cosine projected": ("vector", {**SMALL, "cosine": True, "z_channels": 7}),
    "product": ("product", {"part": SMALL}),
    "residual": ("residual", {"num_codebooks": 3, "part": SMALL}),
    "finite-scalar": ("finite-scalar", {"levels": (4, 3, 5)}),
}


def build_trained(name, rank=1, dtype=torch.float32):
    torch.manual_seed(rank)
    quantizer = QUANTIZERS.build(*KINDS[name]).to(dtype).train()
    for _ in range(5):
        quantizer(torch.randn(4, quantizer.z_channels, *GRIDS[rank], dtype=dtype))
    return quantizer


def make_batch(quantizer, rank=1, dtype=torch.float32):
    return torch.randn(4, quantizer.z_channels, *GRIDS[rank], dtype=dtype)


# -- precisions -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", KINDS)
def test_a_quantizer_in_another_precision_trains_and_gives_that_precision(name, dtype):
    quantizer = build_trained(name, dtype=dtype)
    z_e = make_batch(quantizer, dtype=dtype).requires_grad_()
    out = quantizer(z_e)
    (out.z_q.float().sum() + out.commitment_loss + out.codebook_loss).backward()
    assert z_e.grad.dtype == out.z_q.dtype == dtype
    assert z_e.grad.isfinite().all()
    for tensor in [*quantizer.parameters(), *quantizer.buffers()]:
        assert tensor.isfinite().all()
        assert tensor.dtype == dtype or not tensor.is_floating_point()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rank", GRIDS)
@pytest.mark.parametrize("name", KINDS)
def test_decode_gives_z_q_to_the_bit_in_any_precision(name, rank, dtype):
    quantizer = build_trained(name, rank, dtype).eval()
    out = quantizer(make_batch(quantizer, rank, dtype))
    decoded = quantizer.decode(out.codes)
    worst = (decoded.double() - out.z_q.double()).abs().max()
    assert torch.equal(decoded.double(), out.z_q.double()), f"differs by up to {worst:.1e}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", KINDS)
def test_decode_gives_the_type_of_z_q(name, dtype):
    """A decoder of that precision takes no other."""
    quantizer = build_trained(name, dtype=dtype).eval()
    out = quantizer(make_batch(quantizer, dtype=dtype))
    assert quantizer.decode(out.codes).dtype == out.z_q.dtype


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_the_search_is_float32_under_autocast(name, training):
    plain = build_trained(name).train(training)
    cast = copy.deepcopy(plain)
    z_e = make_batch(plain)
    expected = plain(z_e)
    with torch.autocast("cpu", torch.bfloat16):
        out = cast(z_e)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    assert out.z_q.dtype == torch.float32
    assert not find_differences(cast.state_dict(), plain.state_dict())


@pytest.mark.parametrize("name", KINDS)
def test_a_bfloat16_z_e_under_autocast_gives_a_float32_z_q(name):
    quantizer = build_trained(name).eval()
    z_e = make_batch(quantizer).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(z_e)
    assert out.z_q.dtype == torch.float32
    assert torch.equal(out.codes, quantizer(z_e.float()).codes)


@pytest.mark.parametrize("name", KINDS)
def test_decode_gives_z_q_to_the_bit_under_autocast(name):
    quantizer = build_trained(name).eval()
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(make_batch(quantizer))
        decoded = quantizer.decode(out.codes)
    assert decoded.dtype == out.z_q.dtype
    assert torch.equal(decoded, out.z_q)


# -- the shape of what goes in --------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_batch_gives_empty_codes_and_moves_nothing(name):
    quantizer = build_trained(name)
    before = copy.deepcopy(quantizer.state_dict())
    z_e = torch.randn(0, quantizer.z_channels, 3, 5, requires_grad=True)
    out = quantizer(z_e)
    (out.z_q.sum() + out.commitment_loss + out.codebook_loss).backward()
    assert out.codes.shape[:3] == (0, 3, 5)
    assert out.codes.dtype == torch.int64
    assert out.z_q.shape == z_e.shape
    assert out.commitment_loss == out.codebook_loss == 0
    assert out.perplexity == 1
    assert not find_differences(before, quantizer.state_dict())
    assert quantizer.decode(out.codes).shape == z_e.shape


@pytest.mark.parametrize("name", KINDS)
def test_any_layout_in_memory_gives_the_same(name):
    quantizer = build_trained(name, rank=2).eval()
    z_e = torch.randn(3, quantizer.z_channels, 4, 5)
    laid_out = z_e.to(memory_format=torch.channels_last)
    torch.testing.assert_close(quantizer(laid_out), quantizer(z_e), rtol=0, atol=0)
    view = torch.randn(4, 3, 5, quantizer.z_channels).permute(1, 3, 0, 2)
    expected = quantizer(view.contiguous())
    torch.testing.assert_close(quantizer(view), expected, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 5), (5,), (2, 4, 5), (2, 4, 3, 5)])
def test_a_z_e_of_another_shape_is_refused_with_what_is_expected(shape):
    quantizer = VectorQuantizer(codebook_size=5, code_dim=5, z_channels=3)
    with pytest.raises(ValueError, match="z_e must be") as raised:
        quantizer(torch.randn(shape))
    expected = f"z_e must be [batch, z_channels=3, *grid], got {list(shape)}"
    assert str(raised.value) == expected


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("name", KINDS)
def test_a_z_e_that_is_no_float_is_refused(name, dtype):
    quantizer = build_trained(name)
    with pytest.raises(ValueError, match=f"z_e must have a floating-point dtype, got {dtype}"):
        quantizer(torch.zeros(2, quantizer.z_channels, 5, dtype=dtype))


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(2, 3, 5),
        torch.ones(2, 3, 5, dtype=torch.int64),
        torch.ones(2, 3, 4, dtype=torch.bool),
        torch.ones(2, 15, dtype=torch.bool),
        torch.ones(1, 3, 5, dtype=torch.bool),
        torch.ones(2, 1, 3, 5, dtype=torch.bool),
    ],
)
@pytest.mark.parametrize("name", KINDS)
def test_a_mask_of_another_shape_or_type_is_refused_with_what_is_expected(name, mask):
    quantizer = build_trained(name)
    with pytest.raises(ValueError, match="mask must be") as raised:
        quantizer(torch.zeros(2, quantizer.z_channels, 3, 5), mask)
    given = f"{mask.dtype} {list(mask.shape)}"
    assert str(raised.value) == f"mask must be bool [2, 3, 5], got {given}"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", KINDS)
def test_nan_and_infinity_are_refused_with_their_number_and_first_place(name, value, training):
    quantizer = build_trained(name).train(training)
    before = copy.deepcopy(quantizer.state_dict())
    z_e = torch.zeros(2, quantizer.z_channels, 3, 5)
    z_e[1, 2, 0, 4] = z_e[1, 2, 1, 3] = value
    with pytest.raises(NotFiniteError, match="z_e holds") as raised:
        quantizer(z_e)
    assert str(raised.value) == (
        "z_e holds 2 values that are NaN or infinite, "
        "the first at [batch, channel, *grid] = [1, 2, 0, 4]"
    )
    quantizer.update_codebook()
    assert not find_differences(before, quantizer.state_dict()), "it entered the codebook"


def test_infinities_that_cancel_are_refused_and_large_numbers_are_not():
    quantizer = build_trained("ema").eval()
    z_e = torch.zeros(1, 4, 3)
    z_e[0, 0, 0], z_e[0, 3, 2] = math.inf, -math.inf
    with pytest.raises(NotFiniteError, match=r"2 values .* = \[0, 0, 0\]"):
        quantizer(z_e)
    assert quantizer(torch.full((1, 4, 3), 1e38)).codes.shape == (1, 3)


# -- codes and options ----------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 60), (-1, 2), (-3, 99)])
@pytest.mark.parametrize("name", KINDS)
def test_codes_outside_the_codebook_are_refused(name, low, high):
    quantizer = build_trained(name)
    codes = torch.zeros(1, 4, *[quantizer.num_codebooks] * (quantizer.num_codebooks > 1)).long()
    codes[0, 1], codes[0, 2] = low, high
    size = quantizer.codebook_size
    with pytest.raises(ValueError, match=rf"in \[0, {size}\), got values from {low} to {high}"):
        quantizer.decode(codes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
@pytest.mark.parametrize("name", KINDS)
def test_codes_that_are_no_integers_are_refused(name, dtype):
    quantizer = build_trained(name)
    codes = torch.zeros(1, 4, *[quantizer.num_codebooks] * (quantizer.num_codebooks > 1))
    with pytest.raises(ValueError, match=f"codes must be integers, got {dtype}"):
        quantizer.decode(codes.to(dtype))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook_size": 0}, "codebook_size must be at least 1, got 0"),
        ({"code_dim": -2}, "code_dim must be at least 1, got -2"),
        ({"z_channels": 0}, "z_channels must be at least 1, got 0"),
        (
            {"dead_code_threshold": 1.0},
            r"dead_code_threshold must lie in \[0, 1\), got 1.0; 0 disables revival",
        ),
        ({"dead_code_threshold": -0.1}, r"dead_code_threshold must lie in \[0, 1\), got -0.1"),
        (
            {"warmup_steps": 0},
            "warmup_steps must be at least 1, got 0: the codebook is initialized",
        ),
        ({"init": "random"}, "init must be 'data' or 'kmeans', got 'random'"),
    ],
)
@pytest.mark.parametrize("build", BOTH)
def test_impossible_options_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_outside_0_to_1_is_refused(decay):
    with pytest.raises(ValueError, match=rf"ema_decay must lie in \[0, 1\), got {decay}"):
        EMAQuantizer(ema_decay=decay)


def test_automatic_updates_are_off_in_the_block_also_when_it_raises():
    quantizers = EMAQuantizer(**SMALL), VectorQuantizer(**SMALL)
    quantizers[1].auto_update = False
    with pytest.raises(KeyError), manual_updates(*quantizers):
        assert [quantizer.auto_update for quantizer in quantizers] == [False, False]
        raise KeyError
    assert [quantizer.auto_update for quantizer in quantizers] == [True, False]
