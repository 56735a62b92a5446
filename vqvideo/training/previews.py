"""Previews written during training: contact sheets, videos and audio."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from vqvideo.likelihoods import Likelihood
from vqvideo.media import to_uint8, write_audio, write_contact_sheet, write_video
from vqvideo.spectra import render_spectrogram

NUM_PREVIEWS = 4  # number of items shown
UPSCALE_FACTOR = 3  # of videos: clips of 64 pixels are hard to see


def get_num_previews(likelihood: Likelihood) -> int:
    """Return the number of items shown in previews.

    An autoregressive likelihood shows one item, because decoding takes one pass per value: tens of
    thousands at every evaluation.
    """
    return 1 if likelihood.is_autoregressive else NUM_PREVIEWS


def write_audio_previews(
    folder: Path, name: str, rows: list[Tensor], sample_rate: float
) -> dict[str, Tensor]:
    """Write spectrograms as `name.png` and audio as `name.wav`.

    The spectrograms are laid out as given in `rows`. The audio file is ordered by column: the first
    clip of every row, then the second clip of every row, and so on.

    Args:
        folder: the run's folder.
        name: stem of the files.
        rows: waveforms `[n, 1, t]` in [-1, 1], one tensor per row; all of the same shape.
        sample_rate: in Hz.

    Returns:
        A small image, uint8 `[h, w, 3]`, keyed by `name`: the spectrograms of the first column.
    """
    waveforms = torch.stack(rows).cpu().float()
    spectrograms = torch.stack(
        [render_spectrogram(row[:, 0], int(sample_rate)) for row in waveforms]
    )
    sheet = rearrange(spectrograms, "r n c h w -> r c n h w")
    write_contact_sheet(folder / f"{name}.png", sheet, overwrite=True)
    audio = rearrange(waveforms, "r n 1 t -> 1 (n r t)")
    write_audio(folder / f"{name}.wav", audio, int(sample_rate), overwrite=True)
    return {name: rearrange(to_uint8(spectrograms[:, 0]), "r c h w -> (r h) w c")}


def write_video_previews(
    folder: Path, name: str, rows: list[Tensor], fps: float
) -> dict[str, Tensor]:
    """Write `name.png`, and `name.mp4` if the items are videos.

    In the contact sheet of videos each item is a strip of frames, and the strips of one column
    follow each other. In the video, and in the contact sheet of images, items are laid out as given
    in `rows`.

    Args:
        folder: the run's folder.
        name: stem of the files.
        rows: items `[n, 3, (t,) h, w]` in [-1, 1], one tensor per row; all of the same shape.
        fps: frame rate of the video.

    Returns:
        A small image, uint8 `[h, w, 3]`, keyed by `name`: the middle frame of each item.
    """
    clips = torch.stack([row if row.ndim == 5 else row[:, :, None] for row in rows]).cpu()
    if clips.shape[3] > 1:
        sheet = rearrange(clips, "r n c t h w -> (n r) c t h w")
    else:
        sheet = rearrange(clips, "r n c 1 h w -> r c n h w")
    write_contact_sheet(folder / f"{name}.png", sheet, overwrite=True)
    video = rearrange(clips, "r n c t h w -> c t (r h) (n w)")
    length = video.shape[1]
    if length > 1:
        upscaled = video.repeat_interleave(UPSCALE_FACTOR, 2).repeat_interleave(UPSCALE_FACTOR, 3)
        write_video(folder / f"{name}.mp4", upscaled, fps, overwrite=True)
    return {name: rearrange(to_uint8(video[:, length // 2]), "c h w -> h w c")}
