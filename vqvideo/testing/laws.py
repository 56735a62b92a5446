"""What is said when a law breaks: whose part broke it, which law that is, where to read on.

A law is a function. Its name says what holds, its docstring says it again in more words, and it
raises `AssertionError` with what was found instead. `READ`, at the head of a file of laws, names
the class or function whose docstring states what the part has promised.
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Law = Callable[..., None]


def hold(laws: Iterable[Law], name: str, *given: Any) -> None:
    """Check laws of a part called `name`, one after the other, each on what is `given`.

    Raises:
        AssertionError: the first that breaks, told as above. Any other error that the part raises
            meanwhile goes through, with a note that says which law was being checked.
    """
    for law in laws:
        try:
            with noting(f"raised by {name} under the law {law.__name__}\n{_more(law)}"):
                law(*given)
        except AssertionError as broken:
            said = f"{broken}" or _failed(broken)
            broken.args = (f"{name} breaks the law {law.__name__}: {said}\n{_more(law)}",)
            raise


@contextmanager
def noting(what: str) -> Iterator[None]:
    """Errors that are raised within go through with a note; a broken law needs none."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        error.add_note(what)
        raise


def named(build: Callable[..., object], interface: type, **sizes: object) -> str:
    """The class of what `build(**sizes)` makes, by whose name laws speak of it.

    Raises:
        AssertionError: it has not the interface of its kind. An error of the builder itself goes
            through with a note.
    """
    asked = f" with {', '.join(f'{k}={v!r}' for k, v in sizes.items())}" if sizes else ""
    maker = build.func if isinstance(build, functools.partial) else build
    with noting(
        f"raised by {getattr(maker, '__name__', maker)}, asked{asked} for a {_kind(interface)} to "
        f"check the laws of"
    ):
        return name_of(build(**sizes), interface)


def name_of(part: object, interface: type) -> str:
    """The class of a part; raises `AssertionError` unless it has the interface of its kind."""
    kind = _kind(interface)
    assert isinstance(part, interface), (
        f"{type(part).__name__} is no {kind}: derive it from vqvideo.{kind}"
    )
    return type(part).__name__


def _kind(interface: type) -> str:
    return f"{interface.__module__.split('.')[1]}.{interface.__name__}"


def _failed(broken: AssertionError) -> str:
    """The line of an assert that says nothing, as a part may hold one."""
    last = traceback.extract_tb(broken.__traceback__)[-1]
    return f"{last.line!r} failed in {last.name}"


def _more(law: Law) -> str:
    said = (inspect.getdoc(law) or "").split("\n\n")[0]
    return f"The law: {' '.join(said.split())}\nRead on: {inspect.unwrap(law).__globals__['READ']}"
