"""Models as plain data: short forms, merging, strictness, and the way to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from vqvideo.config import MODELS, GeneratorConfig, PartConfig, build_generator
from vqvideo.registry import UnknownNameError

BUILT_IN = ("audio", "image", "video")


def make_tiny_config() -> GeneratorConfig:
    """An image model with a grid of 2 x 4, height and width at different strides."""
    return GeneratorConfig(
        channels=3,
        strides=((2, 1), (2, 3)),
        sample_shape=(8, 12),
        rate=0.0,
        encoder=PartConfig("conv", {"width": 8, "num_blocks": 1}),
        quantizer=PartConfig("ema", {"codebook_size": 7, "code_dim": 5}),
        decoder=PartConfig("patchify", {"widths": (8, 6), "num_blocks": (1, 1)}),
        likelihood=PartConfig("gaussian"),
        prior=PartConfig("pixelcnn", {"width": 8, "num_layers": 2, "first_kernel_size": 3}),
        commitment_weight=0.5,
    )


# -- parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "part"),
    [
        ("ema", PartConfig("ema")),
        ({"name": "ema"}, PartConfig("ema")),
        ({"name": "ema", "code_dim": 3}, PartConfig("ema", {"code_dim": 3})),
        ({"code_dim": 3, "name": "ema"}, PartConfig("ema", {"code_dim": 3})),
        ({"name": "conv", "widths": [4, [5, 6]]}, PartConfig("conv", {"widths": (4, (5, 6))})),
        (PartConfig("ema", {"code_dim": 3}), PartConfig("ema", {"code_dim": 3})),
    ],
)
def test_a_part_has_short_forms(short, part):
    assert PartConfig.parse(short) == part


@pytest.mark.parametrize("short", [3, None, {}, {"code_dim": 3}, {"name": 3}, ["ema"]])
def test_what_has_no_name_is_no_part(short):
    with pytest.raises(ValueError, match="a part is a name or a mapping with a 'name', got "):
        PartConfig.parse(short)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"code_dim": 9}, PartConfig("ema", {"code_dim": 9, "codebook_size": 7})),
        (
            {"ema_decay": 0.9},
            PartConfig("ema", {"code_dim": 5, "codebook_size": 7, "ema_decay": 0.9}),
        ),
        ({"name": "ema", "code_dim": 9}, PartConfig("ema", {"code_dim": 9, "codebook_size": 7})),
        (
            PartConfig("ema", {"code_dim": 9}),
            PartConfig("ema", {"code_dim": 9, "codebook_size": 7}),
        ),
        ({}, PartConfig("ema", {"code_dim": 5, "codebook_size": 7})),
        ("ema", PartConfig("ema", {"code_dim": 5, "codebook_size": 7})),
        ("vector", PartConfig("vector")),
        ({"name": "vector", "code_dim": 9}, PartConfig("vector", {"code_dim": 9})),
    ],
)
def test_a_changed_part_keeps_its_other_options_as_long_as_its_name_stays(change, expected):
    before = PartConfig("ema", {"code_dim": 5, "codebook_size": 7})
    assert before.merge(change) == expected
    assert before == PartConfig("ema", {"code_dim": 5, "codebook_size": 7})


# -- whole configs --------------------------------------------------------------------------


def test_updated_changes_what_is_given_and_nothing_else():
    config = make_tiny_config()
    changed = config.merge(
        quantizer={"code_dim": 9},
        prior="wavenet",
        strides=[[2, 2], [1, 3]],
        sample_shape=[4, 18],
        commitment_weight=0.1,
    )
    assert changed == dataclasses.replace(
        config,
        quantizer=PartConfig("ema", {"codebook_size": 7, "code_dim": 9}),
        prior=PartConfig("wavenet"),
        strides=((2, 2), (1, 3)),
        sample_shape=(4, 18),
        commitment_weight=0.1,
    )
    assert config == make_tiny_config()
    assert config.merge() == config


def test_an_entry_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(ValueError, match=r"no entry 'quantiser'; it has: channels, strides, .*,"):
        make_tiny_config().merge(quantiser="ema")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_model_survives_json(name):
    config = MODELS.get(name)()
    text = json.dumps(config.to_dict())
    again = GeneratorConfig.from_dict(json.loads(text))
    assert again == config
    assert json.dumps(again.to_dict()) == text


def test_a_changed_config_survives_json_too():
    config = make_tiny_config().merge(
        prior={"cond": {"num_classes": 3}}, decoder={"widths": [4, 9]}
    )
    assert GeneratorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_plain_data_is_one_flat_mapping_with_parts_as_name_and_options():
    data = make_tiny_config().to_dict()
    assert list(data) == [entry.name for entry in dataclasses.fields(GeneratorConfig)]
    assert data["quantizer"] == {"name": "ema", "codebook_size": 7, "code_dim": 5}
    assert data["likelihood"] == {"name": "gaussian"}


def test_an_unknown_entry_of_stored_data_is_refused():
    with pytest.raises(ValueError, match=r"config entry 'colour' is unknown; a config has: chann"):
        GeneratorConfig.from_dict({**make_tiny_config().to_dict(), "colour": 3})


@pytest.mark.parametrize("name", [entry.name for entry in dataclasses.fields(GeneratorConfig)])
def test_a_missing_entry_of_stored_data_is_refused_even_where_there_is_a_default(name):
    data = make_tiny_config().to_dict()
    del data[name]
    with pytest.raises(ValueError, match=f"config entry '{name}' is missing; a config has: chann"):
        GeneratorConfig.from_dict(data)


def test_a_part_without_a_name_in_stored_data_is_refused():
    with pytest.raises(ValueError, match=r"a part is a name or a mapping with a 'name', got \{'co"):
        GeneratorConfig.from_dict({**make_tiny_config().to_dict(), "quantizer": {"code_dim": 3}})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"sample_shape": (10, 12)},
            "height 10 is not divisible by the downsampling 4; crop or pad it to 8 or 12",
        ),
        ({"sample_shape": (8, 13)}, "width 13 is not divisible by the downsampling 3"),
        ({"sample_shape": (8, 12, 12)}, r"data must have 2 axes \(height, width\), got \(8, 12"),
        ({"strides": ((2, 2), (2,))}, r"each level of strides must hold 2 integers >= 1"),
        ({"strides": ((2, 0),)}, r"each level of strides must hold 2 integers >= 1"),
        ({"strides": ((2, 2, 2, 2),)}, "rank must be 1"),
        ({"strides": ()}, "strides"),
    ],
)
def test_shapes_that_do_not_go_together_are_refused_at_once(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        make_tiny_config().merge(**changes)


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_tiny_config().channels = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_tiny_config().quantizer.name = "vector"


# -- building -------------------------------------------------------------------------------


def test_numbers_that_parts_share_are_written_once():
    generator = build_generator(make_tiny_config())
    assert generator.config == make_tiny_config()
    assert generator.sample_shape == (8, 12)
    assert generator.vqvae.rank == 2
    assert generator.vqvae.downsampling == (4, 3)
    assert generator.vqvae.commitment_weight == 0.5
    assert (generator.prior.rank, generator.prior.codebook_size) == (2, 7)
    x = torch.rand(2, 3, 8, 12)
    assert generator.vqvae.encoder(x).shape == (2, 5, 2, 4)
    assert generator.vqvae(x).parameters.shape == (2, 3, 8, 12)


def test_a_gray_model_has_one_channel_at_both_ends():
    generator = build_generator(make_tiny_config().merge(channels=1))
    assert generator.vqvae.eval()(torch.rand(2, 1, 8, 12)).parameters.shape == (2, 1, 8, 12)


@pytest.mark.parametrize("kind", ["encoder", "quantizer", "decoder", "likelihood", "prior"])
def test_a_part_that_nobody_registered_is_named_with_its_kind(kind):
    with pytest.raises(UnknownNameError, match=f"unknown {kind} 'nonesuch'; known: "):
        build_generator(make_tiny_config().merge(**{kind: "nonesuch"}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"quantizer": {"size": 7}}, "quantizer 'ema' has no option 'size'; .*it takes: codebook_"),
        ({"prior": {"rank": 3}}, "prior 'pixelcnn' has no option 'rank'; it takes: width, "),
        ({"encoder": {"strides": 2}}, "encoder 'conv' has no option 'strides'; it takes: width"),
        ({"likelihood": {"variance": 2}}, "likelihood 'gaussian' has no option .*; it takes: none"),
        (
            {"prior": "wavenet"},
            "prior 'wavenet' requires code grids of rank 1, got rank 2; .*'pixelcnn'",
        ),
        ({"decoder": {"widths": (8,)}}, "one entry per level each, got 2, 1 and 2"),
    ],
)
def test_an_option_that_a_part_does_not_take_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        build_generator(make_tiny_config().merge(**changes))


def test_a_code_owns_as_many_actions_as_it_stands_for_frames():
    prior = {"width": 8, "num_layers": 1, "cond": {"num_actions": 3}}
    built = build_generator(make_tiny_config().merge(prior=prior)).prior
    stride = math.prod(level[0] for level in make_tiny_config().strides)
    assert built.cond.actions_per_code == stride
    same = {**prior, "cond": {"num_actions": 3, "actions_per_code": stride}}
    assert build_generator(make_tiny_config().merge(prior=same)).prior.cond == built.cond


def test_another_number_of_actions_per_code_is_refused():
    prior = {"width": 8, "num_layers": 1, "cond": {"action_dim": 2, "actions_per_code": 3}}
    with pytest.raises(ValueError, match=r"actions_per_code is 3, but a code .* leave it out"):
        build_generator(make_tiny_config().merge(prior=prior))
