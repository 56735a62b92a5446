"""The built-in models: functions that return a config."""

from __future__ import annotations

from vqvideo.config import MODELS, GeneratorConfig, Part
from vqvideo.data.maze_walk import ACTIONS
from vqvideo.grid import Strides
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


@MODELS.register("maze")
def maze() -> GeneratorConfig:
    """Walks through a maze, 64x64 frames as 16x16 codes of 1,024 each, told what is done.

    Every frame has codes of its own, so what is decided between two frames shows in the next; the
    prior is told the action that led to each.
    """
    nets = {"widths": (64, 128), "num_blocks": (1, 3)}
    cond = {"num_actions": len(ACTIONS), "action_names": ACTIONS}
    prior = {"width": 64, "num_layers": 8, "dropout": 0.1, "cond": cond}
    return video().updated(
        strides=((1, 2, 2), (1, 2, 2)),
        encoder=nets,
        decoder=nets,
        prior=prior,
    )


@MODELS.register("video-timm")
def video_timm() -> GeneratorConfig:
    """As `video`, but each frame is first seen by a backbone of timm's, at a quarter of its size.

    The features of four frames are folded into one code frame, and (2+1)D blocks follow; nothing
    looks ahead in time. `encoder={"pretrained": True}` begins with timm's weights from the hub,
    `encoder={"weights": PATH}` with those in a file.
    """
    options = {"model": "convnext_atto", "width": 192, "num_blocks": 3}
    return video().updated(encoder={"name": "timm", **options})


@MODELS.register("image")
def image() -> GeneratorConfig:
    """64x64 images as 16x16 codes of 512: the paper's image model (section 4.1), narrower.

    Two strided 4-wide convolutions and two residual blocks; a gated PixelCNN over the codes.
    Weights trained on emoji ship with the package.
    """
    return _image_model((64, 64), width=128)


@MODELS.register("image-cifar")
def image_cifar() -> GeneratorConfig:
    """32x32 images as 8x8x10 codes of 512: the CIFAR-10 model of the paper's section 4.1.

    Two strided 4-wide convolutions and two residual blocks of 256 channels; a 1x1 convolution to
    ten vectors a position, each with a codebook of its own. Scored in bits per dimension.
    """
    codebook = {"name": "ema", "codebook_size": 512, "code_dim": 16}
    return _image_model((32, 32), width=256).updated(
        quantizer=Part("product", {"num_codebooks": 10, "part": codebook}),
        likelihood="logistic_mixture",
    )


@MODELS.register("image-128")
def image_128() -> GeneratorConfig:
    """128x128 images as 32x32 codes of 512, 42.7 times fewer bits: the ImageNet model of the
    paper's section 4.2.
    """
    return _image_model((128, 128), width=256)


@MODELS.register("image-84")
def image_84() -> GeneratorConfig:
    """84x84 images as 21x21 codes of 512: the frames of DeepMind Lab in the paper's section 4.2."""
    return _image_model((84, 84), width=256)


@MODELS.register("image-84-top")
def image_84_top() -> GeneratorConfig:
    """`image-84` with a second stage that says a whole image in three codes of 512, 27 bits.

    A VQ-VAE over the 21x21 codes, its decoder a PixelCNN told of the three (the paper's section
    4.2). `train-vqvae --model image-84-top`, then `train-prior`.
    """
    codebook = {"name": "ema", "codebook_size": 512, "code_dim": 32}
    following = {"ema_decay": 0.97, "revive_below": 0.1, "warmup_steps": 100}
    options = {
        "strides": ((3, 3), (7, 7)),
        "quantizer": {"name": "product", "num_codebooks": 3, "part": {**codebook, **following}},
        "bottom": {"name": "pixelcnn", "coordinates": True},
    }
    return image_84().updated(prior=Part("vqvae", options))


def _image_model(shape: tuple[int, int], width: int) -> GeneratorConfig:
    """The paper's networks for images, one code for 4x4 pixels."""
    nets = {"width": width, "num_blocks": 2}
    return GeneratorConfig(
        channels=3,
        strides=((2, 2), (2, 2)),
        sample_shape=shape,
        rate=0.0,
        encoder=Part("conv", nets),
        quantizer=Part("ema", {"codebook_size": 512, "code_dim": 64}),
        decoder=Part("conv", nets),
        likelihood=Part("gaussian"),
        prior=Part(default_prior(2)),
    )


@MODELS.register("audio")
def audio() -> GeneratorConfig:
    """One second of sound at 16 kHz as 250 codes of 512: the paper's encoder (section 4.3).

    Six strided 4-wide convolutions, 64 samples per code; a decoder that is quick on a CPU, and a
    WaveNet over the codes. `audio-wavenet` has the paper's decoder.
    """
    return _sound_model(((2,),) * 6, encoder=Part("conv", {"width": 96}), hop=64)


@MODELS.register("audio-wavenet")
def audio_wavenet() -> GeneratorConfig:
    """`audio` with the decoder of the paper's section 4.3: a WaveNet over mu-law coded samples.

    It is told the codes, brought to the rate of the samples by linear maps. Each sample takes a
    step of its own.
    """
    return _with_wavenet(audio(), widths=(32, 32, 64, 64, 128, 128), num_blocks=(0, 0, 0, 0, 0, 3))


@MODELS.register("audio-25hz-wavenet")
def audio_25hz_wavenet() -> GeneratorConfig:
    """`audio-25hz` with the decoder of the paper's section 4.3; see `audio-wavenet`."""
    return _with_wavenet(audio_25hz(), widths=(64, 192), num_blocks=(1, 2))


@MODELS.register("audio-128x")
def audio_128x() -> GeneratorConfig:
    """`audio` with seven strided convolutions: 125 codes a second."""
    return _sound_model(((2,),) * 7, encoder=Part("conv", {"width": 96}), hop=64)


@MODELS.register("audio-25hz")
def audio_25hz() -> GeneratorConfig:
    """Sound at 16 kHz as 25 codes of 128 a second, 640 samples per code: what is said, with no room
    for much else.

    As the paper's model whose codes predict phonemes (section 4.3), but an encoder that sees mel
    bands, not the waveform, and learns in minutes on a CPU.
    """
    mel = Part("mel", {"hop": 160})
    return _sound_model(((160,), (4,)), encoder=mel, hop=160, codebook_size=128)


def _sound_model(
    strides: Strides, *, encoder: Part, hop: int, codebook_size: int = 512
) -> GeneratorConfig:
    """Mono sound at 16 kHz; heard, not seen: scored by its mel bands."""
    following = {"ema_decay": 0.97, "start": "kmeans", "warmup_steps": 30, "revive_below": 0.1}
    return GeneratorConfig(
        channels=1,
        strides=strides,
        sample_shape=(16000,),
        rate=16000.0,
        encoder=encoder,
        quantizer=Part("ema", {"codebook_size": codebook_size, "code_dim": 64, **following}),
        decoder=Part("spectral", {"hop": hop}),
        likelihood=Part("mel"),
        prior=Part(default_prior(1)),
    )


def _with_wavenet(
    config: GeneratorConfig, *, widths: tuple[int, ...], num_blocks: tuple[int, ...]
) -> GeneratorConfig:
    """The same encoder and codes; a decoder that tells a WaveNet of each sample."""
    wavenet = {"name": "wavenet", "width": 32, "num_layers": 18, "dilation_cycle": 9}
    likelihood = {"name": "autoregressive", "features": 32, "mu_law": True, "prior": wavenet}
    return config.updated(
        decoder={"name": "patchify", "widths": widths, "num_blocks": num_blocks},
        likelihood=likelihood,
    )
