"""Still images, and the contact sheet: many frames on one picture for the eye.

Images are turned as their EXIF data says. Enlarged pixels stay squares, so that what a
model drew is what a person sees.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vqvideo.media.files import MediaError, PathLike, check_complete, input_file, output_file
from vqvideo.media.pixels import Fit, Size, check_size, check_values, fit_to, from_uint8, to_uint8

_GAP = 2  # pixels between frames on a contact sheet
_GAP_VALUE = 1.0  # white
_VISIBLE = 128  # pixels; smaller frames are enlarged to about this
_FRAMES_PER_ROW = 16
_WHITE = 65535  # of 16 bits
_SUFFIXES = (".png", ".jpg", ".jpeg")

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


def read_image(path: PathLike, *, size: Size | None = None, fit: Fit = "crop") -> Tensor:
    """Read a still image.

    Args:
        path: PNG, JPEG or whatever else Pillow reads; of an animation, the first frame.
        size: (height, width) of the result; None keeps that of the file.
        fit: `"crop"`, `"pad"` or `"refuse"`, as in `read_video`.

    Returns:
        float32 `[3, h, w]` in [-1, 1]. Gray becomes RGB, what is transparent is laid on white, 16
        bits become 8.

    Raises:
        FileNotFoundError: no such file.
        MediaError: not an image, a damaged one, or one of real numbers or of more than 16 bits,
            whose range nobody knows.
        ValueError: `fit="refuse"` and the sizes differ.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    check_size(size, fit)
    file = input_file(path)
    check_complete(file)
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode == "F":
                raise MediaError(
                    f"{file} holds real numbers, of which nothing says which is white; convert it "
                    f"to 8 or 16 bits"
                )
            is_deep = upright.mode.startswith("I")
            pixels = _deep_gray_bytes(upright, file) if is_deep else _rgb_bytes(upright)
    except UnidentifiedImageError as error:
        raise MediaError(f"{file} is not an image; convert it to PNG or JPEG") from error
    except (OSError, SyntaxError) as error:
        raise MediaError(f"{file} is damaged ({error}); copy or download it again") from error
    return from_uint8(fit_to(pixels.unsqueeze(0), size, fit)[0]).contiguous()


def write_image(path: PathLike, image: Tensor, *, overwrite: bool = False) -> None:
    """Write one image as PNG (exact to 8 bits) or JPEG; the file's ending decides.

    Args:
        path: must end in .png, .jpg or .jpeg.
        image: `[3, h, w]` in [-1, 1]; values outside are clamped.
        overwrite: replace a file that exists.

    Raises:
        ValueError: another shape, no pixels, or NaN.
        FileExistsError: the file exists and `overwrite` is false.
    """
    from PIL import Image

    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(f"image must be [3, h, w] with pixels, got {list(image.shape)}")
    check_values(image, "row", axis=1)
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
    """Write clips as one PNG: a row for each clip, its frames from left to right.

    A clip longer than `columns` goes on in the next row. Frames stand 2 white pixels apart.

    Args:
        path: must end in .png.
        clips: `[n, 3, t, h, w]` in [-1, 1]; values outside are clamped.
        columns: frames in a row; by default all, but at most 16.
        scale: each pixel becomes scale x scale; by default as much as makes the smaller
            side of a frame about 128 pixels.
        overwrite: replace a file that exists.

    Raises:
        ValueError: another shape, no frames, NaN, or columns or scale below 1.
        FileExistsError: the file exists and `overwrite` is false.
    """
    if clips.ndim != 5 or clips.shape[1] != 3 or clips.numel() == 0:
        raise ValueError(f"clips must be [n, 3, t, h, w] with frames, got {list(clips.shape)}")
    for name, value in (("columns", columns), ("scale", scale)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    check_values(clips, "clip", axis=0)
    num_clips, _, num_frames, height, width = clips.shape
    columns = min(num_frames, columns or _FRAMES_PER_ROW)
    scale = scale or max(1, math.ceil(_VISIBLE / min(height, width)))
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


def _rgb_bytes(image: PILImage) -> Tensor:
    """A Pillow image of bytes to uint8 `[3, h, w]`."""
    from PIL import Image as PILImages

    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = PILImages.new("RGBA", image.size, "white")
        image = PILImages.alpha_composite(white, image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _deep_gray_bytes(image: PILImage, file: Path) -> Tensor:
    """16-bit gray, which Pillow itself would saturate, to uint8 `[3, h, w]`."""
    values = np.array(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > _WHITE:  # Pillow's mode of 32-bit integers
        raise MediaError(
            f"{file} holds integers from {low} to {high}; read are 16 bits at most, 0 black and "
            f"{_WHITE} white. Scale its values to that range"
        )
    values[values == image.info.get("transparency", -1)] = _WHITE  # laid on white, as all else is
    gray = torch.from_numpy(values / 257).round().to(torch.uint8)
    return gray.expand(3, -1, -1)
