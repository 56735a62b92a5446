"""What it costs to encode and decode block by block: memory over length, time beside one call."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from vqvideo.jobs.benchmark.memory import MIB, STATUS
from vqvideo.jobs.benchmark.table import aligned, short
from vqvideo.jobs.benchmark.timing import Timed, median_ms, threads
from vqvideo.models import build
from vqvideo.modes import evaluating
from vqvideo.report.machine import as_line, setting
from vqvideo.vqvae import VQVAE

PIECE = 16  # frames that come at a time
CLIPS = ((1, 16, 64), (8, 16, 64), (1, 64, 128))  # batch, frames, side: of the times


def benchmark_streaming(
    *,
    lengths: Sequence[int] = (64, 10_000),
    side: int = 128,
    rounds: int = 5,
    num_threads: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure the model `video` with the weights that ship.

    Args:
        lengths: of videos that are streamed, in frames.
        side: height and width of their frames.
        rounds: how often each takes its turn, of the times.
        num_threads: of torch.
        progress: called with (parts done, parts in all).

    Returns:
        "memory": rows with "frames", "peak_mib" of a process that encodes a video as it comes and
        drops the codes, and its "frames_per_second"; None for both outside Linux. "times": rows
        with "batch", "frames", "side" and "ms" of `encode` and `decode` and of the same in one
        call of the networks. "setting": versions and machine.

    Raises:
        ValueError: a number below 1.
    """
    for name, number in (("length", min(lengths)), ("side", side), ("rounds", rounds)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    parts = len(lengths) + len(CLIPS) * (rounds + 1)
    done = 0

    def report() -> None:
        nonlocal done
        done += 1
        progress(done, parts)

    memory = []
    for length in lengths:
        memory.append({"frames": length, **_in_a_process(length, side, num_threads)})
        report()
    vqvae = build("video", pretrained=True).vqvae
    with threads(num_threads), torch.inference_mode(), evaluating(vqvae):
        environment = setting()
        times = [_times(vqvae, *clip, rounds, report) for clip in CLIPS]
    return {"memory": memory, "times": times, "side": side, "setting": environment}


def _times(
    vqvae: VQVAE, batch: int, frames: int, side: int, rounds: int, report: Callable[[], None]
) -> dict[str, Any]:
    x = torch.rand(batch, 3, frames, side, side) * 2 - 1
    codes = vqvae.encode(x)
    timed = {
        "encode": Timed(lambda: vqvae.encode(x)),
        "encode, one call": Timed(lambda: vqvae.quantizer(vqvae.encoder(x)).codes),
        "decode": Timed(lambda: vqvae.decode(codes)),
        "decode, one call": Timed(
            lambda: vqvae.likelihood.mode(vqvae.decoder(vqvae.quantizer.decode(codes)))
        ),
    }
    ms = median_ms(timed, rounds=rounds, after_round=report)
    return {"batch": batch, "frames": frames, "side": side, "ms": ms}


def _in_a_process(length: int, side: int, num_threads: int) -> dict[str, float | None]:
    if not STATUS.exists():
        return {"peak_mib": None, "frames_per_second": None}
    arguments = [str(number) for number in (length, side, num_threads)]
    command = [sys.executable, "-m", __name__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a stream of {length} frames failed: {done.stderr.strip()[-500:]}")
    found: dict[str, float | None] = json.loads(done.stdout)
    return found


def _stream(length: int, side: int) -> dict[str, float]:
    vqvae = build("video", pretrained=True).vqvae
    draw = torch.Generator().manual_seed(0)

    def pieces() -> Iterator[Tensor]:
        for start in range(0, length, PIECE):
            frames = min(PIECE, length - start)
            yield torch.rand(1, 3, frames, side, side, generator=draw) * 2 - 1

    begin = time.perf_counter()
    for _ in vqvae.encode_stream(pieces()):
        pass
    seconds = time.perf_counter() - begin
    peak = next(line.split()[1] for line in STATUS.read_text().splitlines() if "VmHWM" in line)
    return {"peak_mib": int(peak) * 1024 / MIB, "frames_per_second": length / seconds}


def streaming_table(found: dict[str, Any]) -> str:
    """What `benchmark_streaming` returned, as text."""
    first = found["memory"][0]["peak_mib"]
    lines = [["frames", "peak MiB", "over the first", "frames/s"]]
    for row in found["memory"]:
        peak = row["peak_mib"]
        over = "-" if peak is None else f"{peak / first:.3f}x"
        lines.append([str(row["frames"]), short(peak), over, short(row["frames_per_second"])])
    times = [["clips", "frames", "side", "encode", "/one call", "decode", "/one call"]]
    for row in found["times"]:
        cells = [str(row[name]) for name in ("batch", "frames", "side")]
        for name in ("encode", "decode"):
            ms, whole = row["ms"][name], row["ms"][f"{name}, one call"]
            cells += [short(ms), f"{short(ms / whole)}x"]
        times.append(cells)
    return (
        f"{as_line(found['setting'])}\n\n"
        f"A video of {found['side']}x{found['side']} encoded as it comes\n{aligned(lines)}\n\n"
        f"Times (ms), beside one call of the networks on the whole clip\n{aligned(times)}"
    )


if __name__ == "__main__":
    with threads(int(sys.argv[3])):
        print(json.dumps(_stream(int(sys.argv[1]), int(sys.argv[2]))))
