"""A model for vqvideo: a function that returns a config."""

from __future__ import annotations

from vqvideo.config import GeneratorConfig
from vqvideo.presets import image


def my_model() -> GeneratorConfig:
    """Return the config of a model that encodes 32x32 images to 8x8 codes, K = 256.

    Every entry of `vqvideo.config.GeneratorConfig` can be changed. Parts are selected by name,
    including parts of plugins.
    """
    return image().merge(
        sample_shape=(32, 32),
        encoder={"width": 32},
        decoder={"width": 32},
        quantizer={"codebook_size": 256},
        prior={"width": 32, "num_layers": 4},
    )
