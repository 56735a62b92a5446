"""The first stage: eq. 3 recomputed, codes, errors."""

import pytest
import torch

from vqvideo.config import GeneratorConfig, PartConfig, build_generator
from vqvideo.vqvae import VQVAE

AXES = {1: (24,), 2: (8, 12), 3: (4, 8, 12)}
STRIDES = {1: ((2,), (2,)), 2: ((2, 2), (2, 1)), 3: ((2, 2, 2), (1, 2, 1))}


def make_small_config(rank, quantizer="ema", nets="patchify"):
    options = (
        {"widths": (6, 8), "num_blocks": (1, 1)}
        if nets == "patchify"
        else {"width": 8, "num_blocks": 1}
    )
    return GeneratorConfig(
        channels=3,
        strides=STRIDES[rank],
        sample_shape=AXES[rank],
        rate=8.0,
        encoder=PartConfig(nets, options),
        quantizer=PartConfig(quantizer, {"codebook_size": 11, "code_dim": 4}),
        decoder=PartConfig(nets, options),
        likelihood=PartConfig("gaussian"),
        prior=PartConfig(
            {1: "wavenet", 2: "pixelcnn", 3: "masked3d"}[rank], {"width": 8, "num_layers": 2}
        ),
    )


def build_small_vqvae(rank, **options) -> VQVAE:
    torch.manual_seed(rank)
    vqvae = build_generator(make_small_config(rank, **options)).vqvae
    for parameter in vqvae.parameters():  # blocks begin at zero
        parameter.data += 0.1 * torch.randn_like(parameter)
    vqvae.train().loss(make_data(rank))
    return vqvae


def make_data(rank, batch=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, *AXES[rank], generator=draw) * 2 - 1


@pytest.mark.parametrize("rank", AXES)
@pytest.mark.parametrize("quantizer", ["ema", "vector"])
def test_the_loss_is_equation_3(rank, quantizer):
    vqvae, x = build_small_vqvae(rank, quantizer=quantizer).eval(), make_data(rank, seed=1)
    with torch.no_grad():
        loss = vqvae.loss(x)
        z_e = vqvae.encoder(x)
        entries = vqvae.quantizer.codebook
        distance = ((z_e.movedim(1, -1)[..., None, :] - entries) ** 2).sum(dim=-1)
        z_q = entries[distance.argmin(dim=-1)].movedim(-1, 1)
        variance = vqvae.likelihood.variance
        error = (vqvae.decoder(z_q) - x) ** 2
        nats = (error / variance + torch.log(2 * torch.pi * variance)) / 2
        commitment = ((z_e - z_q) ** 2).mean()
        expected = nats.mean() + 0.25 * commitment + (commitment if quantizer == "vector" else 0)
    torch.testing.assert_close(loss.total, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        loss.reconstruction_nats, nats.flatten(1).sum(dim=1).mean(), rtol=1e-4, atol=1e-2
    )


@pytest.mark.parametrize("rank", AXES)
@pytest.mark.parametrize("nets", ["conv", "patchify"])
def test_encode_gives_the_grid_and_decode_the_data_back(rank, nets):
    vqvae, x = build_small_vqvae(rank, nets=nets), make_data(rank)
    codes = vqvae.encode(x)
    assert codes.shape == (2, *vqvae.compute_grid_shape(AXES[rank]))
    assert vqvae.decode(codes).shape == x.shape
    assert vqvae.decode(codes).abs().max() <= 1


@pytest.mark.parametrize("rank", AXES)
def test_the_gradient_of_the_reconstruction_reaches_the_encoder(rank):
    vqvae = build_small_vqvae(rank)
    vqvae.zero_grad()
    vqvae.loss(make_data(rank, seed=2)).reconstruction_nats.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vqvae.encoder.parameters())


def test_encoding_in_training_mode_moves_no_codebook_and_keeps_the_mode():
    vqvae = build_small_vqvae(3).train()
    before = {name: value.clone() for name, value in vqvae.state_dict().items()}
    vqvae.encode(make_data(3) * 0.5)
    torch.testing.assert_close(vqvae.state_dict(), before, rtol=0, atol=0)
    assert all(part.training for part in vqvae.modules())


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    vqvae, x = (
        build_small_vqvae(2),
        make_data(2, batch=8)[:, :, :1, :1].expand(-1, -1, *AXES[2]).contiguous(),
    )
    optimizer = torch.optim.Adam(vqvae.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = vqvae.loss(x).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2


def test_the_variance_is_the_mean_over_a_hundred_training_batches_and_then_stays():
    vqvae = build_small_vqvae(1)
    first, black = make_data(1).var(correction=0), torch.full((2, 3, *AXES[1]), -1.0)
    torch.testing.assert_close(vqvae.likelihood.variance, first)
    vqvae.likelihood.observe(black)  # an even batch counts as nearly nothing, not as all
    torch.testing.assert_close(vqvae.likelihood.variance, (first + 1e-4) / 2)
    for _ in range(98):
        vqvae.likelihood.observe(make_data(1))
    before = vqvae.likelihood.variance.clone()
    torch.testing.assert_close(before, (first * 99 + 1e-4) / 100)
    vqvae.likelihood.observe(make_data(1) * 0.1)
    assert torch.equal(vqvae.likelihood.variance, before)


def test_data_of_another_kind_is_refused_in_words():
    vqvae = build_small_vqvae(2)
    for x in (torch.zeros(1, 3, 8, 12, dtype=torch.uint8), torch.zeros(1, 1, 8, 12)):
        with pytest.raises(ValueError, match=r"floats in \[-1, 1\] with 3 channels, got torch"):
            vqvae.encode(x)


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16])
def test_a_model_in_another_precision_encodes_and_decodes(dtype):
    vqvae = build_small_vqvae(2).to(dtype)
    codes = vqvae.encode(make_data(2).to(dtype))
    assert vqvae.decode(codes).shape == make_data(2).shape
    assert (codes == build_small_vqvae(2).encode(make_data(2))).float().mean() > 0.8


def test_the_fingerprint_changes_with_what_decides_the_codes_only():
    vqvae = build_small_vqvae(2)
    before = vqvae.fingerprint()
    with torch.no_grad():
        next(vqvae.decoder.parameters()).add_(1)
    assert vqvae.fingerprint() == before
    with torch.no_grad():
        next(vqvae.encoder.parameters()).add_(1e-3)
    assert vqvae.fingerprint() != before


def test_an_axis_that_does_not_divide_says_which_sizes_work():
    with pytest.raises(
        ValueError, match=r"height 10 is not divisible .* 4; crop or pad it to 8 or 12"
    ):
        build_small_vqvae(2).encode(torch.zeros(1, 3, 10, 12))


def test_too_few_axes_are_refused():
    with pytest.raises(ValueError, match=r"\*axes\] with 3 axes, got \[3, 4, 8, 12\]"):
        build_small_vqvae(3).encode(torch.zeros(3, 4, 8, 12))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_named_with_its_place(bad):
    x = make_data(3)
    x[1, 2, 3, 4, 5] = bad
    with pytest.raises(ValueError, match=r"\[1, 2, 3, 4, 5\]"):
        build_small_vqvae(3).encode(x)
