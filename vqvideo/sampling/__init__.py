"""Drawing codes from a prior."""

from vqvideo.sampling.choice import Sampling, gumbel_noise
from vqvideo.sampling.generate import Method, Progress, SamplingOptions, generate
from vqvideo.sampling.states import PriorState, SamplesCodes

__all__ = [
    "Method",
    "PriorState",
    "Progress",
    "SamplesCodes",
    "Sampling",
    "SamplingOptions",
    "generate",
    "gumbel_noise",
]
