"""Quantizers: continuous vectors to discrete codes, and back."""

from vqvideo.quantizers.base import QUANTIZERS, NotFiniteError, Quantized, Quantizer
from vqvideo.quantizers.codebook import CodebookQuantizer, nearest_codes
from vqvideo.quantizers.ema import EMAQuantizer
from vqvideo.quantizers.vector import VectorQuantizer

__all__ = [
    "QUANTIZERS",
    "CodebookQuantizer",
    "EMAQuantizer",
    "NotFiniteError",
    "Quantized",
    "Quantizer",
    "VectorQuantizer",
    "nearest_codes",
]
