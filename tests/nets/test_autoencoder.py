"""Encoders and decoders of every rank: shapes, mirror images, and who depends on what."""

import pytest
import torch

from vqvideo.grid import downsampling
from vqvideo.nets.autoencoder import DECODERS, ENCODERS

AXES = {1: (24,), 2: (8, 12), 3: (4, 8, 12)}
STRIDES = {1: ((2,), (3,)), 2: ((2, 1), (2, 4)), 3: ((1, 2, 2), (2, 2, 3))}
SMALL = {
    "conv": {"width": 8, "num_blocks": 1},
    "patchify": {"widths": (6, 8), "num_blocks": (1, 1)},
}
CASES = [(name, rank) for name in SMALL for rank in AXES]


def build(registry, name, rank, channels):
    torch.manual_seed(rank)
    part = registry.build(
        name, SMALL[name], rank=rank, channels=channels, z_channels=5, strides=STRIDES[rank]
    )
    return part.double()


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_each_axis_is_divided_by_its_own_downsampling(name, rank):
    encoder = build(ENCODERS, name, rank, channels=3)
    down = downsampling(STRIDES[rank])
    z_e = encoder(torch.randn(2, 3, *AXES[rank], dtype=torch.double))
    assert encoder.downsampling == down
    assert encoder.rank == rank
    assert z_e.shape == (2, 5, *(a // d for a, d in zip(AXES[rank], down, strict=True)))


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_a_decoder_gives_back_the_shape_of_the_data(name, rank):
    down = downsampling(STRIDES[rank])
    grid = [a // d for a, d in zip(AXES[rank], down, strict=True)]
    decoder = build(DECODERS, name, rank, channels=4)
    z_q = torch.randn(2, 5, *grid, dtype=torch.double)
    assert decoder(z_q).shape == (2, 4, *AXES[rank])


@pytest.mark.parametrize("rank", [1, 3])
def test_patchify_codes_depend_on_no_later_frame(rank):
    encoder = build(ENCODERS, "patchify", rank, channels=3)
    down = downsampling(STRIDES[rank])[0]
    x = torch.randn(1, 3, *AXES[rank], dtype=torch.double, requires_grad=True)
    z_e = encoder(x)
    for code in range(z_e.shape[2]):
        (grad,) = torch.autograd.grad(z_e[:, :, code].sum(), x, retain_graph=True)
        seen = grad[0].transpose(0, 1).flatten(1).abs().sum(dim=1) > 0
        own = slice(code * down, (code + 1) * down)
        assert not seen[(code + 1) * down :].any(), f"code {code} looks ahead"
        assert seen[own].all(), f"code {code} misses a frame of its own"


@pytest.mark.parametrize("rank", [1, 3])
def test_patchify_frames_depend_on_no_later_code(rank):
    decoder = build(DECODERS, "patchify", rank, channels=3)
    down = downsampling(STRIDES[rank])
    grid = [a // d for a, d in zip(AXES[rank], down, strict=True)]
    z_q = torch.randn(1, 5, *grid, dtype=torch.double, requires_grad=True)
    x = decoder(z_q)
    for frame in range(x.shape[2]):
        (grad,) = torch.autograd.grad(x[:, :, frame].sum(), z_q, retain_graph=True)
        seen = grad[0].transpose(0, 1).flatten(1).abs().sum(dim=1) > 0
        assert seen[frame // down[0]], f"frame {frame} misses its own code"
        assert not seen[frame // down[0] + 1 :].any(), f"frame {frame} looks ahead"


def test_levels_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="one entry per level each, got 2, 3 and 1"):
        ENCODERS.build(
            "patchify",
            {"widths": (4, 4, 4), "num_blocks": (1,)},
            rank=1,
            channels=1,
            z_channels=2,
            strides=((2,), (2,)),
        )


def test_a_stride_for_each_axis_is_required():
    with pytest.raises(ValueError, match=r"must hold 2 integers >= 1 .*height, width.*got \(2,\)"):
        ENCODERS.build("conv", rank=2, channels=1, z_channels=2, strides=((2,),))
