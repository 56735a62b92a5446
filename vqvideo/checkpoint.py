"""Save and load a model as a folder of `config.json` and `model.safetensors`, without pickle.

A checkpoint may also be the folder `model/` of a run, or a repository on the hub (hub.py). It may
hold a `NOTICE`, which stays with the weights. A model card `README.md` (model_card.py) and the
companion files of recipes (builtin_parts.py) are removed by `save`, since they describe the old
weights.

Saving is atomic: the folder is written under a temporary name (atomic.py) and then renamed. A crash
leaves the old folder or the new one; between the two renames of a replacement, the old one has a
backup name that `load` and `save` know. Of several processes or threads that save into one folder,
each replaces it as a whole.

Loading compares the names, shapes and data types of the stored tensors (weights_format.py) with the
model that the config describes before it is built in memory (bounded_build.py), so that a config
from a stranger cannot ask for more than the size of its weights.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, get_args

from safetensors.torch import save_file

from vqvideo.atomic import (
    TEMPORARY_DIR,
    fsync,
    get_backup_path,
    lock_folder,
    recover,
    replace_folder,
    restore_backup,
    temporary_folder,
)
from vqvideo.bounded_build import build_bounded
from vqvideo.builtin_parts import COMPANION_FILES
from vqvideo.config import GeneratorConfig, build_generator
from vqvideo.config_v6 import rename_keys
from vqvideo.config_versions import (
    FORMAT_VERSION,
    CheckpointError,
    DType,
    Header,
    PluginRecord,
    check_plugins,
    collect_plugin_records,
    describe_build_error,
    disable_pretrained,
    read_header,
)
from vqvideo.generator import Generator
from vqvideo.hub import HubError, HubName, fetch, is_hub_name, list_files
from vqvideo.text_files import read_text
from vqvideo.weights_format import (
    Weights,
    check_index,
    collect_tensors,
    count_elements,
    dequantize_weights,
    find_not_finite,
    open_weights,
    read_index,
    read_tensors,
)

CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, NOTICE_NAME = (
    "config.json",
    "model.safetensors",
    "README.md",
    "NOTICE",
)
CHECKPOINT_FILES = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, NOTICE_NAME, *COMPANION_FILES)
MAX_READS = 10  # a folder that is replaced while it is read is read again
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
        ValueError: the generator was built by hand and has no config, the dtype is unknown, or a
            weight is NaN or infinite in that dtype; the message names it.
    """
    folder = Path(folder).resolve()
    if generator.config is None:
        raise ValueError("only a generator built from a config can be saved; see vqvideo.build")
    if dtype not in get_args(DType):
        raise ValueError(f"dtype must be {', '.join(get_args(DType))}, got {dtype!r}")
    if name := find_not_finite(generator, dtype):
        raise ValueError(f"{name} holds NaN or infinite values in {dtype}; nothing was saved")
    recover(folder)
    check_overwrite(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent) as temporary:
        _write(generator, generator.config, temporary, dtype)
        for path in (*temporary.iterdir(), temporary):
            fsync(path)
        with lock_folder(folder.parent):
            restore_backup(folder)
            check_overwrite(folder, overwrite)  # others may have saved in the meantime
            replace_folder(temporary, folder)
    # Earlier versions named the temporary folder after the process.
    shutil.rmtree(folder.with_name(f".{folder.name}.{os.getpid()}.tmp"), ignore_errors=True)


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
            message says which package to install), a part was saved with another package, names,
            shapes or data types of weights do not match the config, or a weight is NaN or infinite.

    Warns:
        RuntimeWarning: a part was saved with another version of its package.
    """
    try:
        return _read(_open(name))
    except CheckpointError as cause:
        if is_hub_name(name) and not str(cause).startswith(str(name)):
            raise CheckpointError(f"{name}: {cause}") from cause
        raise


def resolve_checkpoint(name: str | Path) -> Path:
    """Return the folder that `load` reads, downloading a hub name; raise the errors of `load`."""
    if is_hub_name(name):
        return _fetch_checkpoint(HubName.parse(str(name)))
    folder = Path(name).resolve()
    run = folder / MODEL_DIR
    if not (folder / CONFIG_NAME).is_file() and (run.is_dir() or get_backup_path(run).is_dir()):
        folder = run
    if not folder.exists() and get_backup_path(folder).is_dir():
        folder = get_backup_path(folder)  # read in place: only `save` may move it
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


class _Files(NamedTuple):
    """The contents of a checkpoint's folder; its weights are open but not yet read."""

    folder: Path
    header: Header
    weights: Weights
    notice: str | None


def _open(name: str | Path) -> _Files:
    """Open the files of a checkpoint, all of one `save`, although others may replace the folder."""
    for _ in range(MAX_READS):
        folder = resolve_checkpoint(name)
        identity = _get_identity(folder)
        try:
            header = read_header(folder / CONFIG_NAME)
            weights = open_weights(folder / WEIGHTS_NAME)
            has_notice = (folder / NOTICE_NAME).is_file()
            notice = read_text_file(folder / NOTICE_NAME) if has_notice else None
        except CheckpointError:
            if _get_identity(folder) == identity:
                raise
        else:
            if _get_identity(folder) == identity:
                return _Files(folder, header, weights, notice)
    raise CheckpointError(f"{folder} is replaced all the time while it is opened; try again")


def _get_identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes when a folder is replaced by `save`; None if there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _read(files: _Files) -> Generator:
    folder, header, index = files.folder, files.header, read_index(files.weights)
    model = disable_pretrained(header["model"])

    def build() -> Generator:
        config = GeneratorConfig.from_dict(model)
        return build_generator(config, with_prior=header["has_prior"])

    with _wrap_build_errors(folder / CONFIG_NAME, header["plugins"]):
        generator = build_bounded(build, len(index), count_elements(index))
    check_plugins(folder / CONFIG_NAME, header["plugins"])
    expected = generator.state_dict()
    check_index(folder, rename_keys(index, header["renamed_keys"], expected), expected)
    if any(tensor.is_meta for tensor in expected.values()):
        with _wrap_build_errors(folder / CONFIG_NAME, header["plugins"]):
            generator = build()
    tensors = rename_keys(read_tensors(files.weights), header["renamed_keys"], expected)
    try:
        generator.load_state_dict(dequantize_weights(tensors))
    except RuntimeError as cause:
        raise CheckpointError(f"{folder} does not fit its config: {cause}") from cause
    if invalid := find_not_finite(generator):
        raise CheckpointError(
            f"{folder / WEIGHTS_NAME}: {invalid} holds NaN or infinite values; use an earlier "
            f"checkpoint of the model"
        )
    generator.notice = files.notice
    return generator.eval()


def read_text_file(file: Path) -> str:
    """Return the text of a file beside the weights; raise `CheckpointError` if it is not text."""
    try:
        return read_text(file)
    except (ValueError, OSError) as cause:
        raise CheckpointError(f"{file} cannot be read as text: {cause}") from cause


@contextmanager
def _wrap_build_errors(file: Path, plugins: Sequence[PluginRecord]) -> Iterator[None]:
    try:
        yield
    except Exception as cause:  # a plugin's builder may raise anything
        raise CheckpointError(f"{file}: {describe_build_error(cause, plugins)}") from cause


def _write(generator: Generator, config: GeneratorConfig, folder: Path, dtype: DType) -> None:
    header = {
        "format_version": FORMAT_VERSION,
        "dtype": dtype,
        "has_prior": generator.prior is not None,
        "model": disable_pretrained(config.to_dict()),
        "plugins": collect_plugin_records(generator),
    }
    save_file(collect_tensors(generator, dtype), folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps(header, indent=2) + "\n")
    if generator.notice is not None:
        (folder / NOTICE_NAME).write_text(generator.notice, encoding="utf-8")


def check_overwrite(folder: Path, overwrite: bool) -> None:
    """Raise `FileExistsError` if `save` would, before there is anything to save."""
    if not folder.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{folder} exists; choose another folder or overwrite=True")
    foreign = [folder.name]
    if folder.is_dir():
        known = {*CHECKPOINT_FILES, TEMPORARY_DIR}  # the latter while a card is written
        foreign = sorted({path.name for path in folder.iterdir()} - known)
    if foreign:
        raise FileExistsError(
            f"{folder} holds {foreign[0]!r}, which is no part of a checkpoint; "
            f"choose another folder"
        )
