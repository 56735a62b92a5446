"""Load models, choose devices and check output files: helpers that all commands share."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from vqvideo.checkpoint import load, resolve_checkpoint
from vqvideo.data.clips import ClipDataset
from vqvideo.data.items import evenly_spaced
from vqvideo.generator import Generator
from vqvideo.hub import is_hub_name
from vqvideo.model_card import find_run
from vqvideo.models import build, get_pretrained_path, list_models
from vqvideo.plugins import normalize_part_name

MAX_FPS = {".mp4": 240, ".gif": 50}


def load_model(model: str, device: str = "auto") -> Generator:
    """Load a trained model in evaluation mode: a shipped model, a checkpoint, or a run.

    Args:
        model: the name of a shipped model, the folder of a checkpoint or of a run, or
            `hf-hub:org/name@revision`; write a folder with the name of a model as `./name`.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "mps", ...

    Raises:
        FileNotFoundError: the folder does not exist.
        HubError: the hub does not have the model or cannot be reached (an `OSError`).
        ValueError: the name or the device is unknown.
    """
    is_checkpoint = is_hub_name(model) or _is_folder(model)
    generator = load(model) if is_checkpoint else build(model, pretrained=True)
    return generator.to(choose_device(device)).eval()


def find_model_folder(model: str) -> Path:
    """Return the folder of the files that `load_model` reads."""
    return (
        resolve_checkpoint(model)
        if is_hub_name(model) or _is_folder(model)
        else get_pretrained_path(model)
    )


def list_model_folders(model: str) -> list[Path]:
    """Return the folders with files of a model: its own, and that of the run that contains it."""
    folder = find_model_folder(model)
    return [path for path in (folder, find_run(folder)) if path is not None]


def resolve_model_path(model: str) -> str:
    """Make a model path absolute, for a process with another working directory."""
    return str(Path(model).absolute()) if _is_folder(model) else model


def _is_folder(model: str) -> bool:
    is_path = Path(model).is_dir() or "/" in model or "\\" in model
    return is_path and normalize_part_name(model) not in list_models() and not is_hub_name(model)


@functools.lru_cache(maxsize=1)
def load_cached_model(model: str, device: str) -> Generator:
    """Load a model as `load_model` does and cache it, for a worker that runs several tasks."""
    return load_model(model, device)


def choose_device(device: str) -> torch.device:
    """Return the device of a name; "auto" selects CUDA or MPS if available, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if torch.backends.mps.is_available():
            device = "mps"
    try:
        return torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError) as cause:
        raise ValueError(f"device {device!r} is not available: {cause}") from cause


def apply_label_map(generator: Generator, data: ClipDataset) -> None:
    """Make a data set number its classes and speakers as prior and decoder do.

    Raises:
        ValueError: the data has labels that the model does not know.
    """
    specs = {"decoder": generator.vqvae.cond}
    if generator.prior is not None:
        specs["prior"] = generator.prior.cond
    for part, spec in specs.items():
        for kind, known_names in (("classes", spec.class_names), ("speakers", spec.speaker_names)):
            data_names = getattr(data, kind)
            unknown = [name for name in data_names if known_names and name not in known_names]
            if unknown:
                raise ValueError(
                    f"the {part} knows the {kind} {', '.join(known_names)}; the data also has "
                    f"{', '.join(unknown)}. Give data with known {kind} only"
                )
            if data_names and known_names:
                setattr(data, kind, list(known_names))


def check_video_file(target: Path, rate: float) -> None:
    """Raise `ValueError` if a video file cannot have this suffix or this frame rate.

    Args:
        target: .mp4 or .gif. A GIF counts hundredths of a second, and players need at least two per
            frame.
        rate: frames per second.
    """
    if target.suffix not in MAX_FPS:
        raise ValueError(f"--out must end in {' or '.join(MAX_FPS)}, got {str(target)!r}")
    if not 0 < rate <= MAX_FPS[target.suffix]:
        raise ValueError(
            f"fps must be above 0 and at most {MAX_FPS[target.suffix]} for a {target.suffix} "
            f"file, got {rate:g}"
        )


def check_output_files(
    out: Path, num_files: int, overwrite: bool, *extra_suffixes: str
) -> list[Path]:
    """Return `num_files` paths named like `out`, numbered from 1 if several, and check them.

    Files of the same stem with a suffix of `extra_suffixes` are checked too. Call this before any
    work is done.

    Raises:
        FileExistsError: one of them exists and overwrite is False.
        NotADirectoryError: a parent of `out` is a file.
    """
    files = (
        [out]
        if num_files == 1
        else [out.with_name(f"{out.stem}_{index + 1}{out.suffix}") for index in range(num_files)]
    )
    for file in [*files, *(out.with_suffix(suffix) for suffix in extra_suffixes)]:
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists; give another --out or --overwrite")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise NotADirectoryError(f"{parent} is a file, not a folder, so {out} cannot be written")
    return files


def subsample_frames(frames: Tensor, max_frames: int = 32) -> Tensor:
    """Return at most `max_frames` evenly spread frames of clips `[n, c, t, h, w]`."""
    return frames[:, :, evenly_spaced(range(frames.shape[2]), max_frames, from_start=True)]
