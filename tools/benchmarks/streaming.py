"""Cost of encoding and decoding chunk by chunk: memory over length, time relative to one call."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.environment import build_environment
from benchmarks.memory import MIB, PROC_STATUS
from benchmarks.table import align_columns, format_number
from benchmarks.timing import TimedCall, measure_median_ms, torch_num_threads
from vqvideo.models import build
from vqvideo.modes import eval_mode
from vqvideo.report.environment import collect_environment, format_environment
from vqvideo.vqvae import VQVAE

CHUNK_FRAMES = 16  # frames per chunk of a stream
CLIP_SHAPES = ((1, 16, 64), (8, 16, 64), (1, 64, 128))  # timed clips: batch, frames, side


def benchmark_streaming(
    *,
    lengths: Sequence[int] = (64, 10_000),
    side: int = 128,
    rounds: int = 5,
    num_threads: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure memory and time of the model `video` with the shipped weights.

    Args:
        lengths: lengths of the streamed videos, in frames.
        side: height and width of their frames.
        rounds: number of timing rounds.
        num_threads: number of threads of torch.
        progress: called with (parts done, total parts).

    Returns:
        "memory": rows with "frames", the "peak_mib" of a process that encodes a stream and drops
        the codes, and its "frames_per_second"; both are None outside Linux. "times": rows with
        "batch", "frames", "side" and "ms" of `encode` and `decode`, and of the same in one call of
        the networks. "environment": versions and machine.

    Raises:
        ValueError: a length, side or rounds below 1.
    """
    for name, value in (("length", min(lengths)), ("side", side), ("rounds", rounds)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    total = len(lengths) + len(CLIP_SHAPES) * (rounds + 1)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    memory = []
    for length in lengths:
        memory.append({"frames": length, **_run_in_subprocess(length, side, num_threads)})
        advance()
    vqvae = build("video", pretrained=True).vqvae
    with torch_num_threads(num_threads), torch.inference_mode(), eval_mode(vqvae):
        environment = collect_environment()
        times = [_time_encode_decode(vqvae, *clip, rounds, advance) for clip in CLIP_SHAPES]
    return {"memory": memory, "times": times, "side": side, "environment": environment}


def _time_encode_decode(
    vqvae: VQVAE, batch: int, frames: int, side: int, rounds: int, advance: Callable[[], None]
) -> dict[str, Any]:
    x = torch.rand(batch, 3, frames, side, side) * 2 - 1
    codes = vqvae.encode(x)
    calls = {
        "encode": TimedCall(lambda: vqvae.encode(x)),
        "encode, one call": TimedCall(lambda: vqvae.quantizer(vqvae.encoder(x)).codes),
        "decode": TimedCall(lambda: vqvae.decode(codes)),
        "decode, one call": TimedCall(
            lambda: vqvae.likelihood.mode(vqvae.decoder(vqvae.quantizer.decode(codes)))
        ),
    }
    ms = measure_median_ms(calls, rounds=rounds, on_round_end=advance)
    return {"batch": batch, "frames": frames, "side": side, "ms": ms}


def _run_in_subprocess(length: int, side: int, num_threads: int) -> dict[str, float | None]:
    if not PROC_STATUS.exists():
        return {"peak_mib": None, "frames_per_second": None}
    arguments = [str(number) for number in (length, side, num_threads)]
    command = [sys.executable, "-m", __name__, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, env=build_environment())
    if process.returncode:
        raise RuntimeError(f"streaming {length} frames failed: {process.stderr.strip()[-500:]}")
    result: dict[str, float | None] = json.loads(process.stdout)
    return result


def _measure_stream(length: int, side: int) -> dict[str, float]:
    vqvae = build("video", pretrained=True).vqvae
    rng = torch.Generator().manual_seed(0)

    def generate_chunks() -> Iterator[Tensor]:
        for start in range(0, length, CHUNK_FRAMES):
            num_frames = min(CHUNK_FRAMES, length - start)
            yield torch.rand(1, 3, num_frames, side, side, generator=rng) * 2 - 1

    start_time = time.perf_counter()
    for _ in vqvae.encode_stream(generate_chunks()):
        pass
    seconds = time.perf_counter() - start_time
    peak = next(line.split()[1] for line in PROC_STATUS.read_text().splitlines() if "VmHWM" in line)
    return {"peak_mib": int(peak) * 1024 / MIB, "frames_per_second": length / seconds}


def format_streaming_table(results: dict[str, Any]) -> str:
    """Format the results of `benchmark_streaming` as text."""
    first = results["memory"][0]["peak_mib"]
    lines = [["frames", "peak MiB", "/first", "frames/s"]]
    for row in results["memory"]:
        peak = row["peak_mib"]
        ratio = "-" if peak is None else f"{peak / first:.3f}x"
        speed = format_number(row["frames_per_second"])
        lines.append([str(row["frames"]), format_number(peak), ratio, speed])
    times = [["clips", "frames", "side", "encode", "/one call", "decode", "/one call"]]
    for row in results["times"]:
        cells = [str(row[name]) for name in ("batch", "frames", "side")]
        for name in ("encode", "decode"):
            ms, one_call = row["ms"][name], row["ms"][f"{name}, one call"]
            cells += [format_number(ms), f"{format_number(ms / one_call)}x"]
        times.append(cells)
    return (
        f"{format_environment(results['environment'])}\n\n"
        f"Memory of encoding a stream of {results['side']}x{results['side']} frames\n"
        f"{align_columns(lines)}\n\n"
        f"Times (ms), and relative to one call of the networks on the whole clip\n"
        f"{align_columns(times)}"
    )


if __name__ == "__main__":
    with torch_num_threads(int(sys.argv[3])):
        print(json.dumps(_measure_stream(int(sys.argv[1]), int(sys.argv[2]))))
