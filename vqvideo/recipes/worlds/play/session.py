"""Sessions of visitors, each with an independent rollout.

A session is identified by a random token that only its page has. The model runs in one thread and
serves requests in order of arrival. A request that comes before the previous one of its session is
answered is rejected as busy, so requests do not pile up.

The model's thread does nothing but run the model. A second thread reads uploads, each in a process
of its own (uploads.py), and encodes clips, so a visitor waits for no file of another.
"""

from __future__ import annotations

import base64
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from vqvideo import media
from vqvideo.generator import Generator
from vqvideo.recipes.worlds.play.rollout import Rollout
from vqvideo.recipes.worlds.play.starts import Start
from vqvideo.recipes.worlds.play.uploads import read_upload

MAX_RECORDED_FRAMES = 2000  # kept for the video file: about 25 MB at 64x64
MIN_CLIP_SIDE = 256  # shorter side of the video file; players blur small videos
MAX_SESSIONS = 16
IDLE_TIMEOUT_SECONDS = 30 * 60.0  # idle time after which a session may be closed
EVICTION_TIMEOUT_SECONDS = 60.0  # the same if there are `MAX_SESSIONS`


class BusyError(Exception):
    """An earlier request of the same session is still running."""

    status = 409  # HTTP status


class TooManySessionsError(Exception):
    """There are too many sessions."""

    status = 503


class Session:
    """The rollout of one visitor and its recorded frames; call `restart` before anything else.

    Attributes:
        view: content of the page as JSON-serializable data: the number of generated frames, the
            time per frame, the latest frames, and the codes of the last one.
        start: frames that the rollout started from, or None.
        last_used: time of the last request.
    """

    def __init__(self, store: SessionStore) -> None:
        self.generator, self.last_used = store.generator, store.clock()
        self.executor, self.media_executor = store.executor, store.media_executor
        self._lock, self._clip_lock = threading.Lock(), threading.Lock()
        self._state_lock = threading.Lock()  # of rollout, start, view and recorded_frames

    def restart(self, start: Start | None) -> None:
        """Start a new rollout with another seed; if that fails, the previous one continues."""
        with _exclusive(self._lock):
            self.executor.submit(self._restart, start).result()

    def upload(self, content: bytes) -> None:
        """Start a new rollout from the content of an image or video file.

        Files are read one at a time, since decoding takes memory; see `read_upload`.
        """
        with _exclusive(self._lock):
            start = self.media_executor.submit(read_upload, content, self.generator).result()
            self.executor.submit(self._restart, start).result()

    def step(self, action: int, temperature: float) -> None:
        """Generate the next frames; see `Rollout.step`."""
        with _exclusive(self._lock):
            self.executor.submit(self._step, action, temperature).result()

    def encode_clip(self) -> bytes:
        """Encode the frames recorded so far as an MP4 file at the model's rate."""
        with self._state_lock:
            frames = list(self.recorded_frames)
        with _exclusive(self._clip_lock):
            return self.media_executor.submit(
                _encode_clip, frames, self.generator.config.rate
            ).result()

    def _restart(self, start: Start | None) -> None:
        rollout = Rollout(self.generator, start, seed=secrets.randbits(31))
        frames = rollout.step() if start is None else start.frames.movedim(1, 0)
        images = media.to_uint8(frames.cpu())
        view = _build_view(rollout, images, 0, 0.0)  # start frames do not count
        with self._state_lock:
            self.rollout, self.start, self.view = rollout, start, view
            self.recorded_frames = deque(images, maxlen=MAX_RECORDED_FRAMES)

    def _step(self, action: int, temperature: float) -> None:
        start_time = time.perf_counter()
        images = media.to_uint8(self.rollout.step(action, temperature).cpu())
        seconds = time.perf_counter() - start_time
        view = _build_view(self.rollout, images, self.view["number"] + len(images), seconds)
        with self._state_lock:
            self.recorded_frames.extend(images)
            self.view = view


class SessionStore:
    """All sessions; idle ones are closed when a new one is opened.

    Args:
        generator: the model.
        clock: monotonic clock in seconds.
    """

    def __init__(self, generator: Generator, clock: Callable[[], float] = time.monotonic) -> None:
        self.generator, self.clock = generator, clock
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.media_executor = ThreadPoolExecutor(1, thread_name_prefix="media")
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, start: Start | None) -> tuple[str, Session]:
        """Open a session; return its token and the session.

        Raises:
            TooManySessionsError: there are too many sessions, and none of them can be closed.
        """
        token, session = secrets.token_urlsafe(24), Session(self)
        with self._lock:
            self._evict()
            self._sessions[token] = session
        try:
            session.restart(start)
        except BaseException:
            self._sessions.pop(token, None)
            raise
        return token, session

    def find(self, token: str) -> Session | None:
        """Return the session of a token; None if it does not exist or was closed."""
        with self._lock:
            session = self._sessions.get(token)
            if session is not None:
                session.last_used = self.clock()
            return session

    def close(self) -> None:
        """Finish the running requests, and cancel the waiting ones."""
        self.media_executor.shutdown(cancel_futures=True)
        self.executor.shutdown(cancel_futures=True)

    def _evict(self) -> None:
        """Close sessions that were idle for long; if there are still too many, the longest idle."""
        for token, session in list(self._sessions.items()):
            if self.clock() - session.last_used > IDLE_TIMEOUT_SECONDS:
                del self._sessions[token]
        if len(self._sessions) < MAX_SESSIONS:
            return
        token, oldest = min(self._sessions.items(), key=lambda item: item[1].last_used)
        if self.clock() - oldest.last_used < EVICTION_TIMEOUT_SECONDS:
            raise TooManySessionsError(
                f"{MAX_SESSIONS} sessions are open already; close one of their pages and try again "
                f"in a minute"
            )
        del self._sessions[token]


def image_to_base64(image: Tensor) -> str:
    """Encode an image uint8 `[3, h, w]` as base64 of its RGB bytes, row by row."""
    return base64.b64encode(image.movedim(0, -1).contiguous().numpy().tobytes()).decode()


@contextmanager
def _exclusive(lock: threading.Lock) -> Iterator[None]:
    """Raise `BusyError` if another request of the session holds a lock, else hold it."""
    if not lock.acquire(blocking=False):
        raise BusyError("the previous request of this session is still running")
    try:
        yield
    finally:
        lock.release()


def _build_view(
    rollout: Rollout, images: Tensor, num_frames: int, seconds: float
) -> dict[str, Any]:
    """Return the content of the page; `seconds` were spent on the latest `images`."""
    return {
        "number": num_frames,
        "milliseconds": 1000 * seconds / len(images),
        "frames": [image_to_base64(image) for image in images[-rollout.stride :]],
        "codes": rollout.codes.tolist(),
    }


def _encode_clip(frames: Sequence[Tensor], fps: float) -> bytes:
    """Encode frames uint8 `[3, h, w]`, enlarged for players, as an MP4 file."""
    scale = max(1, MIN_CLIP_SIDE // min(frames[0].shape[1:]))
    enlarged = (frame.repeat_interleave(scale, 1).repeat_interleave(scale, 2) for frame in frames)
    chunks = (media.from_uint8(frame)[:, None] for frame in enlarged)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        media.write_video(file, chunks, fps)
        return file.read_bytes()
