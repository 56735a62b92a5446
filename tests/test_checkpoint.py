"""Checkpoints come back bit for bit, or not at all; writing one never costs the old one."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import vqvideo
from vqvideo import checkpoint
from vqvideo.checkpoint import (
    CONFIG_NAME,
    FORMAT_VERSION,
    WEIGHTS_NAME,
    CheckpointError,
)
from vqvideo.config_v6 import KEYS, OPTIONS, rename_keys
from vqvideo.config_versions import (
    PART_REGISTRIES,
    upgrade_header,
)
from vqvideo.generator import Generator
from vqvideo.likelihoods import LIKELIHOODS
from vqvideo.nets import DECODERS, ENCODERS
from vqvideo.priors import PRIORS
from vqvideo.weights_format import SCALE_SUFFIX

TINY = {
    "sample_shape": (8, 12),
    "encoder": {"width": 8, "num_blocks": 1},
    "quantizer": {"codebook_size": 7, "code_dim": 3},
    "decoder": {"width": 8, "num_blocks": 1},
    "prior": {"width": 8, "num_layers": 2, "first_kernel_size": 3},
}


def build(seed: int = 0, **changes) -> Generator:
    """A tiny model in which no weight and no statistic has the value it is built with."""
    torch.manual_seed(seed)
    generator = vqvideo.build("image", **{**TINY, **changes})
    for tensor in generator.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) - 0.4)
        elif tensor.dtype == torch.bool:
            tensor.logical_not_()
    return generator


@pytest.fixture
def saved_folder(tmp_path: Path) -> Path:
    vqvideo.save(build(), tmp_path / "run")
    return tmp_path / "run"


def rewrite_header(folder: Path, **changes) -> None:
    header = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps({**header, **changes}))


def assert_same_weights(a: Generator, b: Generator) -> None:
    first, second = a.state_dict(), b.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert second[name].dtype == tensor.dtype, name
        assert torch.equal(second[name], tensor), name


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- there and back -------------------------------------------------------------------------


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    generator = build().train()
    vqvideo.save(generator, tmp_path / "new" / "run")  # parents are made
    assert list_names(tmp_path / "new" / "run") == [CONFIG_NAME, WEIGHTS_NAME]
    again = vqvideo.load(str(tmp_path / "new" / "run"))
    assert_same_weights(generator, again)
    assert again.config == generator.config
    assert not any(part.training for part in again.modules())
    x = torch.rand(2, 3, 8, 12) * 2 - 1
    generator.eval()
    assert torch.equal(again.vqvae.encode(x), generator.vqvae.encode(x))
    assert torch.equal(again.sample(seed=5), generator.sample(seed=5))


def test_a_model_without_a_prior_comes_back_without_one(tmp_path):
    generator = build()
    generator.prior = None
    vqvideo.save(generator, tmp_path / "run")
    again = vqvideo.load(tmp_path / "run")
    assert again.prior is None
    assert_same_weights(generator, again)


def test_saving_changes_nothing_in_the_model(tmp_path):
    generator, same = build(), build()
    vqvideo.save(generator, tmp_path / "run", dtype="float16")
    assert_same_weights(generator, same)


QUANTIZERS = pytest.mark.parametrize("quantizer", ["ema", "vector"])  # a buffer, a parameter


def build_with(quantizer: str) -> Generator:
    return build(quantizer={"name": quantizer, "codebook_size": 7, "code_dim": 3})


def get_non_quantizer_state(generator: Generator) -> set[str]:
    names = {name for name, _ in generator.named_parameters()}
    return {name for name in names if not name.startswith("vqvae.quantizer.")}


@QUANTIZERS
def test_half_precision_on_disk_is_for_parameters_and_single_precision_in_memory(
    tmp_path, quantizer
):
    generator = build_with(quantizer)
    vqvideo.save(generator, tmp_path / "half", dtype="float16")
    assert json.loads((tmp_path / "half" / CONFIG_NAME).read_text())["dtype"] == "float16"
    parameters = get_non_quantizer_state(generator)
    on_disk = load_file(tmp_path / "half" / WEIGHTS_NAME)
    for name, tensor in generator.state_dict().items():
        expected = tensor.half() if name in parameters else tensor
        assert on_disk[name].dtype == expected.dtype, name
        assert torch.equal(on_disk[name], expected), name
    again = vqvideo.load(tmp_path / "half")
    for name, tensor in again.state_dict().items():
        expected = generator.state_dict()[name]
        assert tensor.dtype == expected.dtype, name
        assert torch.equal(tensor, expected.half().float() if name in parameters else expected)
    # The codebook is stored as it is, so the codes an encoder output gets do not move.
    assert torch.equal(again.vqvae.quantizer.codebook, generator.vqvae.quantizer.codebook)


@QUANTIZERS
def test_int8_on_disk_rounds_the_rows_of_weights_with_two_axes_and_nothing_else(
    tmp_path, quantizer
):
    generator = build_with(quantizer)
    state = generator.state_dict()
    rounded = {name for name in get_non_quantizer_state(generator) if state[name].ndim >= 2}
    assert {state[name].ndim for name in rounded} >= {2, 4}
    zeros = min(rounded)
    state[zeros][0] = 0  # a row without a scale of its own
    vqvideo.save(generator, tmp_path / "int8", dtype="int8")
    assert json.loads((tmp_path / "int8" / CONFIG_NAME).read_text())["dtype"] == "int8"

    on_disk = load_file(tmp_path / "int8" / WEIGHTS_NAME)
    assert set(on_disk) == set(state) | {name + SCALE_SUFFIX for name in rounded}
    again = vqvideo.load(tmp_path / "int8").state_dict()
    for name, tensor in state.items():
        assert again[name].dtype == tensor.dtype, name
        if name not in rounded:
            assert on_disk[name].dtype == tensor.dtype, name
            assert torch.equal(on_disk[name], tensor), name
            assert torch.equal(again[name], tensor), name
            continue
        rows, scale = tensor.flatten(1), on_disk[name + SCALE_SUFFIX]
        assert on_disk[name].dtype == torch.int8, name
        assert on_disk[name].shape == tensor.shape, name
        largest = rows.abs().amax(dim=1)
        torch.testing.assert_close(scale * 127, largest, rtol=1e-6, atol=1e-9)
        error = (again[name].flatten(1) - rows).abs()
        assert (error <= scale[:, None] * 0.5001).all(), name  # the nearest of 255 steps
        stored_as = on_disk[name].flatten(1).abs().amax(dim=1)
        assert torch.equal(stored_as[largest > 0], torch.full_like(stored_as, 127)[largest > 0])
    assert not again[zeros][0].any()


def test_int8_again_changes_next_to_nothing(tmp_path):
    vqvideo.save(build(), tmp_path / "once", dtype="int8")
    once = vqvideo.load(tmp_path / "once")
    vqvideo.save(once, tmp_path / "twice", dtype="int8")
    twice = vqvideo.load(tmp_path / "twice").state_dict()
    for name, tensor in once.state_dict().items():
        torch.testing.assert_close(twice[name], tensor, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["bfloat16", "int4", "", None, torch.float16], ids=str)
def test_weights_of_an_unknown_type_are_not_written(tmp_path, dtype):
    with pytest.raises(ValueError, match=r"^dtype must be float32, float16, int8, got ") as refused:
        vqvideo.save(build(), tmp_path / "new" / "run", dtype=dtype)
    assert str(refused.value).endswith(repr(dtype))
    assert list_names(tmp_path) == []


def test_the_header_says_what_is_stored_in_plain_json(saved_folder):
    header = json.loads((saved_folder / CONFIG_NAME).read_text())
    assert header == {
        "format_version": FORMAT_VERSION,
        "dtype": "float32",
        "has_prior": True,
        "model": json.loads(json.dumps(build().config.to_dict())),
        "plugins": [],
    }


def test_a_generator_put_together_by_hand_cannot_be_saved(tmp_path):
    generator = build()
    with pytest.raises(ValueError, match=r"only a generator built from a config can be saved; see"):
        vqvideo.save(Generator(generator.vqvae, generator.prior), tmp_path / "run")
    assert list_names(tmp_path) == []


# -- what is no checkpoint ------------------------------------------------------------------


def test_a_folder_that_does_not_exist_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint folder .*nowhere"):
        vqvideo.load(tmp_path / "nowhere")


def test_another_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"is no checkpoint: it has no config\.json"):
        vqvideo.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"not json", b"\xff\xfe\x00\x80"], ids=["empty", "half", "text", "bytes"]
)
def test_a_header_that_is_not_json_is_named(saved_folder, content):
    (saved_folder / CONFIG_NAME).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run/config\.json is not JSON"):
        vqvideo.load(saved_folder)


@pytest.mark.parametrize("content", ["[]", "3", "{}", f'{{"format_version": {FORMAT_VERSION}}}'])
def test_json_that_is_no_header_is_refused_with_what_a_header_holds(saved_folder, content):
    (saved_folder / CONFIG_NAME).write_text(content)
    with pytest.raises(
        CheckpointError,
        match=r"must hold exactly dtype, format_version, has_prior, model, plugins$",
    ):
        vqvideo.load(saved_folder)


def test_an_entry_too_many_in_the_header_is_refused(saved_folder):
    rewrite_header(saved_folder, licence="free")
    with pytest.raises(CheckpointError, match="must hold exactly dtype"):
        vqvideo.load(saved_folder)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "int4"},
        {"dtype": None},
        {"dtype": ["int8"]},
        {"has_prior": 1},
        {"has_prior": "yes"},
        {"model": "image"},
        {"model": None},
    ],
    ids=str,
)
def test_a_header_with_an_entry_of_another_kind_is_refused(saved_folder, change):
    rewrite_header(saved_folder, **change)
    with pytest.raises(CheckpointError, match=r"run/config\.json must hold exactly dtype"):
        vqvideo.load(saved_folder)


ORIGIN = {"kind": "prior", "name": "spiral", "package": "spirals", "version": "1.0"}


@pytest.mark.parametrize(
    "plugins",
    [
        None,
        {},
        ["spirals"],
        [{**ORIGIN, "version": 1}],
        [{**ORIGIN, "kind": "model"}],
        [{**ORIGIN, "colour": "red"}],
        [{}],
    ],
    ids=str,
)
def test_a_header_says_of_plugins_four_words_each_and_nothing_else(saved_folder, plugins):
    rewrite_header(saved_folder, plugins=plugins)
    with pytest.raises(CheckpointError, match="must hold exactly dtype"):
        vqvideo.load(saved_folder)
    rewrite_header(saved_folder, plugins=[ORIGIN])
    assert_same_weights(vqvideo.load(saved_folder), build())


@pytest.mark.parametrize("news", [{}, {"tokenizer": "none"}], ids=["same entries", "more entries"])
def test_a_newer_format_asks_for_a_newer_version(saved_folder, news):
    rewrite_header(saved_folder, format_version=FORMAT_VERSION + 1, **news)
    complaint = f"has format version {FORMAT_VERSION + 1}; this vqvideo reads .*: install a newer"
    with pytest.raises(CheckpointError, match=complaint):
        vqvideo.load(saved_folder)


def test_a_config_with_an_entry_nobody_knows_is_refused(saved_folder):
    model = json.loads((saved_folder / CONFIG_NAME).read_text())["model"]
    rewrite_header(saved_folder, model={**model, "colour": 3})
    complaint = r"run/config\.json: config entry 'colour' is unknown"
    with pytest.raises(CheckpointError, match=complaint):
        vqvideo.load(saved_folder)


PARTS = {
    "encoder": "conv, mel, patchify, timm",
    "quantizer": "ema, finite-scalar, product, residual, vector",
    "decoder": "conv, patchify, spectral",
    "likelihood": "autoregressive, bernoulli, categorical, gaussian, logistic-mixture, mel",
    "prior": "masked3d, pixelcnn, transformer, vqvae, wavenet",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_nobody_registered_is_named_and_never_imported(saved_folder, part):
    model = json.loads((saved_folder / CONFIG_NAME).read_text())["model"]
    rewrite_header(saved_folder, model={**model, part: "os:system"})
    complaint = rf"run/config\.json: unknown {part} 'os:system'; known: {PARTS[part]}"
    with pytest.raises(CheckpointError, match=complaint):
        vqvideo.load(saved_folder)


def test_a_checkpoint_without_a_prior_does_not_need_the_priors_part(tmp_path):
    generator = build()
    generator.prior = None
    vqvideo.save(generator, tmp_path / "run")
    model = json.loads((tmp_path / "run" / CONFIG_NAME).read_text())["model"]
    rewrite_header(tmp_path / "run", model={**model, "prior": "of a plugin that is gone"})
    again = vqvideo.load(tmp_path / "run")
    assert again.prior is None
    assert_same_weights(again, generator)
    x = torch.rand(2, 3, 8, 12) * 2 - 1
    generator.eval()
    assert torch.equal(again.vqvae.encode(x), generator.vqvae.encode(x))


# -- weights that do not fit ----------------------------------------------------------------


def test_missing_and_extra_weights_are_both_named(saved_folder):
    tensors = load_file(saved_folder / WEIGHTS_NAME)
    tensors["prior.head.9.weight"] = tensors.pop("prior.head.hidden.0.weight")
    save_file(tensors, saved_folder / WEIGHTS_NAME)
    with pytest.raises(
        CheckpointError,
        match=r"does not fit its config: missing prior\.head\.hidden\.0\.weight; "
        r"extra prior\.head\.9\.weight$",
    ):
        vqvideo.load(saved_folder)


@pytest.mark.parametrize(("drop", "extra"), [(True, "nothing"), (False, "some.thing")])
def test_one_weight_too_few_or_too_many_is_enough_to_refuse(saved_folder, drop, extra):
    tensors = load_file(saved_folder / WEIGHTS_NAME)
    if drop:
        del tensors["vqvae.quantizer.initialized"]  # a flag is as much a part as a weight
    else:
        tensors["some.thing"] = torch.zeros(1)
    save_file(tensors, saved_folder / WEIGHTS_NAME)
    missing = "vqvae.quantizer.initialized" if drop else "nothing"
    with pytest.raises(CheckpointError, match=f"missing {missing}; extra {extra}$"):
        vqvideo.load(saved_folder)


def test_a_prior_that_the_header_does_not_speak_of_is_extra(saved_folder):
    rewrite_header(saved_folder, has_prior=False)
    with pytest.raises(CheckpointError, match=r"missing nothing; extra prior\."):
        vqvideo.load(saved_folder)


def test_a_weight_of_another_shape_is_named_with_both_shapes(saved_folder):
    tensors = load_file(saved_folder / WEIGHTS_NAME)
    tensors["vqvae.quantizer.codebook"] = tensors["vqvae.quantizer.codebook"][:5].clone()
    save_file(tensors, saved_folder / WEIGHTS_NAME)
    with pytest.raises(
        CheckpointError,
        match=r"vqvae\.quantizer\.codebook has shape \[5, 3\], its config builds \[7, 3\]",
    ):
        vqvideo.load(saved_folder)


def test_rounded_weights_without_their_scale_are_refused(tmp_path):
    vqvideo.save(build(), tmp_path / "run", dtype="int8")
    tensors = load_file(tmp_path / "run" / WEIGHTS_NAME)
    lost = min(name for name in tensors if name.endswith(SCALE_SUFFIX))
    del tensors[lost]
    save_file(tensors, tmp_path / "run" / WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match=lost.removesuffix(SCALE_SUFFIX).replace(".", r"\.")):
        vqvideo.load(tmp_path / "run")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_damaged_weights_are_named_by_file(saved_folder, keep):
    weights = saved_folder / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"run/model\.safetensors cannot be read: "):
        vqvideo.load(saved_folder)


def test_missing_weights_are_named_by_file(saved_folder):
    (saved_folder / WEIGHTS_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"run/model\.safetensors cannot be read: "):
        vqvideo.load(saved_folder)


# -- writing over an old one ----------------------------------------------------------------


def test_an_existing_folder_is_written_over_only_when_asked(saved_folder):
    before = (saved_folder / WEIGHTS_NAME).read_bytes()
    with pytest.raises(FileExistsError, match=r"run exists; choose another folder or overwrite=T"):
        vqvideo.save(build(seed=1), saved_folder)
    assert (saved_folder / WEIGHTS_NAME).read_bytes() == before


def test_overwriting_replaces_everything_and_leaves_nothing_else_behind(saved_folder, tmp_path):
    newer = build(seed=1, quantizer={"codebook_size": 9, "code_dim": 3})
    vqvideo.save(newer, saved_folder, overwrite=True)
    assert list_names(saved_folder) == [CONFIG_NAME, WEIGHTS_NAME]
    assert list_names(tmp_path) == ["run"]
    assert_same_weights(vqvideo.load(saved_folder), newer)


@pytest.mark.parametrize("foreign", ["old-notes.txt", ".git", "model"])
def test_a_folder_that_holds_anything_else_is_never_replaced(saved_folder, tmp_path, foreign):
    if foreign == "old-notes.txt":
        (saved_folder / foreign).write_text("of the old model")
    else:
        (saved_folder / foreign).mkdir()
    complaint = rf"run holds '{foreign}', which is no part of a checkpoint; choose another folder"
    with pytest.raises(FileExistsError, match=complaint):
        vqvideo.save(build(seed=1), saved_folder, overwrite=True)
    assert list_names(saved_folder) == sorted([CONFIG_NAME, WEIGHTS_NAME, foreign])
    assert list_names(tmp_path) == ["run"]
    assert_same_weights(vqvideo.load(saved_folder), build())


@pytest.mark.parametrize("name", ["clip.mp4", CONFIG_NAME, WEIGHTS_NAME])
def test_a_file_is_never_replaced_by_a_folder(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=name.replace(".", r"\.")):
        vqvideo.save(build(), tmp_path / name, overwrite=True)
    assert list_names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_an_empty_folder_is_filled_when_overwriting_is_allowed(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(FileExistsError, match="run exists"):
        vqvideo.save(build(), tmp_path / "run")
    vqvideo.save(build(), tmp_path / "run", overwrite=True)
    assert_same_weights(vqvideo.load(tmp_path / "run"), build())


@pytest.fixture
def between_renames(saved_folder, tmp_path) -> Path:
    """A crash came after the old folder was moved away and before the new one took its place."""
    saved_folder.rename(tmp_path / ".run.old")
    (tmp_path / ".run.1.tmp").mkdir()  # the new one; who wrote it is gone
    (tmp_path / ".run.1.tmp" / WEIGHTS_NAME).write_bytes(b"whole, but nobody knows")
    return saved_folder


def test_loading_after_a_crash_between_the_two_renames_finds_the_old_one(between_renames):
    assert_same_weights(vqvideo.load(between_renames), build())
    assert list_names(between_renames.parent) == [
        ".run.1.tmp",
        ".run.old",
    ]  # a reader moves nothing
    assert_same_weights(vqvideo.load(between_renames), build())


def test_saving_after_a_crash_between_the_two_renames_does_not_cost_the_old_one(between_renames):
    with pytest.raises(FileExistsError, match=r"run exists; choose another folder or overwrite=T"):
        vqvideo.save(build(seed=1), between_renames)
    assert_same_weights(vqvideo.load(between_renames), build())


def test_saving_over_after_a_crash_between_the_two_renames_replaces_the_old_one(between_renames):
    vqvideo.save(build(seed=1), between_renames, overwrite=True)
    assert list_names(between_renames.parent) == [".run.1.tmp", "run"]
    assert_same_weights(vqvideo.load(between_renames), build(seed=1))


def test_a_crash_while_writing_leaves_the_old_checkpoint(saved_folder, tmp_path, monkeypatch):
    def half_written(tensors, file):
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", half_written)
    with pytest.raises(OSError, match="no space left"):
        vqvideo.save(build(seed=1), saved_folder, overwrite=True)
    assert list_names(tmp_path) == ["run"]
    assert_same_weights(vqvideo.load(saved_folder), build())


def test_a_crash_while_writing_a_first_checkpoint_leaves_nothing(tmp_path, monkeypatch):
    def fail(tensors, file):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        vqvideo.save(build(), tmp_path / "run")
    assert list_names(tmp_path) == []


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_checkpoint(saved_folder, monkeypatch):
    rename = Path.rename

    def refuse(path, target):
        if path.suffix == ".tmp":  # the new folder, complete under its temporary name
            raise OSError("permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="permission denied"):
        vqvideo.save(build(seed=1), saved_folder, overwrite=True)
    assert list_names(saved_folder.parent) == ["run"]
    assert_same_weights(vqvideo.load(saved_folder), build())


def test_what_an_earlier_crash_left_is_not_in_the_way(saved_folder, tmp_path):
    for name in (".run.old", f".run.{checkpoint.os.getpid()}.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / WEIGHTS_NAME).write_bytes(b"half")
    vqvideo.save(build(seed=1), saved_folder, overwrite=True)
    assert list_names(tmp_path) == ["run"]
    assert_same_weights(vqvideo.load(saved_folder), build(seed=1))


def test_a_checkpoint_can_be_read_and_replaced_from_inside(saved_folder, monkeypatch):
    monkeypatch.chdir(saved_folder)
    assert_same_weights(vqvideo.load("."), build())
    vqvideo.save(build(seed=1), ".", overwrite=True)
    assert_same_weights(vqvideo.load(saved_folder), build(seed=1))


def test_a_reader_moves_nothing_that_a_writer_has_set_aside(saved_folder):
    aside = saved_folder.with_name(f".{saved_folder.name}.old")
    saved_folder.rename(aside)
    assert_same_weights(vqvideo.load(saved_folder), build())
    assert aside.is_dir()
    assert not saved_folder.exists()


def test_a_linked_checkpoint_can_be_overwritten_again_and_again(saved_folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(saved_folder, target_is_directory=True)
    for seed in (1, 2):
        vqvideo.save(build(seed=seed), link, overwrite=True)
        assert_same_weights(vqvideo.load(saved_folder), build(seed=seed))
    assert link.is_symlink()


def test_a_notice_beside_the_weights_is_no_foreign_file(saved_folder):
    (saved_folder / "NOTICE").write_text("by the authors of the data")
    vqvideo.save(build(seed=1), saved_folder, overwrite=True)
    assert_same_weights(vqvideo.load(saved_folder), build(seed=1))


def test_a_buffer_of_small_integers_needs_no_scale(saved_folder, monkeypatch):
    tensors = load_file(saved_folder / WEIGHTS_NAME)
    original = checkpoint.build_generator

    def with_buffer(config, **options):
        generator = original(config, **options)
        generator.vqvae.register_buffer("levels", torch.zeros(3, dtype=torch.int8))
        return generator

    monkeypatch.setattr(checkpoint, "build_generator", with_buffer)
    levels = torch.tensor([1, 2, 3], dtype=torch.int8)
    save_file({**tensors, "vqvae.levels": levels}, saved_folder / WEIGHTS_NAME)
    assert torch.equal(vqvideo.load(saved_folder).vqvae.levels, levels)


def test_a_stored_model_never_asks_for_weights_from_elsewhere(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    create, asked = timm.create_model, []

    def offline(name, pretrained=False, **options):
        asked.append(pretrained)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    changes = {"sample_shape": (64, 64), "encoder": {"name": "timm", "pretrained": True}}
    generator = vqvideo.build("image", **{**TINY, **changes})
    assert True in asked
    asked.clear()
    vqvideo.save(generator, tmp_path / "run")
    assert_same_weights(vqvideo.load(tmp_path / "run"), generator)
    assert True not in asked


def test_a_stored_model_does_not_need_the_file_of_weights_that_it_began_from(tmp_path):
    timm = pytest.importorskip("timm")
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    encoder = {"name": "timm", "model": "test_resnet", "width": 8, "weights": str(file)}
    generator = vqvideo.build("image", **{**TINY, "encoder": encoder})
    first = generator.vqvae.encoder.backbone.conv1[0].weight
    assert torch.equal(first, load_file(file)["conv1.0.weight"])
    vqvideo.save(generator, tmp_path / "run")
    file.unlink()
    again = vqvideo.load(tmp_path / "run")
    assert_same_weights(again, generator)
    assert again.config.encoder.options["weights"] is None
    assert generator.config.encoder.options["weights"] == str(file)


@pytest.fixture
def fakes(monkeypatch):
    """Parts with an option called `weights`, of which the encoder alone can fetch some."""

    def soft(*, weights="hard", **options):
        return PRIORS.get("pixelcnn")(**options)

    def weighted(*, weights="hard", **options):
        return DECODERS.get("conv")(**options)

    def fetching(*, pretrained=False, weights=None, **options):
        return ENCODERS.get("conv")(**options)

    for registry, fake in ((PRIORS, soft), (DECODERS, weighted), (ENCODERS, fetching)):
        monkeypatch.setitem(registry._builders, fake.__name__, fake)


def test_weights_means_a_file_only_to_an_encoder_or_decoder_that_can_fetch_them(tmp_path, fakes):
    """To other parts the word may mean anything."""
    changes = {
        "prior": {**TINY["prior"], "name": "soft", "weights": "soft"},
        "decoder": {**TINY["decoder"], "name": "weighted", "weights": "soft"},
    }
    generator = vqvideo.build("image", **{**TINY, **changes})
    vqvideo.save(generator, tmp_path / "run")
    again = vqvideo.load(tmp_path / "run").config
    assert again.prior.options["weights"] == "soft"
    assert again.decoder.options["weights"] == "soft"
    model = {
        "encoder": {"name": "fetching", "pretrained": True, "weights": "a.pth"},
        "decoder": {"name": "of nobody", "weights": "a.pth"},
        "likelihood": "gaussian",
    }
    found = checkpoint.disable_pretrained(model)
    assert found["encoder"] == {"name": "fetching", "pretrained": False, "weights": None}
    assert found["decoder"] == model["decoder"]
    assert found["likelihood"] == "gaussian"


@pytest.mark.parametrize("change", [{"sample_shape": 5}, {"strides": 2}, {"channels": "x"}])
def test_a_config_of_wrong_types_is_a_checkpoint_error(saved_folder, change):
    model = json.loads((saved_folder / CONFIG_NAME).read_text())["model"]
    rewrite_header(saved_folder, model={**model, **change})
    with pytest.raises(CheckpointError, match=r"config\.json"):
        vqvideo.load(saved_folder)


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION))
def test_a_checkpoint_of_each_older_format_gives_what_it_gave(version):
    stored = Path(__file__).parent / "checkpoints" / f"v{version}"
    generator, gave = vqvideo.load(stored), load_file(stored.with_suffix(".safetensors"))
    codes = generator.vqvae.encode(gave["x"])
    assert torch.equal(codes, gave["codes"])
    torch.testing.assert_close(generator.vqvae.decode(codes), gave["again"], rtol=1e-4, atol=1e-5)
    nats = -generator.prior.log_prob(codes)
    torch.testing.assert_close(nats, gave["nats"], rtol=1e-4, atol=1e-4)


def make_config_of_format(version: int, encoder: dict) -> dict:
    told = {"cond": {}} if version >= 4 else {}
    whose = {"plugins": []} if version >= 5 else {}
    model = {"channels": 3, "encoder": encoder, **told}
    return {"format_version": version, "model": model, **whose}


@pytest.mark.parametrize("version", [1, 2])
def test_a_timm_encoder_of_an_older_format_names_its_model_and_has_no_blocks(version):
    old = {"name": "timm", "backbone": "resnet18", "pretrained": False}
    then = {"name": "timm", "num_blocks": 0, "normalize": False}
    new = {**then, "model": "resnet18", "pretrained": False}
    assert upgrade_header(make_config_of_format(version, old)) == make_config_of_format(
        FORMAT_VERSION, new
    )
    assert upgrade_header(
        make_config_of_format(version, {"name": "timm"})
    ) == make_config_of_format(FORMAT_VERSION, then)
    assert upgrade_header(make_config_of_format(FORMAT_VERSION, old)) == make_config_of_format(
        FORMAT_VERSION, old
    )


def test_other_encoders_of_format_2_stay_as_they_are():
    other = {"name": "of a plugin", "backbone": "resnet18"}
    assert upgrade_header(make_config_of_format(2, other)) == make_config_of_format(
        FORMAT_VERSION, other
    )


def test_a_decoder_of_format_3_has_no_conditions():
    other = {"name": "conv", "width": 5}
    model = {"channels": 3, "encoder": other, "cond": {}}
    today = {"format_version": FORMAT_VERSION, "model": model, "plugins": []}
    assert upgrade_header(make_config_of_format(3, other)) == today
    stored = Path(__file__).parent / "checkpoints" / "v3"
    assert "cond" not in json.loads((stored / CONFIG_NAME).read_text())["model"]
    generator = vqvideo.load(stored)
    assert generator.vqvae.cond.is_empty
    assert generator.config.cond == {}


def test_networks_of_format_1_keep_their_relu_when_they_are_saved_anew(tmp_path):
    vqvideo.save(vqvideo.load(Path(__file__).parent / "checkpoints" / "v1"), tmp_path / "now")
    header = json.loads((tmp_path / "now" / "config.json").read_text())
    assert header["format_version"] == FORMAT_VERSION
    assert (
        header["model"]["encoder"]["linear_init"]
        is header["model"]["decoder"]["linear_init"]
        is False
    )


def test_renamed_options_exist_and_the_old_ones_do_not():
    for (kind, name), renamed in OPTIONS.items():
        options = set(inspect.signature(PART_REGISTRIES[kind].get(name)).parameters)
        assert set(renamed.values()) <= options
        assert not set(renamed) & options


def test_renamed_weights_exist_and_the_old_ones_do_not():
    cond = {"num_actions": 3, "actions_per_code": 2, "num_classes": 2}
    sizes, video = {"width": 8, "num_layers": 2}, {"rank": 3, "codebook_size": 5}
    data = {"rank": 2, "channels": 3, "z_channels": 4, "strides": ((2, 2), (2, 2))}
    parts = [
        PART_REGISTRIES["quantizer"].build("ema", {"codebook_size": 5, "code_dim": 3}),
        ENCODERS.build("conv", {"width": 8}, **data),
        ENCODERS.build("timm", {"model": "resnet18", "num_blocks": 1}, **data),
        PRIORS.build("masked3d", {**sizes, "coordinates": True, "cond": cond}, **video),
        PRIORS.build(
            "transformer", {**sizes, "num_heads": 1, "cond": cond}, num_codebooks=2, **video
        ),
        LIKELIHOODS.build("gaussian"),
    ]
    words = {word for part in parts for key in part.state_dict() for word in key.split(".")}
    assert set(KEYS.values()) <= words
    assert not set(KEYS) & words


def test_a_plugin_keeps_weights_that_are_called_as_renamed_ones_were():
    stored = {"quantizer.load": 1, "prior.load": 2, "prior.wide.weight.int8_scale": 3}
    stored |= {"quantizer.first.started": 4}
    renamed = rename_keys(
        stored,
        KEYS,
        {"quantizer.usage_ema", "prior.load", "prior.conv1.weight", "quantizer.first.initialized"},
    )
    assert renamed == {
        "quantizer.usage_ema": 1,
        "prior.load": 2,
        "prior.conv1.weight.int8_scale": 3,
        "quantizer.first.initialized": 4,
    }


def upgrade_model(model: dict, plugins: tuple = ()) -> dict:
    records = [
        dict(zip(("kind", "name"), x, strict=True), package="p", version="1") for x in plugins
    ]
    return upgrade_header({"format_version": 5, "model": model, "plugins": records})["model"]


OLD_CODEBOOK = {"start": "kmeans", "revive_below": 0.1}
NEW_CODEBOOK = {"init": "kmeans", "dead_code_threshold": 0.1}


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("quantizer", {"name": "product", "part": OLD_CODEBOOK}, {"part": NEW_CODEBOOK}),
        ("prior", {"name": "vqvae", "quantizer": OLD_CODEBOOK}, {"quantizer": NEW_CODEBOOK}),
        ("prior", {"name": "vqvae", "bottom": {"kernel": 5}}, {"bottom": {"kernel_size": 5}}),
        (
            "prior",
            {"name": "vqvae", "top": {"name": "vqvae", "top": {"first_kernel": 3}}},
            {"top": {"name": "vqvae", "top": {"first_kernel_size": 3}}},
        ),
        (
            "likelihood",
            {"name": "autoregressive", "features": 4, "prior": {"kernel": 5}},
            {"num_features": 4, "prior": {"kernel_size": 5}},
        ),
    ],
    ids=str,
)
def test_options_of_parts_within_parts_are_renamed_with_and_without_a_name(kind, old, new):
    model = {"sample_shape": [8, 12], kind: old}
    assert upgrade_model(model) == {"sample_shape": [8, 12], kind: {"name": old["name"], **new}}


def test_options_of_a_part_of_a_plugin_stay_as_they_are():
    model = {
        "sample_shape": [8, 12],
        "quantizer": {"name": "spectral", "hop": 3, "part": OLD_CODEBOOK},
        "encoder": {"name": "patchify", "linear": 1},
        "decoder": {"name": "patchify", "linear": 2},
        "prior": "pixelcnn",
    }
    upgraded = upgrade_model(model, plugins=[("encoder", "patchify")])
    assert upgraded == {**model, "decoder": {"name": "patchify", "linear_init": 2}}


def test_a_checkpoint_of_today_with_weights_of_old_names_is_refused(saved_folder):
    tensors = load_file(saved_folder / WEIGHTS_NAME)
    tensors["vqvae.quantizer.load"] = tensors.pop("vqvae.quantizer.usage_ema")
    save_file(tensors, saved_folder / WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match=r"missing vqvae\.quantizer\.usage_ema; extra"):
        vqvideo.load(saved_folder)
