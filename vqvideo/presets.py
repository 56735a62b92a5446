"""Configs of the built-in models."""

from __future__ import annotations

from vqvideo.config import MODELS, GeneratorConfig, PartConfig
from vqvideo.grid import Strides
from vqvideo.priors import get_default_prior


@MODELS.register("video")
def video() -> GeneratorConfig:
    """Return the config of a video model: 16 frames of 64x64, 4x16x16 codes, codebook size 1024.

    Fast on a CPU. Two levels of 2x2x2 patches and (2+1)D blocks, causal in time, so the codes of
    the first frames of a clip do not depend on later frames. The codebook is initialized by k-means
    after a warm-up, when the encoder's features have settled, and has a short EMA. Weights trained
    on episodes in a maze ship with the package.
    """
    widths, blocks = (96, 192), (1, 3)
    codebook_options = {
        "ema_decay": 0.97,
        "init": "kmeans",
        "warmup_steps": 30,
        "dead_code_threshold": 0.1,
    }
    return GeneratorConfig(
        channels=3,
        strides=((2, 2, 2), (2, 2, 2)),
        sample_shape=(16, 64, 64),
        rate=8.75,
        encoder=PartConfig("patchify", {"widths": widths, "num_blocks": blocks}),
        quantizer=PartConfig("ema", {"codebook_size": 1024, "code_dim": 32, **codebook_options}),
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
    paper's section 4.2). Train it as a first stage, then its prior.
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


@MODELS.register("audio")
def audio() -> GeneratorConfig:
    """Return the config of an audio model with the paper's encoder (section 4.3): one second at
    16 kHz, 250 codes, codebook size 512.

    Six strided 4-wide convolutions, 64 samples per code; a spectral decoder that is fast on a CPU,
    and a WaveNet prior. `audio-wavenet` has the paper's decoder.
    """
    return _build_audio_config(
        ((2,),) * 6, encoder=PartConfig("conv", {"width": 96}), hop_length=64
    )


@MODELS.register("audio-wavenet")
def audio_wavenet() -> GeneratorConfig:
    """Return the config of `audio` with the paper's decoder (section 4.3), a WaveNet over mu-law
    samples.

    It is conditioned on the codes, upsampled to the sample rate by linear maps. Decoding takes one
    per sample.
    """
    return _add_wavenet_decoder(
        audio(), widths=(32, 32, 64, 64, 128, 128), num_blocks=(0, 0, 0, 0, 0, 3)
    )


@MODELS.register("audio-25hz-wavenet")
def audio_25hz_wavenet() -> GeneratorConfig:
    """Return the config of `audio-25hz` with the decoder of `audio-wavenet`."""
    return _add_wavenet_decoder(audio_25hz(), widths=(64, 192), num_blocks=(1, 2))


@MODELS.register("audio-128x")
def audio_128x() -> GeneratorConfig:
    """Return the config of `audio` with seven strided convolutions: 125 codes per second."""
    return _build_audio_config(
        ((2,),) * 7, encoder=PartConfig("conv", {"width": 96}), hop_length=64
    )


@MODELS.register("audio-25hz")
def audio_25hz() -> GeneratorConfig:
    """Return the config of a speech model at a low bit rate: 16 kHz, 25 codes per second (640
    samples per code), codebook size 128.

    Like the paper's model whose codes predict phonemes (section 4.3), but the encoder gets mel
    bands instead of the waveform, and trains in minutes on a CPU.
    """
    mel = PartConfig("mel", {"hop_length": 160})
    return _build_audio_config(((160,), (4,)), encoder=mel, hop_length=160, codebook_size=128)


def _build_audio_config(
    strides: Strides, *, encoder: PartConfig, hop_length: int, codebook_size: int = 512
) -> GeneratorConfig:
    """Return a config for mono audio at 16 kHz with the `mel` likelihood."""
    codebook_options = {
        "ema_decay": 0.97,
        "init": "kmeans",
        "warmup_steps": 30,
        "dead_code_threshold": 0.1,
    }
    return GeneratorConfig(
        channels=1,
        strides=strides,
        sample_shape=(16000,),
        rate=16000.0,
        encoder=encoder,
        quantizer=PartConfig(
            "ema", {"codebook_size": codebook_size, "code_dim": 64, **codebook_options}
        ),
        decoder=PartConfig("spectral", {"hop_length": hop_length}),
        likelihood=PartConfig("mel"),
        prior=PartConfig(get_default_prior(1)),
    )


def _add_wavenet_decoder(
    config: GeneratorConfig, *, widths: tuple[int, ...], num_blocks: tuple[int, ...]
) -> GeneratorConfig:
    """Return the config with the decoder replaced by a conditioned WaveNet over samples."""
    wavenet = {"name": "wavenet", "width": 32, "num_layers": 18, "dilation_cycle": 9}
    likelihood = {"name": "autoregressive", "num_features": 32, "mu_law": True, "prior": wavenet}
    return config.merge(
        decoder={"name": "patchify", "widths": widths, "num_blocks": num_blocks},
        likelihood=likelihood,
    )
