"""The encoder `timm`: an image backbone from timm, then causal blocks over time."""

from vqvideo.timm_encoder.encoder import TimmEncoder

__all__ = ["TimmEncoder"]
