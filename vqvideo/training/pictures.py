"""Pictures of a model that trains: a contact sheet, and a film of what moves."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from vqvideo.likelihoods import Likelihood
from vqvideo.media import to_uint8, write_audio, write_contact_sheet, write_video
from vqvideo.spectra import spectrogram

SHOWN = 4  # items in pictures
LARGE = 3  # times as large as they are: clips of 64 pixels are hard to see


def num_shown(likelihood: Likelihood) -> int:
    """How many items the pictures show: one where decoding takes a pass for each of its values,
    tens of thousands at every measurement.
    """
    return 1 if likelihood.is_autoregressive else SHOWN


def show_sounds(
    folder: Path, name: str, rows: list[Tensor], sample_rate: float
) -> dict[str, Tensor]:
    """Write `name.png`, spectrograms of sounds, each row a row, and `name.wav`: the first sound of
    every row, one after the other, then the second of every row, and so on.

    Args:
        folder: of the run.
        name: of the files.
        rows: each `[n, 1, t]` in [-1, 1]; all of one shape.
        sample_rate: in Hz.

    Returns:
        A small picture under that name, uint8 `[h, w, 3]`: spectrograms of the first sounds.
    """
    sounds = torch.stack(rows).cpu().float()
    pictures = torch.stack([spectrogram(row[:, 0], int(sample_rate)) for row in sounds])
    sheet = rearrange(pictures, "r n c h w -> r c n h w")
    write_contact_sheet(folder / f"{name}.png", sheet, overwrite=True)
    in_turn = rearrange(sounds, "r n 1 t -> 1 (n r t)")
    write_audio(folder / f"{name}.wav", in_turn, int(sample_rate), overwrite=True)
    return {name: rearrange(to_uint8(pictures[:, 0]), "r c h w -> (r h) w c")}


def show_rows(folder: Path, name: str, rows: list[Tensor], fps: float) -> dict[str, Tensor]:
    """Write `name.png`, and `name.mp4` if items move.

    In the sheet of clips each item is a strip of frames, those of different rows one under the
    other; in the film, and in the sheet of images, each row is a row.

    Args:
        folder: of the run.
        name: of the files.
        rows: each `[n, 3, (t,) h, w]` in [-1, 1]; all of one shape.
        fps: of the film.

    Returns:
        A small picture under that name, uint8 `[h, w, 3]`: of each item the frame in the middle.
    """
    clips = torch.stack([row if row.ndim == 5 else row[:, :, None] for row in rows]).cpu()
    if clips.shape[3] > 1:
        sheet = rearrange(clips, "r n c t h w -> (n r) c t h w")
    else:
        sheet = rearrange(clips, "r n c 1 h w -> r c n h w")
    write_contact_sheet(folder / f"{name}.png", sheet, overwrite=True)
    film = rearrange(clips, "r n c t h w -> c t (r h) (n w)")
    length = film.shape[1]
    if length > 1:
        large = film.repeat_interleave(LARGE, 2).repeat_interleave(LARGE, 3)
        write_video(folder / f"{name}.mp4", large, fps, overwrite=True)
    return {name: rearrange(to_uint8(film[:, length // 2]), "c h w -> h w c")}
