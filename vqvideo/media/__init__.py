"""Files to tensors and back: the only room where a file becomes a tensor.

Video is `[3, t, h, w]`, an image `[3, h, w]`, sound `[1, t]`; always float32 in
[-1, 1]. A file is believed only as far as its own index goes: what the container
declares and what it holds must agree, or `MediaError` says what is wrong. Nothing
is ever stretched, guessed, cut short or repeated in silence.

Not here: data sets of many files (`data/`), anything that learns.
"""

from vqvideo.media.animation import write_gif, write_webp
from vqvideo.media.audio import Sound, read_audio, write_audio
from vqvideo.media.deadline import deadline
from vqvideo.media.files import MediaError
from vqvideo.media.image import read_image, write_contact_sheet, write_image
from vqvideo.media.index import VideoInfo, probe
from vqvideo.media.pixels import from_uint8, to_uint8
from vqvideo.media.times import frames_at
from vqvideo.media.video import Clip, read_pieces, read_video
from vqvideo.media.write import write_lossless, write_video

__all__ = [
    "Clip",
    "MediaError",
    "Sound",
    "VideoInfo",
    "deadline",
    "frames_at",
    "from_uint8",
    "probe",
    "read_audio",
    "read_image",
    "read_pieces",
    "read_video",
    "to_uint8",
    "write_audio",
    "write_contact_sheet",
    "write_gif",
    "write_image",
    "write_lossless",
    "write_video",
    "write_webp",
]
