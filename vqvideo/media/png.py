"""Handle two kinds of PNG files that Pillow does not read correctly.

Pillow rejects a file with a color profile or a text of more than a megabyte, a limit against
decompression bombs. It scales gray of 2 and 4 bits to 8, but not the value that is transparent.

Not here: reading an image (image.py).
"""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from vqvideo.media.files import MediaError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_METADATA_CHUNKS = {b"iCCP", b"tEXt", b"zTXt", b"iTXt"}
_ORIENTATION_KEYWORDS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_BIT_DEPTH_OFFSET = 24  # in bytes, of the field in the header chunk


def remove_png_metadata(file: Path) -> BytesIO:
    """Return a PNG file without its color profile and texts, except those with an orientation.

    The profile does not change the pixels that `read_image` returns. Of any other file, the
    content is returned as it is.
    """
    content = file.read_bytes()
    if not content.startswith(_SIGNATURE):
        return BytesIO(content)
    kept, position = [_SIGNATURE], len(_SIGNATURE)
    while position + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + size  # with length, type and checksum
        is_metadata = kind in _METADATA_CHUNKS
        if not is_metadata or content.startswith(_ORIENTATION_KEYWORDS, position + 8):
            kept.append(content[position:end])
        position = end
    return BytesIO(b"".join(kept))


def correct_png_transparency(image: PILImage, file: Path) -> None:
    """Scale the transparent value of a gray PNG to 8 bits, as Pillow scales its pixels.

    Args:
        image: an opened image of any format; changed in place.
        file: its file.

    Raises:
        MediaError: the image is 16-bit RGB with a transparent color, of which Pillow drops the
            lower 8 bits, so the transparent pixels are unknown.
    """
    if image.format != "PNG" or "transparency" not in image.info:
        return
    with file.open("rb") as stream:
        bit_depth = stream.read(_BIT_DEPTH_OFFSET + 1)[_BIT_DEPTH_OFFSET]
    if image.mode == "RGB" and bit_depth == 16:
        raise MediaError(
            f"{file} has a transparent color of 16 bits; convert it to 8 bits or to an image with "
            "an alpha channel"
        )
    if image.mode == "L":
        white = 2**bit_depth - 1
        image.info["transparency"] = (image.info["transparency"] & white) * (255 // white)
