"""The figures of `vqvideo benchmark quantizer` as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vqvideo.report.machine import as_line

Row = dict[str, Any]
Columns = list[tuple[str, Callable[[Row], str]]]


def table(rows: Sequence[Row]) -> str:
    """What `benchmark_quantizer` returned, as a line about the machine and four tables."""
    parts = [as_line(rows[0]["setting"])]
    for title, columns in SECTIONS.items():
        lines = [[name for name, _ in columns]]
        lines += [[read(row) for _, read in columns] for row in rows]
        parts.append(f"{title}\n{aligned(lines)}")
    return "\n\n".join(parts)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as columns: the first to the left, all others to the right.

    >>> print(aligned([["size", "ms"], ["S1", "12.5"]]))
    size    ms
    S1    12.5
    """
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def short(number: float | None) -> str:
    """Three digits or so; "-" for what was not measured.

    >>> short(0.3456), short(34.56), short(3456.0), short(None)
    ('0.35', '34.6', '3456', '-')
    """
    if number is None:
        return "-"
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def with_interval(figure: Mapping[str, Any], digits: int, times: float = 1, unit: str = "") -> str:
    """A mean and half of its interval, where there is one.

    >>> with_interval({"mean": 0.25, "ci95": (0.2, 0.3)}, 2)
    '0.25 ± 0.05'
    """
    text = f"{times * figure['mean']:.{digits}f}"
    if figure["ci95"] is not None:
        low, high = figure["ci95"]
        text += f" ± {times * (high - low) / 2:.{digits}f}"
    return text + unit


def _ms(name: str) -> Callable[[Row], str]:
    return lambda row: short(row["ms"].get(name))


def _ratio(one: str, other: str) -> Callable[[Row], str]:
    """How many times as long `one` takes as `other`."""
    return lambda row: _times(row["ms"].get(one), row["ms"].get(other))


def _times(one: float | None, other: float | None) -> str:
    return "-" if one is None or other is None else f"{short(one / other)}x"


def _share(row: Row) -> str:
    step = row["ms"].get("train_fast", row["ms"]["train_plain"])
    return f"{100 * row['ms']['statistics'] / step:.1f}%"


def _wrong(who: str) -> Callable[[Row], str]:
    return lambda row: str(row["wrong_codes"].get(who, "-"))


def _mib(who: str, mode: str) -> Callable[[Row], str]:
    return lambda row: short(_peak(row, who, mode))


def _peak(row: Row, who: str, mode: str) -> float | None:
    peaks: dict[str, float] | None = row["peak_mib"][who]
    return None if peaks is None else peaks[mode]


def _timing(mode: str) -> Columns:
    return [
        ("size", lambda row: row["size"]),
        ("peer", _ms(f"{mode}_peer")),
        ("plain", _ms(f"{mode}_plain")),
        ("peer/plain", _ratio(f"{mode}_peer", f"{mode}_plain")),
        ("fast", _ms(f"{mode}_fast")),
        ("peer/fast", _ratio(f"{mode}_peer", f"{mode}_fast")),
    ]


def _memory(mode: str) -> Columns:
    return [
        (f"{mode}: ours", _mib("ours", mode)),
        ("allowed", lambda row: short(row["allowed_mib"][mode])),
        ("peer", _mib("peer", mode)),
        ("peer/ours", lambda row: _times(_peak(row, "peer", mode), _peak(row, "ours", mode))),
    ]


SEARCH: Columns = [
    ("size", lambda row: row["size"]),
    ("N", lambda row: str(row["num_vectors"])),
    ("D", lambda row: str(row["code_dim"])),
    ("K", lambda row: str(row["codebook_size"])),
    ("mm out=", _ms("product")),
    ("mm", _ms("product_new")),
    ("plain", _ms("search_plain")),
    ("/mm out=", _ratio("search_plain", "product")),
    ("fast", _ms("search_fast")),
    ("/mm out=", _ratio("search_fast", "product")),
    ("wrong: plain", _wrong("plain")),
    ("fast", _wrong("fast")),
    ("peer", _wrong("peer")),
]
SECTIONS: dict[str, Columns] = {
    "Nearest codes (ms): the bare product x @ e.T, written to memory that is there (out=) or to\n"
    "new, and our search; how many codes differ from those of a search in float64": SEARCH,
    "Training step, forward and backward (ms); what the statistics of the moving average take of\n"
    "ours, and their share of our step on the last path": [
        *_timing("train"),
        ("statistics", _ms("statistics")),
        ("share", _share),
    ],
    "Evaluation (ms)": _timing("eval"),
    "Peak extra memory (MiB)": [
        ("size", lambda row: row["size"]),
        *_memory("train"),
        *_memory("eval"),
    ],
}
