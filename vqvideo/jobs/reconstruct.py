"""`vqvideo reconstruct`: a video through the codes and back, and how much was lost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vqvideo import media
from vqvideo.data.packing import bits_per_code
from vqvideo.jobs.model import open_model, output_files
from vqvideo.jobs.yardstick import write_yardstick
from vqvideo.media.files import output_file
from vqvideo.metrics import BEST_PSNR_DB, psnr_db, ssim_measure
from vqvideo.vqvae import VQVAE

AT_ONCE = 16  # frames read at a time
SHOWN = 16  # frames on the sheet at most


class Frame(NamedTuple):
    """How near a frame is to the original."""

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
    """Encode and decode a video of any length; returns the files written and the figures.

    Args:
        file: a video.
        model: a model that ships or the folder of a trained one.
        out: .mp4: original, reconstruction and error side by side (gray where they are equal), at
            the average rate of the file. Beside it come `NAME_x264.mp4`, what x264 makes of the
            original with the bits of the codes (`x264_fits` is false where its coarsest takes
            more); a contact sheet (.png) of the four, one row each; and the PSNR and SSIM of each
            frame of both (.json).
        size: (height, width) to which the video is brought; None is what the model was made for.
        fit: see `vqvideo.media.read_video`.
        device: see `open_model`.
        overwrite: replace files that exist.
        progress: called with (frames done, frames in all).

    Raises:
        ImportError: torchmetrics is missing, which measures the SSIM (extra `report`).
        ValueError: no video model, or one with an autoregressive likelihood; another ending than
            .mp4, or a size that its strides forbid.
    """
    ssim_measure()  # before any work
    generator = open_model(model, device)
    vqvae, target = generator.vqvae, Path(out)
    if vqvae.rank != 3:
        raise ValueError("reconstruct takes a video model")
    if vqvae.likelihood.is_autoregressive:
        raise ValueError(
            f"reconstruct takes video of any length, and the likelihood of {model} is "
            f"autoregressive, one pass per value; `vqvideo encode` and `decode` take short clips"
        )
    if target.suffix != ".mp4":
        raise ValueError(f"--out must end in .mp4, got {out!r}")
    yardstick = target.with_name(f"{target.stem}_x264.mp4")
    output_files(target, 1, overwrite, ".png", ".json")
    output_files(yardstick, 1, overwrite)
    length, *own = generator.sample_shape or ()
    height, width = size or own
    vqvae.grid_shape((length, height, width))
    info = media.probe(file)

    def originals() -> Iterator[Tensor]:
        return media.read_pieces(file, frames_per_piece=AT_ONCE, size=(height, width), fit=fit)

    work = _Comparison(info.num_frames, progress)
    target.parent.mkdir(parents=True, exist_ok=True)
    again = Reconstruction(vqvae, originals(), info.num_frames)
    beside = (_side_by_side(x, y) for x, y in work.frames("reconstruction", originals(), again))
    media.write_video(target, beside, info.fps, overwrite=overwrite)
    crf = write_yardstick(
        yardstick, originals, info.fps, num_bytes=again.bits / 8, overwrite=overwrite
    )
    read = media.read_pieces(yardstick, frames_per_piece=AT_ONCE, size=(height, width))
    for _ in work.frames("x264", originals(), read):
        pass
    sheet, table = target.with_suffix(".png"), target.with_suffix(".json")
    media.write_contact_sheet(sheet, work.sheet(), overwrite=overwrite)
    figures = {
        **work.means(),
        "num_frames": info.num_frames,
        "codes": list(again.grid),
        "codes_used": len(again.used),
        "bits_per_second": round(again.bits / info.duration, 1),
        "x264_bits_per_second": round(8 * media.probe(yardstick).video_bytes / info.duration, 1),
        "x264_crf": crf,
        "x264_fits": media.probe(yardstick).video_bytes * 8 <= again.bits,
    }
    with output_file(table, suffixes=(".json",), overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps({**figures, "frames": work.table()}, indent=1) + "\n")
    return [target, yardstick, sheet, table], figures


class Reconstruction:
    """The frames `[3, n, h, w]` of a video after encoding and decoding, as pieces come.

    Attributes:
        grid: of the codes so far.
        bits: that they take, packed.
        used: which codes there are among them.
    """

    def __init__(self, vqvae: VQVAE, pieces: Iterable[Tensor], length: int) -> None:
        self.vqvae, self.pieces, self.length = vqvae, pieces, length
        self.grid: tuple[int, ...] = (0,)
        self.bits, self.used = 0, set[int]()

    def __iter__(self) -> Iterator[Tensor]:
        device = next(self.vqvae.parameters()).device
        codes = self.vqvae.encode_stream(piece[None].to(device) for piece in self.pieces)
        decoded = self.vqvae.decode_stream(map(self._seen, codes), length=self.length)
        return (piece[0].cpu() for piece in decoded)

    def _seen(self, codes: Tensor) -> Tensor:
        self.grid = (self.grid[0] + codes.shape[1], *codes.shape[2:])
        self.bits += codes.numel() * bits_per_code(self.vqvae.quantizer.codebook_size)
        self.used |= set(codes.unique().tolist())
        return codes


class _Comparison:
    """Frames beside their originals: each measured, some kept to be shown."""

    def __init__(self, length: int, progress: Callable[[int, int], None] | None) -> None:
        self.length, self.progress = length, progress
        number = min(length, SHOWN)
        self.shown = {i * length // number for i in range(number)}
        self.measured: dict[str, list[Frame]] = {}
        self.kept: dict[str, list[Tensor]] = {}

    def frames(
        self, name: str, originals: Iterable[Tensor], others: Iterable[Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of frames `[3, h, w]`, original and other, in order."""
        measured = self.measured.setdefault(name, [])
        for x, y in zip(_singly(originals), _singly(others), strict=True):
            if len(measured) in self.shown:
                self._keep(name, x, y)
            similarity = ssim_measure()(y[None], x[None]).item()
            measured.append(Frame(min(psnr_db(y, x), BEST_PSNR_DB), similarity))
            yield x, y
            if self.progress:
                done = sum(map(len, self.measured.values()))
                self.progress(done, 2 * self.length)

    def _keep(self, name: str, x: Tensor, y: Tensor) -> None:
        if name == "reconstruction":
            self.kept.setdefault("original", []).append(x)
            self.kept.setdefault("error", []).append(_error(x, y))
        self.kept.setdefault(name, []).append(y)

    def sheet(self) -> Tensor:
        """`[4, 3, n, h, w]`: original, reconstruction, error, x264."""
        rows = ("original", "reconstruction", "error", "x264")
        return torch.stack([torch.stack(self.kept[row], dim=1) for row in rows])

    def means(self) -> dict[str, float]:
        """Over all frames; the PSNR is the mean of those of the frames."""
        figures = {}
        for name, frames in self.measured.items():
            before = "x264_" if name == "x264" else ""
            figures[f"{before}psnr_db"] = round(sum(f.psnr_db for f in frames) / self.length, 2)
            figures[f"{before}ssim"] = round(sum(f.ssim for f in frames) / self.length, 4)
        return figures

    def table(self) -> list[dict[str, float]]:
        """One entry for each frame."""
        both = zip(self.measured["reconstruction"], self.measured["x264"], strict=True)
        return [
            {
                "psnr_db": round(ours.psnr_db, 3),
                "ssim": round(ours.ssim, 5),
                "x264_psnr_db": round(theirs.psnr_db, 3),
                "x264_ssim": round(theirs.ssim, 5),
            }
            for ours, theirs in both
        ]


def _singly(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    return itertools.chain.from_iterable(piece.unbind(1) for piece in pieces)


def _error(x: Tensor, y: Tensor) -> Tensor:
    """Reconstruction less original; gray (0) is none."""
    return (y - x).clamp(-1, 1)


def _side_by_side(x: Tensor, y: Tensor) -> Tensor:
    """Two frames and their difference as one `[3, 1, h, 3 w]`."""
    return torch.cat([x, y, _error(x, y)], dim=2)[:, None]
