"""Save and load a model as a folder of `config.json` and `model.safetensors`, without pickle.

A checkpoint may also be the folder `model/` of a run, or a repository on the hub (hub.py). It may
hold a `NOTICE`, which stays with the weights. A model card `README.md` (model_card.py) and
`phones.json`, the phone of each code, are removed by `save`, since they describe the old weights.

Saving is atomic: the folder is written under a temporary name and then renamed. A crash leaves the
old folder or the new one; between the two renames of a replacement, the old one has a backup name
that `load` and `save` know. Weights may be stored in float16 or, at a quarter of the size, in int8
with a scale per row (`config.json` records the dtype); in memory they are always float32.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqvideo.config import GeneratorConfig, build_generator
from vqvideo.config_v6 import rename_keys
from vqvideo.config_versions import (
    FORMAT_VERSION,
    CheckpointError,
    DType,
    check_plugins,
    collect_plugin_records,
    describe_build_error,
    disable_pretrained,
    read_header,
)
from vqvideo.generator import Generator
from vqvideo.hub import HubError, HubName, fetch, is_hub_name, list_files

SCALE_SUFFIX = ".int8_scale"
QUANTIZER_PREFIX = "vqvae.quantizer."  # its weights determine the codes, so they are stored exactly
CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, NOTICE_NAME = (
    "config.json",
    "model.safetensors",
    "README.md",
    "NOTICE",
)
PHONES_NAME = "phones.json"  # maps each code of a speech model to a phone
CHECKPOINT_FILES = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, NOTICE_NAME, PHONES_NAME)
MODEL_DIR = "model"  # inside the folder of a run
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def save(
    generator: Generator,
    folder: str | Path,
    *,
    dtype: DType = "float32",
    overwrite: bool = False,
) -> None:
    """Write a checkpoint that `load` reads.

    Args:
        generator: model built from a config; its prior may be None.
        folder: destination; missing parents are created.
        dtype: dtype of the weights on disk: "float32", "float16", or "int8", which rounds each row
            of matrices and kernels to 255 levels. Quantizer and buffers are stored exactly.
        overwrite: replace an existing folder.

    Raises:
        FileExistsError: the folder exists and overwrite is False, or it holds files that are not
            part of a checkpoint (unlike its card and NOTICE), which are never deleted.
        ValueError: the generator was built by hand and has no config, or the dtype is unknown.
    """
    folder = Path(folder).resolve()
    if generator.config is None:
        raise ValueError("only a generator built from a config can be saved; see vqvideo.build")
    if dtype not in get_args(DType):
        raise ValueError(f"dtype must be {', '.join(get_args(DType))}, got {dtype!r}")
    recover(folder)
    check_overwrite(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _write(generator, generator.config, temporary, dtype)
        for file in temporary.iterdir():
            fsync(file)
        _replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load(name: str | Path) -> Generator:
    """Load a checkpoint as a `Generator` in evaluation mode; its prior is None if it has none.

    Args:
        name: folder of a checkpoint or of a run, or a name on the hub, `hf-hub:org/name` or
            `hf-hub:org/name@revision`. Only hub names access the network.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: invalid hub name.
        HubError: the hub does not have the model or cannot be reached (an `OSError`).
        CheckpointError: a file is missing or damaged, the format is newer than this version of
            vqvideo, the config names a part that is not registered or a plugin that fails (the
            message says which package to install), a part was saved with another package, or
            names or shapes of weights do not match the config.

    Warns:
        RuntimeWarning: a part was saved with another version of its package.
    """
    folder = resolve_checkpoint(name)
    try:
        return _read(folder)
    except CheckpointError as cause:
        if is_hub_name(name):
            raise CheckpointError(f"{name}: {cause}") from cause
        raise


def resolve_checkpoint(name: str | Path) -> Path:
    """Return the folder that `load` reads, downloading a hub name; raise the errors of `load`."""
    if is_hub_name(name):
        return _fetch_checkpoint(HubName.parse(str(name)))
    folder = Path(name).resolve()
    run = folder / MODEL_DIR
    if not (folder / CONFIG_NAME).is_file() and (run.is_dir() or _get_backup_path(run).is_dir()):
        folder = run
    if not folder.exists() and _get_backup_path(folder).is_dir():
        folder = _get_backup_path(folder)  # read in place: only `save` may move it
    if not folder.is_dir():
        raise FileNotFoundError(f"no checkpoint folder {name}")
    return folder


def _fetch_checkpoint(name: HubName) -> Path:
    folder = fetch(name, CHECKPOINT_FILES)
    missing = [file for file in (CONFIG_NAME, WEIGHTS_NAME) if not (folder / file).is_file()]
    if not missing:
        return folder
    try:
        pickles = [file for file in list_files(name) if file.endswith(PICKLE_SUFFIXES)]
    except HubError:  # offline: report the missing file instead
        pickles = []
    if pickles:
        raise CheckpointError(
            f"{name} holds {pickles[0]}, a pickle, which can run code and is never loaded; "
            f"a model of vqvideo is {CONFIG_NAME} and {WEIGHTS_NAME}"
        )
    raise CheckpointError(f"{name} holds no model of vqvideo: it has no {missing[0]}")


def _read(folder: Path) -> Generator:
    file = folder / CONFIG_NAME
    header = read_header(file)
    try:
        config = GeneratorConfig.from_dict(disable_pretrained(header["model"]))
        generator = build_generator(config, with_prior=header["has_prior"])
    except Exception as cause:  # a plugin's builder may raise anything
        raise CheckpointError(
            f"{file}: {describe_build_error(cause, header['plugins'])}"
        ) from cause
    check_plugins(file, header["plugins"])
    try:
        stored = load_file(folder / WEIGHTS_NAME)
    except (SafetensorError, OSError) as cause:
        raise CheckpointError(f"{folder / WEIGHTS_NAME} cannot be read: {cause}") from cause
    state = generator.state_dict()
    stored = rename_keys(stored, header["renamed_keys"], state)
    scales = {
        name + SCALE_SUFFIX
        for name, tensor in stored.items()
        if tensor.dtype == torch.int8 and name in state and state[name].is_floating_point()
    }
    _check_keys(folder, set(stored), set(state) | scales)
    tensors = _dequantize_weights(stored)
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {list(tensor.shape)}, "
                f"its config builds {list(state[name].shape)}"
            )
    generator.load_state_dict(tensors)
    if (folder / NOTICE_NAME).is_file():
        generator.notice = (folder / NOTICE_NAME).read_text(encoding="utf-8")
    return generator.eval()


def _check_keys(folder: Path, stored: set[str], expected: set[str]) -> None:
    missing, extra = sorted(expected - stored), sorted(stored - expected)
    if missing or extra:
        raise CheckpointError(
            f"{folder} does not fit its config: "
            f"missing {', '.join(missing[:5]) or 'nothing'}; "
            f"extra {', '.join(extra[:5]) or 'nothing'}"
        )


def _write(generator: Generator, config: GeneratorConfig, folder: Path, dtype: DType) -> None:
    header = {
        "format_version": FORMAT_VERSION,
        "dtype": dtype,
        "has_prior": generator.prior is not None,
        "model": disable_pretrained(config.to_dict()),
        "plugins": collect_plugin_records(generator),
    }
    save_file(_collect_tensors(generator, dtype), folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps(header, indent=2) + "\n")
    if generator.notice is not None:
        (folder / NOTICE_NAME).write_text(generator.notice, encoding="utf-8")


def _collect_tensors(generator: Generator, dtype: DType) -> dict[str, Tensor]:
    """Return the tensors to store: parameters in `dtype`, the quantizer and all buffers exactly."""
    parameters = {
        name for name, _ in generator.named_parameters() if not name.startswith(QUANTIZER_PREFIX)
    }
    tensors: dict[str, Tensor] = {}
    for name, tensor in generator.state_dict().items():
        tensors.update(_quantize_weight(name, tensor, dtype if name in parameters else "float32"))
    return tensors


def _quantize_weight(name: str, tensor: Tensor, dtype: DType) -> dict[str, Tensor]:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point() or dtype == "float32":
        return {name: tensor}
    if dtype == "float16":
        return {name: tensor.half()}
    if tensor.ndim < 2:  # biases and gains are small and sensitive to rounding
        return {name: tensor}
    scale = tensor.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / 127
    rows = scale.reshape(-1, *(1,) * (tensor.ndim - 1))
    return {name: (tensor / rows).round().to(torch.int8), name + SCALE_SUFFIX: scale}


def _dequantize_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert int8 weights to float32 (`load_state_dict` converts float16)."""
    restored = {}
    for name, tensor in tensors.items():
        if name + SCALE_SUFFIX in tensors:
            scale = tensors[name + SCALE_SUFFIX].reshape(-1, *(1,) * (tensor.ndim - 1))
            restored[name] = tensor.float() * scale
        elif not name.endswith(SCALE_SUFFIX):
            restored[name] = tensor
    return restored


def fsync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot sync a folder and persists its entries itself
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _get_backup_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _replace_folder(new: Path, folder: Path) -> None:
    """Replace `folder` by `new`; delete the old folder only after the new one is in place."""
    shutil.rmtree(_get_backup_path(folder), ignore_errors=True)
    if folder.exists():
        folder.rename(_get_backup_path(folder))
    try:
        new.rename(folder)
    except BaseException:
        recover(folder)
        raise
    fsync(folder.parent)
    shutil.rmtree(_get_backup_path(folder), ignore_errors=True)


def recover(folder: Path) -> None:
    """Restore the old folder after a crash between the two renames."""
    if _get_backup_path(folder).is_dir() and not folder.exists():
        _get_backup_path(folder).rename(folder)


def check_overwrite(folder: Path, overwrite: bool) -> None:
    """Raise `FileExistsError` if `save` would, before there is anything to save."""
    if not folder.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{folder} exists; choose another folder or overwrite=True")
    foreign = [folder.name]
    if folder.is_dir():
        foreign = sorted({path.name for path in folder.iterdir()} - set(CHECKPOINT_FILES))
    if foreign:
        raise FileExistsError(
            f"{folder} holds {foreign[0]!r}, which is no part of a checkpoint; "
            f"choose another folder"
        )
