"""`vqvideo benchmark`: which benchmarks there are."""

from __future__ import annotations

from vqvideo.cli.benchmark_speed import (
    add_decoding,
    add_playing,
    add_quantizer,
    add_reading,
    add_sampling,
    add_streaming,
)
from vqvideo.cli.benchmark_training import (
    add_beta,
    add_bits,
    add_bound,
    add_codebooks,
    add_training,
)
from vqvideo.cli.maze import add_benchmark_maze
from vqvideo.cli.options import AddOptions
from vqvideo.cli.speech import add_benchmark_speech

BENCHMARKS: dict[str, tuple[str, AddOptions]] = {
    "quantizer": ("Compare our quantizer with a peer, in time and memory.", add_quantizer),
    "sampling": ("Time how priors draw codes, beside recomputing everything.", add_sampling),
    "decoding": ("Time how codes of speech become sound, by a WaveNet and not.", add_decoding),
    "speech": (
        "Measure a model of speech: voices, and what they say.",
        add_benchmark_speech,
    ),
    "maze": ("Measure a model of walks: does it imagine what it is told?", add_benchmark_maze),
    "playing": ("Time the next frame, as one walks through a model.", add_playing),
    "streaming": (
        "Encode long video: memory, and time beside one call.",
        add_streaming,
    ),
    "reading": ("Read clips from random places, beside decord and a plain loop.", add_reading),
    "training": ("Train under budgets of seconds: quality over time.", add_training),
    "bits": ("Bits per dimension beside a VAE and VIMCO (section 4.1).", add_bits),
    "bound": ("How tight the bound of section 3.2 is, on a toy model.", add_bound),
    "beta": ("Train with five weights of the commitment loss (section 3.2).", add_beta),
    "codebooks": ("Train with a codebook by average and with one by gradient.", add_codebooks),
}
