"""Decoding by an autoregressive likelihood: value by value, in pieces, as if drawn at once."""

import itertools

import pytest
import torch

from vqvideo.cond import Cond
from vqvideo.config import GeneratorConfig, PartConfig, build_generator
from vqvideo.likelihoods import AutoregressiveLikelihood, autoregressive
from vqvideo.sampling import generate

AXES = {1: (340,), 2: (12, 8), 3: (8, 4, 4)}
STRIDES = {1: ((2,), (2,)), 2: ((2, 2), (2, 1)), 3: ((2, 2, 2), (2, 1, 1))}
CASES = [(1, 1), (1, 2), (2, 3), (3, 2)]  # rank, channels


def build_small_vqvae(rank=1, channels=1, *, decoder="patchify", cond=None, **prior):
    nets = {"patchify": {"widths": (6, 8), "num_blocks": (1, 1)}, "conv": {"width": 6}}
    likelihood = {"num_features": 5, "prior": {"width": 8, "num_layers": 2, **prior}}
    config = GeneratorConfig(
        channels=channels,
        strides=STRIDES[rank],
        sample_shape=AXES[rank],
        rate=8.0,
        encoder=PartConfig(decoder, nets[decoder]),
        quantizer=PartConfig("ema", {"codebook_size": 9, "code_dim": 4}),
        decoder=PartConfig(decoder, nets[decoder]),
        likelihood=PartConfig("autoregressive", {**likelihood, "mu_law": rank == 1}),
        prior=PartConfig({1: "wavenet", 2: "pixelcnn", 3: "masked3d"}[rank], {"width": 4}),
        cond=cond or {},
    )
    torch.manual_seed(rank)
    vqvae = build_generator(config, with_prior=False).vqvae.eval()
    for parameter in vqvae.parameters():  # so that what is told, and what came before, matter
        parameter.data += 0.3 * torch.randn_like(parameter)
    return vqvae


def make_random_codes(vqvae, rank, batch=2):
    draw = torch.Generator().manual_seed(3)
    return torch.randint(9, (batch, *vqvae.compute_grid_shape(AXES[rank])), generator=draw)


def split_into_chunks(codes, lengths):
    start = 0
    for length in itertools.cycle(lengths):
        yield codes[:, start : start + length]
        start += length
        if start >= codes.shape[1]:
            return


def decode_naively(vqvae, codes, **options):
    """The same values drawn on a whole grid, every logit anew for each of them."""
    parameters = vqvae.decoder(vqvae.quantizer.decode(codes))
    prior = vqvae.likelihood.prior
    cond = Cond(local=parameters)
    shape = tuple(parameters.shape[2:])
    found = generate(prior, shape, batch=len(codes), cond=cond, method="full", **options)
    return found.movedim(-1, 1) if prior.num_codebooks > 1 else found[:, None]


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize(("rank", "channels"), CASES)
def test_values_are_those_that_are_drawn_naively_from_the_same_noise(rank, channels, temperature):
    vqvae = build_small_vqvae(rank, channels)
    codes = make_random_codes(vqvae, rank)[:, : {1: 9, 2: 2, 3: 1}[rank]]
    again = vqvae.decode(codes, temperature=temperature, seed=5)
    assert again.abs().max() <= 1
    assert again.unique().numel() > 3
    options = {"temperature": temperature, "seed": 5}
    assert torch.equal(vqvae.likelihood.to_levels(again), decode_naively(vqvae, codes, **options))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(("rank", "channels"), CASES)
def test_a_stream_in_any_chunks_is_the_whole(rank, channels, temperature, monkeypatch):
    vqvae = build_small_vqvae(rank, channels)
    codes = make_random_codes(vqvae, rank)
    options = {"temperature": temperature, "seed": 2}
    whole = vqvae.decode(codes, **options)
    assert whole.shape == (2, channels, *AXES[rank])
    for lengths, at_once in (((1,), 2048), ((3, 1, 7), 2048), ((codes.shape[1],), 3)):
        monkeypatch.setattr(autoregressive, "CHUNK_SIZE", at_once)
        pieces = list(vqvae.decode_stream(split_into_chunks(codes, lengths), **options))
        assert torch.equal(torch.cat(pieces, dim=2), whole), (lengths, at_once)


def test_a_decoder_that_looks_ahead_streams_too():
    vqvae = build_small_vqvae(decoder="conv")
    codes = make_random_codes(vqvae, 1)
    whole = vqvae.decode(codes, seed=2)
    pieces = list(vqvae.decode_stream(split_into_chunks(codes, (5, 2)), seed=2))
    assert len(pieces) > 1
    assert torch.equal(torch.cat(pieces, dim=2), whole)


def test_values_come_before_the_last_code_is_asked_for():
    vqvae, asked = build_small_vqvae(), []

    def one_by_one():
        for number, code in enumerate(make_random_codes(vqvae, 1).unbind(1)):
            asked.append(number)
            yield code[:, None]

    stream = vqvae.decode_stream(one_by_one())
    first = next(stream)
    assert len(asked) < 85
    assert first.shape[2] < 340
    assert first.shape[2] + sum(piece.shape[2] for piece in stream) == 340


def test_a_sample_is_drawn_where_nobody_says_otherwise():
    vqvae = build_small_vqvae()
    codes = make_random_codes(vqvae, 1)[:, :6]
    assert vqvae.likelihood.default_temperature == 1
    usual = vqvae.decode(codes)
    assert torch.equal(usual, vqvae.decode(codes, temperature=1, seed=0))
    assert not torch.equal(usual, vqvae.decode(codes, seed=1))
    assert not torch.equal(usual, vqvae.decode(codes, temperature=0))
    assert torch.equal(
        vqvae.decode(codes, temperature=0), vqvae.decode(codes, temperature=0, seed=1)
    )


def test_items_have_noise_of_their_own_and_the_first_is_the_same_alone():
    vqvae = build_small_vqvae()
    codes = make_random_codes(vqvae, 1)[:1, :6].expand(2, -1)
    both = vqvae.decode(codes)
    assert not torch.equal(both[0], both[1])
    assert torch.equal(vqvae.decode(codes[:1]), both[:1])


def test_a_stream_may_end_within_a_code():
    vqvae = build_small_vqvae()
    codes = make_random_codes(vqvae, 1)[:, :7]
    pieces = vqvae.decode_stream(split_into_chunks(codes, (2, 3)), length=26)
    assert torch.equal(torch.cat(list(pieces), dim=2), vqvae.decode(codes)[:, :, :26])


def test_every_value_is_conditioned_on_the_speaker():
    vqvae = build_small_vqvae(cond={"num_speakers": 3})
    codes = make_random_codes(vqvae, 1)[:, :20]
    cond = Cond(speaker=torch.tensor([2, 0]))
    whole = vqvae.decode(codes, cond)
    pieces = list(vqvae.decode_stream(split_into_chunks(codes, (5, 2)), cond))
    assert torch.equal(torch.cat(pieces, dim=2), whole)
    assert not torch.equal(whole, vqvae.decode(codes))


# -- priors that cannot go on -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_prior_that_knows_the_rows_of_its_grid_waits_for_the_whole(temperature):
    vqvae = build_small_vqvae(2, 3, coordinates=True)
    assert not vqvae.likelihood.prior.is_unbounded
    codes = make_random_codes(vqvae, 2)[:, :2]
    options = {"temperature": temperature, "seed": 5}
    whole = vqvae.decode(codes, **options)
    assert torch.equal(vqvae.likelihood.to_levels(whole), decode_naively(vqvae, codes, **options))
    pieces = list(vqvae.decode_stream(split_into_chunks(codes, (1, 2)), **options))
    assert torch.equal(torch.cat(pieces, dim=2), whole)


def test_a_prior_without_a_state_waits_for_the_whole(monkeypatch):
    vqvae = build_small_vqvae()
    codes = make_random_codes(vqvae, 1)[:, :9]
    step_by_step = vqvae.decode(codes, seed=4)
    prior = vqvae.likelihood.prior
    monkeypatch.setattr(type(prior), "init_state", lambda self, batch, grid, cond=None: None)
    assert torch.equal(vqvae.decode(codes, seed=4), step_by_step)
    pieces = list(vqvae.decode_stream(split_into_chunks(codes, (4, 1)), seed=4))
    assert len(pieces) == 1
    assert torch.equal(pieces[0], step_by_step)


# -- the likelihood by itself -----------------------------------------------------------------


@pytest.mark.parametrize("coordinates", [False, True])
def test_chunks_without_a_step_change_nothing_and_no_chunks_give_nothing(coordinates):
    torch.manual_seed(0)
    likelihood = AutoregressiveLikelihood(
        rank=2,
        channels=1,
        num_features=3,
        prior={"width": 4, "num_layers": 1, "coordinates": coordinates},
    ).eval()
    parameters = torch.randn(2, 3, 5, 4)
    whole = torch.cat(list(likelihood.sample_stream([parameters], temperature=1.0)), dim=2)
    pieces = parameters.split((0, 2, 0, 0, 3, 0), dim=2)
    assert torch.equal(
        torch.cat(list(likelihood.sample_stream(pieces, temperature=1.0)), dim=2), whole
    )
    assert list(likelihood.sample_stream([])) == []
    assert list(likelihood.sample_stream([parameters[:, :, :0]])) == []


def test_a_temperature_that_is_none_is_refused():
    vqvae = build_small_vqvae()
    codes = make_random_codes(vqvae, 1)[:, :3]
    for temperature in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"temperature must be .*, got {temperature}"):
            vqvae.decode(codes, temperature=temperature)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "channels", "steps", "coordinates"),
    [(1, 1, 7, False), (1, 2, 20, False), (2, 3, 5, False), (2, 3, 5, True), (3, 2, 2, False)],
)
def test_what_is_known_is_continued(rank, channels, steps, coordinates):
    vqvae = build_small_vqvae(rank, channels, **({"coordinates": True} if coordinates else {}))
    codes = make_random_codes(vqvae, rank)[:, : {1: 9, 2: 2, 3: 2}[rank]]
    parameters = vqvae.decoder(vqvae.quantizer.decode(codes))
    known = vqvae.likelihood.from_levels(
        torch.randint(256, (2, channels, steps, *parameters.shape[3:]))
    )
    again = vqvae.decode(codes, seed=5, known=known)
    assert torch.equal(again[:, :, :steps], known)
    levels = torch.zeros_like(vqvae.likelihood.to_levels(again))
    levels[:, :, :steps] = vqvae.likelihood.to_levels(known)
    grid = levels.movedim(1, -1) if channels > 1 else levels[:, 0]
    mask = torch.zeros(parameters.shape[2:], dtype=torch.bool)
    mask[:steps] = True
    expected = generate(
        vqvae.likelihood.prior,
        tuple(parameters.shape[2:]),
        batch=2,
        cond=Cond(local=parameters),
        known=grid,
        mask=mask,
        seed=5,
        method="full",
    )
    expected = expected.movedim(-1, 1) if channels > 1 else expected[:, None]
    assert torch.equal(vqvae.likelihood.to_levels(again), expected)
    streamed = vqvae.decode_stream(split_into_chunks(codes, (1, 2)), seed=5, known=known)
    assert torch.equal(torch.cat(list(streamed), dim=2), again)
    if rank > 1:  # a few samples further a short field sees nothing of what is known
        other = vqvae.decode(codes, seed=5, known=-known)
        assert not torch.equal(other[:, :, steps:], again[:, :, steps:])


def test_all_may_be_known_but_no_more():
    vqvae = build_small_vqvae()
    codes = make_random_codes(vqvae, 1)[:, :2]
    known = vqvae.likelihood.from_levels(torch.arange(16).view(2, 1, 8))
    assert torch.equal(vqvae.decode(codes, known=known), known)
    message = "known data has 9 steps, but there are parameters for only 8 steps"
    with pytest.raises(ValueError, match=message):
        vqvae.decode(codes, known=torch.cat([known, known[:, :, :1]], dim=2))
