"""Configs of the built-in models of audio."""

from __future__ import annotations

from vqvideo.config import MODELS, GeneratorConfig, PartConfig
from vqvideo.grid import Strides
from vqvideo.presets import KMEANS_OPTIONS
from vqvideo.priors import get_default_prior


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
    return GeneratorConfig(
        channels=1,
        strides=strides,
        sample_shape=(16000,),
        rate=16000.0,
        encoder=encoder,
        quantizer=PartConfig(
            "ema", {"codebook_size": codebook_size, "code_dim": 64, **KMEANS_OPTIONS}
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
