"""Read and write still images, and write contact sheets: many frames in one image.

The EXIF orientation is applied when an image is read. A contact sheet is enlarged by repeating
pixels, so that it shows exactly what the model generated.

Not here: what Pillow does not read of PNG files (png.py).
"""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vqvideo.media.files import (
    MediaError,
    PathLike,
    check_complete,
    output_file,
    resolve_input_file,
)
from vqvideo.media.pixels import (
    Fit,
    ImageSize,
    check_no_nan,
    check_num_pixels,
    check_size,
    from_uint8,
    resize,
    to_uint8,
)
from vqvideo.media.png import correct_png_transparency, remove_png_metadata

RGBArray = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]  # [h, w, 3]

_GAP = 2  # pixels between frames on a contact sheet
_GAP_VALUE = 1.0  # white
_MIN_FRAME_SIZE = 128  # pixels; smaller frames are enlarged to about this size
_FRAMES_PER_ROW = 16
_TILE = 2048  # side in pixels of the parts that are converted to RGB at a time
_UINT16_WHITE = 65535  # white in 16-bit gray
_SUFFIXES = (".png", ".jpg", ".jpeg")

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


def read_image(path: PathLike, *, size: ImageSize | None = None, fit: Fit = "crop") -> Tensor:
    """Read a still image.

    Args:
        path: PNG, JPEG or any other format that Pillow reads, of at most `files.MAX_PIXELS`
            (89,478,485) pixels; of an animation, the first frame is read.
        size: (height, width) of the result; None keeps the size of the file.
        fit: `"crop"`, `"pad"` or `"refuse"`, as in `read_video`.

    Returns:
        float32 `[3, h, w]` in [-1, 1]. Gray becomes RGB, transparent pixels are composited onto
        white, 16 bits are reduced to 8.

    Raises:
        FileNotFoundError: the file does not exist.
        MediaError: the file is not an image, is damaged, cannot be read from the disk, has too
            many pixels, or has floating-point or more than 16-bit values, whose range is unknown.
        ValueError: `fit="refuse"` and the sizes differ.
    """
    check_size(size, fit)
    file = resolve_input_file(path)
    pixels = torch.from_numpy(_read_rgb(file)).permute(2, 0, 1)
    return from_uint8(resize(pixels.unsqueeze(0), size, fit, str(file))[0]).contiguous()


def write_image(path: PathLike, image: Tensor, *, overwrite: bool = False) -> None:
    """Write one image as PNG (exact to 8 bits) or JPEG, chosen by the suffix of the path.

    Args:
        path: must end in .png, .jpg or .jpeg.
        image: `[3, h, w]` in [-1, 1]; values outside are clamped.
        overwrite: replace an existing file.

    Raises:
        ValueError: wrong shape, no pixels, or NaN.
        FileExistsError: the file exists and `overwrite` is false.
    """
    from PIL import Image

    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(f"image must be [3, h, w] and not empty, got {list(image.shape)}")
    check_no_nan(image, "row", dim=1)
    pixels = to_uint8(image.detach().cpu()).permute(1, 2, 0).contiguous().numpy()
    with output_file(path, suffixes=_SUFFIXES, overwrite=overwrite) as temporary:
        Image.fromarray(pixels).save(temporary, quality=95)


def write_contact_sheet(
    path: PathLike,
    clips: Tensor,
    *,
    columns: int | None = None,
    scale: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write clips as one PNG: one row per clip, frames from left to right.

    A clip longer than `columns` continues in the next row. Frames are separated by 2 white pixels.

    Args:
        path: must end in .png.
        clips: `[n, 3, t, h, w]` in [-1, 1]; values outside are clamped.
        columns: frames per row; all by default, but at most 16.
        scale: each pixel becomes scale x scale pixels; by default the scale that makes the smaller
            side of a frame about 128 pixels.
        overwrite: replace an existing file.

    Raises:
        ValueError: wrong shape, no frames, NaN, or columns or scale below 1.
        FileExistsError: the file exists and `overwrite` is false.
    """
    if clips.ndim != 5 or clips.shape[1] != 3 or clips.numel() == 0:
        raise ValueError(f"clips must be [n, 3, t, h, w] and not empty, got {list(clips.shape)}")
    for name, value in (("columns", columns), ("scale", scale)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    check_no_nan(clips, "clip", dim=0)
    num_clips, _, num_frames, height, width = clips.shape
    columns = min(num_frames, columns or _FRAMES_PER_ROW)
    scale = scale or max(1, math.ceil(_MIN_FRAME_SIZE / min(height, width)))
    rows = math.ceil(num_frames / columns)
    step_down, step_right = height * scale + _GAP, width * scale + _GAP
    sheet = torch.full(
        (3, num_clips * rows * step_down - _GAP, columns * step_right - _GAP), _GAP_VALUE
    )
    for n, clip in enumerate(clips.detach().float().cpu()):
        for t, frame in enumerate(clip.unbind(1)):
            top = (n * rows + t // columns) * step_down
            left = t % columns * step_right
            large = frame.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
            sheet[:, top : top + height * scale, left : left + width * scale] = large
    write_image(path, sheet, overwrite=overwrite)


def _read_rgb(file: Path) -> RGBArray:
    """Read an image as uint8 `[h, w, 3]`; raise `MediaError` for any error of a decoder."""
    from PIL import Image, UnidentifiedImageError

    try:
        check_complete(file)
        try:
            return _decode(file, file)
        except MediaError:
            raise
        except ValueError:  # Pillow limits the size of metadata, which the pixels do not need
            return _decode(remove_png_metadata(file), file)
    except (MediaError, FileNotFoundError):
        raise
    except UnidentifiedImageError as error:
        raise MediaError(f"{file} is not an image; convert it to PNG or JPEG") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(f"{file} has too many pixels ({error}); resize it") from error
    except MemoryError as error:
        raise MediaError(f"{file} needs more memory than is available; resize it") from error
    except Exception as error:  # the decoders of Pillow raise many types for damaged files
        if isinstance(error, OSError) and error.errno is not None:
            reason = f"cannot be read from its disk ({error.strerror}); check disk and permissions"
            raise MediaError(f"{file} {reason}") from error
        reason = str(error) or type(error).__name__
        raise MediaError(f"{file} is damaged ({reason}); copy or download it again") from error


def _decode(source: Path | BytesIO, file: Path) -> RGBArray:
    """Decode an image from a path or a buffer to uint8 `[h, w, 3]`; `file` is for messages."""
    from PIL import Image, ImageOps

    with Image.open(source) as image:
        check_num_pixels((image.height, image.width), str(file))
        if image.format == "EPS":  # Pillow would run it
            raise MediaError(f"{file} is a PostScript program; convert it to PNG or JPEG")
        correct_png_transparency(image, file)
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "F":
            raise MediaError(
                f"{file} has floating-point values, whose range is unknown; convert it "
                f"to 8 or 16 bits"
            )
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        for top in range(0, image.height, _TILE):  # a conversion takes five times as much memory
            for left in range(0, image.width, _TILE):
                tile = image.crop(
                    (left, top, min(left + _TILE, image.width), min(top + _TILE, image.height))
                )
                convert = _gray16_to_rgb if tile.mode.startswith("I") else _to_rgb
                pixels[top : top + _TILE, left : left + _TILE] = convert(tile, file)
        return pixels


def _to_rgb(image: PILImage, file: Path) -> RGBArray:
    """Convert an 8-bit Pillow image to uint8 `[h, w, 3]`."""
    from PIL import Image

    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _gray16_to_rgb(image: PILImage, file: Path) -> RGBArray:
    """Convert 16-bit gray, which Pillow itself would saturate, to uint8 `[h, w, 3]`."""
    values = np.array(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > _UINT16_WHITE:  # Pillow's mode for 32-bit integers
        raise MediaError(
            f"{file} has integers from {low} to {high}, expected 16 bits: 0 (black) to "
            f"{_UINT16_WHITE} (white); scale its values to that range"
        )
    # Transparent pixels become white, as in `_to_rgb`.
    values[values == image.info.get("transparency", -1)] = _UINT16_WHITE
    gray = (values / 257).round().astype(np.uint8)
    return gray[..., None].repeat(3, axis=2)
