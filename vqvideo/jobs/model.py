"""What every command does about models and devices: from what a user types to a `Generator`."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from vqvideo.checkpoint import MODEL, find, load
from vqvideo.data.clips import ClipDataset
from vqvideo.generator import Generator
from vqvideo.hub import is_hub_name
from vqvideo.models import build, list_models, shipped

MOST_FPS = {".mp4": 240, ".gif": 50}


def open_model(model: str, device: str = "auto") -> Generator:
    """A trained model: one that ships, by its name, or the folder of a checkpoint or of a run.

    Args:
        model: a name, or a path, or `hf-hub:org/name@revision`; a folder that has the name of a
            model is `./name`.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "mps", ...

    Raises:
        FileNotFoundError: no such folder.
        HubError: the hub does not have it or cannot be reached (an `OSError`).
        ValueError: an unknown name or device.
    """
    is_elsewhere = is_hub_name(model) or _is_folder(model)
    generator = load(model) if is_elsewhere else build(model, pretrained=True)
    return generator.to(choose_device(device)).eval()


def model_folder(model: str) -> Path:
    """Where the files lie that `open_model` reads."""
    return find(model) if is_hub_name(model) or _is_folder(model) else shipped(model)


def places_of(model: str) -> list[Path]:
    """Where files about a model lie: its folder, and that of the run that it lies in."""
    folder = model_folder(model)
    is_of_run = folder.name == MODEL and (folder.parent / "training.json").is_file()
    return [folder, folder.parent] if is_of_run else [folder]


def from_anywhere(model: str) -> str:
    """The same model for a process with another working folder: what is a path, absolute."""
    return str(Path(model).absolute()) if _is_folder(model) else model


def _is_folder(model: str) -> bool:
    is_path = Path(model).is_dir() or "/" in model or "\\" in model
    return is_path and model not in list_models() and not is_hub_name(model)


@functools.lru_cache(maxsize=1)
def opened_model(model: str, device: str) -> Generator:
    """The same, kept: for a process that is given one task after the other."""
    return open_model(model, device)


def choose_device(device: str) -> torch.device:
    """The device of that name; "auto" prefers CUDA, then MPS, then the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if torch.backends.mps.is_available():
            device = "mps"
    try:
        return torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError) as cause:
        raise ValueError(f"device {device!r} cannot be used here: {cause}") from cause


def number_as(generator: Generator, data: ClipDataset) -> None:
    """Let a data set number its classes and speakers as prior and decoder have learnt them.

    Raises:
        ValueError: it has others too.
    """
    specs = {"decoder": generator.vqvae.cond}
    if generator.prior is not None:
        specs["prior"] = generator.prior.cond
    for part, spec in specs.items():
        for kind, known in (("classes", spec.class_names), ("speakers", spec.speaker_names)):
            given = getattr(data, kind)
            unknown = [name for name in given if known and name not in known]
            if unknown:
                raise ValueError(
                    f"the {part} knows the {kind} {', '.join(known)}; the data has "
                    f"{', '.join(unknown)} too. Give data of those it knows"
                )
            if given and known:
                setattr(data, kind, list(known))


def check_video_file(target: Path, rate: float) -> None:
    """Raise `ValueError` where a video cannot be written under that name at that rate.

    Args:
        target: .mp4 or .gif. A GIF counts hundredths of a second, and players want two.
        rate: frames per second.
    """
    if target.suffix not in MOST_FPS:
        raise ValueError(f"--out must end in {' or '.join(MOST_FPS)}, got {str(target)!r}")
    if not 0 < rate <= MOST_FPS[target.suffix]:
        raise ValueError(
            f"fps must lie above 0 and up to {MOST_FPS[target.suffix]} for a {target.suffix} "
            f"file, got {rate:g}"
        )


def output_files(out: Path, number: int, overwrite: bool, *beside: str) -> list[Path]:
    """`number` files called like `out`, numbered from 1 if there are several.

    Checked before any work is done, together with files of the same stem and the suffixes
    `beside`.

    Raises:
        FileExistsError: one of them exists and overwrite is False.
        NotADirectoryError: a file stands where a folder is needed.
    """
    files = (
        [out]
        if number == 1
        else [out.with_name(f"{out.stem}_{index + 1}{out.suffix}") for index in range(number)]
    )
    for file in [*files, *(out.with_suffix(suffix) for suffix in beside)]:
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists; give another --out or --overwrite")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{above} is a file, so {out} cannot be written below it")
    return files


def evenly(frames: Tensor, most: int = 32) -> Tensor:
    """At most `most` frames of clips `[n, c, t, h, w]`, evenly spread: a sheet people can read."""
    length = frames.shape[2]
    number = min(length, most)
    return frames[:, :, [i * length // number for i in range(number)]]
