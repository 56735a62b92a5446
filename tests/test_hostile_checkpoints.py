"""A checkpoint from a stranger is refused with `CheckpointError`, fast and in little memory."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import resource
import shutil
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import vqvideo
from vqvideo import bounded_build
from vqvideo.checkpoint import CONFIG_NAME, WEIGHTS_NAME, CheckpointError
from vqvideo.config_v6 import KEYS, rename_keys
from vqvideo.config_versions import PART_REGISTRIES
from vqvideo.nets import ENCODERS
from vqvideo.text_files import parse_json

STORED = Path(__file__).parent / "checkpoints"
MAX_SECONDS, HANG_SECONDS, MAX_GROWTH_MB = 5, 60, 1000
IMAGE = {"sample_shape": (8, 12), "encoder": {"width": 8, "num_blocks": 1}}
IMAGE |= {"decoder": {"width": 8, "num_blocks": 1}, "quantizer": {"codebook_size": 7}}
IMAGE |= {"prior": {"width": 8, "num_layers": 2}}
SMALL = {"widths": (4, 4), "num_blocks": (1, 1)}
NETWORK = {"width": 8, "num_layers": 1}
MODELS = {
    "image": ("image", IMAGE),
    "finite-scalar": (
        "image",
        {
            **IMAGE,
            "quantizer": {"name": "finite-scalar", "levels": (3, 5)},
            "likelihood": "logistic-mixture",
            "prior": {"name": "transformer", **NETWORK, "num_heads": 1, "cond": {"num_classes": 2}},
        },
    ),
    "residual": (
        "image",
        {
            **IMAGE,
            "quantizer": {"name": "residual", "part": {"codebook_size": 7, "code_dim": 3}},
            "likelihood": {"name": "autoregressive", "prior": NETWORK},
            "prior": {"name": "vqvae", "strides": ((2, 2),), "width": 4, "bottom": NETWORK},
        },
    ),
    "video": (
        "video",
        {
            "encoder": SMALL,
            "decoder": SMALL,
            "quantizer": {"codebook_size": 7},
            "prior": {**NETWORK, "coordinates": True, "cond": {"num_actions": 3}},
        },
    ),
    "audio": (
        "audio",
        {
            "encoder": {"name": "mel", "width": 4},
            "decoder": {"name": "spectral", "width": 4, "hop_length": 160},
            "strides": ((160,),),
            "sample_shape": (1600,),
            "quantizer": {"codebook_size": 7, "code_dim": 3},
            "likelihood": "mel",
            "prior": {"name": "wavenet", **NETWORK},
        },
    ),
}
NESTED: Any = 1
for _ in range(50):
    NESTED = [NESTED]
VALUES = [
    *(None, True, False, 0, -1, 1, 3, 1.5, 10**5, 10**9, 2**40, 2**63, 2**64, 1e300, "x", ""),
    *("x" * 10**5, [], [8] * 10**5, [[2]] * 10**5, [10**9] * 2, [[10**9] * 3], ["x"] * 2, NESTED),
    *({}, {"name": "ema"}, {"name": "vqvae"}, {"num_classes": 2**40}, {"codebook_size": 10**9}),
    {"num_actions": 10**5, "action_names": [f"a{i}" for i in range(10**5)]},
]


def save_model(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """Save a small model and return its state dict."""
    model, changes = MODELS[name]
    generator = vqvideo.build(model, **changes)
    vqvideo.save(generator, folder)
    return generator.state_dict()


@contextlib.contextmanager
def limits(what: object) -> Iterator[None]:
    """Fail if the block takes more than 5 seconds of one core, or 1 GB; stop it if it hangs."""

    def stop(signum: int, frame: object) -> None:
        raise BaseException(f"{what} hangs")  # no handler catches it

    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    seconds = time.process_time() - start
    assert seconds < MAX_SECONDS, f"{what} takes {seconds:.1f} s"
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert growth < MAX_GROWTH_MB, f"{what} takes {growth:.0f} MB"


def is_refused_or_equal(folder: Path, state: dict[str, torch.Tensor], what: object) -> bool:
    """Load a forged checkpoint; return whether it is refused, and check it otherwise."""
    with limits(what):
        try:
            loaded = vqvideo.load(folder).state_dict()
        except CheckpointError as error:
            assert len(str(error)) < 5000, what
            return True
        except Exception as error:
            raise AssertionError(f"{what} ends in {type(error).__name__}: {error}") from error
    assert loaded.keys() == state.keys(), what
    for name, tensor in loaded.items():
        assert torch.equal(tensor, state[name]), (what, name)
    return False


def list_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a config, and of every option that its parts could have."""
    if path:
        yield path
    if isinstance(value, dict):
        options = set()
        for registry in PART_REGISTRIES.values():
            if value.get("name") in registry.list_names():
                options |= set(inspect.signature(registry.get(value["name"])).parameters)
        for key in sorted({*value, *options}):
            yield from list_paths(value.get(key), (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from list_paths(entry, (*path, index))


def replace_value(config: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    forged = json.loads(json.dumps(config))
    target = forged
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return forged


def write_config(folder: Path, config: Any) -> None:
    (folder / CONFIG_NAME).write_text(config if isinstance(config, str) else json.dumps(config))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_a_config_with_any_value_in_any_place_is_refused_or_loads_the_same(tmp_path, name):
    state = save_model(name, tmp_path / "m")
    config = json.loads((tmp_path / "m" / CONFIG_NAME).read_text())
    num_refused, start = 0, list(MODELS).index(name)  # most places are common to all models
    for index, path in enumerate(list_paths(config)):
        for value in VALUES[(start + index) % 6 :: 6]:
            write_config(tmp_path / "m", replace_value(config, path, value))
            what = (*path, repr(value)[:60])
            num_refused += is_refused_or_equal(tmp_path / "m", state, what)
    assert num_refused > 150


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", range(1, 6))
def test_an_old_config_with_any_value_in_any_place_is_refused_or_loads_the_same(tmp_path, version):
    shutil.copytree(STORED / f"v{version}", tmp_path / "m")
    state = vqvideo.load(tmp_path / "m").state_dict()
    config, num_refused = json.loads((tmp_path / "m" / CONFIG_NAME).read_text()), 0
    for index, path in enumerate(list_paths(config)):
        for value in VALUES[(version + index) % 12 :: 12]:
            write_config(tmp_path / "m", replace_value(config, path, value))
            what = (*path, repr(value)[:60])
            num_refused += is_refused_or_equal(tmp_path / "m", state, what)
    assert num_refused > 25


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The folder of a small saved model, and its state dict."""
    folder = tmp_path_factory.mktemp("hostile") / "m"
    return folder, save_model("image", folder)


@pytest.fixture
def forged(image, tmp_path) -> Path:
    """A copy of that folder, to be forged."""
    return shutil.copytree(image[0], tmp_path / "m")


HUGE = {
    "levels": (("quantizer",), {"name": "finite-scalar", "levels": [8] * 100_000}),
    "width": (("encoder", "width"), 4000),
    "huge width": (("encoder", "width"), 10**9),
    "blocks": (("encoder", "num_blocks"), 10**9),
    "layers": (("prior", "num_layers"), 10**9),
    "transformer": (("prior",), {"name": "transformer", "num_layers": 10**9}),
    "wavenet": (("prior",), {"name": "wavenet", "num_layers": 10**9}),
    "codebook": (("quantizer", "codebook_size"), 10**12),
    "codebooks": (("quantizer",), {"name": "product", "num_codebooks": 10**9}),
    "scalars": (
        ("quantizer",),
        {"name": "product", "num_codebooks": 10**9, "part": {"name": "finite-scalar"}},
    ),
    "channels": (("channels",), 10**9),
    "strides": (("strides",), [[3, 3]] * 10**5),
    "sample rate": (("rate",), 10**18),
    "classes": (("cond",), {"num_classes": 10**12}),
    "action names": (
        ("prior", "cond"),
        {"num_actions": 20_000, "action_names": [f"a{i}" for i in range(20_000)]},
    ),
    "mixture": (("likelihood",), {"name": "logistic-mixture", "num_mixtures": 10**12}),
    "timm": (("encoder",), {"name": "timm", "model": "no such model", "width": 10**9}),
}


SLOW = ("timm", "scalars", "strides")  # an import, and much of a small thing


@pytest.mark.parametrize("name", [name for name in HUGE if name not in SLOW])
def test_a_small_config_of_a_huge_model_is_refused_before_it_is_built(
    image, forged, name, monkeypatch
):
    monkeypatch.setattr(bounded_build, "BASE_TENSORS", 300)  # to be fast; see the next test
    check_huge(image, forged, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE)
def test_a_small_config_of_a_huge_model_is_refused_in_seconds(image, forged, name):
    check_huge(image, forged, name)


def check_huge(image: tuple[Path, dict[str, torch.Tensor]], forged: Path, name: str) -> None:
    path, value = HUGE[name]
    config = json.loads((forged / CONFIG_NAME).read_text())
    write_config(forged, replace_value(config, ("model", *path), value))
    refused = is_refused_or_equal(forged, image[1], name)
    assert refused != (name == "sample rate")  # it is no size, and this model does not use it


BAD_JSON = {
    "not UTF-8": b'{"format_version": 6, "\xff": 1}',
    "UTF-16": '{"format_version": 6}'.encode("utf-16"),
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100 + b"1" + b"}" * 100,
    "twice": b'{"format_version": 6, "format_version": 6}',
    "NaN": b'{"format_version": NaN}',
    "Infinity": b'{"format_version": -Infinity}',
    "1e999": b'{"format_version": 1e999}',
    "digits": b'{"format_version": 1' + b"0" * 4000 + b"}",
    "many digits": b'{"format_version": 1' + b"0" * 1_000_000 + b"}",
    "half a surrogate": b'{"format_version": 6, "model": "\\ud800"}',
    "large": b'{"format_version": 6, "x": "' + b"x" * 5_000_000 + b'"}',
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_a_config_that_is_no_strict_json_is_refused_as_such(forged, name):
    (forged / CONFIG_NAME).write_bytes(BAD_JSON[name])
    with limits(name), pytest.raises(CheckpointError, match=r"config\.json is not JSON: ") as error:
        vqvideo.load(forged)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "version", [True, False, 6.0, "6", None, 0, -1, [6]], ids=lambda version: repr(version)
)
def test_a_format_version_is_an_integer(forged, version):
    config = json.loads((forged / CONFIG_NAME).read_text())
    write_config(forged, {**config, "format_version": version})
    with pytest.raises(CheckpointError, match="must have an integer >= 1 as format version, got"):
        vqvideo.load(forged)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("quantizer", "cosine"), "false", "'cosine' must be true or false, got 'false'"),
        (("quantizer", "warmup_steps"), 1.5, "'warmup_steps' must be an integer, got 1.5"),
        (("encoder", "width"), True, "'width' must be an integer, got True"),
        (("prior", "dropout"), "0.1", "'dropout' must be a number, got '0.1'"),
        (("channels",), True, "channels must be an integer >= 1, got True"),
        (("rate",), -1, "rate must be a number >= 0, got -1"),
        (("commitment_weight",), "x", "commitment_weight must be a number >= 0, got 'x'"),
        (("sample_shape",), [8, 12.0], "sample_shape must be integers >= 1, got 12.0"),
        (("quantizer",), {"name": "finite-scalar", "levels": [5.0]}, "levels must be one or more"),
    ],
    ids=lambda value: None,
)
def test_an_option_of_another_type_is_refused_by_name(forged, path, value, said):
    config = json.loads((forged / CONFIG_NAME).read_text())
    write_config(forged, replace_value(config, ("model", *path), value))
    with pytest.raises(CheckpointError, match=said):
        vqvideo.load(forged)


def convert(tensor: torch.Tensor, kind: str) -> torch.Tensor:
    """Return a tensor of the same shape and another kind, with the same values where it can."""
    if kind == "nan":
        return torch.full_like(tensor, float("nan"))
    if kind == "inf":
        return torch.full_like(tensor, float("inf"))
    dtype = getattr(torch, kind)
    return torch.zeros(tensor.shape, dtype=dtype) if dtype.itemsize == 1 else tensor.to(dtype)


KINDS = ["bool", "uint8", "int8", "int16", "int32", "int64", "complex64", "float8_e4m3fn"]
KINDS += ["float8_e5m2", "nan", "inf"]
FITTING = ["float16", "bfloat16", "float64", "float32"]


@pytest.mark.parametrize("kind", KINDS + FITTING)
def test_weights_of_another_kind_are_refused_by_name(forged, kind):
    tensors = load_file(forged / WEIGHTS_NAME)
    name = "vqvae.encoder.layers.0.weight"
    save_file({**tensors, name: convert(tensors[name], kind)}, forged / WEIGHTS_NAME)
    if kind in FITTING:
        loaded = vqvideo.load(forged).state_dict()[name]
        assert torch.equal(loaded, tensors[name].to(getattr(torch, kind)).float())
        return
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        vqvideo.load(forged)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_of_every_other_kind_or_shape_is_refused(tmp_path, name):
    state = save_model(name, tmp_path / "m")
    tensors = load_file(tmp_path / "m" / WEIGHTS_NAME)
    for index, (key, tensor) in enumerate(tensors.items()):
        forged = {kind: convert(tensor, kind) for kind in KINDS if tensor.is_floating_point()}
        forged |= {kind: tensor.to(getattr(torch, kind)) for kind in FITTING}
        forged |= {"flat": tensor.flatten()[None], "empty": tensor.flatten()[:0]}
        forged["scale"] = None
        kind, value = list(forged.items())[index % len(forged)]
        if value is not None and (value.dtype, value.shape) == (tensor.dtype, tensor.shape):
            continue
        extra = {key: value} if value is not None else {f"{key}.int8_scale": torch.ones(1)}
        save_file({**tensors, **extra}, tmp_path / "m" / WEIGHTS_NAME)
        with contextlib.suppress(CheckpointError), limits((key, kind)):
            vqvideo.load(tmp_path / "m")
            assert kind in FITTING, (key, kind)
            assert tensor.is_floating_point(), (key, kind)
    assert state


SCALES = {
    "shorter": lambda scale: scale[:-1],
    "of one value": lambda scale: scale[:1],
    "a scalar": lambda scale: scale[0],
    "two axes": lambda scale: scale[:, None],
    "integers": lambda scale: torch.ones(len(scale), dtype=torch.int64),
    "nan": lambda scale: scale * float("nan"),
    "infinite": lambda scale: scale * float("inf"),
    "too large": lambda scale: scale * 0 + 3e38,
}


@pytest.mark.parametrize("name", SCALES)
def test_scales_that_do_not_fit_int8_weights_are_refused_by_name(tmp_path, name):
    vqvideo.save(vqvideo.build("image", **IMAGE), tmp_path / "m", dtype="int8")
    tensors = load_file(tmp_path / "m" / WEIGHTS_NAME)
    key = "vqvae.encoder.layers.0.weight"
    scale = SCALES[name](tensors[f"{key}.int8_scale"]).contiguous()
    save_file({**tensors, f"{key}.int8_scale": scale}, tmp_path / "m" / WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
        vqvideo.load(tmp_path / "m")


def test_weights_that_could_not_be_loaded_are_not_saved(tmp_path):
    generator = vqvideo.build("image", **IMAGE)
    vqvideo.save(generator, tmp_path / "m")
    weight = generator.vqvae.encoder.layers[0].weight
    before = (tmp_path / "m" / WEIGHTS_NAME).read_bytes()
    for value, dtype in ((float("nan"), "float32"), (float("inf"), "int8"), (1e5, "float16")):
        with torch.no_grad():
            weight[0, 0, 0, 0] = value
        said = rf"encoder\.layers\.0\.weight holds NaN or infinite values in {dtype}"
        with pytest.raises(ValueError, match=said):
            vqvideo.save(generator, tmp_path / "m", dtype=dtype, overwrite=True)
        assert (tmp_path / "m" / WEIGHTS_NAME).read_bytes() == before


def test_a_buffer_may_hold_infinity(image, forged):
    tensors = load_file(forged / WEIGHTS_NAME)
    tensors["vqvae.quantizer.usage_ema"].fill_(float("inf"))
    save_file(tensors, forged / WEIGHTS_NAME)
    assert vqvideo.load(forged).vqvae.quantizer.usage_ema.isinf().all()


def forge_header(file: Path, change: Any) -> None:
    """Change the JSON header of a safetensors file."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = change(json.loads(content[8 : 8 + length]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


HEADERS = {
    "other dtype": lambda header: {k: {**v, "dtype": "F4"} for k, v in header.items()},
    "unknown dtype": lambda header: {k: {**v, "dtype": "Q9"} for k, v in header.items()},
    "huge shape": lambda header: {k: {**v, "shape": [2**62, 4]} for k, v in header.items()},
    "negative shape": lambda header: {k: {**v, "shape": [-1]} for k, v in header.items()},
    "no shape": lambda header: {k: {**v, "shape": []} for k, v in header.items()},
    "outside": lambda header: {k: {**v, "data_offsets": [0, 2**60]} for k, v in header.items()},
    "empty": lambda header: {},
    "list": lambda header: [],
    "deep": lambda header: b"[" * 10**5,
    "not UTF-8": lambda header: b'{"\xff": 1}',
    "many names": lambda header: {
        f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(10**4)
    },
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_forged_header_of_the_weights_is_refused(image, forged, name):
    forge_header(forged / WEIGHTS_NAME, HEADERS[name])
    assert is_refused_or_equal(forged, image[1], name)


@pytest.mark.slow
def test_a_flipped_bit_in_the_header_of_the_weights_is_refused_or_changes_nothing(image, forged):
    content, num_refused = (forged / WEIGHTS_NAME).read_bytes(), 0
    for position in range(0, 8 + struct.unpack("<Q", content[:8])[0], 7):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        (forged / WEIGHTS_NAME).write_bytes(bytes(flipped))
        num_refused += is_refused_or_equal(forged, image[1], position)
    assert num_refused > 100


@pytest.mark.parametrize("file", [CONFIG_NAME, WEIGHTS_NAME, "NOTICE"])
@pytest.mark.parametrize("what", ["folder", "bytes", "fifo"])
def test_a_file_of_another_kind_is_refused(forged, file, what):
    (forged / file).unlink(missing_ok=True)
    if what == "folder":
        (forged / file).mkdir()
    elif what == "fifo":
        os.mkfifo(forged / file)
    else:
        (forged / file).write_bytes(b"\xff\xfe\x00")
    with limits(what):
        if file == "NOTICE" and what != "bytes":
            assert vqvideo.load(forged).notice is None
            return
        with pytest.raises(CheckpointError):
            vqvideo.load(forged)


def rename_by_trying(key: str, expected: set[str]) -> str:
    """Rename a key by trying every combination of old and new names."""
    keys = [""]
    for name in key.split("."):
        choices = [name, KEYS[name]] if name in KEYS else [name]
        keys = [f"{start}.{choice}" for start in keys for choice in choices]
    keys = [each[1:] for each in keys]
    found = [each for each in keys if each in expected or each.rpartition(".")[0] in expected]
    return found[0] if found else key


def test_old_names_are_renamed_as_by_trying_all_and_in_linear_time():
    words = ["load", "usage_ema", "wide", "conv1", "weight", "x"]
    keys = [f"{a}.{b}.{c}" for a in words for b in words for c in words]
    for seed in range(5):
        chosen = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))[:40]
        expected = {keys[index] for index in chosen}
        for key in keys:
            assert rename_keys({key: 1}, KEYS, expected) == {rename_by_trying(key, expected): 1}
    start = time.perf_counter()
    long = ".".join(["load"] * 1000)
    assert rename_keys({long: 1}, KEYS, {"usage_ema"}) == {long: 1}
    assert time.perf_counter() - start < 1


def test_a_name_stored_under_its_old_and_its_new_name_is_not_lost():
    both = {"a.load": 1, "a.usage_ema": 2}
    assert rename_keys(both, KEYS, {"a.usage_ema"}) == both


def test_strict_json_reads_what_json_writes():
    value = {"a": [1, -2.5, None, True, "ü\n", {"b": {}}], "c": 2**64}
    assert parse_json(json.dumps(value)) == value
    assert parse_json('{"a": Infinity}', allow_nan=True) == {"a": float("inf")}


@pytest.mark.parametrize("name", MODELS)
def test_built_in_parts_need_no_memory_to_be_described(name):
    model, changes = MODELS[name]
    described = bounded_build.build_bounded(lambda: vqvideo.build(model, **changes), 1000, 0)
    assert all(tensor.is_meta for tensor in described.state_dict().values())


@pytest.mark.slow
def test_a_part_that_needs_values_while_it_is_built_is_loaded_all_the_same(tmp_path, monkeypatch):
    def measuring(**options: Any) -> Any:
        assert float(torch.ones(3).sum()) == 3  # torch refuses this on the device meta
        return ENCODERS.get("conv")(**options)

    monkeypatch.setitem(ENCODERS._builders, "measuring", measuring)
    encoder = {**IMAGE["encoder"], "name": "measuring"}
    generator = vqvideo.build("image", **{**IMAGE, "encoder": encoder})
    vqvideo.save(generator, tmp_path / "m")
    assert not is_refused_or_equal(tmp_path / "m", generator.state_dict(), "measuring")
    config = json.loads((tmp_path / "m" / CONFIG_NAME).read_text())
    path = ("model", "encoder", "num_blocks")
    write_config(tmp_path / "m", replace_value(config, path, 10**9))
    assert is_refused_or_equal(tmp_path / "m", {}, path)


def test_the_draws_after_a_load_do_not_depend_on_the_check(image):
    """The model is described twice, but only the one in memory draws its weights."""
    torch.manual_seed(0)
    vqvideo.build("image", **IMAGE)
    expected = torch.rand(3)
    torch.manual_seed(0)
    vqvideo.load(image[0])
    assert torch.equal(torch.rand(3), expected)
