"""Drawing codes from a prior."""

from vqvideo.sampling.choice import GumbelNoise, Sampling
from vqvideo.sampling.generate import Method, Progress, SamplingOptions, generate
from vqvideo.sampling.states import PriorState, SamplesCodes

__all__ = [
    "GumbelNoise",
    "Method",
    "PriorState",
    "Progress",
    "SamplesCodes",
    "Sampling",
    "SamplingOptions",
    "generate",
]
