"""A codebook as a picture: how often each entry is used, and where entries and z_e lie."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqvideo.report.figures import CodebookFigures, covariance
from vqvideo.report.seen import Seen

MOST_CODEBOOKS = 4
USED, DEAD, OTHER, INK = "#1f6fb2", "#d1351b", "#b8b8b8", "#444444"


def matplotlib_figure() -> Any:
    """The class `Figure` of matplotlib, for pictures without a window.

    Raises:
        ImportError: matplotlib is not installed; the message says how to.
    """
    try:
        from matplotlib.figure import Figure  # slow, and only needed here
    except ImportError as error:
        raise ImportError(
            "drawing needs matplotlib; install it with: pip install 'vqvideo[report]'"
        ) from error
    return Figure


def write_picture(
    path: str | Path, advice: str, codebooks: Sequence[CodebookFigures], seen: Sequence[Seen]
) -> None:
    """See `CodebookReport.write_picture`."""
    rows, several = min(len(codebooks), MOST_CODEBOOKS), len(codebooks) > 1
    figure = matplotlib_figure()(figsize=(11, 0.6 + 4.6 * rows), layout="constrained")
    more = f" (codebooks 1 to {rows} of {len(codebooks)} drawn)" if rows < len(codebooks) else ""
    figure.suptitle(textwrap.fill(f"Advice: {advice}{more}", 90), fontweight="bold")
    for row in range(rows):
        left, right = (figure.add_subplot(rows, 2, 2 * row + column) for column in (1, 2))
        _draw_use(left, codebooks[row], seen[row].counts)
        _draw_entries(right, seen[row])
        if several:
            left.set_ylabel(f"codebook {row + 1}\n{left.get_ylabel()}")
    figure.savefig(path, dpi=110, format="png")


def _draw_use(axes: Any, figures: CodebookFigures, counts: Tensor) -> None:
    """Entries from the most to the least used, against all being used alike."""
    size, alike = figures.codebook_size, figures.num_codes / figures.codebook_size
    used = counts[counts > 0].sort(descending=True).values.numpy()
    axes.stairs(used, range(len(used) + 1), baseline=min(0.5, alike / 2), fill=True, color=USED)
    label = f"if all were used alike: {alike:,.4g} times"
    axes.axhline(alike, color=INK, linestyle="--", linewidth=1, label=label)
    if figures.num_dead:
        label = f"dead, never used: {figures.num_dead:,}"
        axes.axvspan(len(used), size, color=DEAD, alpha=0.25, linewidth=0, label=label)
    axes.set_yscale("log")
    axes.set_xlim(0, size)
    axes.set_ylim(top=4 * max(used[0], alike))  # the legend finds room above
    axes.set_xlabel("entries, from the most to the least used")
    axes.set_ylabel("times used")
    axes.set_title(f"usage {figures.usage:.1%}, perplexity {figures.perplexity:,.1f} of {size:,}")
    axes.legend(loc="upper right", fontsize="small")


def _draw_entries(axes: Any, seen: Seen) -> None:
    """Entries and z_e along the two directions in which used entries differ most."""
    centre, directions, shares = _plane(seen)
    entries = (seen.entries - centre) @ directions
    used = seen.counts > 0
    load = seen.counts / seen.counts.sum() * len(seen.counts)  # 1 where all are used alike
    area = min(10.0, 2e4 / len(entries))  # of a dot; many must be small
    sizes = (area * load[used]).clamp(area / 4, 25 * area).numpy()
    dots = {"linewidths": 0, "alpha": 0.6}
    if len(seen.z_e):
        z_e = (seen.z_e.double() - centre) @ directions
        axes.scatter(*z_e.T.numpy(), s=3, color=OTHER, linewidths=0, label="z_e")
    if not used.all():
        dead = entries[~used].T.numpy()
        axes.scatter(*dead, s=1.4 * area, color=DEAD, marker="x", linewidths=1, label="dead entry")
    axes.scatter(
        *entries[used].T.numpy(), s=sizes, color=USED, label="entry, larger if more used", **dots
    )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(f"first principal component, {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"second, {shares[1]:.0%}")
    axes.set_title("entries among z_e" if len(seen.z_e) else "entries (z_e lies in another space)")
    axes.legend(loc="best", fontsize="small")


def _plane(seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
    """Centre `[d]`, two directions `[d, 2]` and the share `[2]` of the variance along them."""
    scatter = covariance(seen.entries, seen.counts)
    values, vectors = torch.linalg.eigh(scatter)
    values, vectors = values.flip(0).clamp(min=0)[:2], vectors.flip(1)[:, :2]
    if len(values) < 2:  # entries of length 1 lie on a line
        values, vectors = (torch.cat([some, 0 * some], dim=-1) for some in (values, vectors))
    share = (seen.counts / seen.counts.sum()).double()
    return share @ seen.entries, vectors, values / scatter.trace().clamp(min=1e-12)
