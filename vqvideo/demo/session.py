"""The visitors: each has a walk of their own, and none disturbs another.

A visitor is known by a random word that only their page has. The model works in one thread, for
one visitor after the other, in the order in which they asked; a visitor who asks again before the
answer has come is told "busy", so nothing piles up.
"""

from __future__ import annotations

import base64
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from vqvideo import media
from vqvideo.demo.starts import Start, read_start
from vqvideo.demo.walk import Walk
from vqvideo.generator import Generator

KEPT_FRAMES = 2000  # of what was played, for the file: some 25 MB at 64x64
SHOWN_PIXELS = 256  # the shorter side of the file; players blur what is small
MOST_SESSIONS = 16
IDLE_SECONDS = 30 * 60.0  # after which a visitor is forgotten when another comes
MAKES_ROOM_SECONDS = 60.0  # the same where there are too many


class BusyError(Exception):
    """An earlier request of the same visitor is still worked on."""

    status = 409  # of HTTP


class FullError(Exception):
    """There are too many visitors."""

    status = 503


class Session:
    """One visitor's walk, and what was seen of it; `restart` begins the first.

    Attributes:
        seen: what the page shows, as JSON takes it: the number of frames imagined, the time that
            one took, pictures of the last ones, and the codes of the last.
        start: what the walk began with.
        used: when it was last asked for anything.
    """

    def __init__(self, generator: Generator, work: ThreadPoolExecutor, used: float) -> None:
        self.generator, self.work, self.used = generator, work, used
        self._alone = threading.Lock()

    def restart(self, start: Start | None) -> None:
        """Walk anew, with other noise; if that fails, the walk before goes on."""
        with self._alone_at_work():
            self.work.submit(self._restart, start).result()

    def upload(self, content: bytes) -> None:
        """The same, from what a file holds; it is read where the model works, one after the other,
        since to read one takes memory.
        """
        with self._alone_at_work():
            self.work.submit(self._upload, content).result()

    def step(self, action: int, temperature: float) -> None:
        """Imagine what comes next; see `Walk.step`."""
        with self._alone_at_work():
            self.work.submit(self._step, action, temperature).result()

    def clip(self) -> bytes:
        """What was played since the walk began, as an MP4 at the model's rate."""
        frames = list(self.played)
        scale = max(1, SHOWN_PIXELS // min(frames[0].shape[1:]))
        large = (frame.repeat_interleave(scale, 1).repeat_interleave(scale, 2) for frame in frames)
        pieces = (media.from_uint8(frame)[:, None] for frame in large)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clip.mp4"
            media.write_video(file, pieces, self.generator.config.rate)
            return file.read_bytes()

    @contextmanager
    def _alone_at_work(self) -> Iterator[None]:
        if not self._alone.acquire(blocking=False):
            raise BusyError("what was asked for before is still being worked on")
        try:
            yield
        finally:
            self._alone.release()

    def _restart(self, start: Start | None) -> None:
        walk = Walk(self.generator, start, seed=secrets.randbits(31))
        frames = walk.step() if start is None else start.frames.movedim(1, 0)
        self.walk, self.start = walk, start
        self.played: deque[Tensor] = deque(maxlen=KEPT_FRAMES)
        self._show(frames, 0, 0.0)  # a start is not counted

    def _upload(self, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "upload"
            file.write_bytes(content)
            start = read_start(file, self.generator, "this file")
        self._restart(start)

    def _step(self, action: int, temperature: float) -> None:
        began = time.perf_counter()
        frames = self.walk.step(action, temperature)
        self._show(frames, self.seen["number"] + len(frames), time.perf_counter() - began)

    def _show(self, frames: Tensor, number: int, seconds: float) -> None:
        pictures = media.to_uint8(frames.cpu())
        self.played.extend(pictures)
        self.seen: dict[str, Any] = {
            "number": number,
            "milliseconds": 1000 * seconds / len(frames),
            "frames": [picture_of(picture) for picture in pictures[-self.walk.stride :]],
            "codes": self.walk.codes.tolist(),
        }


class Sessions:
    """All visitors; those who have long been idle are forgotten when somebody else comes.

    Args:
        generator: what they walk through.
        clock: seconds that go by.
    """

    def __init__(self, generator: Generator, clock: Callable[[], float] = time.monotonic) -> None:
        self.generator, self.clock = generator, clock
        self.work = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._known: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def open(self, start: Start | None) -> tuple[str, Session]:
        """A new visitor and the word they are known by.

        Raises:
            FullError: nobody can be forgotten for them.
        """
        word, session = secrets.token_urlsafe(24), Session(self.generator, self.work, self.clock())
        with self._lock:
            self._forget()
            self._known[word] = session
        try:
            session.restart(start)
        except BaseException:
            self._known.pop(word, None)
            raise
        return word, session

    def find(self, word: str) -> Session | None:
        """The visitor of that word; None if there is none, or none any more."""
        with self._lock:
            session = self._known.get(word)
            if session is not None:
                session.used = self.clock()
            return session

    def close(self) -> None:
        """Finish the frame that is worked on, and no other."""
        self.work.shutdown(cancel_futures=True)

    def _forget(self) -> None:
        """Those idle for long; where there are still too many, the one idle for longest."""
        for word, session in list(self._known.items()):
            if self.clock() - session.used > IDLE_SECONDS:
                del self._known[word]
        if len(self._known) < MOST_SESSIONS:
            return
        word, longest = min(self._known.items(), key=lambda item: item[1].used)
        if self.clock() - longest.used < MAKES_ROOM_SECONDS:
            raise FullError(
                f"{MOST_SESSIONS} visitors are walking already; close one of their pages and try "
                f"again in a minute"
            )
        del self._known[word]


def picture_of(picture: Tensor) -> str:
    """A picture uint8 `[3, h, w]` as its bytes in RGB, row by row, in base64."""
    return base64.b64encode(picture.movedim(0, -1).contiguous().numpy().tobytes()).decode()
