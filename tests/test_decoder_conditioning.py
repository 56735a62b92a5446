"""A decoder that is told a class or who speaks, besides the codes."""

import itertools

import pytest
import torch

import vqvideo
from vqvideo.cond import Cond, CondSpec
from vqvideo.config import GeneratorConfig, PartConfig, build_generator
from vqvideo.sampling import generate
from vqvideo.vqvae import VQVAE

AXES = {1: (300,), 2: (36, 12), 3: (20, 8, 12)}  # several blocks each but for images
STRIDES = {1: ((2,), (2,)), 2: ((2, 2), (2, 1)), 3: ((2, 2, 2), (1, 2, 2))}
PRIORS = {1: "wavenet", 2: "pixelcnn", 3: "masked3d"}
NETS = {
    "patchify": {"widths": (6, 8), "num_blocks": (1, 1)},
    "conv": {"width": 6, "num_blocks": 1},
}
SPEAKERS = {"num_speakers": 3}


def build_small_generator(rank, nets="patchify", *, cond=SPEAKERS, prior_cond=None, dropout=None):
    part = PartConfig(nets, NETS[nets])
    prior = {"width": 8, "num_layers": 2, **({"cond": prior_cond} if prior_cond else {})}
    config = GeneratorConfig(
        channels=3,
        strides=STRIDES[rank],
        sample_shape=AXES[rank],
        rate=8.0,
        encoder=part,
        quantizer=PartConfig("ema", {"codebook_size": 11, "code_dim": 4}),
        decoder=part,
        likelihood=PartConfig("gaussian"),
        prior=PartConfig(PRIORS[rank], prior),
        cond={**cond, **({} if dropout is None else {"dropout": dropout})},
    )
    torch.manual_seed(rank)
    generator = build_generator(config)
    for parameter in generator.parameters():  # blocks begin at zero
        parameter.data += 0.2 * torch.randn_like(parameter)
    generator.vqvae.train().loss(make_data(rank))
    return generator.eval()


def make_data(rank, batch=2):
    draw = torch.Generator().manual_seed(rank)
    return torch.rand(batch, 3, *AXES[rank], generator=draw) * 2 - 1


def make_speaker_cond(*speakers):
    return Cond(speaker=torch.tensor(speakers))


def split_into_chunks(codes, lengths=(1, 4, 2, 7)):
    start = 0
    for length in itertools.cycle(lengths):
        yield codes[:, start : start + length]
        start += length
        if start >= codes.shape[1]:
            return


# -- what the decoder is given ----------------------------------------------------------------


@pytest.mark.parametrize("rank", AXES)
def test_the_condition_is_concatenated_to_every_z_q_and_zeros_without_one(rank):
    vqvae, x = build_small_generator(rank).vqvae, make_data(rank)
    codes = vqvae.encode(x)
    z_q = vqvae.quantizer.decode(codes)
    embedded = vqvae.cond_embedding.speaker.weight[[2, 0]].reshape(2, 4, *(1,) * rank)
    for cond, beside in (
        (None, torch.zeros_like(z_q)),
        (make_speaker_cond(2, 0), embedded.expand_as(z_q)),
    ):
        expected = vqvae.decoder(torch.cat([z_q, beside], dim=1))
        torch.testing.assert_close(vqvae.predict_parameters(z_q, cond), expected)
        torch.testing.assert_close(vqvae(x, cond).parameters, expected)
        again = expected.clamp(-1, 1)
        torch.testing.assert_close(vqvae.decode(codes, cond), again, rtol=1e-4, atol=1e-5)
        nats = -vqvae.likelihood.log_prob(expected, x).mean()
        torch.testing.assert_close(vqvae.loss(x, cond=cond).reconstruction_nats, nats)


def test_an_unconditional_model_has_a_decoder_of_z_q_alone():
    vqvae = build_small_generator(2, cond={}).vqvae
    assert vqvae.cond == CondSpec()
    assert not any("cond" in name for name in vqvae.state_dict())
    z_q = torch.randn(1, 4, 9, 6)
    torch.testing.assert_close(vqvae.predict_parameters(z_q), vqvae.decoder(z_q))


def test_another_speaker_gives_other_data_and_the_same_codes():
    vqvae, x = build_small_generator(1).vqvae, make_data(1)
    one, other = (vqvae(x, make_speaker_cond(*speakers)) for speakers in ((0, 1), (0, 2)))
    assert torch.equal(one.quantized.codes, other.quantized.codes)
    assert torch.equal(one.parameters[0], other.parameters[0])
    assert (one.parameters[1] - other.parameters[1]).abs().flatten(1).amax(dim=1).min() > 0.01
    untold = vqvae(x).parameters
    assert not torch.allclose(untold[0], one.parameters[0], atol=0.01)


def test_the_embeddings_of_a_class_and_a_speaker_are_summed():
    vqvae = build_small_generator(2, cond={"num_classes": 5, **SPEAKERS}).vqvae
    codes = vqvae.encode(make_data(2))
    told = Cond(class_id=torch.tensor([4, 1]), speaker=torch.tensor([0, 2]))
    embedding = vqvae.cond_embedding
    total = embedding.class_id.weight[[4, 1]] + embedding.speaker.weight[[0, 2]]
    z_q = vqvae.quantizer.decode(codes)
    beside = total[..., None, None].expand_as(z_q)
    expected = vqvae.decoder(torch.cat([z_q, beside], dim=1)).clamp(-1, 1)
    torch.testing.assert_close(vqvae.decode(codes, told), expected)


def test_gradients_reach_the_given_speakers_and_no_other():
    vqvae = build_small_generator(3, dropout=0.0).vqvae
    vqvae.loss(make_data(3), cond=make_speaker_cond(2, 2)).total.backward()
    grad = vqvae.cond_embedding.speaker.weight.grad
    assert grad[2].abs().min() > 0
    assert not grad[:2].any()


def test_conditions_are_dropped_in_training_only():
    vqvae = build_small_generator(1, dropout=0.5).vqvae
    x = make_data(1, batch=1).expand(64, -1, -1)
    speakers, untold = make_speaker_cond(*[1] * 64), vqvae(x[:1]).parameters
    told = vqvae(x[:1], make_speaker_cond(1)).parameters
    torch.testing.assert_close(vqvae(x, speakers).parameters, told.expand(64, -1, -1))
    vqvae.train().quantizer.auto_update = False
    torch.manual_seed(0)
    found = vqvae(x, speakers).parameters
    are_untold = torch.tensor([torch.allclose(each, untold[0], atol=1e-5) for each in found])
    are_told = torch.tensor([torch.allclose(each, told[0], atol=1e-5) for each in found])
    assert torch.equal(are_untold, ~are_told)
    assert 16 < int(are_untold.sum()) < 48
    codes = vqvae.encode(x[:1])
    torch.testing.assert_close(
        vqvae.decode(codes, make_speaker_cond(1)), told.clamp(-1, 1)
    )  # not in decoding


# -- in pieces --------------------------------------------------------------------------------


@pytest.mark.parametrize("nets", NETS)
@pytest.mark.parametrize("rank", AXES)
def test_a_conditioned_decoder_gives_the_whole_bit_for_bit_from_chunks(rank, nets):
    vqvae = build_small_generator(rank, nets).vqvae
    codes, cond = vqvae.encode(make_data(rank)), make_speaker_cond(2, 1)
    assert codes.unique().numel() > 2
    whole = vqvae.decode(codes, cond)
    pieces = list(vqvae.decode_stream(split_into_chunks(codes), cond))
    assert torch.equal(torch.cat(pieces, dim=2), whole)
    assert not torch.allclose(whole, vqvae.decode(codes), atol=1e-3)


def test_samples_of_a_seed_are_the_same_from_chunks():
    vqvae = build_small_generator(1).vqvae
    codes = vqvae.encode(make_data(1))
    options = {"temperature": 0.7, "seed": 3}
    whole = vqvae.decode(codes, make_speaker_cond(2, 1), **options)
    assert torch.equal(
        torch.cat(
            list(vqvae.decode_stream(split_into_chunks(codes), make_speaker_cond(2, 1), **options)),
            2,
        ),
        whole,
    )
    assert not torch.equal(
        vqvae.decode(codes, make_speaker_cond(2, 1), temperature=0.7, seed=4), whole
    )
    assert not torch.equal(vqvae.decode(codes, make_speaker_cond(2, 1)), whole)


def test_tiles_of_a_conditioned_decoder_are_the_whole():
    vqvae = build_small_generator(3).vqvae.double()
    codes = vqvae.encode(make_data(3).double())
    tiles = vqvae.decode(codes, make_speaker_cond(2, 1), tile=(1, 2))
    torch.testing.assert_close(tiles, vqvae.decode(codes, make_speaker_cond(2, 1)))


# -- what does not fit ------------------------------------------------------------------------


def test_what_does_not_fit_the_decoder_is_refused():
    vqvae, x = build_small_generator(1).vqvae, make_data(1)
    codes = vqvae.encode(x)
    for call in (
        lambda cond: vqvae(x, cond),
        lambda cond: vqvae.loss(x, cond=cond),
        lambda cond: vqvae.decode(codes, cond),
        lambda cond: list(vqvae.decode_stream([codes], cond)),
    ):
        with pytest.raises(ValueError, match=r"speaker must be integers in \[0, 3\), got .* to 3"):
            call(make_speaker_cond(0, 3))
        with pytest.raises(ValueError, match="not built to take class_id"):
            call(Cond(class_id=torch.tensor([0, 1])))
        with pytest.raises(ValueError, match=r"speaker must have shape \[2\], got \[3\]"):
            call(make_speaker_cond(0, 1, 2))
        with pytest.raises(ValueError, match=r"needs speaker of shape \[2\]; none were given"):
            call(Cond())
    untold = build_small_generator(1, cond={}).vqvae
    with pytest.raises(ValueError, match="not built to take speaker"):
        untold.decode(codes, make_speaker_cond(0, 1))
    assert torch.equal(untold.decode(codes, Cond()), untold.decode(codes))


@pytest.mark.parametrize(
    "cond",
    [{"num_actions": 3}, {"action_dim": 2}, {"local_channels": 4, "num_speakers": 2}],
    ids=str,
)
def test_what_differs_from_position_to_position_is_for_the_prior(cond):
    parts = build_small_generator(1, cond={}).vqvae
    with pytest.raises(ValueError, match=r"a class or a speaker, .*; actions and local maps are f"):
        VQVAE(
            parts.encoder,
            parts.quantizer,
            parts.decoder,
            parts.likelihood,
            cond=CondSpec.from_config(cond),
        )
    with pytest.raises(ValueError, match="actions and local maps are for the prior"):
        build_small_generator(1, cond=cond)


# -- both stages ------------------------------------------------------------------------------


def build_conditional_generator(rank=3, **options):
    return build_small_generator(rank, prior_cond={"num_classes": 5}, **options)


def test_a_generator_hands_prior_and_decoder_each_its_share():
    generator, x = build_conditional_generator(), make_data(3)
    classes = torch.tensor([4, 1])
    told = Cond(class_id=classes, speaker=torch.tensor([2, 0]))
    assert set(generator.cond_keys) == {"class_id", "speaker"}

    score = generator.log_prob(x, told)
    output = generator.vqvae(x, make_speaker_cond(2, 0))
    expected = generator.vqvae.likelihood.log_prob(output.parameters, x)
    torch.testing.assert_close(score.reconstruction, expected)
    prior = generator.prior.log_prob(output.quantized.codes, Cond(class_id=classes))
    torch.testing.assert_close(score.prior, prior)

    codes = generate(generator.prior, (10, 2, 3), batch=2, cond=Cond(class_id=classes), seed=3)
    samples = generator.sample(num_samples=2, cond=told, seed=3)
    assert torch.equal(samples, generator.vqvae.decode(codes, make_speaker_cond(2, 0)))
    assert not torch.equal(samples, generator.vqvae.decode(codes))

    first = x[:, :, :8]
    clip = generator.continue_clip(first, 6, cond=told, seed=3)
    again = generator.vqvae.encode(first)
    known = torch.cat([again, torch.zeros(2, 3, 2, 3, dtype=torch.long)], dim=1)
    mask = torch.zeros(7, 2, 3, dtype=torch.bool)
    mask[:4] = True
    going_on = generate(
        generator.prior,
        (7, 2, 3),
        batch=2,
        cond=Cond(class_id=classes),
        seed=3,
        known=known,
        mask=mask,
    )
    assert torch.equal(
        clip[:, :, 8:], generator.vqvae.decode(going_on, make_speaker_cond(2, 0))[:, :, 8 : 8 + 6]
    )
    frames = itertools.islice(generator.stream(first, cond=told, seed=3), 6)
    assert torch.equal(torch.stack(list(frames), dim=2), clip[:, :, 8:])


def test_each_part_may_be_unconditional_by_itself():
    generator, x = build_conditional_generator(), make_data(3)
    whole = generator.log_prob(x, Cond(class_id=torch.tensor([4, 1]), speaker=torch.tensor([2, 0])))
    speaker = generator.log_prob(x, make_speaker_cond(2, 0))
    classes = generator.log_prob(x, Cond(class_id=torch.tensor([4, 1])))
    nothing = generator.log_prob(x)
    assert torch.equal(speaker.reconstruction, whole.reconstruction)
    assert torch.equal(speaker.prior, nothing.prior)
    assert torch.equal(classes.prior, whole.prior)
    assert torch.equal(classes.reconstruction, nothing.reconstruction)
    assert not torch.allclose(nothing.prior, whole.prior)


def test_what_both_take_both_get():
    generator = build_small_generator(3, prior_cond={**SPEAKERS, "num_classes": 2})
    told = Cond(class_id=torch.tensor([1]), speaker=torch.tensor([2]))
    for_prior, for_decoder = generator.select_prior_cond(told), generator.select_decoder_cond(told)
    assert (for_prior.class_id, for_prior.speaker) == (told.class_id, told.speaker)
    assert (for_decoder.class_id, for_decoder.speaker) == (None, told.speaker)
    assert generator.select_prior_cond(None) is generator.select_decoder_cond(None) is None


def test_what_nobody_takes_is_refused():
    generator, x = build_small_generator(3), make_data(3)
    told = Cond(class_id=torch.tensor([1, 0]), speaker=torch.tensor([2, 0]))
    for call in (
        lambda: generator.sample(num_samples=2, cond=told),
        lambda: generator.continue_clip(x[:, :, :4], 2, cond=told),
        lambda: next(generator.stream(x[:, :, :4], cond=told)),
        lambda: generator.log_prob(x, told),
    ):
        with pytest.raises(ValueError, match="not built to take class_id"):
            call()
    generator.prior = None
    with pytest.raises(ValueError, match="not built to take class_id"):
        generator.log_prob(x, told)


# -- config and checkpoint --------------------------------------------------------------------


def test_a_conditional_model_comes_back_with_its_names(tmp_path):
    names = {"num_speakers": 3, "speaker_names": ("ann", "bob", "cleo")}
    generator = build_small_generator(2, cond=names, dropout=0.25)
    vqvideo.save(generator, tmp_path / "run")
    again = vqvideo.load(tmp_path / "run")
    assert again.vqvae.cond == CondSpec(**names, dropout=0.25)
    assert again.config == generator.config
    codes = generator.vqvae.encode(make_data(2))
    assert torch.equal(again.vqvae.encode(make_data(2)), codes)
    assert torch.equal(
        again.vqvae.decode(codes, make_speaker_cond(2, 1)),
        generator.vqvae.decode(codes, make_speaker_cond(2, 1)),
    )


def test_sizes_and_names_of_conditions_are_changed_one_by_one():
    config = build_small_generator(2).config
    assert config.cond == {"num_speakers": 3}
    more = config.merge(cond={"speaker_names": ("a", "b", "c")})
    assert build_generator(more).vqvae.cond == CondSpec(
        num_speakers=3, speaker_names=("a", "b", "c")
    )
    assert GeneratorConfig.from_dict(more.to_dict()) == more
    with pytest.raises(ValueError, match="speaker_names must hold 4 names, one for each"):
        build_generator(more.merge(cond={"num_speakers": 4}))
    with pytest.raises(ValueError, match="cond has no entry 'speakers'; it has: num_classes, num"):
        build_generator(config.merge(cond={"speakers": 4}))


def test_a_registered_model_may_be_conditioned_by_a_change_alone():
    from vqvideo.cli.training import _parse_overrides

    assert _parse_overrides(["cond.num_speakers=3"]) == {"cond": {"num_speakers": 3}}
    narrow = {"width": 4, "num_blocks": 1}
    changes = {"encoder": narrow, "decoder": narrow, "prior": {"width": 4, "num_layers": 1}}
    told = vqvideo.build("image", **changes, **_parse_overrides(["cond.num_speakers=3"])).vqvae
    untold = vqvideo.build("image", **changes).vqvae
    assert told.cond.num_speakers == 3
    assert told.decoder.layers[0].in_channels == 2 * untold.decoder.layers[0].in_channels
