"""Reading video: some frames of a file, exactly those, as one tensor.

Two decoders, one answer. decord is quicker at random access, but it knows neither edit
lists nor every container; it is used where its count and its times agree with the index
of the file. PyAV reads everything else. Both deliver bytes at full size, and one path
turns, resizes and scales them. Nothing stays open between calls: an idle decord reader
decodes the whole file into memory.

Not here: the index (index.py), resizing (pixels.py), writing (write.py).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from vqvideo.media.files import MediaError, PathLike, open_container
from vqvideo.media.index import Turn, VideoIndex, index_video, video_stream
from vqvideo.media.pixels import Fit, Size, check_size, fit_to, from_uint8

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

Backend = Literal["auto", "decord", "pyav"]
Finish = Callable[[Tensor], Tensor]  # uint8 [n, h, w, 3] as decoded -> uint8 [n, 3, *size]

_DECORD_BATCH = 32  # frames held at full size at a time


class Clip(NamedTuple):
    """Frames of a video.

    Attributes:
        frames: float32 `[3, t, h, w]` in [-1, 1].
        fps: average frames per second of the file they come from.
    """

    frames: Tensor
    fps: float


class _DecordError(Exception):
    """decord is missing, or sees another file than the index does; the text says which."""


def read_video(
    path: PathLike,
    indices: Sequence[int] | slice | None = None,
    *,
    size: Size | None = None,
    fit: Fit = "crop",
    backend: Backend = "auto",
) -> Clip:
    """Read frames of a video file by their number in display order.

    Rotation, edit lists and pixels that are not square are applied; gray and deep colours
    become 8-bit RGB; an alpha channel is dropped.

    Args:
        path: a video file in any container FFmpeg reads.
        indices: frame numbers from 0, in any order, repeats allowed; or a slice; None
            reads all.
        size: (height, width) of the result; None keeps that of the file.
        fit: how a frame of other proportions is brought to `size`: `"crop"` covers and
            cuts the centre out, `"pad"` adds black borders, `"refuse"` raises unless the
            sizes are equal.
        backend: `"auto"` takes decord where it agrees with the index of the file, else
            PyAV. `"decord"` and `"pyav"` insist.

    Returns:
        `Clip(frames, fps)`.

    Raises:
        FileNotFoundError: no such file.
        IndexError: a frame number the file does not have.
        ValueError: no frames asked for, a wrong option, or `fit="refuse"` and another size.
        MediaError: the file cannot be read, a frame in its index cannot be decoded, or
            `backend="decord"` cannot be trusted with it.
    """
    if backend not in ("auto", "decord", "pyav"):
        raise ValueError(f"backend must be 'auto', 'decord' or 'pyav', got {backend!r}")
    check_size(size, fit)
    index = index_video(path)
    numbers = _frame_numbers(indices, index)
    wanted = sorted(set(numbers))

    def finish(decoded: Tensor) -> Tensor:
        return fit_to(_turned(decoded, index.turn), size, fit, (index.height, index.width))

    pictures = None
    if backend != "pyav":
        try:
            pictures = _decord_frames(index, wanted, finish)
        except _DecordError as reason:
            if backend == "decord":
                raise MediaError(
                    f"{index.path} cannot be read with decord: {reason}; "
                    "use backend='auto' or backend='pyav'"
                ) from reason.__cause__
    if pictures is None:
        pictures = _pyav_frames(index, wanted, finish)
    place = {number: position for position, number in enumerate(wanted)}
    chosen = pictures[[place[number] for number in numbers]]  # [t, 3, h, w]
    return Clip(from_uint8(chosen.transpose(0, 1).contiguous()), index.fps)


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


def _turned(decoded: Tensor, turn: Turn) -> Tensor:
    """uint8 `[n, h, w, 3]` as stored to `[n, 3, h, w]` as displayed."""
    pictures = decoded.permute(0, 3, 1, 2)
    if turn.transpose:
        pictures = pictures.transpose(2, 3)
    mirrored = [2] * turn.mirror_rows + [3] * turn.mirror_columns
    return pictures.flip(mirrored) if mirrored else pictures


def _decord_frames(index: VideoIndex, wanted: list[int], finish: Finish) -> Tensor:
    """Frames by decord, or `_DecordError` where it cannot be trusted with this file."""
    if index.turn != Turn() or not index.square_pixels:
        raise _DecordError("its frames need turning or have pixels that are not square")
    try:
        import decord
    except (ImportError, OSError, RuntimeError) as error:
        raise _DecordError(f"decord cannot be imported ({error})") from error
    try:
        reader = decord.VideoReader(str(index.path), num_threads=1)
        if len(reader) != len(index.pts):
            raise _DecordError(f"it counts {len(reader)} frames, the file has {len(index.pts)}")
        times = reader.get_frame_timestamp(wanted)[:, 0].tolist()
        for number, time in zip(wanted, times, strict=True):
            if not abs(time - index.pts[number] * index.time_base) < 0.5 / index.fps:
                raise _DecordError(f"it shows frame {number} at {time} s")
        batches = []
        for start in range(0, len(wanted), _DECORD_BATCH):
            decoded = reader.get_batch(wanted[start : start + _DECORD_BATCH]).asnumpy()
            batches.append(finish(torch.from_numpy(decoded)))
    except (RuntimeError, decord.DECORDError) as error:
        raise _DecordError("decord fails to decode it") from error
    return torch.cat(batches)


def _pyav_frames(index: VideoIndex, wanted: list[int], finish: Finish) -> Tensor:
    found: dict[int, Tensor] = {}
    for run in _runs(index, wanted):
        for start in _starts(index, run[0]):
            found.update(_decode_run(index, run, start, finish))
            missing = [number for number in run if number not in found]
            if not missing:
                break
        else:
            raise MediaError(
                f"frame {missing[0]} of {index.path} cannot be decoded, though the file lists "
                f"{len(index.pts)} frames; copy or download it again, or leave this frame out"
            )
    return torch.cat([found[number] for number in wanted])


def _runs(index: VideoIndex, wanted: list[int]) -> Iterator[list[int]]:
    """Split the wanted frames where seeking skips at least one group of pictures."""
    run = wanted[:1]
    for number in wanted[1:]:
        skipped = index.key_before(number) - index.key_before(run[-1]) - 1
        if not index.counted and skipped > 0:
            yield run
            run = []
        run.append(number)
    yield run


def _starts(index: VideoIndex, number: int) -> list[int | None]:
    """Where to start decoding, best first: the time of a key frame, then None, the file's head.

    The key frame before a frame is enough unless the file marks key frames that do not
    stand alone; decoding from the head is slow and always right.
    """
    key = -1 if index.counted else index.key_before(number)
    return [index.key_pts[key], None] if key > 0 else [None]


def _decode_run(
    index: VideoIndex, run: list[int], start: int | None, finish: Finish
) -> dict[int, Tensor]:
    """The frames of `run` that decode whole when decoding begins at `start`."""
    from av.video.reformatter import VideoReformatter

    wanted = {n if index.counted else index.pts[n]: n for n in run}
    reformatter = VideoReformatter()
    found: dict[int, Tensor] = {}
    with open_container(index.path) as container:
        for position, frame in enumerate(_decode_from(container, start, index)):
            place = position if index.counted else frame.pts
            if place not in wanted or frame.is_corrupt:
                continue
            rgb = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            found[wanted[place]] = finish(torch.from_numpy(rgb).unsqueeze(0))
            if len(found) == len(run):
                break
    return found


def _decode_from(
    container: InputContainer, start: int | None, index: VideoIndex
) -> Iterator[VideoFrame]:
    """All frames from `start` on; a damaged packet yields none, and the next ones follow."""
    from av.error import InvalidDataError

    stream = video_stream(container, index.path)
    if start is not None:
        container.seek(start, stream=stream)
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except InvalidDataError:
            if index.counted:  # counting would go wrong
                raise
