"""Codes of whole utterances: which models have them, and how long each lasts."""

from __future__ import annotations

import torch
from torch import Tensor

from vqvideo.data.utterances import Utterance
from vqvideo.generator import Generator
from vqvideo.jobs.model import open_model


def open_speech_model(model: str, device: str) -> Generator:
    """A model of sound.

    Args:
        model: see `open_model`.
        device: see `open_model`.

    Raises:
        ValueError: it is of images or video; or as `open_model`.
    """
    generator = open_model(model, device)
    if generator.vqvae.rank != 1:
        raise ValueError(
            f"speech takes a model of sound, whose codes have rank 1; {model} has rank "
            f"{generator.vqvae.rank}"
        )
    return generator


def check_one_codebook(generator: Generator, model: str) -> None:
    """Raise `ValueError` where there are several codes at a time, of which none is a phone's."""
    number = generator.vqvae.quantizer.num_codebooks
    if number > 1:
        raise ValueError(
            f"a code is mapped to a phone, so --model must have one codebook; {model} has {number}"
        )


def sample_rate(generator: Generator) -> int:
    """Of the sound that the model takes, in Hz."""
    return int(generator.config.rate)


def seconds_per_frame(generator: Generator) -> float:
    """How long a code lasts: code i covers the time from i to i + 1 times that."""
    return float(generator.vqvae.downsampling[0] / generator.config.rate)


def codes_of(generator: Generator, utterance: Utterance) -> Tensor:
    """Codes int64 `[n]` of an utterance; the last is filled up by repeating the last sample.

    Raises:
        ValueError: it is shorter than one code.
    """
    vqvae, samples = generator.vqvae, utterance.samples
    if samples.shape[1] < vqvae.downsampling[0]:
        rate = sample_rate(generator)
        raise ValueError(
            f"{utterance.item.path} lasts {samples.shape[1] / rate:.4f} s, less than a code of the "
            f"model ({seconds_per_frame(generator):.4f} s); give a longer sound"
        )
    x = samples[None].to(next(vqvae.parameters()).device)
    return torch.cat([codes.cpu() for codes in vqvae.encode_stream([x])], dim=1)[0]
