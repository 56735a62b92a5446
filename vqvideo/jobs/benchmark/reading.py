"""How quickly clips are read from random places of video files, beside decord and a plain loop.

Ours is `media.read_video`. decord is its `VideoReader`, opened once for each file and kept open,
one thread, resizing by itself. The plain loop is what one writes with PyAV: seek to the key frame
before the clip in a file that is kept open, decode all frames up to its end, resize them at last.
Opening is timed for none of them. Where decord counts other frames than the file shows, its time
says nothing and is left out.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vqvideo import media
from vqvideo.data.metadata import VIDEO_SUFFIXES
from vqvideo.jobs.benchmark.table import aligned, short
from vqvideo.jobs.benchmark.timing import Timed, median_ms, threads
from vqvideo.report.machine import as_line, setting

Read = Callable[[int], object]  # a clip, by the number of its first frame
AT_A_TIME = 4  # clips of a file that are read one after the other


def benchmark_reading(
    folders: Sequence[str],
    *,
    num_files: int = 8,
    num_frames: int = 16,
    side: int = 64,
    rounds: int = 3,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Time clips of the first video files of some folders; returns one row for each folder.

    Args:
        folders: with video files.
        num_files: of each folder, at most.
        num_frames: of a clip.
        side: height and width of a clip.
        rounds: how often each reader takes its turn with a file.
        progress: called with (files done, files in all).

    Returns:
        Rows with "folder", "files", "miscounted" (files that decord counts wrongly), "ms" per clip
        of "ours", "decord" (None where it counts wrongly) and "plain", medians over the files, and
        "setting".

    Raises:
        ValueError: a folder without a video that is long enough.
    """
    chosen = {folder: _files(folder, num_files, num_frames) for folder in folders}
    total, done = sum(map(len, chosen.values())), 0
    rows = []
    with threads(1):
        environment = setting("av", "decord")
        for folder, files in chosen.items():
            each = []
            for file in files:
                each.append(_times(file, num_frames, side, rounds))
                done += 1
                progress(done, total)
            known = [ms["decord"] for ms in each if "decord" in ms]
            ms = {name: statistics.median(row[name] for row in each) for name in ("ours", "plain")}
            rows.append(
                {
                    "folder": folder,
                    "files": len(files),
                    "miscounted": len(files) - len(known),
                    "ms": {**ms, "decord": statistics.median(known) if known else None},
                    "setting": environment,
                }
            )
    return rows


def _files(folder: str, number: int, num_frames: int) -> list[Path]:
    files = [file for file in sorted(Path(folder).iterdir()) if file.suffix in VIDEO_SUFFIXES]
    long = (file for file in files if media.probe(file).num_frames >= num_frames)
    found = [file for _, file in zip(range(number), long, strict=False)]
    if not found:
        raise ValueError(f"{folder} holds no video of {num_frames} frames or more")
    return found


def _times(file: Path, num_frames: int, side: int, rounds: int) -> dict[str, float]:
    """Milliseconds per clip of each reader; none of decord's where it counts wrongly."""
    draw, last = random.Random(0), media.probe(file).num_frames - num_frames
    starts = [draw.randint(0, last) for _ in range(AT_A_TIME * (rounds + 1))]

    def ours(start: int) -> object:
        return media.read_video(file, range(start, start + num_frames), size=(side, side))

    readers: dict[str, Read] = {"ours": ours, "plain": _plain(file, num_frames, side)}
    decord = _decord(file, num_frames, side)
    if decord is not None:
        readers["decord"] = decord
    places = {name: iter(starts * 50) for name in readers}  # each reads the same clips

    def several(name: str) -> Timed:
        return Timed(lambda: [readers[name](next(places[name])) for _ in range(AT_A_TIME)])

    ms = median_ms({name: several(name) for name in readers}, rounds=rounds)
    return {name: each / AT_A_TIME for name, each in ms.items()}


def _decord(file: Path, num_frames: int, side: int) -> Read | None:
    import decord

    reader = decord.VideoReader(str(file), width=side, height=side, num_threads=1)
    if len(reader) != media.probe(file).num_frames:
        return None
    return lambda start: reader.get_batch(list(range(start, start + num_frames))).asnumpy()


def _plain(file: Path, num_frames: int, side: int) -> Read:
    import av

    container = av.open(str(file))
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    shown = (packet.pts for packet in container.demux(stream) if not packet.is_discard)
    pts = sorted(time for time in shown if time is not None)

    def read(start: int) -> object:
        wanted = set(pts[start : start + num_frames])
        container.seek(pts[start], stream=stream)
        found = []
        for frame in container.decode(stream):
            if frame.pts in wanted:
                found.append(frame.to_ndarray(format="rgb24"))
            if frame.pts is not None and frame.pts >= pts[start + num_frames - 1]:
                break
        frames = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
        return F.interpolate(frames, size=(side, side), mode="bilinear", antialias=True)

    return read


def reading_table(rows: Sequence[dict[str, Any]]) -> str:
    """What `benchmark_reading` returned, as text: times in milliseconds, and their ratios."""
    heads = ["folder", "files", "ours", "decord", "decord/ours", "plain", "plain/ours"]
    lines = [[*heads, "decord miscounts"]]
    for row in rows:
        ms = row["ms"]
        decord = ms["decord"]
        lines.append(
            [
                Path(row["folder"]).name,
                str(row["files"]),
                short(ms["ours"]),
                short(decord),
                "-" if decord is None else f"{short(decord / ms['ours'])}x",
                short(ms["plain"]),
                f"{short(ms['plain'] / ms['ours'])}x",
                str(row["miscounted"]),
            ]
        )
    return f"{as_line(rows[0]['setting'])}\n\n{aligned(lines)}"
