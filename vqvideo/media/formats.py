"""The file formats that the readers read: file name suffixes, and FFmpeg's demuxer for each.

A file of any name may be read, but FFmpeg may open it only with a demuxer of this table. All of
them are binary formats that hold their media themselves. Playlists, manifests and image patterns
are not among them, because they name other files; neither are text and subtitles.

In a folder without `metadata.jsonl`, a file is data if its suffix is in the table.

Not here: opening a file (files.py), which medium is read from it (video.py, audio.py, image.py).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Medium = Literal["video", "image", "audio"]


class MediaFormat(NamedTuple):
    """A format: its medium, FFmpeg's demuxer, and its file name suffixes in lower case."""

    medium: Medium
    demuxer: str
    suffixes: tuple[str, ...]


FORMATS = (
    MediaFormat("video", "mov", (".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".f4v", ".ismv")),
    MediaFormat("video", "matroska", (".mkv", ".webm")),
    MediaFormat("video", "avi", (".avi",)),
    MediaFormat("video", "gif", (".gif",)),
    MediaFormat("video", "apng", (".apng",)),
    MediaFormat("video", "mpeg", (".mpg", ".mpeg", ".vob")),
    MediaFormat("video", "mpegts", (".ts", ".m2ts", ".mts", ".m2t")),
    MediaFormat("video", "asf", (".wmv", ".asf")),
    MediaFormat("video", "flv", (".flv",)),
    MediaFormat("video", "ogg", (".ogv",)),
    MediaFormat("video", "mxf", (".mxf",)),
    MediaFormat("video", "gxf", (".gxf",)),
    MediaFormat("video", "nut", (".nut",)),
    MediaFormat("video", "wtv", (".wtv",)),
    MediaFormat("video", "rm", (".rm", ".rmvb")),
    MediaFormat("video", "roq", (".roq",)),
    MediaFormat("video", "swf", (".swf",)),
    MediaFormat("video", "dv", (".dv",)),
    MediaFormat("video", "ivf", (".ivf",)),
    MediaFormat("video", "yuv4mpegpipe", (".y4m",)),
    MediaFormat("video", "mjpeg", (".mjpeg", ".mjpg")),
    MediaFormat("video", "mpjpeg", ()),  # MJPEG as sent by network cameras
    MediaFormat("video", "smjpeg", ()),
    MediaFormat("video", "mpegvideo", (".m1v", ".m2v")),
    MediaFormat("video", "m4v", ()),  # MPEG-4 without a container
    MediaFormat("video", "h261", (".h261",)),
    MediaFormat("video", "h263", (".h263",)),
    MediaFormat("video", "h264", (".h264", ".264")),
    MediaFormat("video", "hevc", (".hevc", ".h265", ".265")),
    MediaFormat("video", "vvc", (".vvc", ".h266", ".266")),
    MediaFormat("video", "obu", (".obu",)),
    MediaFormat("video", "vc1", (".vc1",)),
    MediaFormat("video", "vc1test", ()),
    MediaFormat("video", "cavsvideo", ()),
    MediaFormat("video", "dirac", ()),
    MediaFormat("video", "dnxhd", ()),
    MediaFormat("image", "png_pipe", (".png",)),
    MediaFormat("image", "jpeg_pipe", (".jpg", ".jpeg", ".jfif")),
    MediaFormat("image", "webp_pipe", (".webp",)),
    MediaFormat("image", "bmp_pipe", (".bmp",)),
    MediaFormat("image", "tiff_pipe", (".tif", ".tiff")),
    MediaFormat("image", "j2k_pipe", (".jp2",)),
    MediaFormat("image", "ppm_pipe", (".ppm",)),
    MediaFormat("image", "pgm_pipe", (".pgm",)),
    MediaFormat("image", "mov", (".avif",)),
    MediaFormat("audio", "wav", (".wav", ".bwf", ".rf64")),
    MediaFormat("audio", "w64", (".w64",)),
    MediaFormat("audio", "aiff", (".aif", ".aiff", ".aifc")),
    MediaFormat("audio", "au", (".au", ".snd")),
    MediaFormat("audio", "caf", (".caf",)),
    MediaFormat("audio", "flac", (".flac",)),
    MediaFormat("audio", "mp3", (".mp3", ".mp2")),
    MediaFormat("audio", "mov", (".m4a", ".m4b")),
    MediaFormat("audio", "aac", (".aac",)),
    MediaFormat("audio", "loas", (".latm",)),
    MediaFormat("audio", "ogg", (".ogg", ".oga", ".opus", ".spx")),
    MediaFormat("audio", "matroska", (".mka", ".weba")),
    MediaFormat("audio", "asf", (".wma",)),
    MediaFormat("audio", "wv", (".wv",)),
    MediaFormat("audio", "tta", (".tta",)),
    MediaFormat("audio", "ape", (".ape",)),
    MediaFormat("audio", "amr", (".amr",)),
    MediaFormat("audio", "ac3", (".ac3",)),
    MediaFormat("audio", "eac3", (".eac3",)),
    MediaFormat("audio", "nistsphere", (".sph",)),
)

DEMUXERS = tuple(dict.fromkeys(form.demuxer for form in FORMATS))


def list_suffixes(medium: Medium) -> tuple[str, ...]:
    """Return the file name suffixes of a medium, in lower case and with the dot."""
    return tuple(suffix for form in FORMATS if form.medium == medium for suffix in form.suffixes)


VIDEO_SUFFIXES = list_suffixes("video")
IMAGE_SUFFIXES = list_suffixes("image")
AUDIO_SUFFIXES = list_suffixes("audio")
