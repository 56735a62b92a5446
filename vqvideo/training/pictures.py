"""Pictures of a model that trains: a contact sheet, and a film of what moves."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from vqvideo.media import to_uint8, write_contact_sheet, write_video

LARGE = 3  # times as large as they are: clips of 64 pixels are hard to see


def show_rows(folder: Path, name: str, rows: list[Tensor], fps: float) -> dict[str, Tensor]:
    """Write `name.png`, a strip of frames per item, and `name.mp4` if they move.

    In the sheet, items of different rows stand under each other one by one; in the film each row is
    a row.

    Args:
        folder: of the run.
        name: of the files.
        rows: each `[n, 3, (t,) h, w]` in [-1, 1]; all of one shape.
        fps: of the film.

    Returns:
        A small picture under that name, uint8 `[h, w, 3]`: of each item the frame in the middle.
    """
    clips = torch.stack([row if row.ndim == 5 else row[:, :, None] for row in rows]).cpu()
    sheet = rearrange(clips, "r n c t h w -> (n r) c t h w")
    write_contact_sheet(folder / f"{name}.png", sheet, overwrite=True)
    film = rearrange(clips, "r n c t h w -> c t (r h) (n w)")
    length = film.shape[1]
    if length > 1:
        large = film.repeat_interleave(LARGE, 2).repeat_interleave(LARGE, 3)
        write_video(folder / f"{name}.mp4", large, fps, overwrite=True)
    return {name: rearrange(to_uint8(film[:, length // 2]), "c h w -> h w c")}
