"""The model `furrow`: small clips, every part but the decoder and the likelihood our own."""

from __future__ import annotations

from vqvideo.config import GeneratorConfig
from vqvideo.presets import video


def furrow() -> GeneratorConfig:
    """8 frames of 32x32 as 2x8x8 codes of 256."""
    return video().merge(
        sample_shape=(8, 32, 32),
        encoder="pool",
        quantizer="sign",
        decoder={"widths": (16, 32), "num_blocks": (1, 1)},
        prior="furrow",
    )
