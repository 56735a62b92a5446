"""Sound by way of spectra: the encoder `mel`, the decoder `spectral`."""

import math

import pytest
import torch

from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.recipes.speech.spectral import MelEncoder, SpectralDecoder
from vqvideo.testing import check_decoder, check_encoder

SMALL = {"width": 4, "num_blocks": 1}
MONO = {"rank": 1, "channels": 1, "z_channels": 3}
SHAPES = {  # strides and hop: levels that are left, one in several steps, none left
    "two after": (((8,), (2,), (3,)), 8),
    "one after two": (((2,), (4,), (2,)), 8),
    "none after": (((2,), (3,)), 6),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_laws_of_encoders_hold_for_mel(shape):
    strides, hop_length = SHAPES[shape]
    options = {**SMALL, "hop_length": hop_length, "num_mel_bins": 7}
    check_encoder(lambda **told: ENCODERS.build("mel", options, **told), 1, strides, channels=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_laws_of_decoders_hold_for_spectral(shape):
    strides, hop_length = SHAPES[shape]
    options = {**SMALL, "hop_length": hop_length}
    check_decoder(
        lambda **told: DECODERS.build("spectral", options, **told), 1, strides, channels=1
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_context_is_what_gradients_show_and_no_more(shape):
    strides, hop_length = SHAPES[shape]
    down = math.prod(level[0] for level in strides)
    for net, inner in (
        (
            MelEncoder(
                **MONO,
                width=16,
                num_blocks=1,
                strides=strides,
                hop_length=hop_length,
                num_mel_bins=7,
            ),
            down,
        ),
        (
            SpectralDecoder(**MONO, width=16, num_blocks=1, strides=strides, hop_length=hop_length),
            1,
        ),
    ):
        torch.manual_seed(0)
        for parameter in net.double().parameters():  # blocks begin at zero
            parameter.data += 0.1 * torch.randn_like(parameter)
        channels = 3 if inner == 1 else 1
        x = torch.randn(4, channels, 25 * inner, dtype=torch.double, requires_grad=True)
        out = net(x)
        outer, middle = out.shape[2] // 25, 12
        own = out[:, :, middle * outer : (middle + 1) * outer]
        (grad,) = torch.autograd.grad(own.sum(), x)
        seen = torch.nonzero(grad.abs().sum(dim=(0, 1))).flatten() // inner - middle
        (reach,) = net.context
        assert -reach.before <= seen.min() and seen.max() <= reach.after, type(net)
        # A window begins with a zero, and what is left of a hop may lie within the next code.
        assert seen.min() <= 1 - reach.before and seen.max() >= reach.after - 1, type(net)


def test_the_encoder_hears_how_strong_a_sound_is_and_not_where_its_waves_stand():
    torch.manual_seed(0)
    encoder = MelEncoder(**MONO, **SMALL, strides=((20,), (2,)), hop_length=20, sample_rate=8000)
    sound = torch.rand(1, 1, 400) - 0.5
    z_e = encoder(sound)
    assert torch.equal(encoder(-sound), z_e)
    assert not torch.allclose(encoder(sound / 4), z_e, atol=1e-3)


def test_the_decoder_adds_up_frames_of_the_magnitudes_and_phases_that_its_network_gives():
    torch.manual_seed(1)
    decoder = SpectralDecoder(**MONO, **SMALL, strides=((4,),), hop_length=4).double()
    z_q = torch.randn(2, 3, 5, dtype=torch.double)
    level, phase = decoder.layers(z_q).chunk(2, dim=1)
    expected = torch.zeros(2, 4 * 5 + 16 - 4, dtype=torch.double)
    for item in range(2):
        for frame in range(5):
            for n in range(16):
                value = 0.0
                for k in range(9):  # a real wave for each frequency, those within count twice
                    strength = math.exp(min(2 * level[item, k, frame].item() - 2, 5.0))
                    angle = 2 * math.pi * k * n / 16 + phase[item, k, frame].item()
                    value += (1 if k in (0, 8) else 2) * strength * math.cos(angle) / 16
                window = 0.5 - 0.5 * math.cos(2 * math.pi * n / 16)
                expected[item, 4 * frame + n] += window * value / 2
    torch.testing.assert_close(decoder(z_q)[:, 0], expected[:, 6 : 6 + 20])


def test_magnitudes_far_off_are_held_and_stay_finite():
    decoder = SpectralDecoder(**MONO, **SMALL, strides=((4,),), hop_length=4)
    sound = decoder(torch.full((1, 3, 5), 1e4))
    assert sound.isfinite().all()
    assert sound.abs().max() < 4 * math.exp(5) * 9


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16, torch.half])
def test_both_run_in_another_precision(dtype):
    encoder = MelEncoder(**MONO, **SMALL, strides=((8,), (2,)), hop_length=8, num_mel_bins=7).to(
        dtype
    )
    decoder = SpectralDecoder(**MONO, **SMALL, strides=((8,), (2,)), hop_length=8).to(dtype)
    z_e = encoder(torch.rand(2, 1, 64, dtype=dtype))
    assert (z_e.shape, z_e.dtype) == ((2, 3, 4), dtype)
    assert decoder(z_e).shape == (2, 1, 64)


@pytest.mark.parametrize("part", [MelEncoder, SpectralDecoder])
@pytest.mark.parametrize(
    ("strides", "hop_length", "products"),
    [(((8,), (2,)), 4, "8, 16"), (((5,), (2,)), 5, "5, 10"), (((2,), (3,), (2,)), 4, "2, 6, 12")],
)
def test_a_hop_that_the_strides_do_not_come_to_is_refused_with_those_they_do(
    part, strides, hop_length, products
):
    name = {MelEncoder: "encoder 'mel'", SpectralDecoder: "decoder 'spectral'"}[part]
    levels = ", ".join(str(level[0]) for level in strides)
    message = (
        rf"{name} needs an even hop_length .* strides \[{levels}\] these are {products}, got "
        rf"hop_length={hop_length}"
    )
    with pytest.raises(ValueError, match=message):
        part(**MONO, strides=strides, hop_length=hop_length)


def test_what_is_no_mono_audio_is_refused():
    picture = {"rank": 2, "channels": 1, "z_channels": 3, "strides": ((2, 2),)}
    with pytest.raises(ValueError, match=r"encoder 'mel' is for audio \(rank 1\), not for rank 2"):
        MelEncoder(**picture)
    with pytest.raises(ValueError, match=r"decoder 'spectral' is for audio .* not for rank 2"):
        SpectralDecoder(**picture)
    stereo = {**MONO, "channels": 2, "strides": ((8,),), "hop_length": 8}
    with pytest.raises(ValueError, match="for mono audio, 1 channel, not 2"):
        MelEncoder(**stereo)
    with pytest.raises(ValueError, match="one parameter per sample, but this likelihood needs 2;"):
        SpectralDecoder(**stereo)
