"""`vqvideo reconstruct`: a video through the codes and back, and how much was lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from vqvideo import media
from vqvideo.grid import codes_needed
from vqvideo.jobs.model import evenly, open_model, output_files
from vqvideo.metrics import psnr_db


def reconstruct(
    file: str,
    *,
    model: str = "video",
    out: str = "outputs/reconstruction.mp4",
    size: Sequence[int] | None = None,
    fit: Literal["crop", "pad", "refuse"] = "crop",
    device: str = "auto",
    overwrite: bool = False,
) -> tuple[list[Path], dict[str, Any]]:
    """Encode and decode a video; returns the files written and the figures.

    The last code frame is filled up by repeating the last frame, and cropped afterwards.

    Args:
        file: a video.
        model: a model that ships or the folder of a trained one.
        out: .mp4; beside it comes a contact sheet (.png), originals above reconstructions, at
            most 32 frames of them.
        size: (height, width) to which the video is brought; None is what the model was made for.
        fit: see `vqvideo.media.read_video`.
        device: see `open_model`.
        overwrite: replace files that exist.
    """
    generator = open_model(model, device)
    vqvae = generator.vqvae
    if vqvae.rank != 3:
        raise ValueError("reconstruct takes a video model")
    target = Path(out)
    if target.suffix != ".mp4":
        raise ValueError(f"--out must end in .mp4, got {out!r}")
    output_files(target, 1, overwrite, ".png")
    length, *own = generator.sample_shape or ()
    height, width = size or own
    vqvae.grid_shape((length, height, width))
    clip = media.read_video(file, size=(height, width), fit=fit)
    length, stride = clip.frames.shape[1], vqvae.downsampling[0]
    missing = codes_needed(length, stride) * stride - length
    filled = torch.cat([clip.frames, clip.frames[:, -1:].expand(-1, missing, -1, -1)], dim=1)
    codes = vqvae.encode(filled[None].to(next(vqvae.parameters()).device))
    again = vqvae.decode(codes)[0, :, :length].cpu()
    sheet = target.with_suffix(".png")
    target.parent.mkdir(parents=True, exist_ok=True)
    media.write_video(target, again, clip.fps, overwrite=overwrite)
    both = evenly(torch.stack([clip.frames, again]))
    media.write_contact_sheet(sheet, both, overwrite=overwrite)
    figures = {
        "psnr_db": round(psnr_db(again, clip.frames), 2),
        "num_frames": length,
        "codes": list(codes.shape[1:]),
        "codes_used": codes.unique().numel(),
    }
    return [target, sheet], figures
