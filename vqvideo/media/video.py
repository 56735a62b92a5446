"""Reading video: some frames of a file, exactly those, as one tensor or piece by piece.

PyAV decodes. It is at least as quick as decord, because it skips what nobody asked for,
makes frames small while it converts their colours, and goes on from where the last clip
ended; and it reads what decord cannot: edit lists, AV1, GIF. decord can be asked for by
name, to compare. Nothing of decord stays open between calls: an idle reader of it decodes
the whole file into memory.

A C library that hangs on a broken disk or network cannot be interrupted from Python; see
deadline.py for worker processes.

Not here: the index (index.py), finding frames (decode.py), writing (write.py).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqvideo.media.decode import decoder_of
from vqvideo.media.files import MediaError, PathLike, naming_errors
from vqvideo.media.index import Turn, VideoIndex, index_video
from vqvideo.media.pixels import Fit, Size, check_size, crop_or_pad, from_uint8, scaled_size
from vqvideo.media.times import frames_at

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Backend = Literal["auto", "decord", "pyav"]

Picture = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]  # [h, w, 3]

_DECORD_BATCH = 32  # frames held at full size at a time


class Clip(NamedTuple):
    """Frames of a video.

    Attributes:
        frames: float32 `[3, t, h, w]` in [-1, 1].
        fps: frames per second: of the file, on average, or those asked for.
    """

    frames: Tensor
    fps: float


def read_video(
    path: PathLike,
    indices: Sequence[int] | slice | None = None,
    *,
    fps: float | None = None,
    start_seconds: float | None = None,
    num_frames: int | None = None,
    size: Size | None = None,
    fit: Fit = "crop",
    backend: Backend = "auto",
) -> Clip:
    """Read frames of a video file, by their number in display order or by time.

    Rotation, edit lists and pixels that are not square are applied; gray and deep colours
    become 8-bit RGB; an alpha channel is dropped.

    What the container or the decoder marks as damaged raises. Some damage leaves no mark:
    about a quarter of single flipped bits in H.264 decode to other pixels in silence, and no
    reader can know. Keep checksums of files that matter.

    Args:
        path: a video file in any container FFmpeg reads.
        indices: frame numbers from 0, in any order, repeats allowed; or a slice; None
            reads all.
        fps: read by time instead of `indices`: what is seen at `start_seconds + k / fps`,
            see `frames_at`.
        start_seconds: with `fps` only: the first moment, by default 0.
        num_frames: with `fps` only: how many; None reads to the end.
        size: (height, width) of the result; None keeps that of the file.
        fit: how a frame of other proportions is brought to `size`: `"crop"` covers and
            cuts the centre out, `"pad"` adds black borders, `"refuse"` raises unless the
            sizes are equal.
        backend: `"auto"` and `"pyav"` decode with PyAV; `"decord"` insists on decord, which
            gives the same bytes, or with `size` nearly the same: it converts colours first.

    Returns:
        `Clip(frames, fps)`.

    Raises:
        FileNotFoundError: no such file.
        IndexError: a frame number the file does not have.
        ValueError: no frames asked for, a wrong option, `indices` and times at once, a time
            after the end, or `fit="refuse"` and another size.
        MediaError: the file cannot be read, a frame in its index cannot be decoded, or
            `backend="decord"` cannot be trusted with it.
    """
    if backend not in ("auto", "decord", "pyav"):
        raise ValueError(f"backend must be 'auto', 'decord' or 'pyav', got {backend!r}")
    check_size(size, fit)
    if fps is None and not (start_seconds is None and num_frames is None):
        raise ValueError("start_seconds and num_frames need fps, the frames to read per second")
    if fps is not None and indices is not None:
        raise ValueError("give either indices or fps, not both: frames by number or by time")
    index = index_video(path)
    if fps is not None:
        numbers = frames_at(path, fps, start_seconds=start_seconds or 0, num_frames=num_frames)
    else:
        numbers = _frame_numbers(indices, index)
    wanted = sorted(set(numbers))
    scaled = scaled_size((index.height, index.width), size, fit)
    decode = _decord_frames if backend == "decord" else _pyav_frames
    pictures = _finish(_shrink(decode(index, wanted), index, scaled), index, size or scaled)
    if numbers != wanted:
        place = {number: position for position, number in enumerate(wanted)}
        pictures = pictures[:, [place[number] for number in numbers]]
    return Clip(from_uint8(pictures), fps or index.fps)


def read_pieces(
    path: PathLike, *, frames_per_piece: int, size: Size | None = None, fit: Fit = "crop"
) -> Iterator[Tensor]:
    """Read all frames of a video of any length, a few at a time, in constant memory.

    The file is decoded once, from head to end, and gives the same pixels as `read_video`.

    Args:
        path: a video file in any container FFmpeg reads.
        frames_per_piece: frames in each piece; the last one may be shorter.
        size: (height, width) of the result; None keeps that of the file.
        fit: `"crop"`, `"pad"` or `"refuse"`, as in `read_video`.

    Yields:
        float32 `[3, n, h, w]` in [-1, 1].

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong option, or `fit="refuse"` and another size.
        MediaError: the file cannot be read, or a frame in its index cannot be decoded.
    """
    check_size(size, fit)
    if frames_per_piece < 1:
        raise ValueError(f"frames_per_piece must be at least 1, got {frames_per_piece}")
    index = index_video(path)
    scaled = scaled_size((index.height, index.width), size, fit)
    pictures = _shrink(_pyav_frames(index, range(len(index.pts))), index, scaled)
    return _pieces(pictures, frames_per_piece, index, size or scaled)


def _pieces(
    pictures: Iterator[Picture], frames_per_piece: int, index: VideoIndex, size: Size
) -> Iterator[Tensor]:
    for _ in range(0, len(index.pts), frames_per_piece):
        yield from_uint8(_finish(islice(pictures, frames_per_piece), index, size))


def _frame_numbers(indices: Sequence[int] | slice | None, index: VideoIndex) -> list[int]:
    count = len(index.pts)
    if indices is None or isinstance(indices, slice):
        numbers = list(range(count)[slice(None) if indices is None else indices])
    else:
        numbers = [operator.index(number) for number in indices]
    for number in numbers:
        if not 0 <= number < count:
            raise IndexError(
                f"frame {number} is out of range: {index.path} has {count} frames, 0 to {count - 1}"
            )
    if not numbers:
        raise ValueError(f"no frames asked for: indices={indices} of {count} in {index.path}")
    return numbers


def _pyav_frames(index: VideoIndex, wanted: Sequence[int]) -> Iterator[VideoFrame]:
    with decoder_of(index, wanted[0]) as decoder:
        yield from decoder.frames(wanted)


def _shrink(frames: Iterator[VideoFrame], index: VideoIndex, scaled: Size) -> Iterator[Picture]:
    """Frames as stored to RGB, so large that they are `scaled` when they have been turned."""
    from av.video.reformatter import Interpolation, VideoReformatter

    height, width = scaled[::-1] if index.turn.transpose else scaled
    averaging = (  # bicubic over all the pixels that become one, colours at full resolution
        Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP
    )
    reformatter = VideoReformatter()
    with naming_errors(index.path):
        for frame in frames:
            same = (frame.height, frame.width) == (height, width)
            how = Interpolation.BILINEAR if same else averaging
            rgb = reformatter.reformat(frame, width, height, "rgb24", interpolation=how, threads=1)
            yield rgb.to_ndarray().astype(np.uint8, copy=False)


def _finish(pictures: Iterable[Picture], index: VideoIndex, size: Size) -> Tensor:
    """Pictures as stored to uint8 `[3, n, *size]` as displayed."""
    x = torch.from_numpy(np.stack(list(pictures))).permute(3, 0, 1, 2)
    if index.turn.transpose:
        x = x.transpose(2, 3)
    mirrored = [2] * index.turn.mirror_rows + [3] * index.turn.mirror_columns
    return crop_or_pad(x.flip(mirrored) if mirrored else x, size).contiguous()


def _decord_frames(index: VideoIndex, wanted: Sequence[int]) -> Iterator[VideoFrame]:
    """Frames by decord, after it was checked against the index."""
    import av

    def refused(reason: str) -> MediaError:
        return MediaError(
            f"{index.path} cannot be read with decord: {reason}; "
            "use backend='auto' or backend='pyav'"
        )

    if index.turn != Turn() or not index.square_pixels:
        raise refused("its frames need turning or have pixels that are not square")
    try:
        import decord
    except (ImportError, OSError, RuntimeError) as error:
        raise refused(f"decord cannot be imported ({error})") from error
    try:
        reader = decord.VideoReader(str(index.path), num_threads=1)
        if len(reader) != len(index.pts):
            raise refused(f"it counts {len(reader)} frames, the file has {len(index.pts)}")
        times = reader.get_frame_timestamp(wanted)[:, 0].tolist()
        for number, time in zip(wanted, times, strict=True):
            if not abs(time - index.pts[number] * index.time_base) < 0.5 / index.fps:
                raise refused(f"it shows frame {number} at {time} s")
        for start in range(0, len(wanted), _DECORD_BATCH):
            decoded = reader.get_batch(wanted[start : start + _DECORD_BATCH]).asnumpy()
            for picture in decoded:
                yield av.VideoFrame.from_ndarray(picture, format="rgb24")
    except (RuntimeError, decord.DECORDError) as error:
        raise refused("decord fails to decode it") from error
