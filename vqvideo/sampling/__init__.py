"""Drawing codes from a prior."""

from vqvideo.sampling.choice import GumbelNoise, Sampling
from vqvideo.sampling.generate import (
    SamplingOptions,
    StreamOptions,
    generate,
    method_for,
    single_samples,
)
from vqvideo.sampling.states import Drawer, FilterOptions, PriorState, SamplesCodes, check_codes
from vqvideo.sampling.stream import stream, stream_blocks
from vqvideo.sampling.walk import Method, Progress

__all__ = [
    "Drawer",
    "FilterOptions",
    "GumbelNoise",
    "Method",
    "PriorState",
    "Progress",
    "SamplesCodes",
    "Sampling",
    "SamplingOptions",
    "StreamOptions",
    "check_codes",
    "generate",
    "method_for",
    "single_samples",
    "stream",
    "stream_blocks",
]
