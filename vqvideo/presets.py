"""The built-in models: functions that return a config."""

from __future__ import annotations

from vqvideo.config import MODELS, GeneratorConfig, Part
from vqvideo.priors import default_prior


@MODELS.register("video")
def video() -> GeneratorConfig:
    """16 frames of 64x64 as 4x16x16 codes of 1,024: fast on a plain CPU.

    Two levels of 2x2x2 patches and (2+1)D blocks; nothing looks ahead in time, so the codes of
    the first frames of a clip are the codes of those frames alone. The codebook starts from
    k-means once the first steps have found which directions matter, and follows quickly. Weights
    trained on walks through a maze ship with the package.
    """
    widths, blocks = (96, 192), (1, 3)
    following = {"ema_decay": 0.97, "start": "kmeans", "warmup_steps": 30, "revive_below": 0.1}
    return GeneratorConfig(
        channels=3,
        strides=((2, 2, 2), (2, 2, 2)),
        sample_shape=(16, 64, 64),
        rate=8.75,
        encoder=Part("patchify", {"widths": widths, "num_blocks": blocks}),
        quantizer=Part("ema", {"codebook_size": 1024, "code_dim": 32, **following}),
        decoder=Part("patchify", {"widths": widths, "num_blocks": blocks}),
        likelihood=Part("gaussian"),
        prior=Part(default_prior(3)),
    )


@MODELS.register("image")
def image() -> GeneratorConfig:
    """64x64 images as 16x16 codes of 512: the paper's image model (section 4.1), narrower.

    Two strided 4-wide convolutions and two residual blocks; a gated PixelCNN over the codes.
    """
    return GeneratorConfig(
        channels=3,
        strides=((2, 2), (2, 2)),
        sample_shape=(64, 64),
        rate=0.0,
        encoder=Part("conv", {"width": 128, "num_blocks": 2}),
        quantizer=Part("ema", {"codebook_size": 512, "code_dim": 64}),
        decoder=Part("conv", {"width": 128, "num_blocks": 2}),
        likelihood=Part("gaussian"),
        prior=Part(default_prior(2)),
    )


@MODELS.register("audio")
def audio() -> GeneratorConfig:
    """One second of sound at 16 kHz as 250 codes of 512: the paper's encoder (section 4.3).

    Six strided 4-wide convolutions, 64 samples per code; a WaveNet over the codes. The decoder
    mirrors the encoder.
    """
    return GeneratorConfig(
        channels=1,
        strides=((2,),) * 6,
        sample_shape=(16000,),
        rate=16000.0,
        encoder=Part("conv", {"width": 128, "num_blocks": 2}),
        quantizer=Part("ema", {"codebook_size": 512, "code_dim": 64}),
        decoder=Part("conv", {"width": 128, "num_blocks": 2}),
        likelihood=Part("gaussian"),
        prior=Part(default_prior(1)),
    )
