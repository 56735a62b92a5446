"""Speed of reading clips at random positions of video files, compared with decord and plain PyAV.

Ours is `media.read_video`. decord is its `VideoReader`, opened once for each file and kept open,
with one thread and its own resizing. The plain loop is straightforward PyAV code: seek to the key
frame before the clip in an open file, decode all frames up to the end of the clip, then resize
them. Opening is not timed. If decord counts a different number of frames than the file has, its
time is meaningless and omitted.
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

from benchmarks.table import align_columns, format_number
from benchmarks.timing import TimedCall, measure_median_ms, torch_num_threads
from vqvideo import media
from vqvideo.media.formats import VIDEO_SUFFIXES
from vqvideo.report.environment import collect_environment, format_environment

ReadClip = Callable[[int], object]  # reads a clip, given the index of its first frame
CLIPS_PER_TURN = 4  # clips of a file read in one timed call


def benchmark_reading(
    folders: Sequence[str],
    *,
    num_files: int = 8,
    num_frames: int = 16,
    side: int = 64,
    rounds: int = 3,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Time clips of the first video files of some folders; return one row for each folder.

    Args:
        folders: folders with video files.
        num_files: maximum number of files per folder.
        num_frames: frames per clip.
        side: height and width of a clip.
        rounds: number of timing rounds per file.
        progress: called with (files done, total files).

    Returns:
        Rows with "folder", "files", "miscounted" (files that decord miscounts), "ms" per clip
        of "ours", "decord" (None if it miscounts all files) and "plain", medians over the files,
        and "environment".

    Raises:
        ValueError: a folder has no video that is long enough.
    """
    chosen = {folder: _find_videos(folder, num_files, num_frames) for folder in folders}
    total, done = sum(map(len, chosen.values())), 0
    rows = []
    with torch_num_threads(1):
        environment = collect_environment("av", "decord")
        for folder, files in chosen.items():
            times = []
            for file in files:
                times.append(_time_readers(file, num_frames, side, rounds))
                done += 1
                progress(done, total)
            decord_times = [ms["decord"] for ms in times if "decord" in ms]
            ms = {name: statistics.median(row[name] for row in times) for name in ("ours", "plain")}
            rows.append(
                {
                    "folder": folder,
                    "files": len(files),
                    "miscounted": len(files) - len(decord_times),
                    "ms": {
                        **ms,
                        "decord": statistics.median(decord_times) if decord_times else None,
                    },
                    "environment": environment,
                }
            )
    return rows


def _find_videos(folder: str, max_files: int, num_frames: int) -> list[Path]:
    files = [file for file in sorted(Path(folder).iterdir()) if file.suffix in VIDEO_SUFFIXES]
    long_files = (file for file in files if media.probe(file).num_frames >= num_frames)
    selected = [file for _, file in zip(range(max_files), long_files, strict=False)]
    if not selected:
        raise ValueError(f"{folder} has no video of {num_frames} frames or more")
    return selected


def _time_readers(file: Path, num_frames: int, side: int, rounds: int) -> dict[str, float]:
    """Return milliseconds per clip for each reader, without decord if it miscounts the frames."""
    rng, last_start = random.Random(0), media.probe(file).num_frames - num_frames
    starts = [rng.randint(0, last_start) for _ in range(CLIPS_PER_TURN * (rounds + 1))]

    def read_ours(start: int) -> object:
        return media.read_video(file, range(start, start + num_frames), size=(side, side))

    readers: dict[str, ReadClip] = {
        "ours": read_ours,
        "plain": _open_pyav_reader(file, num_frames, side),
    }
    decord_reader = _open_decord_reader(file, num_frames, side)
    if decord_reader is not None:
        readers["decord"] = decord_reader
    next_starts = {name: iter(starts * 50) for name in readers}  # all read the same clips

    def build_timed_call(name: str) -> TimedCall:
        return TimedCall(
            lambda: [readers[name](next(next_starts[name])) for _ in range(CLIPS_PER_TURN)]
        )

    ms = measure_median_ms({name: build_timed_call(name) for name in readers}, rounds=rounds)
    return {name: value / CLIPS_PER_TURN for name, value in ms.items()}


def _open_decord_reader(file: Path, num_frames: int, side: int) -> ReadClip | None:
    import decord

    reader = decord.VideoReader(str(file), width=side, height=side, num_threads=1)
    if len(reader) != media.probe(file).num_frames:
        return None
    return lambda start: reader.get_batch(list(range(start, start + num_frames))).asnumpy()


def _open_pyav_reader(file: Path, num_frames: int, side: int) -> ReadClip:
    import av

    container = av.open(str(file))
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    packet_pts = (packet.pts for packet in container.demux(stream) if not packet.is_discard)
    pts = sorted(time for time in packet_pts if time is not None)

    def read_clip(start: int) -> object:
        clip_pts = set(pts[start : start + num_frames])
        container.seek(pts[start], stream=stream)
        arrays = []
        for frame in container.decode(stream):
            if frame.pts in clip_pts:
                arrays.append(frame.to_ndarray(format="rgb24"))
            if frame.pts is not None and frame.pts >= pts[start + num_frames - 1]:
                break
        frames = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
        return F.interpolate(frames, size=(side, side), mode="bilinear", antialias=True)

    return read_clip


def format_reading_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the results of `benchmark_reading`: times in milliseconds, and their ratios."""
    header = ["folder", "files", "ours", "decord", "decord/ours", "plain", "plain/ours"]
    lines = [[*header, "decord miscounts"]]
    for row in rows:
        ms = row["ms"]
        decord = ms["decord"]
        lines.append(
            [
                Path(row["folder"]).name,
                str(row["files"]),
                format_number(ms["ours"]),
                format_number(decord),
                "-" if decord is None else f"{format_number(decord / ms['ours'])}x",
                format_number(ms["plain"]),
                f"{format_number(ms['plain'] / ms['ours'])}x",
                str(row["miscounted"]),
            ]
        )
    return f"{format_environment(rows[0]['environment'])}\n\n{align_columns(lines)}"
