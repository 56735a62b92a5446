"""Encoders and decoders of every rank: shapes, mirror images, and who depends on what."""

import pytest
import torch

from vqvideo.grid import compute_downsampling
from vqvideo.nets.autoencoder import DECODERS, ENCODERS
from vqvideo.streaming import CausalModule, StreamingState
from vqvideo.testing import check_decoder, check_encoder

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
    for parameter in part.parameters():  # through blocks that begin at zero nothing would be seen
        parameter.data += 0.1 * torch.randn_like(parameter)
    return part.double()


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_each_axis_is_divided_by_its_own_downsampling(name, rank):
    encoder = build(ENCODERS, name, rank, channels=3)
    down = compute_downsampling(STRIDES[rank])
    z_e = encoder(torch.randn(2, 3, *AXES[rank], dtype=torch.double))
    assert encoder.downsampling == down
    assert encoder.rank == rank
    assert z_e.shape == (2, 5, *(a // d for a, d in zip(AXES[rank], down, strict=True)))


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_a_decoder_gives_back_the_shape_of_the_data(name, rank):
    down = compute_downsampling(STRIDES[rank])
    grid = [a // d for a, d in zip(AXES[rank], down, strict=True)]
    decoder = build(DECODERS, name, rank, channels=4)
    z_q = torch.randn(2, 5, *grid, dtype=torch.double)
    assert decoder(z_q).shape == (2, 4, *AXES[rank])


@pytest.mark.parametrize("rank", [1, 3])
def test_patchify_codes_depend_on_no_later_frame(rank):
    encoder = build(ENCODERS, "patchify", rank, channels=3)
    down = compute_downsampling(STRIDES[rank])[0]
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
    down = compute_downsampling(STRIDES[rank])
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


LAWFUL = {
    "conv": [{"width": 4, "num_blocks": 1}, {"width": 4, "num_blocks": 2, "causal": True}],
    "patchify": [SMALL["patchify"], {"widths": (6, 8), "num_blocks": (0, 2)}],
}


def test_every_registered_decoder_and_encoder_is_under_test():
    ours = [
        set(registry.list_names())
        - {plugin.name for plugin in registry.list_plugins() if plugin.status != "shadowed"}
        for registry in (DECODERS, ENCODERS)
    ]
    assert ours == [{*LAWFUL, "spectral"}, {*LAWFUL, "mel", "timm"}]  # see test_spectral.py


@pytest.mark.slow
@pytest.mark.parametrize("rank", AXES)
@pytest.mark.parametrize(("name", "options"), [(n, o) for n in LAWFUL for o in LAWFUL[n]])
def test_the_laws_of_encoders_and_decoders_hold(name, options, rank):
    check_encoder(lambda **shared: ENCODERS.build(name, options, **shared), rank)
    check_decoder(lambda **shared: DECODERS.build(name, options, **shared), rank)
    odd = {1: ((3,), (1,), (5,)), 2: ((3, 1), (2, 5)), 3: ((3, 2, 1), (1, 3, 2))}[rank]
    if name == "conv":
        check_encoder(lambda **shared: ENCODERS.build(name, options, **shared), rank, odd)
        check_decoder(lambda **shared: DECODERS.build(name, options, **shared), rank, odd)


@pytest.mark.slow
@pytest.mark.parametrize("num_blocks", [0, 2])
@pytest.mark.parametrize("model", ["test_convnext", "test_resnet", "test_mambaout"])
def test_the_laws_hold_for_a_backbone_applied_to_each_frame(model, num_blocks):
    def build(**shared):
        options = {"model": model, "width": 6, "num_blocks": num_blocks}
        return ENCODERS.build("timm", options, **shared)

    check_encoder(build, 3, ((2, 4, 4),))
    check_encoder(build, 2, ((4, 4),))
    assert build(rank=3, channels=3, z_channels=2, strides=((1, 4, 4),)).is_causal


@pytest.mark.parametrize("name", LAWFUL)
@pytest.mark.parametrize("rank", AXES)
def test_a_context_ends_where_nothing_is_seen(name, rank):
    """No further than what gradients show, and everything that they show lies within."""
    for registry in (ENCODERS, DECODERS):
        net = build(registry, name, rank, channels=3)
        down = compute_downsampling(STRIDES[rank])
        inner = (1,) * rank if registry is DECODERS else down
        grid = (13, 11, 9)[:rank]
        sizes = [n * i for n, i in zip(grid, inner, strict=True)]
        x = torch.randn(
            1, 5 if registry is DECODERS else 3, *sizes, dtype=torch.double, requires_grad=True
        )
        out = net(x)
        outer = [o // n for o, n in zip(out.shape[2:], grid, strict=True)]
        middle = [n // 2 for n in grid]
        for axis in range(1 if net.is_causal else 0, rank):
            own = out.movedim(2 + axis, 0)
            start = middle[axis] * outer[axis]
            (grad,) = torch.autograd.grad(
                own[start : start + outer[axis]].sum(), x, retain_graph=True
            )
            seen = grad.movedim(2 + axis, 0).flatten(1).abs().sum(dim=1) > 0
            codes = torch.nonzero(seen).flatten() // inner[axis] - middle[axis]
            context = net.context[axis]
            assert (-context.before, context.after) == (codes.min(), codes.max()), (axis, registry)


def test_a_layer_without_state_sees_zeros_before_the_first_step():
    class Last(CausalModule):
        def forward(self, x, past=None):
            return self.prepend_context(x, 2, past)

    x = torch.arange(6.0).view(1, 1, 3, 2)
    assert Last()(x).flatten().tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_patchify_is_initialized_as_a_linear_map_that_keeps_its_directions_apart(rank):
    strides = ((2, 3, 2)[:rank], (1, 2, 2)[:rank])
    torch.manual_seed(0)
    options = {"rank": rank, "strides": strides, "widths": (40, 60), "num_blocks": (1, 2)}
    encoder = ENCODERS.get("patchify")(channels=2, z_channels=6, **options).double()
    decoder = DECODERS.get("patchify")(channels=2, z_channels=6, **options).double()
    axes = (4, 12, 8)[:rank]
    for network, channels, grid in (
        (encoder, 2, axes),
        (decoder, 6, tuple(n // d for n, d in zip(axes, encoder.downsampling, strict=True))),
    ):
        a, b = torch.randn(2, 1, channels, *grid, dtype=torch.float64)
        out = network(torch.cat([a, b, 2 * a - 3 * b, torch.zeros_like(a)]))
        torch.testing.assert_close(out[2], 2 * out[0] - 3 * out[1])
        assert (out[3] == 0).all()
    z_q = torch.randn(1, 6, *(1,) * rank, dtype=torch.float64)
    assert decoder(z_q).norm() > 0.1 * z_q.norm()
    usual = ENCODERS.get("patchify")(
        channels=2, z_channels=6, linear_init=False, **options
    ).double()
    a = torch.randn(1, 2, *axes, dtype=torch.float64)
    out = usual(torch.cat([a, 2 * a]))
    assert not torch.allclose(out[1], 2 * out[0], rtol=1e-2)


def test_a_new_state_is_not_the_absence_of_a_state():
    assert StreamingState()
