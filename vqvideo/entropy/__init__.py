"""Codes compressed without loss, under a prior: see `PriorCoder`.

Read coder.py first; arithmetic.py says how a network gives the same bits on every machine.
"""

from vqvideo.entropy.coder import PriorCoder

__all__ = ["PriorCoder"]
