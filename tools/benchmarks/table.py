"""Text tables of `tools/benchmark.py quantizer`, and formatting shared by all benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vqvideo.report.environment import format_environment

Row = dict[str, Any]
Columns = list[tuple[str, Callable[[Row], str]]]


def format_quantizer_table(rows: Sequence[Row]) -> str:
    """Format the results of `benchmark_quantizer`: a line about the machine and four tables."""
    parts = [format_environment(rows[0]["environment"])]
    for title, columns in SECTIONS.items():
        lines = [[name for name, _ in columns]]
        lines += [[read(row) for _, read in columns] for row in rows]
        parts.append(f"{title}\n{align_columns(lines)}")
    return "\n\n".join(parts)


def align_columns(lines: Sequence[Sequence[str]]) -> str:
    """Align rows of cells in columns: the first column left, all others right.

    >>> print(align_columns([["size", "ms"], ["S1", "12.5"]]))
    size    ms
    S1    12.5
    """
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def format_number(number: float | None) -> str:
    """Format a number with about three digits; None (not measured) as "-".

    >>> format_number(0.3456), format_number(34.56), format_number(3456.0), format_number(None)
    ('0.35', '34.6', '3456', '-')
    """
    if number is None:
        return "-"
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def format_with_ci(metric: Mapping[str, Any], digits: int, scale: float = 1, unit: str = "") -> str:
    """Format a mean with the half-width of its 95 % interval, if it has one.

    >>> format_with_ci({"mean": 0.25, "ci95": (0.2, 0.3)}, 2)
    '0.25 ± 0.05'
    """
    text = f"{scale * metric['mean']:.{digits}f}"
    if metric["ci95"] is not None:
        low, high = metric["ci95"]
        text += f" ± {scale * (high - low) / 2:.{digits}f}"
    return text + unit


def _build_ms_column(name: str) -> Callable[[Row], str]:
    return lambda row: format_number(row["ms"].get(name))


def _build_ratio_column(one: str, other: str) -> Callable[[Row], str]:
    """Return a column of the ratio of the times of `one` and `other`."""
    return lambda row: _format_ratio(row["ms"].get(one), row["ms"].get(other))


def _format_ratio(one: float | None, other: float | None) -> str:
    return "-" if one is None or other is None else f"{format_number(one / other)}x"


def _format_share(row: Row) -> str:
    step = row["ms"].get("train_fast", row["ms"]["train_plain"])
    return f"{100 * row['ms']['statistics'] / step:.1f}%"


def _build_mismatch_column(implementation: str) -> Callable[[Row], str]:
    return lambda row: str(row["wrong_codes"].get(implementation, "-"))


def _build_mib_column(implementation: str, mode: str) -> Callable[[Row], str]:
    return lambda row: format_number(_get_peak(row, implementation, mode))


def _get_peak(row: Row, implementation: str, mode: str) -> float | None:
    peaks: dict[str, float] | None = row["peak_mib"][implementation]
    return None if peaks is None else peaks[mode]


def _build_timing_columns(mode: str) -> Columns:
    return [
        ("size", lambda row: row["size"]),
        ("peer", _build_ms_column(f"{mode}_peer")),
        ("plain", _build_ms_column(f"{mode}_plain")),
        ("peer/plain", _build_ratio_column(f"{mode}_peer", f"{mode}_plain")),
        ("fast", _build_ms_column(f"{mode}_fast")),
        ("peer/fast", _build_ratio_column(f"{mode}_peer", f"{mode}_fast")),
    ]


def _build_memory_columns(mode: str) -> Columns:
    return [
        (f"{mode}: ours", _build_mib_column("ours", mode)),
        ("allowed", lambda row: format_number(row["allowed_mib"][mode])),
        ("peer", _build_mib_column("peer", mode)),
        (
            "peer/ours",
            lambda row: _format_ratio(_get_peak(row, "peer", mode), _get_peak(row, "ours", mode)),
        ),
    ]


SEARCH_COLUMNS: Columns = [
    ("size", lambda row: row["size"]),
    ("N", lambda row: str(row["num_vectors"])),
    ("D", lambda row: str(row["code_dim"])),
    ("K", lambda row: str(row["codebook_size"])),
    ("mm out=", _build_ms_column("product")),
    ("mm", _build_ms_column("product_new")),
    ("plain", _build_ms_column("search_plain")),
    ("/mm out=", _build_ratio_column("search_plain", "product")),
    ("fast", _build_ms_column("search_fast")),
    ("/mm out=", _build_ratio_column("search_fast", "product")),
    ("wrong: plain", _build_mismatch_column("plain")),
    ("fast", _build_mismatch_column("fast")),
    ("peer", _build_mismatch_column("peer")),
]
SECTIONS: dict[str, Columns] = {
    "Nearest codes (ms): the bare product x @ e.T, written to existing memory (out=) or to new\n"
    "memory, and our search; number of codes that differ from a search in float64": SEARCH_COLUMNS,
    "Training step, forward and backward (ms); time of the moving-average statistics in ours,\n"
    "and their share of our step on the last path": [
        *_build_timing_columns("train"),
        ("statistics", _build_ms_column("statistics")),
        ("share", _format_share),
    ],
    "Evaluation (ms)": _build_timing_columns("eval"),
    "Peak extra memory (MiB)": [
        ("size", lambda row: row["size"]),
        *_build_memory_columns("train"),
        *_build_memory_columns("eval"),
    ],
}
