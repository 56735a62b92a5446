"""Codes and phones as pictures: which are confused, what codes stand for, a file in phones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqvideo.report.picture import INK, matplotlib_figure

CODES_A_ROW, MOST_ROWS = 50, 20  # of the picture of a file: more cannot be read
WINDOW, HOP = 0.025, 0.005  # seconds of the spectrogram, as is usual for speech
FLOOR_DB, SMALLEST = 70.0, 1e-5  # what lies further below the loudest is black; of silence


def write_confusion(path: str | Path, counts: Tensor, labels: Sequence[str]) -> None:
    """What is said against what the codes say, the commonest phones first.

    Args:
        path: of the picture, .png.
        counts: frames `[num_labels, num_labels]`, a row for each true label and a column for each
            that was predicted; rows are drawn as shares.
        labels: of rows and columns.
    """
    shown = _by_frequency(counts.sum(dim=1), counts.sum(dim=0))
    share = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    names, side = [labels[index] for index in shown], 3 + 0.2 * len(shown)
    figure = matplotlib_figure()(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share[shown][:, shown].numpy(), vmin=0, vmax=1, interpolation="nearest")
    for place in (axes.set_xticks, axes.set_yticks):
        place(range(len(names)), names, fontsize=7, parse_math=False)
    axes.tick_params(axis="x", labelrotation=90)
    axes.set_xlabel("phone of the code")
    axes.set_ylabel("phone that was said, the commonest above")
    axes.set_title("Test frames")
    figure.colorbar(image, label="share of the frames of a row", fraction=0.04, pad=0.01)
    figure.savefig(path, dpi=110, format="png")


def write_codes(path: str | Path, counts: Tensor, mapping: Tensor, labels: Sequence[str]) -> None:
    """P(phone | code) of all codes that occur, those of one phone side by side.

    Args:
        path: of the picture, .png.
        counts: frames `[K, num_labels]` that the map was learnt from.
        mapping: the label `[K]` of each code.
        labels: of the columns of `counts`.
    """
    shown = _by_frequency(counts.sum(dim=0))
    used = counts.any(dim=1).nonzero().flatten().tolist()
    share = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    # Within a phone, the codes that tell it most surely come first.
    used.sort(key=lambda k: (shown.index(int(mapping[k])), -share[k, mapping[k]].item()))
    height = 2.5 + 0.17 * len(shown)
    figure = matplotlib_figure()(figsize=(14, height), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(
        share[used][:, shown].T.numpy(), vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    names = [labels[index] for index in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=7, parse_math=False)
    axes.set_xlabel("codes, by the phone they stand for")
    axes.set_ylabel("phone, the commonest above")
    axes.set_title(f"Training frames: {len(used):,} of {len(counts):,} codes occur")
    figure.colorbar(image, label="P(phone | code)", fraction=0.02, pad=0.01)
    figure.savefig(path, dpi=110, format="png")


def write_transcript(
    path: str | Path,
    samples: Tensor,
    sample_rate: int,
    codes: Sequence[int],
    phones: Sequence[str],
    seconds_per_frame: float,
) -> None:
    """The spectrogram of a sound, with its codes and the phones they stand for written below.

    Args:
        path: of the picture, .png.
        samples: `[1, t]` in [-1, 1].
        sample_rate: in Hz.
        codes: of the whole sound, at least one.
        phones: one for each code.
        seconds_per_frame: how long a code lasts.
    """
    a_row = min(CODES_A_ROW, len(codes))
    drawn = min(len(codes), a_row * MOST_ROWS)
    rows = math.ceil(drawn / a_row)
    figure = matplotlib_figure()(
        figsize=(2.5 + 0.3 * a_row, 0.8 + 1.9 * rows), layout="constrained"
    )
    if drawn < len(codes):
        seconds, in_all = drawn * seconds_per_frame, len(codes) * seconds_per_frame
        figure.suptitle(f"the first {seconds:.1f} s of {in_all:.1f} s", fontsize=9)
    decibels = _spectrogram(
        samples[0, : round(drawn * seconds_per_frame * sample_rate)], sample_rate
    )
    for row in range(rows):
        first, stop = row * a_row, min((row + 1) * a_row, drawn)
        axes = figure.add_subplot(rows, 1, row + 1)
        begin, end = first * seconds_per_frame, (first + a_row) * seconds_per_frame
        _draw_sound(axes, decibels, sample_rate, begin, end)
        _write_below(axes, first, codes[first:stop], phones[first:stop], seconds_per_frame)
    figure.savefig(path, dpi=110, format="png")


def _by_frequency(*counts: Tensor) -> list[int]:
    """Which entries occur in any of the counts, by the first of them, the most frequent first."""
    order = counts[0].argsort(descending=True, stable=True).tolist()
    return [index for index in order if any(each[index] for each in counts)]


def _spectrogram(samples: Tensor, sample_rate: int) -> Tensor:
    """Decibels `[frequencies, columns]`, a column every `HOP` seconds, 0 for the loudest."""
    size = max(2, round(WINDOW * sample_rate))
    spectrum = torch.stft(
        samples,
        size,
        hop_length=_hop(sample_rate),
        window=torch.hann_window(size),
        pad_mode="constant",
        return_complex=True,
    )
    decibels = 20 * spectrum.abs().clamp(min=SMALLEST).log10()
    return decibels - decibels.max()


def _hop(sample_rate: int) -> int:
    return max(1, round(HOP * sample_rate))


def _draw_sound(axes: Any, decibels: Tensor, sample_rate: int, begin: float, end: float) -> None:
    """The columns of a spectrogram between two times in seconds."""
    hop = _hop(sample_rate) / sample_rate
    some = decibels[:, int(begin / hop) : math.ceil(end / hop) + 1]
    left = (int(begin / hop) - 0.5) * hop
    extent = (left, left + some.shape[1] * hop, 0, sample_rate / 2000)
    axes.imshow(
        some.numpy(),
        vmin=-FLOOR_DB,
        vmax=0,
        cmap="magma",
        aspect="auto",
        origin="lower",
        extent=extent,
    )
    axes.set_xlim(begin, end)
    axes.set_ylabel("kHz", fontsize=7)
    axes.xaxis.tick_top()
    axes.xaxis.set_major_formatter("{x:g} s")
    axes.tick_params(labelsize=7)


def _write_below(
    axes: Any, first: int, codes: Sequence[int], phones: Sequence[str], seconds_per_frame: float
) -> None:
    """Codes in a line of their own, phones once for each run of equal ones, in bold."""
    below = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "top", "color": INK}
    begun = 0
    for place, code in enumerate(codes):
        middle = (first + place + 0.5) * seconds_per_frame
        axes.text(middle, -0.03, str(code), fontsize=6, **below)
        if place + 1 == len(codes) or phones[place + 1] != phones[place]:
            middle = (first + (begun + place + 1) / 2) * seconds_per_frame
            bold = {"fontsize": 8, "fontweight": "bold", "parse_math": False}
            axes.text(middle, -0.16, phones[place], **bold, **below)
            axes.axvline((first + place + 1) * seconds_per_frame, color="white", linewidth=0.5)
            begun = place + 1
