"""Load speech models and encode utterances."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.commands.model import load_model
from vqvideo.cond import Cond
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.recipes.speech.utterances import Utterance


def load_speech_model(model: str, device: str) -> Generator:
    """Load an audio model.

    Args:
        model: see `load_model`.
        device: see `load_model`.

    Raises:
        ValueError: the model is for images or video; or as `load_model`.
    """
    generator = load_model(model, device)
    if generator.vqvae.rank != 1:
        raise ValueError(
            f"speech needs an audio model, with codes of rank 1; {model} has rank "
            f"{generator.vqvae.rank}"
        )
    return generator


def check_single_codebook(generator: Generator, model: str) -> None:
    """Raise `ValueError` if the model has several codebooks, so that no single code is a phone."""
    num_codebooks = generator.vqvae.quantizer.num_codebooks
    if num_codebooks > 1:
        raise ValueError(
            f"each code is mapped to a phone, so --model must have one codebook; {model} has "
            f"{num_codebooks}"
        )


def build_speaker_cond(generator: Generator, speaker: int | None) -> Cond | None:
    """Return the conditions of a decoder for one item in a speaker's voice; None for no speaker."""
    if speaker is None:
        return None
    return Cond(speaker=torch.tensor([speaker], device=get_device(generator)))


def get_sample_rate(generator: Generator) -> int:
    """Return the sample rate of the model in Hz."""
    return int(generator.config.rate)


def get_seconds_per_frame(generator: Generator) -> float:
    """Return the duration d of a code in seconds: code i covers the time from i d to (i + 1) d."""
    return float(generator.vqvae.downsampling[0] / generator.config.rate)


def encode_utterance(generator: Generator, utterance: Utterance) -> Tensor:
    """Encode an utterance to codes int64 `[n]`; its last sample is repeated to fill the last code.

    Raises:
        ValueError: the utterance is shorter than one code.
    """
    vqvae, samples = generator.vqvae, utterance.samples
    if samples.shape[1] < vqvae.downsampling[0]:
        rate = get_sample_rate(generator)
        raise ValueError(
            f"{utterance.item.path} lasts {samples.shape[1] / rate:.4f} s, less than a code of the "
            f"model ({get_seconds_per_frame(generator):.4f} s); give a longer file"
        )
    x = samples[None].to(get_device(vqvae))
    return torch.cat([codes.cpu() for codes in vqvae.encode_stream([x])], dim=1)[0]
