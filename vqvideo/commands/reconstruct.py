"""`vqvideo reconstruct`: encode and decode a video, and measure the reconstruction."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.commands.model import check_output_files, load_model
from vqvideo.data.items import evenly_spaced
from vqvideo.data.packing import count_bits_per_code
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.media.files import output_file
from vqvideo.metrics import MAX_PSNR_DB, build_ssim, psnr_db
from vqvideo.vqvae import VQVAE

CHUNK_SIZE = 16  # frames read at a time
MAX_SHOWN_FRAMES = 16  # on the contact sheet
MAX_CRF = 51  # the coarsest constant rate factor of x264


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
    generator, target = _load_video_model(model, device), Path(out)
    if target.suffix != ".mp4":
        raise ValueError(f"--out must end in .mp4, got {out!r}")
    x264_file = target.with_name(f"{target.stem}_x264.mp4")
    sheet, table = target.with_suffix(".png"), target.with_suffix(".json")
    check_output_files(target, 1, overwrite, ".png", ".json")
    check_output_files(x264_file, 1, overwrite)
    length, *frame_size = generator.sample_shape or ()
    height, width = size or frame_size
    generator.vqvae.compute_grid_shape((length, height, width))
    info = media.probe(file)
    read = partial(media.read_video_chunks, frames_per_chunk=CHUNK_SIZE, size=(height, width))
    originals = partial(read, file, fit=fit)
    comparison = _Comparison(info.num_frames, progress)
    target.parent.mkdir(parents=True, exist_ok=True)
    reconstruction = Reconstruction(generator.vqvae, originals(), info.num_frames)
    pairs = comparison.compare_frames("reconstruction", originals(), reconstruction)
    side_by_side = (_concat_frames(x, y) for x, y in pairs)
    media.write_video(target, side_by_side, info.fps, overwrite=overwrite)
    crf = write_x264_baseline(
        x264_file, originals, info.fps, num_bytes=reconstruction.bits / 8, overwrite=overwrite
    )
    for _ in comparison.compare_frames("x264", originals(), read(x264_file)):
        pass
    media.write_contact_sheet(sheet, comparison.build_sheet(), overwrite=overwrite)
    x264_bits = 8 * media.probe(x264_file).video_bytes
    metrics = {
        **comparison.compute_means(),
        "num_frames": info.num_frames,
        "codes": list(reconstruction.grid),
        "codes_used": len(reconstruction.used_codes),
        "bits_per_second": round(reconstruction.bits / info.duration, 1),
        "x264_bits_per_second": round(x264_bits / info.duration, 1),
        "x264_crf": crf,
        "x264_fits": x264_bits <= reconstruction.bits,
    }
    text = json.dumps({**metrics, "frames": comparison.build_table()}, indent=1)
    with output_file(table, suffixes=(".json",), overwrite=overwrite) as temporary:
        temporary.write_text(text + "\n")
    return [target, x264_file, sheet, table], metrics


def _load_video_model(model: str, device: str) -> Generator:
    """Load a model; raise `ValueError` unless it can reconstruct long video."""
    generator = load_model(model, device)
    if generator.vqvae.rank != 3:
        raise ValueError(
            f"reconstruct needs a video model; {model} has rank {generator.vqvae.rank}"
        )
    if generator.vqvae.likelihood.is_autoregressive:
        raise ValueError(
            f"reconstruct does not support {model}: its likelihood is autoregressive, one pass per "
            f"value, which is too slow for long video; use `vqvideo encode` and `decode` on short "
            f"clips"
        )
    return generator


def write_x264_baseline(
    target: Path,
    frames: Callable[[], Iterator[Tensor]],
    fps: float,
    *,
    num_bytes: float,
    overwrite: bool = False,
) -> int:
    """Write the best H.264 file whose video stream takes at most `num_bytes`; return its CRF.

    If not even the coarsest one fits, that one is written; see its
    `media.probe(...).video_bytes`.

    Args:
        target: .mp4.
        frames: returns the chunks `[3, n, h, w]` of the video; called once per trial.
        fps: frames per second.
        num_bytes: limit of the video stream; the container does not count.
        overwrite: replace an existing file.
    """

    def measure_size(crf: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder) / "trial.mp4"
            media.write_video(trial, frames(), fps, crf=crf, keyframe_interval=250)
            return media.probe(trial).video_bytes

    low, high = 0, MAX_CRF  # the lowest CRF that fits, if any, is in [low, high]
    while low < high:
        middle = (low + high) // 2
        if measure_size(middle) <= num_bytes:
            high = middle
        else:
            low = middle + 1
    media.write_video(target, frames(), fps, crf=low, keyframe_interval=250, overwrite=overwrite)
    return low


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
        self.shown_indices = set(evenly_spaced(range(length), MAX_SHOWN_FRAMES, from_start=True))
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
