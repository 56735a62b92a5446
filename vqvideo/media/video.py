"""Read videos: exactly the requested frames, as one tensor or chunk by chunk.

PyAV is the default backend. It is at least as fast as decord, because it skips frames that are not
needed, scales frames in the same step as their colour conversion, and continues from the end of
the last clip. It also reads edit lists, AV1 and GIF, which decord cannot. decord is available as
`backend="decord"` for comparison. No decord reader stays open between calls, because an idle one
decodes the whole file into memory.

A C library that hangs on a broken disk or network cannot be interrupted from Python; see
deadline.py for worker processes.

Not here: the index (video_index.py), finding frames (video_decoder.py), their colours and sizes
(frames.py), writing (write.py).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from vqvideo.media.files import MediaError, PathLike
from vqvideo.media.frames import compute_displayed_size, fit_frames
from vqvideo.media.pixels import (
    Fit,
    ImageSize,
    check_num_pixels,
    check_size,
    compute_scaled_size,
    from_uint8,
)
from vqvideo.media.timestamps import get_frame_indices
from vqvideo.media.video_decoder import open_decoder
from vqvideo.media.video_index import Orientation, VideoIndex, index_video, read_orientation

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Backend = Literal["auto", "decord", "pyav"]

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
        path: a video file in any container FFmpeg reads, of at most `files.MAX_PIXELS`
            (89,478,485) pixels per frame.
        indices: frame indices from 0, in any order, repeats allowed; or a slice; None reads
            all frames, which must fit in memory; see `read_video_chunks`.
        fps: read by time instead of by `indices`: the frames displayed at
            `start_seconds + k / fps`, see `get_frame_indices`.
        start_seconds: the first time, 0 by default; only with `fps`.
        num_frames: number of frames; None reads to the end; only with `fps`.
        size: (height, width) of the result; None keeps the displayed size of the first frame
            of the file.
        fit: how a frame of another size is brought to that size: `"crop"` scales it to cover
            `size` and crops the center, `"pad"` adds black borders, `"refuse"` raises unless the
            sizes are equal. Each frame is fitted by its own size, which may change in mid-stream.
        backend: `"auto"` and `"pyav"` decode with PyAV; `"decord"` decodes with decord, which
            gives the same values, or nearly the same with `size`: it converts colours first.
            Its frames are decoded with PyAV too, to check that their size is right.

    Returns:
        `Clip(frames, fps)`.

    Raises:
        FileNotFoundError: the file does not exist.
        IndexError: a frame index is out of range.
        ValueError: no frames are requested, an option is invalid, both `indices` and `fps` are
            given, a time is after the end, or `fit="refuse"` and the size of a frame differs.
        MediaError: the file cannot be read, a frame in its index cannot be decoded or has too
            many pixels, or `backend="decord"` does not read it correctly.
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
    decode = _decode_with_decord if backend == "decord" else _decode_with_pyav
    target_size = _get_target_size(index, size, fit)
    frames = fit_frames(decode(index, sorted_numbers), sorted_numbers, index, target_size, fit)
    stacked = torch.stack(list(frames), dim=1)
    if frame_numbers != sorted_numbers:
        positions = {number: position for position, number in enumerate(sorted_numbers)}
        stacked = stacked[:, [positions[number] for number in frame_numbers]]
    return Clip(from_uint8(stacked), fps or index.fps)


def read_video_chunks(
    path: PathLike, *, frames_per_chunk: int, size: ImageSize | None = None, fit: Fit = "crop"
) -> Iterator[Tensor]:
    """Read all frames of a video of any length in chunks, in constant memory.

    The file is decoded once, from beginning to end, with the same pixels as `read_video`.

    Args:
        path: a video file in any container FFmpeg reads.
        frames_per_chunk: frames in each chunk; the last one may be shorter.
        size: (height, width) of the result; None keeps that of the first frame.
        fit: `"crop"`, `"pad"` or `"refuse"`, as in `read_video`.

    Yields:
        float32 `[3, n, h, w]` in [-1, 1].

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: an option is invalid, or `fit="refuse"` and the size of a frame differs.
        MediaError: the file cannot be read, or a frame in its index cannot be decoded or has too
            many pixels.
    """
    check_size(size, fit)
    if frames_per_chunk < 1:
        raise ValueError(f"frames_per_chunk must be at least 1, got {frames_per_chunk}")
    index = index_video(path)
    numbers, target_size = range(len(index.pts)), _get_target_size(index, size, fit)
    frames = fit_frames(_decode_with_pyav(index, numbers), numbers, index, target_size, fit)
    return _iter_chunks(frames, frames_per_chunk)


def _iter_chunks(frames: Iterator[Tensor], frames_per_chunk: int) -> Iterator[Tensor]:
    while chunk := list(islice(frames, frames_per_chunk)):
        yield from_uint8(torch.stack(chunk, dim=1))


def _get_target_size(index: VideoIndex, size: ImageSize | None, fit: Fit) -> ImageSize:
    """Return the (height, width) of the result; raise if the first frame is refused already."""
    displayed_size = (index.height, index.width)
    if size is None:  # pixels that are not square may make a frame much larger
        check_num_pixels(displayed_size, str(index.path))
    compute_scaled_size(displayed_size, size, fit, f"frame 0 of {index.path}")
    return size or displayed_size


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
        frames = _decode_with_pyav(index, frame_numbers)
        for start in range(0, len(frame_numbers), _DECORD_BATCH):
            decoded = reader.get_batch(frame_numbers[start : start + _DECORD_BATCH]).asnumpy()
            for image, frame in zip(decoded, frames, strict=False):
                orientation = read_orientation(frame, index.path)
                if compute_displayed_size(frame, index, orientation) != image.shape[:2]:
                    raise make_error("the size of its frames changes")
                yield av.VideoFrame.from_ndarray(image, format="rgb24")
    except (RuntimeError, decord.DECORDError) as error:
        raise make_error("decord fails to decode it") from error
