"""`vqvideo decode`: code files as media files again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.cond import Cond
from vqvideo.data.codes import CodeClip, CodeFile, CodeFileError, open_codes
from vqvideo.entropy import PriorCoder
from vqvideo.generator import Generator
from vqvideo.jobs.compress import Told, coder_of, decompress
from vqvideo.jobs.model import open_model, opened_model
from vqvideo.jobs.processes import Report, counting, work_off
from vqvideo.vqvae import VQVAE

SUFFIXES = {1: (".wav", ".flac"), 2: (".png",), 3: (".mp4", ".mkv", ".apng", ".webp", ".gif")}
CODES_AT_ONCE = 4  # along the first axis, of video and sound


@dataclass(frozen=True, kw_only=True)
class DecodeTask:
    """The clips of one code file that are not there yet, and where each goes."""

    codes: Path
    targets: tuple[tuple[int, Path], ...]
    model: str
    device: str
    num_threads: int | None = None


def decode(
    codes: str,
    out: str,
    *,
    model: str = "video",
    suffix: str | None = None,
    num_processes: int = 1,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Decode every clip of a folder of code files, or of one; returns the files.

    Files that are there already and newer than their codes are left as they are, so a run that was
    stopped goes on. Video of any length takes constant memory but for its codes (not as .gif or
    .webp, which are written whole); sound is held whole, and so is what an autoregressive
    likelihood draws, one value after the other.

    Args:
        codes: a folder that `vqvideo encode` made, or one code file.
        out: a folder.
        model: the one that encoded; see `open_model`.
        suffix: of the files: .mp4 (the default for video), .mkv and .apng (without loss), .webp,
            .gif; .wav, .flac; .png.
        num_processes: each with an equal share of the processor's cores and its own code files.
        device: see `open_model`.
        overwrite: write files anew that are there already.
        progress: called with (clips done, clips in all).

    Raises:
        CodeFileError: no code files, damaged ones, or those of another tokenizer or prior.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes must be at least 1, got {num_processes}")
    files = [CodeFile(codes)] if Path(codes).is_file() else open_codes(codes)
    if not files:
        raise CodeFileError(f"{codes} holds no code files; `vqvideo encode` makes them")
    generator = open_model(model, device)
    rank = generator.vqvae.rank
    suffix = suffix or SUFFIXES[rank][0]
    if suffix not in SUFFIXES[rank]:
        raise ValueError(f"suffix must be {' or '.join(SUFFIXES[rank])}, got {suffix!r}")
    for file in files:
        file.check_fingerprint(generator.vqvae.fingerprint())
    if files[0].header.coder is not None:
        coder_of(generator).check_fingerprint(files[0].header.coder)
    unknown = {clip.speaker for file in files for clip in file.clips if clip.speaker}
    unknown -= set(generator.vqvae.cond.speaker_names)
    if unknown and generator.vqvae.cond.speaker_names:
        names = ", ".join(sorted(unknown))
        print(f"in the voice of nobody, for the decoder does not know: {names}", file=sys.stderr)
    targets = _targets(Path(out), [clip for file in files for clip in file.clips], suffix)
    threads = max(1, (os.cpu_count() or 1) // num_processes) if num_processes > 1 else None
    tasks, first = [], 0
    for file in files:
        own = targets[first : first + len(file)]
        first += len(file)
        made = file.path.stat().st_mtime_ns
        missing = tuple(
            (index, target)
            for index, target in enumerate(own)
            if overwrite or not target.is_file() or target.stat().st_mtime_ns < made
        )
        task = DecodeTask(
            codes=file.path, targets=missing, model=model, device=device, num_threads=threads
        )
        tasks += [task] if missing else []
    sizes = [len(task.targets) for task in tasks]
    report = counting(progress, len(targets) - sum(sizes), len(targets))
    for _ in work_off(_decode, tasks, sizes, num_processes, report):
        pass
    return targets


def _decode(task: DecodeTask, report: Report) -> None:
    """What one process does."""
    if task.num_threads:
        torch.set_num_threads(task.num_threads)
    generator, file = opened_model(task.model, task.device), CodeFile(task.codes)
    coder = None if file.header.coder is None else coder_of(generator)
    found = _codes(file, [index for index, _ in task.targets], coder)
    for (index, target), codes in zip(task.targets, found, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(generator, file.clips[index], codes, target)
        report(1)


def _codes(file: CodeFile, indices: Sequence[int], coder: PriorCoder | None) -> Iterator[Tensor]:
    """Codes `[*grid(, s)]` of clips, unpacked or decompressed.

    Raises:
        CodeFileError: they are damaged; the message names the file and the clip.
    """
    if coder is None:
        yield from (file.codes(index) for index in indices)
        return
    told = [
        Told(file.clips[index], file.actions(index) if file.has_actions(index) else None)
        for index in indices
    ]
    data = [file.data(index) for index in indices]
    try:
        yield from decompress(coder, file.header.segment, told, data)
    except ValueError as cause:
        raise CodeFileError(f"{file.path} cannot be decompressed: {cause}") from cause


def _targets(out: Path, clips: list[CodeClip], suffix: str) -> list[Path]:
    """A file for each clip, named like its source, and after where it begins if there are several.

    Raises:
        CodeFileError: two clips have one name, or a source leads out of the folder.
    """
    in_parts = {clip.source for clip in clips if clip.start}
    targets: dict[Path, CodeClip] = {}
    for clip in clips:
        source = PurePosixPath(clip.source)
        begin = f"_{clip.start:08d}" if clip.source in in_parts else ""
        ending = suffix if source.suffix in ("", suffix) else source.suffix + suffix
        target = out / source.with_name(f"{source.stem}{begin}{ending}")
        if source.is_absolute() or ".." in source.parts or target in targets:
            raise CodeFileError(
                f"{clip.source!r} gives no name for a file in {out}: it leads elsewhere, or "
                f"another clip has that name"
            )
        targets[target] = clip
    return list(targets)


def _write(generator: Generator, clip: CodeClip, codes: Tensor, target: Path) -> None:
    """Decode a clip into a file, as it comes where the kind of file allows."""
    rank, frames = generator.vqvae.rank, _decoded(generator.vqvae, codes, clip)
    if rank == 2:
        media.write_image(target, torch.cat(list(frames), dim=1), overwrite=True)
    elif rank == 1:
        sound = torch.cat(list(frames), dim=1)
        media.write_audio(target, sound, round(clip.rate), overwrite=True)
    else:
        write = {
            ".mkv": media.write_lossless,
            ".apng": media.write_lossless,
            ".webp": media.write_webp,
            ".gif": media.write_gif,
        }.get(target.suffix, media.write_video)
        write(target, frames, clip.rate, overwrite=True)


def _decoded(vqvae: VQVAE, codes: Tensor, clip: CodeClip) -> Iterator[Tensor]:
    """Data `[c, n, ...]` of a clip in pieces."""
    device = next(vqvae.parameters()).device
    pieces = (piece[None].to(device) for piece in codes.split(CODES_AT_ONCE))
    for piece in vqvae.decode_stream(pieces, _cond(vqvae, clip), length=clip.length):
        yield piece[0].cpu()


def _cond(vqvae: VQVAE, clip: CodeClip) -> Cond | None:
    """What the decoder is told: the class and the speaker of the clip, if it knows all that it
    takes, else nothing.
    """
    spec, said = vqvae.cond, {"class_id": clip.class_name, "speaker": clip.speaker}
    if spec.is_empty or any(said[name] not in spec.names[name] for name in spec.takes):
        return None
    return Cond(**{n: torch.tensor([spec.number(n, said[n] or "")]) for n in spec.takes})
