"""`vqvideo decode`: code files as media files again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.data.codes import CodeClip, CodeFile, CodeFileError, open_codes
from vqvideo.entropy import PriorCoder
from vqvideo.generator import Generator
from vqvideo.jobs.encode_shard import Codes, coder_of, cond_of_clips
from vqvideo.jobs.model import open_model

SUFFIXES = {1: (".wav", ".flac"), 2: (".png",), 3: (".mp4", ".mkv", ".gif")}
CODES_AT_ONCE = 4  # along the first axis, of video and sound


def decode(
    codes: str,
    out: str,
    *,
    model: str = "video",
    suffix: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Decode every clip of a folder of code files, or of one; returns the files.

    Files that are there already are left as they are, so a run that was stopped goes on. Clips of
    any length take constant memory but for their codes.

    Args:
        codes: a folder that `vqvideo encode` made, or one code file.
        out: a folder.
        model: the one that encoded; see `open_model`.
        suffix: of the files: .mp4 (the default for video), .mkv (without loss), .gif; .wav, .flac;
            .png.
        device: see `open_model`.
        overwrite: write files anew that are there already.
        progress: called with (clips done, clips in all).

    Raises:
        CodeFileError: no code files, damaged ones, or those of another tokenizer or prior.
    """
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
    coder = None
    if files[0].header.coder is not None:
        coder = coder_of(generator)
        coder.check_fingerprint(files[0].header.coder)
    clips = [(file, index) for file in files for index in range(len(file))]
    targets = _targets(Path(out), [file.clips[index] for file, index in clips], suffix)
    for done, ((file, index), target) in enumerate(zip(clips, targets, strict=True), start=1):
        if overwrite or not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            found = codes_of(file, index, coder)
            _write(generator, file.clips[index], found, target, overwrite)
        if progress:
            progress(done, len(clips))
    return targets


def codes_of(file: CodeFile, index: int, coder: PriorCoder | None) -> Tensor:
    """Codes `[*grid(, s)]` of a clip, unpacked or decompressed.

    Raises:
        CodeFileError: they are damaged; the message names the file and the clip.
    """
    if coder is None:
        return file.codes(index)
    clip = file.clips[index]
    told = cond_of_clips(coder.prior.cond, [Codes(clip, torch.empty(0), file.actions(index))])
    try:
        return coder.decode([file.data(index)], clip.grid, told)[0]
    except CodeFileError:
        raise
    except ValueError as cause:
        raise CodeFileError(f"clip {index} of {file.path} ({clip.source}): {cause}") from cause


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


def _write(
    generator: Generator, clip: CodeClip, codes: Tensor, target: Path, overwrite: bool
) -> None:
    vqvae = generator.vqvae
    device = next(vqvae.parameters()).device
    pieces = (piece[None].to(device) for piece in codes.split(CODES_AT_ONCE))
    frames: Iterator[Tensor] = (
        piece[0].cpu() for piece in vqvae.decode_stream(pieces, length=clip.length)
    )
    if vqvae.rank == 2:
        media.write_image(target, torch.cat(list(frames), dim=1), overwrite=overwrite)
    elif vqvae.rank == 1:
        sound = torch.cat(list(frames), dim=1)
        media.write_audio(target, sound, round(clip.rate), overwrite=overwrite)
    elif target.suffix == ".mkv":
        media.write_lossless(target, frames, clip.rate, overwrite=overwrite)
    elif target.suffix == ".gif":
        media.write_gif(target, frames, clip.rate, overwrite=overwrite)
    else:
        media.write_video(target, frames, clip.rate, overwrite=overwrite)
