"""Runner and error messages for laws: a message names the part, the law and the documentation.

A law is a function. Its name and, in more detail, its docstring state what must hold; it raises
`AssertionError` with the actual result. `REFERENCE`, at the top of a module of laws, names the
class or function whose docstring documents the interface under test.
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Law = Callable[..., None]


def check_laws(laws: Iterable[Law], name: str, *args: Any) -> None:
    """Check the laws of a part called `name` in order, calling each with `args`.

    Raises:
        AssertionError: a law is broken; the message names the part and the law. Any other error
            raised by the part propagates, with a note that names the law being checked.
    """
    for law in laws:
        try:
            with note_on_error(
                f"raised by {name} under the law {law.__name__}\n{_format_law(law)}"
            ):
                law(*args)
        except AssertionError as error:
            message = f"{error}" or _format_assert(error)
            error.args = (f"{name} breaks the law {law.__name__}: {message}\n{_format_law(law)}",)
            raise


@contextmanager
def note_on_error(note: str) -> Iterator[None]:
    """Add a note to any error raised inside the context, except a broken law."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        error.add_note(note)
        raise


def build_and_get_name(build: Callable[..., object], interface: type, **sizes: object) -> str:
    """Return the class name of the part that `build(**sizes)` returns.

    Raises:
        AssertionError: the part does not implement `interface`. An error raised by the builder
            propagates with a note.
    """
    options = f" with {', '.join(f'{k}={v!r}' for k, v in sizes.items())}" if sizes else ""
    builder = build.func if isinstance(build, functools.partial) else build
    with note_on_error(
        f"raised by {getattr(builder, '__name__', builder)}, called{options} to build a "
        f"{_format_interface(interface)} and check its laws"
    ):
        return get_checked_name(build(**sizes), interface)


def get_checked_name(part: object, interface: type) -> str:
    """Return the class name of a part; raise `AssertionError` if it is not an `interface`."""
    interface_name = _format_interface(interface)
    assert isinstance(part, interface), (
        f"{type(part).__name__} is not a {interface_name}; derive it from vqvideo.{interface_name}"
    )
    return type(part).__name__


def _format_interface(interface: type) -> str:
    return f"{interface.__module__.split('.')[1]}.{interface.__name__}"


def _format_assert(error: AssertionError) -> str:
    """Return the source line of an assert statement without a message."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.line!r} failed in {last.name}"


def _format_law(law: Law) -> str:
    summary = (inspect.getdoc(law) or "").split("\n\n")[0]
    reference = inspect.unwrap(law).__globals__["REFERENCE"]
    return f"The law: {' '.join(summary.split())}\nSee: {reference}"
