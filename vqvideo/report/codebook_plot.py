"""Plot of a codebook: usage counts, and a projection of entries and z_e."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqvideo.atomic import replace_file
from vqvideo.report.codebook_metrics import CodebookMetrics, covariance
from vqvideo.report.codebook_statistics import CodebookStatistics

MAX_PLOTTED_CODEBOOKS = 4
USED_COLOR, DEAD_COLOR, OTHER_COLOR, INK_COLOR = "#1f6fb2", "#d1351b", "#b8b8b8", "#444444"


def import_figure_class() -> Any:
    """Import the class `Figure` of matplotlib, which needs no display.

    Raises:
        ImportError: matplotlib is not installed; the message says how to install it.
    """
    try:
        from matplotlib.figure import Figure  # slow import, needed only here
    except ImportError as error:
        raise ImportError(
            "plotting needs matplotlib; install it with: pip install 'vqvideo[report]'"
        ) from error
    return Figure


def write_codebook_plot(
    path: str | Path,
    advice: str,
    codebooks: Sequence[CodebookMetrics],
    statistics: Sequence[CodebookStatistics],
) -> None:
    """Write the plot of `CodebookReport.write_plot`."""
    rows, is_multiple = min(len(codebooks), MAX_PLOTTED_CODEBOOKS), len(codebooks) > 1
    figure = import_figure_class()(figsize=(11, 0.6 + 4.6 * rows), layout="constrained")
    note = f" (codebooks 1 to {rows} of {len(codebooks)} shown)" if rows < len(codebooks) else ""
    figure.suptitle(textwrap.fill(f"Advice: {advice}{note}", 90), fontweight="bold")
    for row in range(rows):
        left, right = (figure.add_subplot(rows, 2, 2 * row + column) for column in (1, 2))
        _plot_usage(left, codebooks[row], statistics[row].counts)
        _plot_entries(right, statistics[row])
        if is_multiple:
            left.set_ylabel(f"codebook {row + 1}\n{left.get_ylabel()}")
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _plot_usage(axes: Any, metrics: CodebookMetrics, counts: Tensor) -> None:
    """Plot usage counts in descending order, with the count of uniform usage."""
    size, uniform = metrics.codebook_size, metrics.num_codes / metrics.codebook_size
    used = counts[counts > 0].sort(descending=True).values.numpy()
    axes.stairs(
        used, range(len(used) + 1), baseline=min(0.5, uniform / 2), fill=True, color=USED_COLOR
    )
    label = f"uniform usage: {uniform:,.4g} times"
    axes.axhline(uniform, color=INK_COLOR, linestyle="--", linewidth=1, label=label)
    if metrics.num_dead:
        label = f"dead, never used: {metrics.num_dead:,}"
        axes.axvspan(len(used), size, color=DEAD_COLOR, alpha=0.25, linewidth=0, label=label)
    axes.set_yscale("log")
    axes.set_xlim(0, size)
    axes.set_ylim(top=4 * max(used[0], uniform))  # room for the legend
    axes.set_xlabel("entries, sorted by usage")
    axes.set_ylabel("times used")
    axes.set_title(f"usage {metrics.usage:.1%}, perplexity {metrics.perplexity:,.1f} of {size:,}")
    axes.legend(loc="upper right", fontsize="small")


def _plot_entries(axes: Any, statistics: CodebookStatistics) -> None:
    """Plot entries and z_e along the first two principal components of the used entries."""
    centre, directions, shares = _fit_pca(statistics)
    entries = (statistics.entries - centre) @ directions
    used = statistics.counts > 0
    # Relative to uniform usage, where it is 1.
    usage = statistics.counts / statistics.counts.sum() * len(statistics.counts)
    area = min(10.0, 2e4 / len(entries))  # of a marker; many markers must be small
    sizes = (area * usage[used]).clamp(area / 4, 25 * area).numpy()
    marker_options = {"linewidths": 0, "alpha": 0.6}
    if len(statistics.z_e):
        z_e = (statistics.z_e.double() - centre) @ directions
        axes.scatter(*z_e.T.numpy(), s=3, color=OTHER_COLOR, linewidths=0, label="z_e")
    if not used.all():
        dead = entries[~used].T.numpy()
        axes.scatter(
            *dead, s=1.4 * area, color=DEAD_COLOR, marker="x", linewidths=1, label="dead entry"
        )
    axes.scatter(
        *entries[used].T.numpy(),
        s=sizes,
        color=USED_COLOR,
        label="entry (size: usage)",
        **marker_options,
    )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(f"first principal component, {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"second, {shares[1]:.0%}")
    axes.set_title(
        "entries and z_e" if len(statistics.z_e) else "entries (z_e is in a different space)"
    )
    axes.legend(loc="best", fontsize="small")


def _fit_pca(statistics: CodebookStatistics) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean `[d]`, two components `[d, 2]` and their shares of the variance `[2]`."""
    scatter = covariance(statistics.entries, statistics.counts)
    values, vectors = torch.linalg.eigh(scatter)
    values, vectors = values.flip(0).clamp(min=0)[:2], vectors.flip(1)[:, :2]
    if len(values) < 2:  # one-dimensional entries have one component
        values, vectors = (torch.cat([x, 0 * x], dim=-1) for x in (values, vectors))
    share = (statistics.counts / statistics.counts.sum()).double()
    return share @ statistics.entries, vectors, values / scatter.trace().clamp(min=1e-12)
