"""Read small text and JSON files that may come from strangers.

The size, the nesting and the integers of a file are bounded, so that reading it and computing with
its values takes time in proportion to its size. JSON is read strictly: each name once per object,
only finite numbers, only text that can be written as UTF-8.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

MAX_BYTES = 4 << 20  # of a file: a config takes a few thousand bytes, and more with many names
MAX_DEPTH = 64  # lists and objects inside each other
MAX_DIGITS = 20  # of an integer: 64 bits, with sign


def read_text(file: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is larger than `MAX_BYTES`, is not UTF-8, or is no regular file.
    """
    if not file.is_file():
        raise ValueError("it is no regular file")
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return content.decode("utf-8")


def read_json(file: Path, *, allow_nan: bool = False) -> Any:
    """Return the value of a JSON file; raise `OSError` as `read_text` and `ValueError` as
    `parse_json` does.
    """
    return parse_json(read_text(file), allow_nan=allow_nan)


def parse_json(text: str, *, allow_nan: bool = False) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the JSON text.
        allow_nan: accept `NaN` and `Infinity`, as in the log of a training run.

    Raises:
        ValueError: the text is not JSON, is nested deeper than `MAX_DEPTH`, repeats a name in an
            object, or has an integer of more than 64 bits, a number that is not finite, or text
            that is not Unicode (half of a surrogate pair).

    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
        ...
    ValueError: the name 'a' is there twice in one object
    """
    hooks: dict[str, Any] = {"parse_int": _parse_int, "object_pairs_hook": _build_object}
    if not allow_nan:
        hooks |= {"parse_float": _parse_float, "parse_constant": _refuse_constant}
    too_deep = f"it is nested more than {MAX_DEPTH} levels deep"
    try:
        value = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        for entry in level:
            if isinstance(entry, str):
                _check_text(entry)
        level = [inner for entry in level for inner in _list_entries(entry)]
        if not level:
            return value
    raise ValueError(too_deep)


def _list_entries(value: object) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text[:40]!a} is not Unicode text") from None


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {twice[:40]!r} is there twice in one object")
    return entries


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the integer {digits[:MAX_DIGITS]}... has more than 64 bits")
    return int(digits)


def _parse_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is not a finite number")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")
