"""The command line of `tools/benchmark.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.maze.options import add_benchmark_maze_arguments
from benchmarks.speech.options import add_benchmark_speech_arguments
from benchmarks.speed_options import (
    add_decoding_arguments,
    add_playing_arguments,
    add_quantizer_arguments,
    add_reading_arguments,
    add_sampling_arguments,
    add_streaming_arguments,
)
from benchmarks.training_options import (
    add_beta_arguments,
    add_bits_arguments,
    add_bound_arguments,
    add_codebooks_arguments,
    add_training_arguments,
)
from vqvideo.cli import add_content, run
from vqvideo.cli.options import AddOptions

BENCHMARKS: dict[str, tuple[str, AddOptions]] = {
    "quantizer": (
        "Compare time and memory of the quantizer with vector-quantize-pytorch.",
        add_quantizer_arguments,
    ),
    "sampling": ("Time sampling from priors, against full recomputation.", add_sampling_arguments),
    "decoding": ("Time decoding speech, with a WaveNet and without.", add_decoding_arguments),
    "speech": (
        "Measure a speech model: speaker conversion and phone classification.",
        add_benchmark_speech_arguments,
    ),
    "maze": (
        "Measure how well rollouts of a maze model follow the actions.",
        add_benchmark_maze_arguments,
    ),
    "playing": ("Time generating the next frame in interactive play.", add_playing_arguments),
    "streaming": (
        "Measure memory and time of encoding long video, against a single call.",
        add_streaming_arguments,
    ),
    "reading": (
        "Time random access to clips, against decord and a plain loop.",
        add_reading_arguments,
    ),
    "training": ("Train under time budgets: quality over time.", add_training_arguments),
    "bits": ("Compare bits per dimension with a VAE and VIMCO (section 4.1).", add_bits_arguments),
    "bound": (
        "Measure the tightness of the bound of section 3.2 on a toy model.",
        add_bound_arguments,
    ),
    "beta": ("Train with five weights of the commitment loss (section 3.2).", add_beta_arguments),
    "codebooks": (
        "Train with an EMA codebook and with a gradient codebook.",
        add_codebooks_arguments,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark and return the exit code.

    Args:
        argv: the benchmark's name and its options; None for `sys.argv`.
    """
    parser = argparse.ArgumentParser(
        prog="benchmark.py", description="Measure speed, memory and quality.", allow_abbrev=False
    )
    return run(add_content(parser, BENCHMARKS), argv)
