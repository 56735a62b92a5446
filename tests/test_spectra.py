"""Spectra of sound, beside those of torch, and how far two sounds are apart in them."""

import math

import pytest
import torch

from vqvideo.recipes.speech.mel import MelLikelihood
from vqvideo.spectra import (
    STFT_RESOLUTIONS,
    log_mel,
    mel_distance,
    mel_filterbank,
    render_spectrogram,
    stft_magnitude,
)

RATE = 16000


def make_noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def make_tone(hertz: float, length: int) -> torch.Tensor:
    return torch.sin(torch.arange(length) * (2 * math.pi * hertz / RATE))[None]


# -- magnitudes -----------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "hop_length"), [(16, 4), (64, 16), (20, 6)])
def test_magnitudes_are_those_of_torch_within(window, hop_length):
    """Torch centres its frames on one sample; ours are centred on a hop, half a hop later."""
    x = make_noise(2, 12 * hop_length)
    found = stft_magnitude(x, window, hop_length)
    assert found.shape == (2, window // 2 + 1, 12)
    shifted = torch.nn.functional.pad(x, (window, window))
    start = window - (window - hop_length) // 2  # where the first of ours begins
    each = torch.stft(
        shifted[:, start:],
        window,
        hop_length,
        window=torch.hann_window(window),
        center=False,
        return_complex=True,
    )
    within = slice(3, 9)
    torch.testing.assert_close(found[..., within], each.abs()[..., within], atol=1e-5, rtol=1e-5)


def test_audio_is_padded_with_zeros():
    x = make_noise(1, 32)
    longer = torch.nn.functional.pad(x, (16, 16))
    torch.testing.assert_close(stft_magnitude(longer, 16, 4)[..., 4:12], stft_magnitude(x, 16, 4))


def test_magnitudes_are_the_sums_of_their_definition():
    x, window, hop_length = make_noise(1, 12), 8, 2
    found = stft_magnitude(x, window, hop_length)
    for frame in range(6):
        for k in range(5):
            total = 0j
            for n in range(window):
                place = frame * hop_length - (window - hop_length) // 2 + n
                value = x[0, place].item() if 0 <= place < 12 else 0.0
                angle = -2 * math.pi * k * n / window
                hann = 0.5 - 0.5 * math.cos(2 * math.pi * n / window)
                total += hann * value * complex(math.cos(angle), math.sin(angle))
            assert found[0, k, frame].item() == pytest.approx(abs(total), abs=1e-5)


# -- mel bands ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "num_mel_bins"), [*STFT_RESOLUTIONS, (640, 80), (256, 80), (32, 7)]
)
@pytest.mark.parametrize("rate", [RATE, 22050, 8])
def test_every_band_has_weight_one_and_hears_something(window, num_mel_bins, rate):
    filters = mel_filterbank(window, num_mel_bins, rate)
    assert filters.shape == (num_mel_bins, window // 2 + 1)
    assert (filters >= 0).all()
    torch.testing.assert_close(filters.sum(dim=1), torch.ones(num_mel_bins))


def test_bands_lie_evenly_on_the_mel_scale():
    filters = mel_filterbank(4096, 20, RATE)
    frequencies = torch.linspace(0, RATE / 2, 2049)
    peaks = frequencies[filters.argmax(dim=1)]
    mels = 2595 * torch.log10(1 + peaks / 700)
    expected = 2595 * math.log10(1 + 8000 / 700) / 21 * torch.arange(1.0, 21)
    torch.testing.assert_close(mels, expected, atol=4.0, rtol=0)


def test_a_tone_is_strongest_in_the_band_it_lies_in():
    for hertz in (250, 1000, 5000):
        bands = log_mel(make_tone(hertz, 8000), 512, 128, 40, RATE)
        strongest = bands[0, :, 10:50].mean(dim=1).argmax()
        nearest = mel_filterbank(512, 40, RATE)[:, round(hertz / RATE * 512)].argmax()
        assert abs(strongest - nearest) <= 1, hertz


def test_silence_is_at_the_floor():
    bands = log_mel(torch.zeros(1, 512), 128, 32, 20, RATE)
    torch.testing.assert_close(bands, torch.full_like(bands, math.log(1e-3)))


def test_bands_that_were_first_asked_for_while_drawing_can_still_be_trained_through():
    with torch.inference_mode():
        log_mel(make_noise(1, 96), 24, 6, 5, 12345)  # sizes that nobody else has asked for
    x = make_noise(1, 96).requires_grad_()
    log_mel(x, 24, 6, 5, 12345).sum().backward()
    assert x.grad.abs().sum() > 0


def test_bands_are_not_rounded_under_autocast():
    x = make_noise(2, 512)
    exact = log_mel(x, 128, 32, 20, RATE)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(log_mel(x, 128, 32, 20, RATE), exact)


# -- how far two sounds are apart -----------------------------------------------------------


def test_audio_is_at_no_distance_from_itself_nor_from_its_negative():
    x = make_noise(3, 4001)
    assert torch.equal(mel_distance(x, x, RATE), torch.zeros(3))
    assert torch.equal(mel_distance(x, -x, RATE), torch.zeros(3))


def test_the_distance_is_the_same_from_either_side_and_each_item_has_its_own():
    x, y = make_noise(3, 3000), torch.stack([make_noise(3000, seed=i) / i for i in (1, 2, 5)])
    apart = mel_distance(x, y, RATE)
    assert torch.equal(apart, mel_distance(y, x, RATE))
    assert apart[0] < apart[1] < apart[2]
    torch.testing.assert_close(mel_distance(x[1:2], y[1:2], RATE), apart[1:2])


def test_loud_audio_that_is_doubled_is_as_far_off_as_the_logarithm_of_two():
    x = make_noise(2, 16000) / 2
    torch.testing.assert_close(
        mel_distance(x, 2 * x, RATE), torch.full((2,), math.log(2)), atol=0.01, rtol=0
    )
    quiet = mel_distance(x * 1e-6, 2e-6 * x, RATE)
    assert (quiet < 0.1).all()  # what can hardly be heard counts for little


def test_the_distance_is_the_mean_over_windows_of_the_mean_over_bands_and_times():
    x, y = make_noise(1, 3001), make_noise(1, 3001, seed=1) / 3
    total = 0.0
    for window, num_mel_bins in STFT_RESOLUTIONS:
        hop_length = window // 4
        filled = -(-3001 // hop_length) * hop_length - 3001
        each = [torch.cat([s, torch.zeros(1, filled)], dim=1) for s in (x, y)]
        ours, theirs = (log_mel(s, window, hop_length, num_mel_bins, RATE) for s in each)
        total += (ours - theirs).abs().sum().item() / ours.numel() / len(STFT_RESOLUTIONS)
    assert mel_distance(x, y, RATE).item() == pytest.approx(total, rel=1e-5)


def test_a_tone_of_another_pitch_is_further_off_than_one_of_another_phase():
    x = make_tone(440, 8000)
    later = torch.sin(torch.arange(8000) * (2 * math.pi * 440 / RATE) + 1.3)[None]
    assert mel_distance(x, later, RATE) < mel_distance(x, make_tone(880, 8000), RATE) / 5


def test_the_likelihood_is_minus_the_distance_for_each_sample():
    x, y = make_noise(2, 2, 900), make_noise(2, 2, 900, seed=1) / 4
    found = MelLikelihood(rank=1, sample_rate=8000).log_prob(y, x)
    for item in range(2):
        each = [mel_distance(y[item, c][None], x[item, c][None], 8000).item() for c in range(2)]
        assert found[item].item() == pytest.approx(-sum(each) / 2 * 2 * 900, rel=1e-5)


def test_what_the_likelihood_is_not_for_is_refused():
    with pytest.raises(ValueError, match=r"likelihood 'mel' requires audio \(rank 1\), got ran"):
        MelLikelihood(rank=3)
    likelihood = MelLikelihood(rank=1)
    message = r"'mel' is not a distribution, so it cannot be sampled; use its mode \(temperat"
    with pytest.raises(ValueError, match=message):
        likelihood.sample(make_noise(1, 1, 400))
    with pytest.raises(ValueError, match=message):
        list(likelihood.sample_stream([make_noise(1, 1, 400)], temperature=0.5))
    with pytest.raises(ValueError, match=r"this likelihood is not discrete \(num_values is None\)"):
        likelihood.to_levels(make_noise(1, 1, 400))


# -- pictures -------------------------------------------------------------------------------


def test_a_spectrogram_is_dark_where_and_when_audio_is_strong():
    loud = torch.cat([torch.zeros(1, 8000), make_tone(300, 8000)], dim=1)
    picture = render_spectrogram(loud, RATE)
    assert picture.shape == (1, 3, 160, 200)
    assert picture.abs().max() <= 1
    assert (picture[..., :80] > 0.99).all()  # silence is white
    assert torch.equal(picture[:, 0], picture[:, 2])  # gray
    while_it_sounds = picture[0, 0, :, 120:180].mean(dim=1)
    assert while_it_sounds[140:].min() < -0.5 and while_it_sounds[:80].min() > 0.3  # low is below
    assert (render_spectrogram(loud / 8, RATE) >= picture).all()


def test_low_is_at_the_bottom_of_a_spectrogram():
    darkest = [
        render_spectrogram(make_tone(hertz, 3210), RATE)[0, 0].mean(dim=1).argmin().item()
        for hertz in (200, 800, 3200)
    ]
    assert darkest[0] > darkest[1] > darkest[2]


def test_a_spectrogram_has_two_hundred_pixels_a_second_and_the_last_may_be_begun():
    assert render_spectrogram(make_noise(3, 1601), RATE).shape == (3, 3, 160, 22)
    assert render_spectrogram(make_noise(1, 1600), 8000).shape == (1, 3, 160, 40)
