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


# By medium: demuxers, each followed by its suffixes. "mpjpeg" is MJPEG as sent by network cameras,
# "m4v" is MPEG-4 without a container.
_TABLES: dict[Medium, str] = {
    "video": """
    mov .mp4 .m4v .mov .3gp .3g2 .f4v .ismv; matroska .mkv .webm; avi .avi; gif .gif;
    apng .apng; mpeg .mpg .mpeg .vob; mpegts .ts .m2ts .mts .m2t; asf .wmv .asf; flv .flv;
    ogg .ogv; mxf .mxf; gxf .gxf; nut .nut; wtv .wtv; rm .rm .rmvb; roq .roq; swf .swf; dv .dv;
    ivf .ivf; yuv4mpegpipe .y4m; mjpeg .mjpeg .mjpg; mpjpeg; smjpeg; mpegvideo .m1v .m2v; m4v;
    h261 .h261; h263 .h263; h264 .h264 .264; hevc .hevc .h265 .265; vvc .vvc .h266 .266;
    obu .obu; vc1 .vc1; vc1test; cavsvideo; dirac; dnxhd
    """,
    "image": """
    png_pipe .png; jpeg_pipe .jpg .jpeg .jfif; webp_pipe .webp; bmp_pipe .bmp;
    tiff_pipe .tif .tiff; j2k_pipe .jp2; ppm_pipe .ppm; pgm_pipe .pgm; mov .avif
    """,
    "audio": """
    wav .wav .bwf .rf64; w64 .w64; aiff .aif .aiff .aifc; au .au .snd; caf .caf; flac .flac;
    mp3 .mp3 .mp2; mov .m4a .m4b; aac .aac; loas .latm; ogg .ogg .oga .opus .spx;
    matroska .mka .weba; asf .wma; wv .wv; tta .tta; ape .ape; amr .amr; ac3 .ac3; eac3 .eac3;
    nistsphere .sph
    """,
}

FORMATS = tuple(
    MediaFormat(medium, demuxer, tuple(suffixes))
    for medium, table in _TABLES.items()
    for demuxer, *suffixes in map(str.split, table.split(";"))
)
DEMUXERS = tuple(dict.fromkeys(form.demuxer for form in FORMATS))


def list_suffixes(medium: Medium) -> tuple[str, ...]:
    """Return the file name suffixes of a medium, in lower case and with the dot."""
    return tuple(suffix for form in FORMATS if form.medium == medium for suffix in form.suffixes)


VIDEO_SUFFIXES = list_suffixes("video")
IMAGE_SUFFIXES = list_suffixes("image")
AUDIO_SUFFIXES = list_suffixes("audio")
