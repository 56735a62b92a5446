"""`vqvideo convert-speaker`: convert speech to another speaker's voice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.commands.finalize import get_command_line
from vqvideo.commands.model import check_output_files
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.media.files import output_file
from vqvideo.recipes.speech.model import build_speaker_cond, get_sample_rate, load_speech_model
from vqvideo.report.environment import collect_environment
from vqvideo.spectra import render_spectrogram

SUFFIXES = (".wav", ".flac")
MAX_SHOWN_SECONDS = 6  # of audio in the spectrograms


def convert_speaker(
    file: str,
    *,
    speaker: str,
    out: str,
    model: str = "audio-25hz",
    decoder_temperature: float | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Encode speech and decode its codes with another speaker id (section 4.3 of the paper).

    The codes carry content and prosody; the decoder is conditioned on the speaker. The speaker of
    `file` need not be in the training data.

    Args:
        file: any file with audio that FFmpeg reads, including the audio track of a video.
        speaker: name of the target speaker.
        out: .wav or .flac, mono, at the rate of the model, with the length of `file`. Written next
            to it: the spectrograms of both, one above the other, up to six seconds (.png), and
            everything needed to reproduce the conversion (.json).
        model: name of a shipped speech model, or the folder of a trained one.
        decoder_temperature, seed: options of an autoregressive decoder, such as a WaveNet; see
            `DecodingOptions`.
        device: see `load_model`.
        overwrite: replace existing files.
        progress: called with (codes decoded, total codes).

    Returns:
        The files written, and the record in the .json file.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: the arguments are invalid; raised before any
            work is done. An unknown speaker raises `ValueError`; the message lists the known ones.
        media.MediaError: the audio cannot be read.
    """
    started, target = time.monotonic(), Path(out)
    if target.suffix not in SUFFIXES:
        raise ValueError(f"OUT must end in {' or '.join(SUFFIXES)}, got {out!r}")
    spectrogram_file, record_file = target.with_suffix(".png"), target.with_suffix(".json")
    check_output_files(target, 1, overwrite, ".png", ".json")
    generator = load_speech_model(model, device)
    speaker_id = _find_speaker(generator, model, speaker)
    rate = get_sample_rate(generator)
    audio = media.read_audio(file, sample_rate=rate).samples
    converted = convert_voice(
        generator, audio, speaker_id, temperature=decoder_temperature, seed=seed, progress=progress
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    media.write_audio(target, converted, rate, overwrite=overwrite)
    shown = torch.stack([audio[0], converted[0]])[:, : MAX_SHOWN_SECONDS * rate]
    media.write_contact_sheet(
        spectrogram_file, render_spectrogram(shown, rate)[:, :, None], overwrite=overwrite
    )
    record = {
        "file": file,
        "speaker": speaker,
        "model": model,
        "decoder_temperature": decoder_temperature,
        "seed": seed,
        "seconds": audio.shape[1] / rate,
        "seconds_of_work": round(time.monotonic() - started, 2),
        "command": get_command_line(),
        "environment": collect_environment(),
    }
    with output_file(record_file, suffixes=(".json",), overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return [target, spectrogram_file, record_file], record


def _find_speaker(generator: Generator, model: str, speaker: str) -> int:
    """Return the id of a speaker; raise `ValueError` unless it is all that the decoder needs."""
    cond = generator.vqvae.cond
    speaker_id = cond.get_id("speaker", speaker)
    if cond.keys != ("speaker",):
        raise ValueError(
            f"{model} has more conditions than the speaker: {', '.join(cond.keys)}; use a model "
            f"trained with only --condition-on speaker"
        )
    return speaker_id


def convert_voice(
    generator: Generator,
    audio: Tensor,
    speaker: int | None,
    *,
    temperature: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Encode and decode audio `[1, t]` chunk by chunk; return audio `[1, t]`.

    Args:
        generator: an audio model.
        audio: `[1, t]`.
        speaker: id of the target speaker; None decodes without a condition, which gives an
            unspecific voice.
        temperature, seed: see `DecodingOptions`.
        progress: called with (codes decoded, total codes).
    """
    vqvae, device = generator.vqvae, get_device(generator)
    cond = build_speaker_cond(generator, speaker)
    length, stride = audio.shape[1], vqvae.downsampling[0]
    codes = list(vqvae.encode_stream([audio[None].to(device)]))
    num_codes = sum(chunk.shape[1] for chunk in codes)
    chunks: list[Tensor] = []
    num_decoded = 0
    for chunk in vqvae.decode_stream(
        codes, cond, length=length, temperature=temperature, seed=seed
    ):
        chunks.append(chunk[0].cpu())
        num_decoded += chunk.shape[2]
        if progress:
            progress(min(-(-num_decoded // stride), num_codes), num_codes)
    return torch.cat(chunks, dim=1)
