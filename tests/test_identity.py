import json
from pathlib import Path

import numpy as np
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
    for change in (
        {},
        {"version": "9"},
        {"package": "another"},
        {"package": "An_Other.Package"},
        {"package": "an-other-package"},
        {"package": "__main__", "version": ""},
        {"package": "__mp_main__", "version": ""},
    ):
        vars(part)["origins"] = (origin._replace(**change),)
        hashes.append(fingerprint(part))
    assert hashes[0] == hashes[1]
    assert hashes[3] == hashes[4]  # two spellings of one package
    assert hashes[5] == hashes[6]  # one script, itself and imported by a worker process
    assert len(set(hashes)) == 4


def test_a_default_that_is_written_out_is_the_default():
    assert fingerprint(build_quantizer(cosine=False)) == fingerprint(build_quantizer())
    origin = get_origins(build_quantizer(cosine=False))[-1]
    assert origin[:3] == ("quantizer", "vector", "vqvideo")
    assert json.loads(origin.options) == {"codebook_size": 8, "code_dim": 3}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((4, 3), [4, 3]),
        (range(3), np.arange(3)),
        (np.int64(4), 4.0),
        (torch.tensor([0.5, 2.0]), [0.5, 2]),
        ({"b": 1, "a": (2,)}, {"a": [2], "b": 1}),
        ({"x", "y"}, {"y", "x"}),
        (Path("a"), "a"),
        (object(), object()),
    ],
    ids=["tuple", "array", "number", "tensor", "mapping", "set", "path", "object"],
)
def test_equal_options_are_written_alike(one, other):
    def builder(*, option: object = None): ...

    assert format_options(builder, {"option": one}) == format_options(builder, {"option": other})
    assert format_options(builder, {"option": one}) != format_options(builder, {"option": "z"})


@pytest.mark.parametrize(
    "option", [{1: 2, "a": 3}, {(1, 2): 3}, {None: 1, "b": 2}], ids=["int", "tuple", "none"]
)
def test_options_of_any_keys_do_not_stop_a_build(option):
    def builder(*, option: object = None): ...

    assert json.loads(format_options(builder, {"option": option}))["option"].keys() == {
        str(key) for key in option
    }


def test_where_weights_came_from_first_is_no_part_of_an_identity():
    def fetching(*, pretrained: bool = False, weights: str | None = None, width: int = 1): ...

    def other(*, weights: str | None = None): ...

    fetched = {"pretrained": True, "weights": "somewhere", "width": 2}
    assert json.loads(format_options(fetching, fetched)) == {"width": 2}
    assert json.loads(format_options(other, {"weights": "loss"})) == {"weights": "loss"}


def test_a_module_as_an_option_counts_by_its_kind_and_by_the_weights_of_the_part():
    def builder(*, module: nn.Module): ...

    one, other = nn.Linear(2, 3), nn.Linear(2, 3)  # weights differ, and are the part's own
    options = format_options(builder, {"module": one})
    assert options == format_options(builder, {"module": other})
    assert options != format_options(builder, {"module": nn.Linear(3, 2)})


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


FINGERPRINTS = {  # of the tokenizer and of the prior; one that changes orphans code files
    "weights/audio": ("69b636bc42a7fb8c", "040dfad02be891b8"),
    "weights/audio-25hz": ("7478023e9fae8929", "26e00cef85ef6eb4"),
    "weights/image": ("e358141e0e7f9caf", "cf0a2d591a7e9444"),
    "weights/maze": ("a69bf52ca843969c", "533576a774314988"),
    "weights/video": ("82bb8c0997eb197b", "4a7153ba5dcacfc8"),
    "checkpoints/v1": ("24e0886b01f5d4a9", "fcf9430f2ab1953b"),
    "checkpoints/v2": ("bc06910d88f35572", "2d87b7b022c764a8"),
    "checkpoints/v3": ("e5ec63a711b75188", "af27132fea33ae35"),
    "checkpoints/v4": ("918977d899dc150a", "88322a7cd9a5994c"),
    "checkpoints/v5": ("04a2654d34cbdc98", "4c17ee81535746b6"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FINGERPRINTS)
def test_stored_models_keep_the_fingerprints_that_code_files_were_written_with(name):
    pytest.importorskip("constriction")
    place = Path(vqvideo.__file__).parent if name.startswith("weights") else Path(__file__).parent
    generator = vqvideo.load(place / name)
    found = generator.vqvae.fingerprint(), PriorCoder(generator.prior).fingerprint
    assert tuple(each[:16] for each in found) == FINGERPRINTS[name]
