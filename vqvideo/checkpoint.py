"""Models as folders: `config.json` and `model.safetensors`. Strict both ways, no pickle.

The folder is written whole under a temporary name and then renamed, so a crash leaves either
the old one or the new one. Weights may be stored in float16 or, a quarter of the size, in int8
with a scale per row (`config.json` says so); in memory they are always float32.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqvideo.config import GeneratorConfig, build_generator
from vqvideo.generator import Generator

FORMAT_VERSION = 1
SCALE = ".int8_scale"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


DType = Literal["float32", "float16", "int8"]


class CheckpointError(ValueError):
    """A folder that is no checkpoint, or one that does not fit; the message says why."""


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
            matrix or kernel to 255 steps. Buffers (codebooks, statistics) stay as they are.
        overwrite: replace a folder that exists.

    Raises:
        FileExistsError: the folder exists and overwrite is False.
        ValueError: the generator was put together by hand and has no config.
    """
    folder = Path(folder)
    if generator.config is None:
        raise ValueError("only a generator built from a config can be saved; see vqvideo.build")
    if folder.exists() and not overwrite:
        raise FileExistsError(f"{folder} exists; choose another folder or overwrite=True")
    parameters = {name for name, _ in generator.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for name, tensor in generator.state_dict().items():
        tensors.update(_for_disk(name, tensor, dtype if name in parameters else "float32"))
    header = {
        "format_version": FORMAT_VERSION,
        "dtype": dtype,
        "has_prior": generator.prior is not None,
        "model": generator.config.to_dict(),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        save_file(tensors, temporary / WEIGHTS)
        (temporary / CONFIG).write_text(json.dumps(header, indent=2) + "\n")
        for file in temporary.iterdir():
            _flush(file)
        _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load(folder: str | Path) -> Generator:
    """Read a checkpoint: a `Generator` in evaluation mode, its prior None if it has none.

    Raises:
        FileNotFoundError: no such folder.
        CheckpointError: a file is missing or damaged, the format is newer than this version of
            vqvideo, or names or shapes of weights differ from what the config builds.
        UnknownNameError: the config names a part that nobody registered.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no checkpoint folder {folder}")
    header = _read_header(folder / CONFIG)
    generator = build_generator(GeneratorConfig.from_dict(header["model"]))
    if not header["has_prior"]:
        generator.prior = None
    try:
        tensors = _from_disk(load_file(folder / WEIGHTS))
    except (SafetensorError, OSError) as cause:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {cause}") from cause
    _check_names(folder, set(tensors), generator.state_dict())
    for name, tensor in tensors.items():
        expected = generator.state_dict()[name]
        if tensor.shape != expected.shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {list(tensor.shape)}, "
                f"its config builds {list(expected.shape)}"
            )
    generator.load_state_dict(tensors)
    return generator.eval()


def _read_header(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise CheckpointError(f"{file.parent} is no checkpoint: it has no {file.name}")
    try:
        header = json.loads(file.read_text())
    except ValueError as cause:  # JSONDecodeError, UnicodeDecodeError
        raise CheckpointError(f"{file} is not JSON: {cause}") from cause
    expected = {"format_version", "dtype", "has_prior", "model"}
    wrong = CheckpointError(f"{file} must hold exactly {', '.join(sorted(expected))}")
    if not isinstance(header, dict) or "format_version" not in header:
        raise wrong
    if header["format_version"] != FORMAT_VERSION:  # first: another format has other entries
        raise CheckpointError(
            f"{file} has format version {header['format_version']}; this vqvideo reads "
            f"{FORMAT_VERSION}: install a newer one"
        )
    if set(header) != expected:
        raise wrong
    return header


def _check_names(folder: Path, stored: set[str], expected: dict[str, Tensor]) -> None:
    missing, extra = sorted(set(expected) - stored), sorted(stored - set(expected))
    if missing or extra:
        raise CheckpointError(
            f"{folder} does not fit its config: "
            f"missing {', '.join(missing[:5]) or 'nothing'}; "
            f"extra {', '.join(extra[:5]) or 'nothing'}"
        )


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
    """What `_for_disk` made smaller, in float32 again."""
    restored = {}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = tensors[name + SCALE].reshape(-1, *(1,) * (tensor.ndim - 1))
            restored[name] = tensor.float() * scale
        elif not name.endswith(SCALE):
            restored[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return restored


def _flush(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; an old folder goes only once the new one is there."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
