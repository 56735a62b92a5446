"""Read and write media files: the only package that turns a file into a tensor.

Video is `[3, t, h, w]`, an image `[3, h, w]`, audio `[1, t]`; always float32 in
[-1, 1]. The length that a container declares must agree with its contents, otherwise
`MediaError` says what is wrong. Nothing is stretched, guessed, truncated or repeated
silently.

Not here: data sets of many files (`data/`), anything that learns.
"""

from vqvideo.media.animation import write_gif, write_webp
from vqvideo.media.audio import Audio, read_audio, write_audio
from vqvideo.media.deadline import deadline
from vqvideo.media.files import MediaError
from vqvideo.media.image import read_image, write_contact_sheet, write_image
from vqvideo.media.pixels import from_uint8, to_uint8
from vqvideo.media.timestamps import get_frame_indices
from vqvideo.media.video import Clip, read_video, read_video_chunks
from vqvideo.media.video_index import VideoInfo, probe
from vqvideo.media.write import write_lossless, write_video

__all__ = [
    "Audio",
    "Clip",
    "MediaError",
    "VideoInfo",
    "deadline",
    "from_uint8",
    "get_frame_indices",
    "probe",
    "read_audio",
    "read_image",
    "read_video",
    "read_video_chunks",
    "to_uint8",
    "write_audio",
    "write_contact_sheet",
    "write_gif",
    "write_image",
    "write_lossless",
    "write_video",
    "write_webp",
]
