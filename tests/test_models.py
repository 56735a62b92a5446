"""Models by name: each one builds, wrong names are helped, weights fit one model only.

What holds of every registered model is in laws/test_model_laws.py.
"""

from __future__ import annotations

import math

import pytest
import torch

import vqvideo
from vqvideo import models
from vqvideo.cli import main
from vqvideo.config import MODELS
from vqvideo.registry import UnknownNameError

# name -> an input smaller than what the model is made for, and the grid of its codes
INPUTS = {
    "audio": ((1, 384), (6,)),
    "image": ((3, 12, 20), (3, 5)),
    "video": ((3, 8, 4, 12), (2, 1, 3)),
}
TINY = {
    "sample_shape": (8, 12),
    "encoder": {"width": 8, "num_blocks": 1},
    "quantizer": {"codebook_size": 7, "code_dim": 3},
    "decoder": {"width": 8, "num_blocks": 1},
    "prior": {"width": 8, "num_layers": 2, "first_kernel_size": 3},
}


def test_the_built_in_models_are_one_for_each_rank():
    assert set(INPUTS) <= set(vqvideo.list_models())
    assert [MODELS.get(name)().rank for name in INPUTS] == [1, 2, 3]


@pytest.fixture(scope="module", params=INPUTS)
def built_model(request):
    """A model's name, and the model."""
    torch.manual_seed(0)
    return request.param, vqvideo.build(request.param)


def test_every_model_is_built_as_its_config_says_and_for_use(built_model):
    name, generator = built_model
    config = MODELS.get(name)()
    assert generator.config == config
    assert generator.sample_shape == config.sample_shape
    assert len(generator.vqvae.compute_grid_shape(config.sample_shape)) == config.rank
    assert generator.prior.codebook_size == generator.vqvae.quantizer.codebook_size
    assert not any(part.training for part in generator.modules())


def test_every_model_gives_each_position_the_entry_of_its_own_vector(built_model):
    name, generator = built_model
    shape, grid = INPUTS[name]
    x = torch.rand(2, *shape) * 2 - 1
    with torch.no_grad():
        vectors = generator.vqvae.encoder(x).movedim(1, -1).flatten(0, -2)
        generator.vqvae.quantizer.codebook[: len(vectors)] = vectors
    codes = generator.vqvae.encode(x)
    assert codes.tolist() == torch.arange(len(vectors)).view(2, *grid).tolist()


def test_models_are_listed_by_wildcard():
    assert "video" in vqvideo.list_models("vid*")
    assert all(name.startswith("vid") for name in vqvideo.list_models("vid*"))
    assert vqvideo.list_models("nothing*") == []


@pytest.mark.parametrize("pretrained", [False, True])
def test_an_unknown_model_is_answered_with_the_nearest_and_with_all(pretrained):
    with pytest.raises(
        UnknownNameError,
        match=r"^unknown model 'vidoe'; did you mean 'video'\?; known: .*audio.*image.*video",
    ):
        vqvideo.build("vidoe", pretrained=pretrained)


def test_options_merge_with_those_of_the_model():
    quantizer = vqvideo.build("image", **TINY).vqvae.quantizer
    assert (quantizer.codebook_size, quantizer.code_dim) == (7, 3)
    changed = vqvideo.build("image", **{**TINY, "quantizer": {"codebook_size": 9}})
    assert changed.vqvae.quantizer.codebook_size == 9
    assert changed.vqvae.quantizer.code_dim == MODELS.get("image")().quantizer.options["code_dim"]
    assert changed.prior.codebook_size == 9


def test_a_part_under_another_name_starts_from_its_own_defaults():
    generator = vqvideo.build("image", **{**TINY, "quantizer": "vector"})
    assert type(generator.vqvae.quantizer).__name__ == "VectorQuantizer"
    assert generator.config.quantizer.options == {}


def test_the_model_itself_is_not_changed_by_what_is_built_from_it():
    before = MODELS.get("image")()
    vqvideo.build("image", **TINY)
    assert MODELS.get("image")() == before


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"codebook_size": 7}, "a model has no entry 'codebook_size'; it has: channels, "),
        (
            {"quantizer": {"codebook_sise": 7}},
            "no option 'codebook_sise'; did you mean 'codebook_s",
        ),
    ],
)
def test_changes_that_do_not_exist_are_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        vqvideo.build("image", **changes)


@pytest.fixture
def shipped_weights(tmp_path, monkeypatch):
    """A package that ships weights for `image`, of a tiny model."""
    generator = vqvideo.build("image", **TINY)
    vqvideo.save(generator, tmp_path / "image")
    monkeypatch.setattr(models, "WEIGHTS_DIR", tmp_path)
    return generator


def test_pretrained_loads_the_weights_that_ship(shipped_weights):
    x = torch.rand(2, 3, 8, 12) * 2 - 1
    generator = vqvideo.build("image", pretrained=True)
    assert torch.equal(generator.vqvae.encode(x), shipped_weights.vqvae.encode(x))
    assert torch.equal(generator.sample(seed=4), shipped_weights.sample(seed=4))


def test_pretrained_weights_and_changes_do_not_go_together(shipped_weights):
    with pytest.raises(
        ValueError, match="fit the model as it is; leave out quantizer, rate or pre"
    ):
        vqvideo.build("image", pretrained=True, quantizer={"codebook_size": 7}, rate=2.0)


def test_a_model_without_weights_says_which_have_them(shipped_weights, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "NOTICE").write_text("not a model")
    with pytest.raises(ValueError, match=r"weights for 'audio'; there are for: image, other$"):
        vqvideo.build("audio", pretrained=True)


@pytest.mark.parametrize(
    ("name", "axes", "codes", "ratio"),
    [
        ("image-cifar", (32, 32), (8, 8, 10), 32 * 32 * 3 * 8 / (8 * 8 * 10 * 9)),
        ("image-128", (128, 128), (32, 32), 42.67),
        ("image-84", (84, 84), (21, 21), 42.67),
    ],
)
def test_the_papers_image_models_have_its_grids(name, axes, codes, ratio):
    narrow = {"width": 8, "num_blocks": 2}
    prior = {"width": 8, "num_layers": 2}
    generator = vqvideo.build(name, encoder=narrow, decoder=narrow, prior=prior)
    assert generator.config.sample_shape == axes
    found = generator.vqvae.encode(torch.zeros(1, 3, *axes))
    assert tuple(found.shape[1:]) == codes
    assert generator.vqvae.quantizer.codebook_size == 512
    bits = found.numel() * math.log2(512)
    assert math.prod(axes) * 3 * 8 / bits == pytest.approx(ratio, abs=5e-3)


def test_the_papers_second_stage_says_an_image_in_27_bits():
    narrow, prior = {"width": 8, "num_blocks": 1}, {"width": 8, "num_layers": 2}
    small = {"width": 8, "bottom": {"width": 8, "num_layers": 2}, "top": prior}
    generator = vqvideo.build("image-84-top", encoder=narrow, decoder=narrow, prior=small)
    assert not generator.prior.has_exact_likelihood
    latents = generator.prior.encode_latents(generator.vqvae.encode(torch.zeros(2, 3, 84, 84)))
    assert latents.shape == (2, 1, 1, 3)
    assert latents[0].numel() * math.log2(generator.prior.quantizer.codebook_size) == 27
    score = generator.log_prob(torch.zeros(1, 3, 84, 84))
    assert score.prior < -math.log(2)  # a bound: it counts what the latents take too


def test_a_model_whose_channels_no_file_has_is_refused_before_training(tmp_path, capsys):
    command = ["train-vqvae", "--model", "image", "--data", str(tmp_path), "--steps", "1"]
    assert main([*command, "--out", str(tmp_path / "run"), "--set", "channels=1"]) == 1
    assert "read as 3 channels (RGB), this model has channels=1" in capsys.readouterr().err
