"""Reading a video piece by piece: the same frames, one pass, a few in memory."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch

from vqvideo.media import MediaError, read_video, read_video_chunks, video_decoder

FORMATS = {
    "h264 with B-frames": ("a.mp4", {}),
    "intra refresh": ("a.mkv", {"options": {"x264-params": "intra-refresh=1"}}),
    "uneven times": ("a.mkv", {"pts": [n * n for n in range(40)]}),
    "avi with B-frames": ("a.avi", {}),
    "rotated": ("a.mp4", {"rotation": 90}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    "transport stream": ("a.ts", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (20, 36)])
@pytest.mark.parametrize("name", [*FORMATS, "edit list"])
def test_chunks_together_are_the_whole_video(
    name: str, size: tuple[int, int] | None, tmp_path: Path, encode, trim
) -> None:
    file_name, how = FORMATS.get(name, ("a.mp4", {}))
    path = encode(tmp_path / file_name, **how)
    if name == "edit list":
        path = trim(path, tmp_path / "trimmed.mp4", first=14)
    whole = read_video(path, size=size, fit="pad").frames
    pieces = list(read_video_chunks(path, frames_per_chunk=7, size=size, fit="pad"))
    lengths = [piece.shape[1] for piece in pieces]
    assert set(lengths[:-1]) == {7}
    assert 1 <= lengths[-1] <= 7
    assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_the_file_is_opened_once_and_decoded_no_further_than_asked(
    tmp_path: Path, encode, read_numbers, monkeypatch
) -> None:
    path = encode(tmp_path / "a.mp4")
    opened, delivered = [], []
    open_input, following = video_decoder.open_input, video_decoder.VideoDecoder._decode_next
    monkeypatch.setattr(
        video_decoder, "open_input", lambda file: opened.append(0) or open_input(file)
    )
    monkeypatch.setattr(
        video_decoder.VideoDecoder,
        "_decode_next",
        lambda *args: delivered.append(0) or following(*args),
    )
    pieces = read_video_chunks(path, frames_per_chunk=4)
    for start in range(0, 40, 4):
        assert len(delivered) == start
        assert read_numbers(next(pieces)) == list(range(start, start + 4))
    assert next(pieces, None) is None
    assert len(opened) == 1


def test_a_video_may_be_left_in_the_middle(tmp_path: Path, encode, read_numbers) -> None:
    path = encode(tmp_path / "a.mp4")
    pieces = read_video_chunks(path, frames_per_chunk=3)
    assert read_numbers(next(pieces)) == [0, 1, 2]
    assert read_numbers(read_video(path, [30, 1]).frames) == [30, 1]
    assert read_numbers(next(pieces)) == [3, 4, 5]
    pieces.close()
    assert read_numbers(next(read_video_chunks(path, frames_per_chunk=2))) == [0, 1]


def test_a_frame_that_cannot_be_decoded_ends_the_chunks(
    tmp_path: Path, encode, read_numbers
) -> None:
    path = encode(tmp_path / "a.mp4", options={"bf": "0"})
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][23]
        start, stop = packet.pos + 5, packet.pos + packet.size
    data = bytearray(path.read_bytes())
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)
    pieces = read_video_chunks(path, frames_per_chunk=10)
    assert read_numbers(next(pieces)) == list(range(10))
    assert read_numbers(next(pieces)) == list(range(10, 20))
    with pytest.raises(MediaError, match=r"frame 23 of .*a\.mp4 cannot be decoded"):
        next(pieces)


def test_wrong_options_are_refused_before_the_first_chunk(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.mp4", 2)
    with pytest.raises(ValueError, match="frames_per_chunk must be at least 1, got 0"):
        read_video_chunks(path, frames_per_chunk=0)
    with pytest.raises(ValueError, match=r"48x64 .*expected 24x24"):
        read_video_chunks(path, frames_per_chunk=1, size=(24, 24), fit="refuse")
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4 does not exist"):
        read_video_chunks(tmp_path / "nothing.mp4", frames_per_chunk=1)
