"""`vqvideo convert-speaker`: what one voice says, in the voice of another."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.cond import Cond
from vqvideo.generator import Generator
from vqvideo.jobs.finish import command_line
from vqvideo.jobs.model import output_files
from vqvideo.jobs.speech.model import open_speech_model, sample_rate
from vqvideo.media.files import output_file
from vqvideo.report.machine import setting
from vqvideo.spectra import spectrogram

SUFFIXES = (".wav", ".flac")
SHOWN_SECONDS = 6  # of sound on the picture, at most


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
    """Encode a voice and decode its codes as another speaker (the paper, section 4.3).

    The codes say what is said and how; who says it the decoder is told. Whoever speaks in `file`
    need not have been heard in training.

    Args:
        file: any file with sound that FFmpeg reads, the sound track of a video too.
        speaker: whose voice it is to be, by the name that the model knows.
        out: .wav or .flac, mono, at the rate of the model, as long as `file`. Beside it come a
            picture (.png), the spectrograms of both, one above the other, at most six seconds; and
            a .json with everything needed to make it again.
        model: of speech, by its name or the folder of a trained one.
        decoder_temperature, seed: of a decoder that draws, such as a WaveNet; see
            `DecodingOptions`.
        device: see `open_model`.
        overwrite: replace files that exist.
        progress: called with (codes decoded, codes in all).

    Raises:
        FileNotFoundError, FileExistsError, ValueError: before any work is done. `ValueError` too
            where the model does not know the speaker; the message lists those it knows.
        media.MediaError: the sound cannot be read.
    """
    started, target = time.monotonic(), Path(out)
    if target.suffix not in SUFFIXES:
        raise ValueError(f"OUT must end in {' or '.join(SUFFIXES)}, got {out!r}")
    picture, table = target.with_suffix(".png"), target.with_suffix(".json")
    output_files(target, 1, overwrite, ".png", ".json")
    generator = open_speech_model(model, device)
    number = generator.vqvae.cond.number("speaker", speaker)
    if generator.vqvae.cond.takes != ("speaker",):
        raise ValueError(
            f"{model} is told more than who speaks: {', '.join(generator.vqvae.cond.takes)}; take "
            f"a model trained with --tell speaker alone"
        )
    rate = sample_rate(generator)
    sound = media.read_audio(file, sample_rate=rate).samples
    again = in_the_voice_of(
        generator, sound, number, temperature=decoder_temperature, seed=seed, progress=progress
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    media.write_audio(target, again, rate, overwrite=overwrite)
    shown = torch.stack([sound[0], again[0]])[:, : SHOWN_SECONDS * rate]
    media.write_contact_sheet(picture, spectrogram(shown, rate)[:, :, None], overwrite=overwrite)
    record = {
        "file": file,
        "speaker": speaker,
        "model": model,
        "decoder_temperature": decoder_temperature,
        "seed": seed,
        "seconds": sound.shape[1] / rate,
        "seconds_of_work": round(time.monotonic() - started, 2),
        "command": command_line(),
        "setting": setting(),
    }
    with output_file(table, suffixes=(".json",), overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return [target, picture, table], record


def in_the_voice_of(
    generator: Generator,
    sound: Tensor,
    speaker: int | None,
    *,
    temperature: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Sound `[1, t]` after encoding and decoding, in memory of a few blocks besides.

    Args:
        generator: of sound.
        sound: `[1, t]`.
        speaker: number of who is to speak; None tells the decoder nothing, which gives the voice
            of nobody.
        temperature, seed: see `DecodingOptions`.
        progress: called with (codes decoded, codes in all).
    """
    vqvae, device = generator.vqvae, next(generator.parameters()).device
    cond = None if speaker is None else Cond(speaker=torch.tensor([speaker], device=device))
    length, step = sound.shape[1], vqvae.downsampling[0]
    codes = list(vqvae.encode_stream([sound[None].to(device)]))
    in_all = sum(each.shape[1] for each in codes)
    pieces: list[Tensor] = []
    done = 0
    for piece in vqvae.decode_stream(
        codes, cond, length=length, temperature=temperature, seed=seed
    ):
        pieces.append(piece[0].cpu())
        done += piece.shape[2]
        if progress:
            progress(min(-(-done // step), in_all), in_all)
    return torch.cat(pieces, dim=1)
