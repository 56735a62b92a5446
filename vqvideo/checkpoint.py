"""Models as folders: `config.json` and `model.safetensors`. Strict both ways, no pickle.

Such a folder may also lie in that of a run, as `model/`, or on the hub (hub.py). It may hold a
`NOTICE`, which stays with the weights, and a card `README.md` (card.py) and the phones that codes
stand for, `phones.json`, which `save` removes: they described what was there before.

The folder is written whole under a temporary name and then renamed. A crash leaves the old one or
the new one; between the two renames that replace one by the other, the old one under a name that
`load` and `save` know. Weights may be stored in float16 or, a quarter of the size, in int8
with a scale per row (`config.json` says so); in memory they are always float32.
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
from vqvideo.formats import (
    FORMAT_VERSION,
    CheckpointError,
    DType,
    check_plugins,
    offline,
    origins,
    read_header,
    why_not_built,
)
from vqvideo.generator import Generator
from vqvideo.hub import HubError, HubName, fetch, is_hub_name, list_files

SCALE = ".int8_scale"
CODEBOOKS = "vqvae.quantizer."  # decide codes, so they are stored exactly
CONFIG, WEIGHTS, CARD, NOTICE = "config.json", "model.safetensors", "README.md", "NOTICE"
PHONES = "phones.json"  # which phone each code of speech stands for
FILES = (CONFIG, WEIGHTS, CARD, NOTICE, PHONES)
MODEL = "model"  # in the folder of a run
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def save(
    generator: Generator,
    folder: str | Path,
    *,
    dtype: DType = "float32",
    overwrite: bool = False,
) -> None:
    """Write a checkpoint that `load` reads.

    Args:
        generator: built from a config; its prior may be None.
        folder: to write; missing parents are made.
        dtype: of weights on disk: "float32", "float16", or "int8", which rounds each row of a
            matrix or kernel to 255 steps. The quantizer and all buffers stay as they are.
        overwrite: replace a folder that exists.

    Raises:
        FileExistsError: the folder exists and overwrite is False, or it holds other files than
            a checkpoint's (its card and NOTICE are some), which are never deleted.
        ValueError: the generator was put together by hand and has no config, or an unknown dtype.
    """
    folder = Path(folder).resolve()
    if generator.config is None:
        raise ValueError("only a generator built from a config can be saved; see vqvideo.build")
    if dtype not in get_args(DType):
        raise ValueError(f"dtype must be {', '.join(get_args(DType))}, got {dtype!r}")
    recover(folder)
    check_free(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _write(generator, generator.config, temporary, dtype)
        for file in temporary.iterdir():
            flush(file)
        _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load(name: str | Path) -> Generator:
    """Read a checkpoint: a `Generator` in evaluation mode, its prior None if it has none.

    Args:
        name: the folder of a checkpoint or of a run; or `hf-hub:org/name`, with `@revision` if not
            the latest is meant, which is fetched into the cache of the hub. Nothing else touches
            the network.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a name on the hub that is none.
        HubError: the hub does not have it or cannot be reached (an `OSError`).
        CheckpointError: a file is missing or damaged, the format is newer than this version of
            vqvideo, the config names a part that nobody registered or a plugin that fails (the
            message says which package to install), a part was of another package when it was
            saved, or names or shapes of weights differ from what the config builds. Of the same
            package in another version a `RuntimeWarning` tells.
    """
    folder = find(name)
    try:
        return _read(folder)
    except CheckpointError as cause:
        if is_hub_name(name):
            raise CheckpointError(f"{name}: {cause}") from cause
        raise


def find(name: str | Path) -> Path:
    """The folder that `load` reads, fetched if it is named on the hub; raises as `load` does."""
    if is_hub_name(name):
        return _fetched(HubName.of(str(name)))
    folder = Path(name).resolve()
    run = folder / MODEL
    if not (folder / CONFIG).is_file() and (run.is_dir() or _old(run).is_dir()):
        folder = run
    if not folder.exists() and _old(folder).is_dir():
        folder = _old(folder)  # read where it is: only a writer may move it
    if not folder.is_dir():
        raise FileNotFoundError(f"no checkpoint folder {name}")
    return folder


def _fetched(name: HubName) -> Path:
    folder = fetch(name, FILES)
    lacking = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if not lacking:
        return folder
    try:
        pickles = [file for file in list_files(name) if file.endswith(PICKLES)]
    except HubError:  # without a network, what is missing says enough
        pickles = []
    if pickles:
        raise CheckpointError(
            f"{name} holds {pickles[0]}, a pickle, which can run code and is never loaded; "
            f"a model of vqvideo is {CONFIG} and {WEIGHTS}"
        )
    raise CheckpointError(f"{name} holds no model of vqvideo: it has no {lacking[0]}")


def _read(folder: Path) -> Generator:
    file = folder / CONFIG
    header = read_header(file)
    try:
        config = GeneratorConfig.from_dict(offline(header["model"]))
        generator = build_generator(config, with_prior=header["has_prior"])
    except Exception as cause:  # whatever a stranger's builder raises
        raise CheckpointError(f"{file}: {why_not_built(cause, header['plugins'])}") from cause
    check_plugins(file, header["plugins"])
    try:
        stored = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as cause:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {cause}") from cause
    state = generator.state_dict()
    scales = {
        name + SCALE
        for name, tensor in stored.items()
        if tensor.dtype == torch.int8 and name in state and state[name].is_floating_point()
    }
    _check_names(folder, set(stored), set(state) | scales)
    tensors = _from_disk(stored)
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {list(tensor.shape)}, "
                f"its config builds {list(state[name].shape)}"
            )
    generator.load_state_dict(tensors)
    if (folder / NOTICE).is_file():
        generator.notice = (folder / NOTICE).read_text(encoding="utf-8")
    return generator.eval()


def _check_names(folder: Path, stored: set[str], expected: set[str]) -> None:
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
        "model": offline(config.to_dict()),
        "plugins": origins(generator),
    }
    save_file(_tensors(generator, dtype), folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(header, indent=2) + "\n")
    if generator.notice is not None:
        (folder / NOTICE).write_text(generator.notice, encoding="utf-8")


def _tensors(generator: Generator, dtype: DType) -> dict[str, Tensor]:
    """What goes to disk: parameters as `dtype`, the quantizer and all buffers as they are."""
    parameters = {
        name for name, _ in generator.named_parameters() if not name.startswith(CODEBOOKS)
    }
    tensors: dict[str, Tensor] = {}
    for name, tensor in generator.state_dict().items():
        tensors.update(_for_disk(name, tensor, dtype if name in parameters else "float32"))
    return tensors


def _for_disk(name: str, tensor: Tensor, dtype: DType) -> dict[str, Tensor]:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point() or dtype == "float32":
        return {name: tensor}
    if dtype == "float16":
        return {name: tensor.half()}
    if tensor.ndim < 2:  # biases and gains: small, and sensitive
        return {name: tensor}
    scale = tensor.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / 127
    rows = scale.reshape(-1, *(1,) * (tensor.ndim - 1))
    return {name: (tensor / rows).round().to(torch.int8), name + SCALE: scale}


def _from_disk(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `_for_disk` rounded to int8, in float32 again. (float16 is widened on copying.)"""
    restored = {}
    for name, tensor in tensors.items():
        if name + SCALE in tensors:
            scale = tensors[name + SCALE].reshape(-1, *(1,) * (tensor.ndim - 1))
            restored[name] = tensor.float() * scale
        elif not name.endswith(SCALE):
            restored[name] = tensor
    return restored


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows keeps names without being asked
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; an old folder goes only once the new one is there."""
    shutil.rmtree(_old(folder), ignore_errors=True)
    if folder.exists():
        folder.rename(_old(folder))
    try:
        new.rename(folder)
    except BaseException:
        recover(folder)
        raise
    flush(folder.parent)
    shutil.rmtree(_old(folder), ignore_errors=True)


def recover(folder: Path) -> None:
    """Put back the old folder if a crash came between the two renames."""
    if _old(folder).is_dir() and not folder.exists():
        _old(folder).rename(folder)


def check_free(folder: Path, overwrite: bool) -> None:
    """Raise `FileExistsError` where `save` would, before there is anything to save."""
    if not folder.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{folder} exists; choose another folder or overwrite=True")
    foreign = [folder.name]
    if folder.is_dir():
        foreign = sorted({path.name for path in folder.iterdir()} - set(FILES))
    if foreign:
        raise FileExistsError(
            f"{folder} holds {foreign[0]!r}, which is no part of a checkpoint; "
            f"choose another folder"
        )
