"""Quantizers side by side against their parts; what composites take, and what they refuse."""

import copy
import re

import numpy as np
import pytest
import torch

from vqvideo.quantizers import (
    QUANTIZERS,
    EMAQuantizer,
    FiniteScalarQuantizer,
    ProductQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)
from vqvideo.testing.grids import GRIDS, find_differences


def train(quantizer, rank=1, steps=5):
    torch.manual_seed(rank)
    for _ in range(steps):
        quantizer.train()(torch.randn(4, quantizer.z_channels, *GRIDS[rank]))
    return quantizer


def build_stages(build, number, **options):
    return [build(**{"codebook_size": 6, "code_dim": 3, **options}) for _ in range(number)]


def to_rows(z_e):
    return np.moveaxis(z_e.detach().double().numpy(), 1, -1).reshape(-1, z_e.shape[1])


# -- product --------------------------------------------------------------------------------


def build_unequal_parts():
    return [
        EMAQuantizer(codebook_size=12, code_dim=2),
        VectorQuantizer(codebook_size=12, code_dim=3, cosine=True),
        FiniteScalarQuantizer(levels=(3, 4)),
        VectorQuantizer(codebook_size=12, code_dim=2, z_channels=4),
    ]


@pytest.mark.parametrize("rank", GRIDS)
def test_a_product_is_its_parts_each_on_its_own_channels(rank):
    torch.manual_seed(0)
    quantizer = ProductQuantizer(build_unequal_parts()).train()
    alone = copy.deepcopy(list(quantizer.parts))
    widths = [2, 3, 2, 4]
    assert quantizer.z_channels == sum(widths)
    for _ in range(3):
        z_e = torch.randn(3, 11, *GRIDS[rank])
        mask = torch.rand(3, *GRIDS[rank]) < 0.7
        out = quantizer(z_e, mask)
        each = [part(x, mask) for part, x in zip(alone, z_e.split(widths, dim=1), strict=True)]
        assert torch.equal(out.codes, torch.stack([e.codes for e in each], dim=-1))
        assert torch.equal(out.z_q, torch.cat([e.z_q for e in each], dim=1))
        for loss in ("commitment_loss", "codebook_loss"):
            by_width = sum(w * getattr(e, loss) for w, e in zip(widths, each, strict=True)) / 11
            torch.testing.assert_close(getattr(out, loss), by_width)
        torch.testing.assert_close(out.perplexity, sum(e.perplexity for e in each) / 4)
    for part, other in zip(quantizer.parts, alone, strict=True):
        assert not find_differences(part.state_dict(), other.state_dict())
    assert torch.equal(quantizer.eval().decode(out.codes)[:, 5:7], alone[2].decode(each[2].codes))


def test_the_losses_of_a_product_of_plain_parts_are_the_mean_over_all_channels():
    parts = [VectorQuantizer(codebook_size=6, code_dim=width) for width in (1, 5)]
    quantizer = train(ProductQuantizer(parts))
    z_e = torch.randn(2, 6, 9, requires_grad=True)
    out = quantizer(z_e)
    expected = np.square(to_rows(z_e) - to_rows(out.z_q)).mean()
    assert out.commitment_loss.item() == pytest.approx(expected, rel=1e-5)
    assert out.codebook_loss.item() == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(out.commitment_loss, z_e)
    torch.testing.assert_close(gradient, 2 * (z_e - out.z_q).detach() / z_e.numel())


@pytest.mark.parametrize("kind", [ProductQuantizer, ResidualQuantizer])
def test_one_part_alone_gives_codes_without_a_last_axis(kind):
    alone = VectorQuantizer(codebook_size=6, code_dim=3)
    quantizer = train(kind([copy.deepcopy(alone)]))
    alone = train(alone)
    z_e = torch.randn(2, 3, 4, 5)
    one, other = quantizer(z_e), alone(z_e)
    torch.testing.assert_close(one, other)
    assert one.codes.shape == (2, 4, 5)
    assert torch.equal(quantizer.decode(one.codes), one.z_q)


# -- what is refused, and building by name --------------------------------------------------


@pytest.mark.parametrize("kind", [ProductQuantizer, ResidualQuantizer])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "parts must be one or more quantizers with one codebook each"),
        (
            [ProductQuantizer(build_stages(EMAQuantizer, 2))],
            "parts must be one or more quantizers with one codebook each",
        ),
        (
            [*build_stages(EMAQuantizer, 1), *build_stages(EMAQuantizer, 1, codebook_size=9)],
            "all parts must have the same codebook_size, got [6, 9]",
        ),
    ],
)
def test_parts_that_no_prior_could_model_are_refused(kind, parts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(parts)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (EMAQuantizer(codebook_size=6, code_dim=3, cosine=True), "without cosine"),
        (VectorQuantizer(codebook_size=6, code_dim=2, z_channels=3), "without a projection"),
        (FiniteScalarQuantizer(levels=(2, 3)), "must return the unchanged nearest entry"),
        (EMAQuantizer(codebook_size=6, code_dim=4), "same z_channels, got [3, 4]"),
    ],
)
def test_parts_that_leave_no_rest_are_refused(part, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ResidualQuantizer([*build_stages(EMAQuantizer, 1), part])


@pytest.mark.parametrize("name", ["product", "residual"])
def test_codes_with_another_last_axis_are_refused(name):
    quantizer = QUANTIZERS.build(name, {"num_codebooks": 3})
    message = re.escape("codes must be [batch, *grid, 3], got [1, 4, 2]")
    with pytest.raises(ValueError, match=message):
        quantizer.decode(torch.zeros(1, 4, 2, dtype=torch.int64))


@pytest.mark.parametrize("name", ["product", "residual"])
def test_parts_are_built_by_name_and_options_ema_where_no_name_is_given(name):
    by_default = QUANTIZERS.build(name)
    assert [type(part) for part in by_default.parts] == [EMAQuantizer] * 2
    options = {"num_codebooks": 3, "part": {"codebook_size": 8, "code_dim": 2}}
    unnamed = QUANTIZERS.build(name, options)
    assert [(type(p), p.codebook_size) for p in unnamed.parts] == [(EMAQuantizer, 8)] * 3
    assert options["part"] == {"codebook_size": 8, "code_dim": 2}, "the mapping was changed"
    named = QUANTIZERS.build(name, {"part": {"name": "vector", "code_dim": 5}})
    assert [(type(p), p.code_dim) for p in named.parts] == [(VectorQuantizer, 5)] * 2
    assert named.parts[0] is not named.parts[1]


@pytest.mark.parametrize("name", ["product", "residual"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": {"code_dims": 3}}, "quantizer 'ema' has no option 'code_dims'; did you mean"),
        ({"part": {"name": "vector", "ema_decay": 0.9}}, "'vector' has no option 'ema_decay'"),
        ({"part": {"name": "vectr"}}, "unknown quantizer 'vectr'; did you mean 'vector'?"),
        ({"parts": 3}, "has no option 'parts'; did you mean 'part'?"),
        ({"num_codebooks": 0}, "num_codebooks must be at least 1, got 0"),
        ({"num_codebooks": -1}, "num_codebooks must be at least 1, got -1"),
    ],
)
def test_wrong_options_of_a_composite_or_its_parts_are_named(name, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        QUANTIZERS.build(name, options)
