"""The command line of `tools/benchmark.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.maze.options import MAZE
from benchmarks.speech.options import SPEECH
from benchmarks.speed_options import DECODING, PLAYING, QUANTIZER, READING, SAMPLING, STREAMING
from benchmarks.training_options import BETA, BITS, BOUND, CODEBOOKS, TRAINING
from vqvideo.cli import add_commands, run
from vqvideo.cli.options import Command

BENCHMARKS: dict[str, Command] = {
    "quantizer": QUANTIZER,
    "sampling": SAMPLING,
    "decoding": DECODING,
    "speech": SPEECH,
    "maze": MAZE,
    "playing": PLAYING,
    "streaming": STREAMING,
    "reading": READING,
    "training": TRAINING,
    "bits": BITS,
    "bound": BOUND,
    "beta": BETA,
    "codebooks": CODEBOOKS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark and return the exit code.

    Args:
        argv: the benchmark's name and its options; None for `sys.argv`.
    """
    parser = argparse.ArgumentParser(
        prog="benchmark.py", description="Measure speed, memory and quality.", allow_abbrev=False
    )
    return run(add_commands(parser, BENCHMARKS), argv)
