"""The table of formats: each suffix in it is found and read, and nothing that names other files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.format import ContainerFormat

from vqvideo.data.metadata import read_metadata
from vqvideo.media import MediaError, probe, read_audio, read_image, read_video, write_video
from vqvideo.media.formats import (
    AUDIO_SUFFIXES,
    DEMUXERS,
    FORMATS,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    list_suffixes,
)

RATE = 32_000
VIDEO_WRITERS = {  # demuxer: muxer, codec, pixel format, size
    "mov": ("mov", "mpeg4", "yuv420p", (32, 48)),
    "matroska": ("matroska", "libvpx", "yuv420p", (32, 48)),
    "avi": ("avi", "mpeg4", "yuv420p", (32, 48)),
    "gif": ("gif", "gif", "rgb8", (32, 48)),
    "apng": ("apng", "apng", "rgb24", (32, 48)),
    "mpeg": ("mpeg", "mpeg2video", "yuv420p", (32, 48)),
    "mpegts": ("mpegts", "mpeg2video", "yuv420p", (32, 48)),
    "asf": ("asf", "wmv2", "yuv420p", (32, 48)),
    "flv": ("flv", "flv", "yuv420p", (32, 48)),
    "ogg": ("ogg", "libvpx", "yuv420p", (32, 48)),
    "mxf": ("mxf", "mpeg2video", "yuv420p", (32, 48)),
    "nut": ("nut", "mpeg4", "yuv420p", (32, 48)),
    "wtv": ("wtv", "mpeg2video", "yuv420p", (32, 48)),
    "swf": ("swf", "flv", "yuv420p", (32, 48)),
    "dv": ("dv", "dvvideo", "yuv420p", (576, 720)),
    "ivf": ("ivf", "libvpx", "yuv420p", (32, 48)),
    "yuv4mpegpipe": ("yuv4mpegpipe", "rawvideo", "yuv420p", (32, 48)),
    "mjpeg": ("mjpeg", "mjpeg", "yuvj420p", (32, 48)),
    "mpegvideo": ("mpeg2video", "mpeg2video", "yuv420p", (32, 48)),
    "h263": ("h263", "h263", "yuv420p", (144, 176)),
    "h264": ("h264", "libx264", "yuv420p", (32, 48)),
}
AUDIO_WRITERS = {  # demuxer: muxer, codec
    "wav": ("wav", "pcm_s16le"),
    "w64": ("w64", "pcm_s16le"),
    "aiff": ("aiff", "pcm_s16be"),
    "au": ("au", "pcm_s16be"),
    "caf": ("caf", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "mp3": ("mp3", "libmp3lame"),
    "mov": ("ipod", "aac"),
    "aac": ("adts", "aac"),
    "loas": ("latm", "aac"),
    "ogg": ("ogg", "flac"),
    "matroska": ("matroska", "flac"),
    "asf": ("asf", "pcm_s16le"),
    "wv": ("wv", "wavpack"),
    "tta": ("tta", "tta"),
    "ac3": ("ac3", "ac3"),
    "eac3": ("eac3", "eac3"),
}


def encode_video(path: Path, demuxer: str) -> None:
    muxer, codec, pix_fmt, (height, width) = VIDEO_WRITERS[demuxer]
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        for number in range(4):
            # Noise, since FFmpeg does not recognize an MPEG-TS file of few packets.
            noise = np.random.default_rng(number).integers(0, 60, (height, width, 3))
            pixels = (noise + 60 * number).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def encode_audio(path: Path, demuxer: str, num_samples: int = 6000) -> None:
    muxer, codec = AUDIO_WRITERS[demuxer]
    samples = (np.sin(np.arange(num_samples) / 9) / 2).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
    frame.sample_rate, frame.pts = RATE, 0
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        resampler = av.AudioResampler(stream.format.name, "mono", RATE)
        packets = [p for each in resampler.resample(frame) for p in stream.encode(each)]
        container.mux([*packets, *stream.encode(None)])


def get_written(medium: str, writers: dict) -> list[tuple[str, str]]:
    return [
        (form.demuxer, suffix)
        for form in FORMATS
        if form.medium == medium and form.demuxer in writers
        for suffix in form.suffixes
    ]


@pytest.mark.slow
def test_videos_of_every_suffix_in_the_table_are_found_and_read(tmp_path: Path) -> None:
    formats = get_written("video", VIDEO_WRITERS)
    assert len(formats) >= 30
    for demuxer in {demuxer for demuxer, _ in formats}:
        encode_video(tmp_path / demuxer, demuxer)
    for demuxer, suffix in formats:
        shutil.copy(tmp_path / demuxer, tmp_path / f"{demuxer}{suffix}")
    found = [item.path for item in read_metadata(tmp_path)]
    assert sorted(path.name for path in found) == sorted(map("".join, formats))
    for path in found:
        brightness = read_video(path).frames.mean((0, 2, 3))
        assert len(brightness) >= 3, path  # MPEG-2 in GXF and SWF may lack the last frame
        assert (brightness.diff() > 0.2).all(), path


def test_audio_of_every_suffix_in_the_table_is_found_and_read(tmp_path: Path) -> None:
    formats = get_written("audio", AUDIO_WRITERS)
    assert len(formats) >= 25
    for demuxer, suffix in formats:
        encode_audio(tmp_path / f"{demuxer}{suffix.upper()}", demuxer)
    found = [item.path for item in read_metadata(tmp_path, AUDIO_SUFFIXES)]
    assert len(found) == len(formats)
    for path in found:
        samples, rate = read_audio(path)
        assert rate == RATE, path
        assert 6000 <= samples.shape[1] <= 6000 + 3 * 1536, path
        assert 0.3 < samples.square().mean().sqrt() < 0.4, path


def test_images_of_every_suffix_in_the_table_are_read(tmp_path: Path) -> None:
    from PIL import Image, features

    for suffix in IMAGE_SUFFIXES:
        path = tmp_path / f"a{suffix}"
        if suffix == ".avif" and not features.check("avif"):
            continue
        Image.new("L" if suffix == ".pgm" else "RGB", (6, 4), "white").save(path)
        assert torch.equal(read_image(path), torch.ones(3, 4, 6)), path


def test_no_suffix_has_two_media_and_every_demuxer_exists() -> None:
    suffixes = [suffix for form in FORMATS for suffix in form.suffixes]
    assert (
        len(suffixes)
        == len(set(suffixes))
        == len(VIDEO_SUFFIXES + AUDIO_SUFFIXES) + len(IMAGE_SUFFIXES)
    )
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in suffixes)
    for demuxer in DEMUXERS:
        assert ContainerFormat(demuxer, "r").is_input


def test_the_page_of_files_lists_the_suffixes_of_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs/files.md").read_text()
    for medium in ("video", "image", "audio"):
        (row,) = re.findall(rf"^\| {medium} \| (.*) \|$", page, re.MULTILINE)
        assert row == " ".join(f"`{suffix}`" for suffix in list_suffixes(medium))


def test_a_file_may_have_another_suffix_than_its_format(tmp_path: Path) -> None:
    for name in ("a.dat", "a.mpg", "a.avi"):
        encode_video(tmp_path / name, "mpegts")
        assert probe(tmp_path / name).num_frames == 4
    for name in ("a.bin", "a.mp3"):
        encode_audio(tmp_path / name, "wav")
        assert read_audio(tmp_path / name).samples.shape == (1, 6000)


REFERRING = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nprivate.mp4\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile private.mp4\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 9 RTP/AVP 96\n",
    "WebVTT": "WEBVTT\n\n00:00.000 --> 00:01.000\nprivate.mp4\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="x" '
    'type="static"><Period><BaseURL>private.mp4</BaseURL></Period></MPD>\n',
    "text": "private.mp4\n" * 99,
    "lyrics": "[00:01.00]private.mp4\n" * 9,
    "subtitles": "[Script Info]\nScriptType: v4.00+\n",
    "metadata": ";FFMETADATA1\ntitle=private.mp4\n",
}


@pytest.mark.parametrize("kind", REFERRING)
def test_playlists_and_text_are_never_opened_whatever_their_suffix(
    kind: str, tmp_path: Path
) -> None:
    write_video(tmp_path / "private.mp4", torch.zeros(3, 4, 16, 16), 8)
    for suffix in (".mp4", ".mkv", ".wav", ".m3u8", ".ffconcat", ".txt", ".mpd", ".sdp", ""):
        path = tmp_path / f"list{suffix}"
        path.write_text(REFERRING[kind])
        for read in (probe, read_video, read_audio):
            with pytest.raises(MediaError, match=rf"list{suffix} cannot be read as video or audio"):
                read(path)


@pytest.mark.parametrize("name", ["%d.png", "%d.mjpeg", "*.jpg"])
def test_a_name_is_never_a_pattern_of_other_files(name: str, tmp_path: Path) -> None:
    for number in range(3):
        encode_video(tmp_path / name.replace("%d", str(number)).replace("*", "1"), "mjpeg")
    (tmp_path / name).write_text("no frames")
    with pytest.raises(MediaError, match="cannot be read as video or audio"):
        probe(tmp_path / name)
