"""`vqvideo reconstruct`: encode and decode a video, and measure the reconstruction."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.commands.model import check_output_files, load_model
from vqvideo.commands.x264_baseline import write_x264_baseline
from vqvideo.data.packing import count_bits_per_code
from vqvideo.device import get_device
from vqvideo.media.files import output_file
from vqvideo.metrics import MAX_PSNR_DB, build_ssim, psnr_db
from vqvideo.vqvae import VQVAE

CHUNK_SIZE = 16  # frames read at a time
MAX_SHOWN_FRAMES = 16  # on the contact sheet


class FrameMetrics(NamedTuple):
    """Metrics of a reconstructed frame against the original."""

    psnr_db: float
    ssim: float


def reconstruct(
    file: str,
    *,
    model: str = "video",
    out: str = "outputs/reconstruction.mp4",
    size: Sequence[int] | None = None,
    fit: Literal["crop", "pad", "refuse"] = "crop",
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Encode and decode a video of any length; return the files written and the metrics.

    Args:
        file: a video.
        model: name of a shipped model, or the folder of a trained one.
        out: .mp4 with original, reconstruction and error side by side (gray: no error), at the
            average rate of the file. Written next to it: `NAME_x264.mp4`, the original encoded by
            x264 with the bits of the codes (`x264_fits` is false if its coarsest setting needs
            more); a contact sheet (.png) of the four, one row each; and the PSNR and SSIM of each
            frame of both (.json).
        size: (height, width) to which the video is resized; None for the size of the model.
        fit: see `vqvideo.media.read_video`.
        device: see `load_model`.
        overwrite: replace existing files.
        progress: called with (frames done, total frames).

    Raises:
        ImportError: torchmetrics, which computes the SSIM, is not installed (extra `report`).
        ValueError: the model is not a video model, or has an autoregressive likelihood; `out` does
            not end in .mp4; or the strides do not divide the size.
    """
    build_ssim()  # fail before any work if torchmetrics is missing
    generator = load_model(model, device)
    vqvae, target = generator.vqvae, Path(out)
    if vqvae.rank != 3:
        raise ValueError(f"reconstruct needs a video model; {model} has rank {vqvae.rank}")
    if vqvae.likelihood.is_autoregressive:
        raise ValueError(
            f"reconstruct does not support {model}: its likelihood is autoregressive, one pass per "
            f"value, which is too slow for long video; use `vqvideo encode` and `decode` on short "
            f"clips"
        )
    if target.suffix != ".mp4":
        raise ValueError(f"--out must end in .mp4, got {out!r}")
    x264_file = target.with_name(f"{target.stem}_x264.mp4")
    check_output_files(target, 1, overwrite, ".png", ".json")
    check_output_files(x264_file, 1, overwrite)
    length, *frame_size = generator.sample_shape or ()
    height, width = size or frame_size
    vqvae.compute_grid_shape((length, height, width))
    info = media.probe(file)

    def originals() -> Iterator[Tensor]:
        return media.read_video_chunks(
            file, frames_per_chunk=CHUNK_SIZE, size=(height, width), fit=fit
        )

    comparison = _Comparison(info.num_frames, progress)
    target.parent.mkdir(parents=True, exist_ok=True)
    reconstruction = Reconstruction(vqvae, originals(), info.num_frames)
    side_by_side = (
        _concat_frames(x, y)
        for x, y in comparison.compare_frames("reconstruction", originals(), reconstruction)
    )
    media.write_video(target, side_by_side, info.fps, overwrite=overwrite)
    crf = write_x264_baseline(
        x264_file, originals, info.fps, num_bytes=reconstruction.bits / 8, overwrite=overwrite
    )
    x264_chunks = media.read_video_chunks(
        x264_file, frames_per_chunk=CHUNK_SIZE, size=(height, width)
    )
    for _ in comparison.compare_frames("x264", originals(), x264_chunks):
        pass
    sheet, table = target.with_suffix(".png"), target.with_suffix(".json")
    media.write_contact_sheet(sheet, comparison.build_sheet(), overwrite=overwrite)
    metrics = {
        **comparison.compute_means(),
        "num_frames": info.num_frames,
        "codes": list(reconstruction.grid),
        "codes_used": len(reconstruction.used_codes),
        "bits_per_second": round(reconstruction.bits / info.duration, 1),
        "x264_bits_per_second": round(8 * media.probe(x264_file).video_bytes / info.duration, 1),
        "x264_crf": crf,
        "x264_fits": media.probe(x264_file).video_bytes * 8 <= reconstruction.bits,
    }
    with output_file(table, suffixes=(".json",), overwrite=overwrite) as temporary:
        temporary.write_text(
            json.dumps({**metrics, "frames": comparison.build_table()}, indent=1) + "\n"
        )
    return [target, x264_file, sheet, table], metrics


class Reconstruction:
    """Iterable over the reconstructed frames `[3, n, h, w]` of a video, chunk by chunk.

    Attributes:
        grid: grid shape of the codes so far.
        bits: size of the codes so far after packing.
        used_codes: the distinct codes so far.
    """

    def __init__(self, vqvae: VQVAE, chunks: Iterable[Tensor], length: int) -> None:
        self.vqvae, self.chunks, self.length = vqvae, chunks, length
        self.grid: tuple[int, ...] = (0,)
        self.bits, self.used_codes = 0, set[int]()

    def __iter__(self) -> Iterator[Tensor]:
        device = get_device(self.vqvae)
        codes = self.vqvae.encode_stream(chunk[None].to(device) for chunk in self.chunks)
        decoded = self.vqvae.decode_stream(map(self._record_codes, codes), length=self.length)
        return (chunk[0].cpu() for chunk in decoded)

    def _record_codes(self, codes: Tensor) -> Tensor:
        self.grid = (self.grid[0] + codes.shape[1], *codes.shape[2:])
        self.bits += codes.numel() * count_bits_per_code(self.vqvae.quantizer.codebook_size)
        self.used_codes |= set(codes.unique().tolist())
        return codes


class _Comparison:
    """Compare frames to their originals: compute metrics of all, and keep some for the sheet."""

    def __init__(self, length: int, progress: Callable[[int, int], None] | None) -> None:
        self.length, self.progress = length, progress
        num_shown = min(length, MAX_SHOWN_FRAMES)
        self.shown_indices = {i * length // num_shown for i in range(num_shown)}
        self.metrics: dict[str, list[FrameMetrics]] = {}
        self.shown_frames: dict[str, list[Tensor]] = {}

    def compare_frames(
        self, name: str, originals: Iterable[Tensor], others: Iterable[Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield pairs of frames `[3, h, w]`, original and other, and record their metrics."""
        metrics = self.metrics.setdefault(name, [])
        for x, y in zip(_iter_frames(originals), _iter_frames(others), strict=True):
            if len(metrics) in self.shown_indices:
                self._keep(name, x, y)
            similarity = build_ssim()(y[None], x[None]).item()
            metrics.append(FrameMetrics(min(psnr_db(y, x), MAX_PSNR_DB), similarity))
            yield x, y
            if self.progress:
                done = sum(map(len, self.metrics.values()))
                self.progress(done, 2 * self.length)

    def _keep(self, name: str, x: Tensor, y: Tensor) -> None:
        if name == "reconstruction":
            self.shown_frames.setdefault("original", []).append(x)
            self.shown_frames.setdefault("error", []).append(_compute_error(x, y))
        self.shown_frames.setdefault(name, []).append(y)

    def build_sheet(self) -> Tensor:
        """Return the sheet `[4, 3, n, h, w]`: original, reconstruction, error, x264."""
        rows = ("original", "reconstruction", "error", "x264")
        return torch.stack([torch.stack(self.shown_frames[row], dim=1) for row in rows])

    def compute_means(self) -> dict[str, float]:
        """Return the metrics averaged over all frames; PSNR is averaged in dB."""
        means = {}
        for name, frames in self.metrics.items():
            prefix = "x264_" if name == "x264" else ""
            means[f"{prefix}psnr_db"] = round(sum(f.psnr_db for f in frames) / self.length, 2)
            means[f"{prefix}ssim"] = round(sum(f.ssim for f in frames) / self.length, 4)
        return means

    def build_table(self) -> list[dict[str, float]]:
        """Return the metrics of each frame."""
        pairs = zip(self.metrics["reconstruction"], self.metrics["x264"], strict=True)
        return [
            {
                "psnr_db": round(ours.psnr_db, 3),
                "ssim": round(ours.ssim, 5),
                "x264_psnr_db": round(theirs.psnr_db, 3),
                "x264_ssim": round(theirs.ssim, 5),
            }
            for ours, theirs in pairs
        ]


def _iter_frames(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    return itertools.chain.from_iterable(chunk.unbind(1) for chunk in chunks)


def _compute_error(x: Tensor, y: Tensor) -> Tensor:
    """Return reconstruction minus original, clamped to [-1, 1]; gray (0) is no error."""
    return (y - x).clamp(-1, 1)


def _concat_frames(x: Tensor, y: Tensor) -> Tensor:
    """Concatenate two frames and their difference to one of `[3, 1, h, 3 w]`."""
    return torch.cat([x, y, _compute_error(x, y)], dim=2)[:, None]
