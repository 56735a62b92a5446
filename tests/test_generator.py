"""Both stages together: samples, continued clips, scores."""

import math

import pytest
import torch
import torch.nn.functional as F

from vqvideo.cond import Cond
from vqvideo.config import GeneratorConfig, PartConfig, build_generator
from vqvideo.sampling import generate

AXES = {1: (24,), 2: (8, 12), 3: (8, 8, 12)}
STRIDES = {1: ((2,), (2,)), 2: ((2, 2), (2, 1)), 3: ((2, 2, 2), (1, 2, 2))}
PRIORS = {1: "wavenet", 2: "pixelcnn", 3: "masked3d"}


def build_small_generator(rank, cond=None):
    options = {"widths": (6, 8), "num_blocks": (1, 1)}
    prior = {"width": 8, "num_layers": 2, **({"cond": cond} if cond else {})}
    config = GeneratorConfig(
        channels=3,
        strides=STRIDES[rank],
        sample_shape=AXES[rank],
        rate=8.0,
        encoder=PartConfig("patchify", options),
        quantizer=PartConfig("ema", {"codebook_size": 11, "code_dim": 4}),
        decoder=PartConfig("patchify", options),
        likelihood=PartConfig("gaussian"),
        prior=PartConfig(PRIORS[rank], prior),
    )
    torch.manual_seed(rank)
    generator = build_generator(config)
    generator.vqvae.train().loss(make_data(rank))
    for parameter in generator.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return generator.eval()


def make_data(rank, batch=2):
    draw = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, *AXES[rank], generator=draw) * 2 - 1


@pytest.mark.parametrize("rank", AXES)
def test_samples_have_the_shape_asked_for_and_repeat_by_seed(rank):
    generator = build_small_generator(rank)
    samples = generator.sample(num_samples=3, seed=1)
    assert samples.shape == (3, 3, *AXES[rank])
    assert samples.abs().max() <= 1
    assert torch.equal(samples, generator.sample(num_samples=3, seed=1))
    assert not torch.equal(samples, generator.sample(num_samples=3, seed=2))
    twice = tuple(2 * axis for axis in AXES[rank])
    assert generator.sample(shape=twice).shape == (1, 3, *twice)


def test_a_sample_is_its_codes_decoded():
    generator = build_small_generator(2)
    codes = generate(generator.prior, (2, 6), seed=3)
    assert torch.equal(generator.sample(seed=3), generator.vqvae.decode(codes))


def test_a_continued_clip_keeps_its_first_frames_and_their_codes():
    generator, clip = build_small_generator(3), make_data(3)
    first = clip[:, :, :4]
    longer = generator.continue_clip(first, 3, seed=1)
    assert longer.shape == (2, 3, 7, 8, 12)
    assert torch.equal(longer[:, :, :4], first)
    codes = generator.vqvae.encode(clip)
    assert torch.equal(generator.vqvae.encode(first), codes[:, :2])
    assert torch.equal(first, clip[:, :, :4])


def test_what_follows_is_drawn_from_the_prior_given_the_prefix():
    generator, first = build_small_generator(3), make_data(3)[:, :, :4]
    start = generator.vqvae.encode(first)
    known = F.pad(start, (0, 0, 0, 0, 0, 2))
    mask = torch.zeros(known.shape[1:], dtype=torch.bool)
    mask[:2] = True
    codes = generate(generator.prior, (4, 2, 3), batch=2, known=known, mask=mask, method="full")
    expected = generator.vqvae.decode(codes)
    longer = generator.continue_clip(first, 4)
    torch.testing.assert_close(longer[:, :, 4:], expected[:, :, 4:])


def test_a_prefix_of_half_a_code_frame_says_which_lengths_work():
    with pytest.raises(
        ValueError, match=r"frames 5 is not divisible .* 2; crop or pad it to 4 or 6"
    ):
        build_small_generator(3).continue_clip(torch.zeros(1, 3, 5, 8, 12), 3)


def test_actions_are_short_for_a_condition():
    generator = build_small_generator(3, cond={"num_actions": 3, "actions_per_code": 2})
    with torch.no_grad():  # an untrained prior hardly listens
        for weight in generator.prior.parameters():
            weight *= 3
    first, actions = make_data(3)[:, :, :4], torch.randint(3, (2, 8))
    short = generator.continue_clip(first, 4, actions=actions)
    assert torch.equal(short, generator.continue_clip(first, 4, cond=Cond(actions=actions)))
    assert not torch.equal(short, generator.continue_clip(first, 4, actions=(actions + 1) % 3))


@pytest.mark.parametrize("rank", AXES)
def test_the_score_is_the_two_terms_of_the_bound(rank):
    generator, x = build_small_generator(rank), make_data(rank)
    score = generator.log_prob(x)
    codes = generator.vqvae.encode(x)
    logits = generator.prior.logits(codes).flatten(2)
    chosen = F.log_softmax(logits, dim=1).gather(1, codes.flatten(1)[:, None])
    torch.testing.assert_close(score.prior, chosen.sum(dim=(1, 2)))
    error = (generator.vqvae.decoder(generator.vqvae.quantizer.decode(codes)) - x).flatten(1)
    variance = generator.vqvae.likelihood.variance.item()
    expected = (
        -(error**2).sum(dim=1) / (2 * variance)
        - error.shape[1] * math.log(2 * math.pi * variance) / 2
    )
    torch.testing.assert_close(score.reconstruction, expected, rtol=1e-4, atol=1e-2)


def test_a_density_gives_no_bits_per_dimension():
    with pytest.raises(ValueError, match="gives no probabilities, so no bits per dimension"):
        _ = build_small_generator(2).log_prob(make_data(2)).bits_per_dim


def test_without_a_prior_the_error_says_how_to_get_one():
    generator = build_small_generator(3)
    generator.prior = None
    with pytest.raises(ValueError, match="no prior yet; train one"):
        generator.sample()


def test_no_frames_to_add_is_refused():
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        build_small_generator(3).continue_clip(make_data(3), 0)


def decode_in_chunks(generator, codes):
    return torch.cat(list(generator.vqvae.decode_stream(codes.split(1, dim=1))), dim=2)


def generate_around(generator, codes):
    grid = tuple(codes.shape[1:])
    mask = torch.zeros(grid, dtype=torch.bool)
    mask[0] = True
    return generate(generator.prior, grid, batch=2, known=codes, mask=mask)


CODE_ENTRANCES = {
    "quantizer.decode": lambda generator, codes: generator.vqvae.quantizer.decode(codes),
    "vqvae.decode": lambda generator, codes: generator.vqvae.decode(codes),
    "vqvae.decode_stream": decode_in_chunks,
    "prior": lambda generator, codes: generator.prior(codes),
    "prior.logits": lambda generator, codes: generator.prior.logits(codes),
    "prior.log_prob": lambda generator, codes: generator.prior.log_prob(codes),
    "generate(known=)": generate_around,
}
INTEGERS = [getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32)]
OTHERS = (torch.bool, torch.complex64, torch.bfloat16)


@pytest.mark.parametrize("rank", AXES)
@pytest.mark.parametrize("entrance", CODE_ENTRANCES)
def test_codes_of_any_integer_dtype_are_taken_and_others_refused_in_a_sentence(entrance, rank):
    generator, enter = build_small_generator(rank), CODE_ENTRANCES[entrance]
    with torch.no_grad():
        codes = generator.vqvae.encode(make_data(rank))
        expected = enter(generator, codes)
        for dtype in INTEGERS:
            assert torch.equal(enter(generator, codes.to(dtype)), expected), dtype
        for dtype in OTHERS:
            with pytest.raises(ValueError, match=rf"(codes|known) must be integers.* got {dtype}"):
                enter(generator, codes.to(dtype))


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_of_samples_below_one_is_refused_by_name(number):
    with pytest.raises(ValueError, match=f"num_samples must be at least 1, got {number}"):
        build_small_generator(2).sample(num_samples=number)
