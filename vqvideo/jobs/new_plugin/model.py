"""A model for vqvideo: a function that returns a config."""

from __future__ import annotations

from vqvideo.config import GeneratorConfig
from vqvideo.presets import image


def my_model() -> GeneratorConfig:
    """32x32 images as 8x8 codes of 256.

    Every entry of `vqvideo.config.GeneratorConfig` can be changed; parts by their names, those of
    plugins too.
    """
    return image().updated(
        sample_shape=(32, 32),
        encoder={"width": 32},
        decoder={"width": 32},
        quantizer={"codebook_size": 256},
        prior={"width": 32, "num_layers": 4},
    )
