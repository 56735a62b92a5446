"""`vqvideo decode`: decode code files into media files."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.commands.compressed_codes import ConditionedClip, build_coder, decompress
from vqvideo.commands.model import load_cached_model, load_model
from vqvideo.commands.output_record import OutputRecord
from vqvideo.commands.process_pool import Advance, build_progress_callback, run_tasks
from vqvideo.cond import Cond
from vqvideo.data.codes import CodeClip, CodeFile, CodeFileError, open_codes
from vqvideo.data.file_names import check_file_name, check_file_names
from vqvideo.device import get_device
from vqvideo.entropy import PriorCoder
from vqvideo.generator import Generator
from vqvideo.identity import fingerprint
from vqvideo.vqvae import VQVAE

SUFFIXES = {1: (".wav", ".flac"), 2: (".png",), 3: (".mp4", ".mkv", ".apng", ".webp", ".gif")}
CODES_PER_CHUNK = 4  # along the first axis, of video and audio


@dataclass(frozen=True)
class Target:
    """An output file: the index of its clip in the code file, and what determines its content."""

    index: int
    path: Path
    recipe: str


@dataclass(frozen=True, kw_only=True)
class DecodeTask:
    """The clips of one code file that are still to be decoded, with their output paths."""

    codes: Path
    out: Path
    targets: tuple[Target, ...]
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
    """Decode every clip of a code file, or of a folder of code files; return the media files.

    `decode.jsonl` in the output records the files that were written, with their hashes. Recorded
    files of the same codes and model are kept, so an interrupted run resumes; those of other codes
    are replaced. A file that is not recorded, such as an original recording, is never replaced
    without `overwrite`.

    Video of any length takes constant memory apart from its codes (except .gif and .webp, which are
    written at once). Audio is held in memory, and so are the samples of an autoregressive
    likelihood, which are drawn one value at a time.

    Args:
        codes: a folder written by `vqvideo encode`, or one code file.
        out: the output folder.
        model: the model that encoded the files; see `load_model`.
        suffix: suffix of the output files: .mp4 (the default for video), .mkv and .apng (lossless),
            .webp, .gif; .wav, .flac; .png.
        num_processes: number of processes; each has an equal share of the CPU cores and decodes its
            own code files.
        device: see `load_model`.
        overwrite: decode again and replace existing files, whoever wrote them.
        progress: called with (clips done, total clips).

    Raises:
        CodeFileError: there are no code files, or they are damaged, or written with another
            tokenizer or prior.
        FileExistsError: an output file exists that this command did not write; raised before any
            file is written.
        ValueError: `suffix` or `num_processes` is invalid, or `out` has a `decode.jsonl` that is
            not a record of this command.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes must be at least 1, got {num_processes}")
    files = [CodeFile(codes)] if Path(codes).is_file() else open_codes(codes)
    if not files:
        raise CodeFileError(f"{codes} has no code files; write some with `vqvideo encode`")
    generator = load_model(model, device)
    rank = generator.vqvae.rank
    suffix = suffix or SUFFIXES[rank][0]
    if suffix not in SUFFIXES[rank]:
        raise ValueError(f"suffix must be {' or '.join(SUFFIXES[rank])}, got {suffix!r}")
    _check_code_files(files, generator)
    paths = _build_target_paths(Path(out), [clip for file in files for clip in file.clips], suffix)
    record = OutputRecord(Path(out), "decode")
    threads = max(1, (os.cpu_count() or 1) // num_processes) if num_processes > 1 else None
    task = DecodeTask(
        codes=Path(codes),
        out=Path(out),
        targets=(),
        model=model,
        device=device,
        num_threads=threads,
    )
    vqvae = generator.vqvae
    recipe = fingerprint(
        vqvae.decoder, vqvae.likelihood, context=(vqvae.compatible_fingerprints()[0], vqvae.cond)
    )
    tasks = list(_plan_tasks(task, files, paths, recipe, record, overwrite))
    record.start()
    sizes = [len(task.targets) for task in tasks]
    report = build_progress_callback(progress, len(paths) - sum(sizes), len(paths))
    for _ in run_tasks(_decode_file, tasks, sizes, num_processes, report):
        pass
    return paths


def _check_code_files(files: Sequence[CodeFile], generator: Generator) -> None:
    """Raise `CodeFileError` for codes of another model; report speakers that it does not know."""
    vqvae = generator.vqvae
    fingerprints = vqvae.compatible_fingerprints()
    for file in files:
        file.check_fingerprint(*fingerprints)
    if files[0].header.coder is not None:
        build_coder(generator).check_fingerprint(files[0].header.coder)
    speakers = {clip.speaker for file in files for clip in file.clips if clip.speaker}
    unknown = speakers - set(vqvae.cond.speaker_names)
    if unknown and vqvae.cond.speaker_names:
        names = ", ".join(sorted(unknown))
        print(
            f"decoded without a speaker condition, unknown to the decoder: {names}",
            file=sys.stderr,
        )


def _plan_tasks(
    template: DecodeTask,
    files: Sequence[CodeFile],
    paths: Sequence[Path],
    model_recipe: str,
    record: OutputRecord,
    overwrite: bool,
) -> Iterator[DecodeTask]:
    """Yield a task per code file with output files to write.

    Raises:
        FileExistsError: an output file exists that this command did not write.
    """
    remaining = iter(paths)
    for file in files:
        targets = []
        for index, path in zip(range(len(file)), remaining, strict=False):
            content = f"{model_recipe} {file.clips[index]}".encode() + file.get_bytes(index)
            targets.append(Target(index, path, hashlib.sha256(content).hexdigest()))
        missing = [
            each for each in targets if record.needs_write(each.path, each.recipe, overwrite)
        ]
        if missing:
            yield replace(template, codes=file.path, targets=tuple(missing))


def _decode_file(task: DecodeTask, advance: Advance) -> None:
    """Decode the clips of one task in a worker process."""
    if task.num_threads:
        torch.set_num_threads(task.num_threads)
    generator, file = load_cached_model(task.model, task.device), CodeFile(task.codes)
    coder = None if file.header.coder is None else build_coder(generator)
    record = OutputRecord(task.out, "decode")
    decoded_codes = _read_codes(file, [target.index for target in task.targets], coder)
    for target, codes in zip(task.targets, decoded_codes, strict=True):
        with record.replace(target.path, target.recipe) as temporary:
            _write_clip(generator, file.clips[target.index], codes, temporary)
        advance(1)


def _read_codes(
    file: CodeFile, indices: Sequence[int], coder: PriorCoder | None
) -> Iterator[Tensor]:
    """Yield the codes `[*grid(, s)]` of clips, unpacked or decompressed.

    Raises:
        CodeFileError: the codes are damaged; the message names the file and the clip.
    """
    if coder is None:
        yield from (file.get_codes(index) for index in indices)
        return
    clips = [
        ConditionedClip(
            file.clips[index], file.get_actions(index) if file.has_actions(index) else None
        )
        for index in indices
    ]
    data = [file.get_bytes(index) for index in indices]
    try:
        yield from decompress(coder, file.header.segment, clips, data)
    except ValueError as cause:
        raise CodeFileError(f"{file.path} cannot be decompressed: {cause}") from cause


def _build_target_paths(out: Path, clips: list[CodeClip], suffix: str) -> list[Path]:
    """Return an output path per clip: the name of its source, plus its start if there are several.

    Raises:
        CodeFileError: a source leads out of the folder or has no valid name, or two clips have the
            same path.
    """
    split_sources = {clip.source for clip in clips if clip.start}
    names = []
    for clip in clips:
        try:
            check_file_name(clip.source)
        except ValueError as cause:
            raise CodeFileError(f"cannot write {clip.source!r} into {out}: {cause}") from cause
        source = PurePosixPath(clip.source)
        start_suffix = f"_{clip.start:08d}" if clip.source in split_sources else ""
        ending = suffix if source.suffix in ("", suffix) else source.suffix + suffix
        names.append(str(source.with_name(f"{source.stem}{start_suffix}{ending}")))
    try:
        check_file_names(out, names)
    except ValueError as cause:
        raise CodeFileError(f"cannot write the clips into {out}: {cause}") from cause
    return [out / name for name in names]


def _write_clip(generator: Generator, clip: CodeClip, codes: Tensor, target: Path) -> None:
    """Decode a clip into a file, chunk by chunk where the file format supports it."""
    rank, frames = generator.vqvae.rank, _decode_chunks(generator.vqvae, codes, clip)
    if rank == 2:
        media.write_image(target, torch.cat(list(frames), dim=1))
    elif rank == 1:
        audio = torch.cat(list(frames), dim=1)
        media.write_audio(target, audio, round(clip.rate))
    else:
        write = {
            ".mkv": media.write_lossless,
            ".apng": media.write_lossless,
            ".webp": media.write_webp,
            ".gif": media.write_gif,
        }.get(target.suffix, media.write_video)
        write(target, frames, clip.rate)


def _decode_chunks(vqvae: VQVAE, codes: Tensor, clip: CodeClip) -> Iterator[Tensor]:
    """Yield the data of a clip in chunks `[c, n, ...]`."""
    device = get_device(vqvae)
    chunks = (chunk[None].to(device) for chunk in codes.split(CODES_PER_CHUNK))
    for chunk in vqvae.decode_stream(chunks, _cond_from_clip(vqvae, clip), length=clip.length):
        yield chunk[0].cpu()


def _cond_from_clip(vqvae: VQVAE, clip: CodeClip) -> Cond | None:
    """Return the decoder's conditions for a clip, or None if the clip lacks a known label."""
    spec, labels = vqvae.cond, {"class_id": clip.class_name, "speaker": clip.speaker}
    if spec.is_empty or any(labels[name] not in spec.names[name] for name in spec.keys):
        return None
    return Cond(
        **{name: torch.tensor([spec.get_id(name, labels[name] or "")]) for name in spec.keys}
    )
