"""Read videos: exactly the requested frames, as one tensor or chunk by chunk.

PyAV is the default backend. It is at least as fast as decord, because it skips frames that are not
needed, scales frames in the same step as their colour conversion, and continues from the end of
the last clip. It also reads edit lists, AV1 and GIF, which decord cannot. decord is available as
`backend="decord"` for comparison. No decord reader stays open between calls, because an idle one
decodes the whole file into memory.

A C library that hangs on a broken disk or network cannot be interrupted from Python; see
deadline.py for worker processes.

Not here: the index (video_index.py), finding frames (video_decoder.py), writing (write.py).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqvideo.media.files import MediaError, PathLike, wrap_ffmpeg_errors
from vqvideo.media.pixels import (
    Fit,
    ImageSize,
    check_size,
    compute_scaled_size,
    crop_or_pad,
    from_uint8,
)
from vqvideo.media.timestamps import get_frame_indices
from vqvideo.media.video_decoder import open_decoder
from vqvideo.media.video_index import Orientation, VideoIndex, index_video

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Backend = Literal["auto", "decord", "pyav"]

FrameArray = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]  # [h, w, 3]

_DECORD_BATCH = 32  # frames in memory at full size at a time


class Clip(NamedTuple):
    """Frames of a video.

    Attributes:
        frames: float32 `[3, t, h, w]` in [-1, 1].
        fps: frames per second: the average rate of the file, or the requested rate.
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
    size: ImageSize | None = None,
    fit: Fit = "crop",
    backend: Backend = "auto",
) -> Clip:
    """Read frames of a video file, by index in display order or by time.

    Rotation, edit lists and non-square pixels are applied. Gray and high bit depth become 8-bit
    RGB. An alpha channel is dropped.

    Damage that the container or the decoder reports raises an error. Some damage cannot be
    detected: about a quarter of single bit flips in H.264 silently decode to other pixels. Keep
    checksums of important files.

    Args:
        path: a video file in any container FFmpeg reads.
        indices: frame indices from 0, in any order, repeats allowed; or a slice; None reads
            all frames.
        fps: read by time instead of by `indices`: the frames displayed at
            `start_seconds + k / fps`, see `get_frame_indices`.
        start_seconds: the first time, 0 by default; only with `fps`.
        num_frames: number of frames; None reads to the end; only with `fps`.
        size: (height, width) of the result; None keeps the size of the file.
        fit: how a frame of another aspect ratio is brought to `size`: `"crop"` scales it to cover
            `size` and crops the center, `"pad"` adds black borders, `"refuse"` raises unless the
            sizes are equal.
        backend: `"auto"` and `"pyav"` decode with PyAV; `"decord"` decodes with decord, which
            gives the same values, or nearly the same with `size`: it converts colours first.

    Returns:
        `Clip(frames, fps)`.

    Raises:
        FileNotFoundError: the file does not exist.
        IndexError: a frame index is out of range.
        ValueError: no frames are requested, an option is invalid, both `indices` and `fps` are
            given, a time is after the end, or `fit="refuse"` and the sizes differ.
        MediaError: the file cannot be read, a frame in its index cannot be decoded, or
            `backend="decord"` does not read it correctly.
    """
    if backend not in ("auto", "decord", "pyav"):
        raise ValueError(f"backend must be 'auto', 'decord' or 'pyav', got {backend!r}")
    check_size(size, fit)
    if fps is None and not (start_seconds is None and num_frames is None):
        raise ValueError("start_seconds and num_frames need fps, the frames to read per second")
    if fps is not None and indices is not None:
        raise ValueError("give either indices or fps, not both: frames by index or by time")
    index = index_video(path)
    if fps is not None:
        frame_numbers = get_frame_indices(
            path, fps, start_seconds=start_seconds or 0, num_frames=num_frames
        )
    else:
        frame_numbers = _resolve_indices(indices, index)
    sorted_numbers = sorted(set(frame_numbers))
    target_size = compute_scaled_size((index.height, index.width), size, fit)
    decode = _decode_with_decord if backend == "decord" else _decode_with_pyav
    frames = _stack_frames(
        _scale_to_rgb(decode(index, sorted_numbers), index, target_size), index, size or target_size
    )
    if frame_numbers != sorted_numbers:
        positions = {number: position for position, number in enumerate(sorted_numbers)}
        frames = frames[:, [positions[number] for number in frame_numbers]]
    return Clip(from_uint8(frames), fps or index.fps)


def read_video_chunks(
    path: PathLike, *, frames_per_chunk: int, size: ImageSize | None = None, fit: Fit = "crop"
) -> Iterator[Tensor]:
    """Read all frames of a video of any length in chunks, in constant memory.

    The file is decoded once, from beginning to end, with the same pixels as `read_video`.

    Args:
        path: a video file in any container FFmpeg reads.
        frames_per_chunk: frames in each chunk; the last one may be shorter.
        size: (height, width) of the result; None keeps the size of the file.
        fit: `"crop"`, `"pad"` or `"refuse"`, as in `read_video`.

    Yields:
        float32 `[3, n, h, w]` in [-1, 1].

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: an option is invalid, or `fit="refuse"` and the sizes differ.
        MediaError: the file cannot be read, or a frame in its index cannot be decoded.
    """
    check_size(size, fit)
    if frames_per_chunk < 1:
        raise ValueError(f"frames_per_chunk must be at least 1, got {frames_per_chunk}")
    index = index_video(path)
    target_size = compute_scaled_size((index.height, index.width), size, fit)
    frames = _scale_to_rgb(_decode_with_pyav(index, range(len(index.pts))), index, target_size)
    return _iter_chunks(frames, frames_per_chunk, index, size or target_size)


def _iter_chunks(
    frames: Iterator[FrameArray], frames_per_chunk: int, index: VideoIndex, size: ImageSize
) -> Iterator[Tensor]:
    for _ in range(0, len(index.pts), frames_per_chunk):
        yield from_uint8(_stack_frames(islice(frames, frames_per_chunk), index, size))


def _resolve_indices(indices: Sequence[int] | slice | None, index: VideoIndex) -> list[int]:
    num_frames = len(index.pts)
    if indices is None or isinstance(indices, slice):
        numbers = list(range(num_frames)[slice(None) if indices is None else indices])
    else:
        numbers = [operator.index(number) for number in indices]
    for number in numbers:
        if not 0 <= number < num_frames:
            raise IndexError(
                f"frame {number} is out of range: {index.path} has {num_frames} frames, "
                f"0 to {num_frames - 1}"
            )
    if not numbers:
        raise ValueError(
            f"no frames requested: indices={indices} selects none of {num_frames} in {index.path}"
        )
    return numbers


def _decode_with_pyav(index: VideoIndex, frame_numbers: Sequence[int]) -> Iterator[VideoFrame]:
    with open_decoder(index, frame_numbers[0]) as decoder:
        yield from decoder.decode_frames(frame_numbers)


def _scale_to_rgb(
    frames: Iterator[VideoFrame], index: VideoIndex, target_size: ImageSize
) -> Iterator[FrameArray]:
    """Convert stored frames to RGB, scaled so that they have `target_size` once rotated."""
    from av.video.reformatter import Interpolation, VideoReformatter

    height, width = target_size[::-1] if index.orientation.transpose else target_size
    resampling = (  # bicubic with antialiasing, full chroma resolution
        Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP
    )
    reformatter = VideoReformatter()
    with wrap_ffmpeg_errors(index.path):
        for frame in frames:
            is_same_size = (frame.height, frame.width) == (height, width)
            interpolation = Interpolation.BILINEAR if is_same_size else resampling
            rgb = reformatter.reformat(
                frame, width, height, "rgb24", interpolation=interpolation, threads=1
            )
            yield rgb.to_ndarray().astype(np.uint8, copy=False)


def _stack_frames(frames: Iterable[FrameArray], index: VideoIndex, size: ImageSize) -> Tensor:
    """Stack stored frames and apply the orientation: uint8 `[3, n, *size]` as displayed."""
    x = torch.from_numpy(np.stack(list(frames))).permute(3, 0, 1, 2)
    if index.orientation.transpose:
        x = x.transpose(2, 3)
    flip_dims = [2] * index.orientation.vflip + [3] * index.orientation.hflip
    return crop_or_pad(x.flip(flip_dims) if flip_dims else x, size).contiguous()


def _decode_with_decord(index: VideoIndex, frame_numbers: Sequence[int]) -> Iterator[VideoFrame]:
    """Decode frames with decord, after checking its timestamps against the index."""
    import av

    def make_error(reason: str) -> MediaError:
        return MediaError(
            f"{index.path} cannot be read with decord: {reason}; "
            "use backend='auto' or backend='pyav'"
        )

    if index.orientation != Orientation() or not index.has_square_pixels:
        raise make_error("its frames are rotated or have non-square pixels")
    try:
        import decord
    except (ImportError, OSError, RuntimeError) as error:
        raise make_error(f"decord cannot be imported ({error})") from error
    try:
        reader = decord.VideoReader(str(index.path), num_threads=1)
        if len(reader) != len(index.pts):
            raise make_error(f"it counts {len(reader)} frames, the file has {len(index.pts)}")
        times = reader.get_frame_timestamp(frame_numbers)[:, 0].tolist()
        for number, time in zip(frame_numbers, times, strict=True):
            if not abs(time - index.pts[number] * index.time_base) < 0.5 / index.fps:
                raise make_error(f"it displays frame {number} at {time} s")
        for start in range(0, len(frame_numbers), _DECORD_BATCH):
            decoded = reader.get_batch(frame_numbers[start : start + _DECORD_BATCH]).asnumpy()
            for image in decoded:
                yield av.VideoFrame.from_ndarray(image, format="rgb24")
    except (RuntimeError, decord.DECORDError) as error:
        raise make_error("decord fails to decode it") from error
