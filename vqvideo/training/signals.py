"""Being told to stop: Ctrl-C, or the SIGTERM of whoever runs the machine."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context in which a signal to stop is noted, so that a step is finished first.

    The second one has the effect that it has without this. Outside of the main thread, which alone
    may handle signals, nothing is noted.

    Attributes:
        came: whether one did.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._note) for each in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.signal(number, self._before[signal.Signals(number)])
