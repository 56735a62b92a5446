"""What is said when a law breaks: whose part broke it, which law that is, where to read on.

A law is a function. Its name says what holds, its docstring says it again in more words, and it
raises `AssertionError` with what was found instead. `READ`, at the head of a file of laws, is the
page about them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
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
            law(*given)
        except AssertionError as broken:
            broken.args = (f"{name} breaks the law {law.__name__}: {broken}\n{_more(law)}",)
            raise
        except Exception as error:
            error.add_note(f"raised by {name} under the law {law.__name__}\n{_more(law)}")
            raise


def name_of(part: object, interface: type) -> str:
    """The class of a part; raises `AssertionError` unless it has the interface of its kind."""
    kind = f"{interface.__module__.split('.')[1]}.{interface.__name__}"
    assert isinstance(part, interface), (
        f"{type(part).__name__} is no {kind}: derive it from vqvideo.{kind}"
    )
    return type(part).__name__


def _more(law: Law) -> str:
    said = (inspect.getdoc(law) or "").split("\n\n")[0]
    return f"The law: {' '.join(said.split())}\nRead on: {inspect.unwrap(law).__globals__['READ']}"
