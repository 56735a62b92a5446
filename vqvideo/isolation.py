"""Running the code of other packages: output goes to stderr, errors become bounded text."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
MAX_MESSAGE_LENGTH = 2000  # characters


def describe_error(error: BaseException) -> str:
    """Return `Type: message` in one line of bounded length, whatever the type of error does.

    >>> describe_error(KeyError("no such GPU"))
    "KeyError: 'no such GPU'"
    """
    try:
        return f"{type(error).__name__}: {format_message(error)}".removesuffix(": ")
    except BaseException:
        return "an error whose type has no name"


def format_message(error: BaseException) -> str:
    """Return the message of an error in one line of at most `MAX_MESSAGE_LENGTH` characters."""
    try:
        message = str.__str__(str(error))  # the class of an error may return a subclass of str
    except BaseException as cause:
        return f"its message cannot be formatted ({type(cause).__name__})"
    return shorten(message)


def shorten(message: str) -> str:
    r"""Return a message in one line, without the end if it is longer than `MAX_MESSAGE_LENGTH`.

    >>> shorten("a\n  b"), len(shorten("a" * 10**6))
    ('a b', 2026)
    """
    if len(message) > MAX_MESSAGE_LENGTH:
        message = f"{message[:MAX_MESSAGE_LENGTH]} ... of {len(message)} characters"
    return " ".join(message.split())


@contextlib.contextmanager
def run_foreign_code() -> Iterator[Callable[[BaseException], bool]]:
    """Redirect stdout to stderr while code of a plugin runs, also what it writes to the descriptor.

    Yields:
        A function that returns whether an error ends the program: a `KeyboardInterrupt` because of
        Ctrl-C (SIGINT). One that the code itself raises is an error of that code, as are
        `SystemExit` and `GeneratorExit`.
    """
    interrupts: list[int] = []
    with _record_interrupts(interrupts), _REDIRECTION:
        yield lambda error: isinstance(error, KeyboardInterrupt) and bool(interrupts)


def call_builder(
    builder: Callable[..., T], arguments: Mapping[str, Any], part: str, *, is_plugin: bool
) -> T:
    """Return `builder(**arguments)`; see `run_foreign_code` for the builder of a plugin.

    Raises:
        RuntimeError: the builder raised an error that would end the program, such as `SystemExit`;
            `part` is named. Other errors of a plugin propagate with a note that names the part.
    """
    not_foreign = contextlib.nullcontext(lambda error: isinstance(error, KeyboardInterrupt))
    with run_foreign_code() if is_plugin else not_foreign as ends_program:
        try:
            return builder(**arguments)
        except Exception as error:
            if is_plugin:
                with contextlib.suppress(Exception):  # the class of an error may refuse notes
                    error.add_note(f"while building {part}")
            raise
        except BaseException as cause:
            if ends_program(cause):
                raise
            is_exit = isinstance(cause, SystemExit)
            action = "called sys.exit()" if is_exit else f"raised {describe_error(cause)}"
            raise RuntimeError(f"{part} {action} when it was built") from cause


@contextlib.contextmanager
def _record_interrupts(interrupts: list[int]) -> Iterator[None]:
    """Append each SIGINT to `interrupts` and handle it as before."""
    previous: Any = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield  # signals are handled in the main thread only
        return

    def record(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        previous(number, frame)

    signal.signal(signal.SIGINT, record)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is record:
            signal.signal(signal.SIGINT, previous)


class _Redirection:
    """A context in which `sys.stdout` and descriptor 1 lead to stderr; threads may share it."""

    def __init__(self) -> None:
        self.lock, self.depth = threading.Lock(), 0
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            self.depth += 1
            if self.depth == 1:
                _flush_stdout()
                self.stack.enter_context(contextlib.redirect_stdout(sys.stderr))
                self.stack.callback(_restore_descriptor, _redirect_descriptor())

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                self.stack.close()


def _redirect_descriptor() -> int | None:
    """Point descriptor 1 to that of stderr; return a duplicate of it, or None if one is closed."""
    try:
        saved = os.dup(1)
    except OSError:
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(saved)
        return None
    return saved


def _restore_descriptor(saved: int | None) -> None:
    _flush_stdout()  # what C code has buffered for descriptor 1
    if saved is not None:
        os.dup2(saved, 1)
        os.close(saved)


def _flush_stdout() -> None:
    with contextlib.suppress(Exception):  # it may be closed, or None
        sys.stdout.flush()
    with contextlib.suppress(Exception):  # there is no such library on every system
        ctypes.CDLL(None).fflush(None)


_REDIRECTION = _Redirection()
