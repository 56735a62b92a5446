"""Configs of the built-in models of video and images; those of recipes are with the recipes."""

from __future__ import annotations

from vqvideo.config import MODELS, GeneratorConfig, PartConfig
from vqvideo.priors import get_default_prior

KMEANS_OPTIONS = {  # k-means after a warm-up, then a short EMA
    "ema_decay": 0.97,
    "init": "kmeans",
    "warmup_steps": 30,
    "dead_code_threshold": 0.1,
}


@MODELS.register("video")
def video() -> GeneratorConfig:
    """Return the config of a video model: 16 frames of 64x64, 4x16x16 codes, codebook size 1024.

    Fast on a CPU. Two levels of 2x2x2 patches and (2+1)D blocks, causal in time, so the codes of
    the first frames of a clip do not depend on later frames. The codebook is initialized by k-means
    after a warm-up, when the encoder's features have settled, and has a short EMA. Weights trained
    on episodes in a maze ship with the package.
    """
    widths, blocks = (96, 192), (1, 3)
    return GeneratorConfig(
        channels=3,
        strides=((2, 2, 2), (2, 2, 2)),
        sample_shape=(16, 64, 64),
        rate=8.75,
        encoder=PartConfig("patchify", {"widths": widths, "num_blocks": blocks}),
        quantizer=PartConfig("ema", {"codebook_size": 1024, "code_dim": 32, **KMEANS_OPTIONS}),
        decoder=PartConfig("patchify", {"widths": widths, "num_blocks": blocks}),
        likelihood=PartConfig("gaussian"),
        prior=PartConfig(get_default_prior(3)),
    )


@MODELS.register("video-timm")
def video_timm() -> GeneratorConfig:
    """Return the config of `video` with a timm backbone as encoder, features at stride 4.

    The features of four frames are folded into one code frame, and (2+1)D blocks follow; the
    encoder is causal in time. `encoder={"pretrained": True}` loads timm's weights from the hub,
    `encoder={"weights": PATH}` loads them from a file.
    """
    options = {"model": "convnext_atto", "width": 192, "num_blocks": 3}
    return video().merge(encoder={"name": "timm", **options})


@MODELS.register("image")
def image() -> GeneratorConfig:
    """Return the config of the paper's image model (section 4.1), narrower: 64x64 pixels, 16x16
    codes, codebook size 512.

    Two strided 4-wide convolutions and two residual blocks; a gated PixelCNN over the codes.
    Weights trained on emoji ship with the package.
    """
    return _build_image_config((64, 64), width=128)


@MODELS.register("image-cifar")
def image_cifar() -> GeneratorConfig:
    """Return the config of the paper's CIFAR-10 model (section 4.1): 32x32 pixels, 8x8x10 codes,
    codebook size 512.

    Two strided 4-wide convolutions and two residual blocks of 256 channels; a 1x1 convolution to
    ten vectors per position, each with its own codebook. Evaluated in bits per dimension.
    """
    codebook = {"name": "ema", "codebook_size": 512, "code_dim": 16}
    return _build_image_config((32, 32), width=256).merge(
        quantizer=PartConfig("product", {"num_codebooks": 10, "part": codebook}),
        likelihood="logistic-mixture",
    )


@MODELS.register("image-128")
def image_128() -> GeneratorConfig:
    """Return the config of the paper's ImageNet model (section 4.2): 128x128 pixels, 32x32 codes,
    codebook size 512, 42.7 times fewer bits than the data.
    """
    return _build_image_config((128, 128), width=256)


@MODELS.register("image-84")
def image_84() -> GeneratorConfig:
    """Return the config of the paper's DeepMind Lab model (section 4.2): 84x84 pixels, 21x21 codes,
    codebook size 512.
    """
    return _build_image_config((84, 84), width=256)


@MODELS.register("image-84-top")
def image_84_top() -> GeneratorConfig:
    """Return the config of `image-84` with a second stage of three latents per image, 27 bits.

    A VQ-VAE over the 21x21 codes whose decoder is a PixelCNN conditioned on three codes of 512 (the
    paper's section 4.2). Train the first stage, then the prior.
    """
    codebook = {"name": "ema", "codebook_size": 512, "code_dim": 32}
    training = {"ema_decay": 0.97, "dead_code_threshold": 0.1, "warmup_steps": 100}
    options = {
        "strides": ((3, 3), (7, 7)),
        "quantizer": {"name": "product", "num_codebooks": 3, "part": {**codebook, **training}},
        "bottom": {"name": "pixelcnn", "coordinates": True},
    }
    return image_84().merge(prior=PartConfig("vqvae", options))


def _build_image_config(shape: tuple[int, int], width: int) -> GeneratorConfig:
    """Return a config with the paper's networks for images, 4x4 pixels per code."""
    nets = {"width": width, "num_blocks": 2}
    return GeneratorConfig(
        channels=3,
        strides=((2, 2), (2, 2)),
        sample_shape=shape,
        rate=0.0,
        encoder=PartConfig("conv", nets),
        quantizer=PartConfig("ema", {"codebook_size": 512, "code_dim": 64}),
        decoder=PartConfig("conv", nets),
        likelihood=PartConfig("gaussian"),
        prior=PartConfig(get_default_prior(2)),
    )
