import json

import pytest
import torch
from torch import nn

import vqvideo
from vqvideo.entropy.coder import PriorCoder
from vqvideo.identity import fingerprint, format_options, get_origins
from vqvideo.nets import ENCODERS
from vqvideo.priors import PRIORS
from vqvideo.quantizers import QUANTIZERS


def build_quantizer(name="vector", **options):
    torch.manual_seed(0)
    return QUANTIZERS.build(name, {"codebook_size": 8, "code_dim": 3, **options})


def build_prior(name="pixelcnn", **options):
    torch.manual_seed(0)
    sizes = {"width": 8, "num_layers": 1, **options}
    return PRIORS.build(name, sizes, rank=2, codebook_size=8).eval()


def test_a_fingerprint_survives_a_renamed_class_and_a_renamed_buffer():
    part = build_quantizer()
    before = fingerprint(part)
    part.__class__ = type("AnotherName", (type(part),), {})
    assert fingerprint(part) == before
    renamed = {f"other_{name}": buffer for name, buffer in part._buffers.items()}
    part._buffers = renamed
    assert list(part.state_dict())[-1].startswith("other_")
    assert fingerprint(part) == before


def test_a_fingerprint_changes_with_name_option_and_weight():
    parts = [
        build_quantizer(),
        build_quantizer("ema"),
        build_quantizer(cosine=True),
        build_quantizer(codebook_size=9),
        build_quantizer(),
    ]
    with torch.no_grad():
        parts[-1].codebook[3, 1] += 1e-3
    assert len({fingerprint(part) for part in parts}) == len(parts)
    assert fingerprint(build_quantizer()) == fingerprint(parts[0])


def test_a_fingerprint_changes_with_the_package_of_a_part_and_not_with_its_version():
    part = build_quantizer()
    (origin,) = get_origins(part)
    hashes = []
    for change in ({}, {"version": "9"}, {"package": "another"}):
        vars(part)["origins"] = (origin._replace(**change),)
        hashes.append(fingerprint(part))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_default_that_is_written_out_is_the_default():
    assert fingerprint(build_quantizer(cosine=False)) == fingerprint(build_quantizer())
    origin = get_origins(build_quantizer(cosine=False))[-1]
    assert origin[:3] == ("quantizer", "vector", "vqvideo")
    assert json.loads(origin.options) == {"codebook_size": 8, "code_dim": 3}


def test_where_weights_came_from_first_is_no_part_of_an_identity():
    def fetching(*, pretrained: bool = False, weights: str | None = None, width: int = 1): ...

    def other(*, weights: str | None = None): ...

    fetched = {"pretrained": True, "weights": "somewhere", "width": 2}
    assert json.loads(format_options(fetching, fetched)) == {"width": 2}
    assert json.loads(format_options(other, {"weights": "loss"})) == {"weights": "loss"}


def test_a_part_built_by_hand_counts_by_its_class():
    torch.manual_seed(0)
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(nn.Sequential(one)) != fingerprint(one)
    assert fingerprint(one, other) != fingerprint(one)
    assert fingerprint(one, context=1) != fingerprint(one)


def test_a_saved_model_keeps_its_fingerprint(tmp_path):
    options = {"quantizer": {"codebook_size": 16, "code_dim": 4}, "encoder": {"width": 8}}
    generator = vqvideo.build("image", **options, decoder={"width": 8})
    vqvideo.save(generator, tmp_path / "model")
    again = vqvideo.load(tmp_path / "model")
    assert again.vqvae.fingerprint() == generator.vqvae.fingerprint()
    assert get_origins(again.vqvae.encoder)[-1].kind == ENCODERS.kind


def test_compressed_codes_belong_to_a_prior_whatever_its_class_is_called():
    pytest.importorskip("constriction")
    prior = build_prior()
    before = PriorCoder(prior).fingerprint
    prior.__class__ = type("AnotherName", (type(prior),), {})
    assert PriorCoder(prior).fingerprint == before
    assert PriorCoder(build_prior(num_layers=2)).fingerprint != before
