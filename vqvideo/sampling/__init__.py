"""Sampling codes from a prior."""

from vqvideo.sampling.generate import (
    GenerateOptions,
    StreamOptions,
    describe_auto_method,
    generate,
    select_method,
)
from vqvideo.sampling.gumbel_max import GumbelNoise, SamplingParams
from vqvideo.sampling.loop import ProgressCallback, SamplingMethod
from vqvideo.sampling.states import (
    FilterOptions,
    FusedSampler,
    GenerativePrior,
    Order,
    PriorState,
)
from vqvideo.sampling.stream import stream, stream_chunks

__all__ = [
    "FilterOptions",
    "FusedSampler",
    "GenerateOptions",
    "GenerativePrior",
    "GumbelNoise",
    "Order",
    "PriorState",
    "ProgressCallback",
    "SamplingMethod",
    "SamplingParams",
    "StreamOptions",
    "describe_auto_method",
    "generate",
    "select_method",
    "stream",
    "stream_chunks",
]
