"""Lossless compression of codes under a prior; see `PriorCoder`.

Start with coder.py; exact_arithmetic.py computes a network with the same bits on every machine.
"""

from vqvideo.entropy.coder import PriorCoder

__all__ = ["PriorCoder"]
