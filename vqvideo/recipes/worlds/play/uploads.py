"""Read uploads in a process of their own, which no file can make hold up or end the server.

A decoder in C may take long, hold Python's lock, use much memory or crash. Here it can do so for a
limited time, while the server answers other visitors. Where possible, the process is forked from
one that has imported torch already.

Not here: reading the file (starts.py).
"""

from __future__ import annotations

import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vqvideo.recipes.worlds.play.starts import Start, read_start_frames

if TYPE_CHECKING:
    from vqvideo.generator import Generator

START_LIMIT_SECONDS = 300.0  # of the process, which may have to import torch from a slow disk
TIME_LIMIT_SECONDS = 20.0  # of reading one upload
NAME = "this file"  # an upload has no name


def read_upload(content: bytes, generator: Generator) -> Start:
    """Read a start from the content of an image or a video file.

    Args:
        content: bytes of the file.
        generator: the model, which determines frame size and temporal stride.

    Raises:
        ValueError: the content is rejected by `read_start`, takes longer than
            `TIME_LIMIT_SECONDS`, or ends the process.
    """
    _, height, width = generator.sample_shape or ()
    context = _get_context()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "upload"
        file.write_bytes(content)
        receiver, sender = context.Pipe(duplex=False)
        arguments = (sender, file, (height, width), generator.vqvae.downsampling[0])
        process = context.Process(target=_send_frames, args=arguments, daemon=True)  # type: ignore[attr-defined]
        process.start()
        sender.close()
        try:
            for limit in (START_LIMIT_SECONDS, TIME_LIMIT_SECONDS):
                if not receiver.poll(limit):
                    raise ValueError(f"{NAME} was not read within {limit:g} s; give a smaller one")
                answer = receiver.recv()  # None when the process has started, then the frames
        except EOFError as error:
            raise ValueError(
                f"{NAME} ended the process that read it; give a PNG, JPEG or MP4 file"
            ) from error
        finally:
            process.kill()
            process.join()
            receiver.close()
    if isinstance(answer, str):
        raise ValueError(answer)
    return Start(NAME, torch.from_numpy(answer))


def _get_context() -> BaseContext:
    """Return the way to start a process without the threads and the memory of this one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _send_frames(sender: Connection, file: Path, size: tuple[int, int], stride: int) -> None:
    """Send None, then the frames of a start as an array or the message of an error as a string."""
    torch.set_num_threads(1)
    sender.send(None)
    answer: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | str
    try:
        answer = read_start_frames(file, NAME, size, stride).numpy()
    except ValueError as error:
        answer = str(error)
    except Exception as error:
        answer = f"{NAME} cannot be read ({type(error).__name__}); give a PNG, JPEG or MP4 file"
    sender.send(answer)
