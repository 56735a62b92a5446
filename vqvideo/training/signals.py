"""Handling of stop signals: SIGINT (Ctrl-C) and SIGTERM."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Context that records a stop signal, so that the current step can finish.

    A second signal has its usual effect. Only the main thread can handle signals; in other threads
    the context does nothing.

    Attributes:
        is_received: whether a signal was received.
    """

    def __init__(self) -> None:
        self.is_received = False
        self._previous_handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers = {
                signum: signal.signal(signum, self._handle_signal) for signum in SIGNALS
            }
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)

    def _handle_signal(self, signum: int, frame: FrameType | None) -> None:
        self.is_received = True
        signal.signal(signum, self._previous_handlers[signal.Signals(signum)])
