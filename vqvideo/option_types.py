"""Check the types of a part's options against the annotations of its builder.

Options often come from JSON, where a wrong type is easily written and not always noticed: the text
"false" would count as true. Only plain annotations are checked: `bool`, `int`, `float`, `str`,
`Literal`, and unions of these with None; lists, mappings and other types are left to the builder.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

TYPE_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
TYPE_NAMES |= {type(None): "null"}


def find_type_error(builder: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """Return what is wrong with the type of an option, "" if nothing is.

    >>> def build(*, width: int, causal: bool = False) -> None: ...
    >>> find_type_error(build, {"width": 3, "causal": "no"})
    "option 'causal' must be true or false, got 'no'"
    >>> find_type_error(build, {"width": True})
    "option 'width' must be an integer, got True"
    """
    hints = _get_hints(builder)
    for name, value in options.items():
        choices = _list_choices(hints.get(name))
        if choices and not any(_matches(value, choice) for choice in choices):
            expected = " or ".join(TYPE_NAMES.get(x, repr(x)) for x in choices)
            return f"option {name!r} must be {expected}, got {_shorten(value)}"
    return ""


@functools.lru_cache(maxsize=256)
def _get_hints(builder: Callable[..., Any]) -> dict[str, Any]:
    function = builder.__init__ if inspect.isclass(builder) else builder
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that exist for type checkers only
        return {}


def _list_choices(hint: Any) -> list[Any]:
    """Return the types and literal values that an annotation allows; none if it is not plain."""
    if hint in TYPE_NAMES:
        return [hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return list(args)
    if origin in (Union, types.UnionType):
        choices = [_list_choices(arg) for arg in args]
        return [x for inner in choices for x in inner] if all(choices) else []
    return []


def _matches(value: object, choice: Any) -> bool:
    if not isinstance(choice, type):
        return type(value) is type(choice) and value == choice
    if choice is bool or choice is type(None):
        return isinstance(value, choice)
    if isinstance(value, bool):
        return False
    if choice is int:
        return hasattr(value, "__index__")  # also of numpy
    if choice is float:
        return hasattr(value, "__float__")
    return isinstance(value, choice)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} ..."
