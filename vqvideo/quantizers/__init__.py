"""Quantizers: continuous vectors to discrete codes, and back."""

from vqvideo.quantizers.base import (
    QUANTIZERS,
    NotFiniteError,
    Quantized,
    Quantizer,
    manual_updates,
)
from vqvideo.quantizers.codebook import CodebookQuantizer, EMAQuantizer, VectorQuantizer
from vqvideo.quantizers.composite import CompositeQuantizer, ProductQuantizer, ResidualQuantizer
from vqvideo.quantizers.finite_scalar import FiniteScalarQuantizer
from vqvideo.quantizers.search import nearest_codes

__all__ = [
    "QUANTIZERS",
    "CodebookQuantizer",
    "CompositeQuantizer",
    "EMAQuantizer",
    "FiniteScalarQuantizer",
    "NotFiniteError",
    "ProductQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "VectorQuantizer",
    "manual_updates",
    "nearest_codes",
]
