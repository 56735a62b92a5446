"""Plots of codes and phones: confusion matrix, P(phone | code), transcript of a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqvideo.atomic import replace_file
from vqvideo.report.codebook_plot import INK_COLOR, import_figure_class

CODES_PER_ROW, MAX_ROWS = 50, 20  # of a transcript: more are illegible
WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.005  # spectrogram window and hop, usual for speech
FLOOR_DB, EPS = 70.0, 1e-5  # dynamic range of the spectrogram; lower bound of amplitudes


def write_confusion_matrix(path: str | Path, counts: Tensor, labels: Sequence[str]) -> None:
    """Plot the confusion matrix of true and predicted phones, most frequent first.

    Args:
        path: path of the plot, .png.
        counts: numbers of frames `[num_labels, num_labels]`, one row per true label and one column
            per predicted label; each row is normalized in the plot.
        labels: names of rows and columns.
    """
    order = _sort_by_frequency(counts.sum(dim=1), counts.sum(dim=0))
    share = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    names, side = [labels[index] for index in order], 3 + 0.2 * len(order)
    figure = import_figure_class()(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share[order][:, order].numpy(), vmin=0, vmax=1, interpolation="nearest")
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        set_ticks(range(len(names)), names, fontsize=7, parse_math=False)
    axes.tick_params(axis="x", labelrotation=90)
    axes.set_xlabel("predicted phone")
    axes.set_ylabel("true phone, most frequent first")
    axes.set_title("Test frames")
    figure.colorbar(image, label="share of the frames of a row", fraction=0.04, pad=0.01)
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def write_code_plot(
    path: str | Path, counts: Tensor, mapping: Tensor, labels: Sequence[str]
) -> None:
    """Plot P(phone | code) of all codes that occur, grouped by phone.

    Args:
        path: path of the plot, .png.
        counts: numbers of training frames `[K, num_labels]`.
        mapping: label of each code, `[K]`.
        labels: names of the columns of `counts`.
    """
    order = _sort_by_frequency(counts.sum(dim=0))
    used = counts.any(dim=1).nonzero().flatten().tolist()
    share = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    # Within a phone, by descending P(phone | code).
    used.sort(key=lambda k: (order.index(int(mapping[k])), -share[k, mapping[k]].item()))
    height = 2.5 + 0.17 * len(order)
    figure = import_figure_class()(figsize=(14, height), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(
        share[used][:, order].T.numpy(), vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    names = [labels[index] for index in order]
    axes.set_yticks(range(len(order)), names, fontsize=7, parse_math=False)
    axes.set_xlabel("codes, grouped by phone")
    axes.set_ylabel("phone, most frequent first")
    axes.set_title(f"Training frames: {len(used):,} of {len(counts):,} codes occur")
    figure.colorbar(image, label="P(phone | code)", fraction=0.02, pad=0.01)
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def write_transcript(
    path: str | Path,
    waveform: Tensor,
    sample_rate: int,
    codes: Sequence[int],
    phones: Sequence[str],
    seconds_per_frame: float,
) -> None:
    """Plot the spectrogram of an audio clip, with its codes and their phones below.

    Args:
        path: path of the plot, .png.
        waveform: `[1, t]` in [-1, 1].
        sample_rate: in Hz.
        codes: codes of the whole clip, at least one.
        phones: phone of each code.
        seconds_per_frame: duration of a code.
    """
    codes_per_row = min(CODES_PER_ROW, len(codes))
    num_shown = min(len(codes), codes_per_row * MAX_ROWS)
    rows = math.ceil(num_shown / codes_per_row)
    figure = import_figure_class()(
        figsize=(2.5 + 0.3 * codes_per_row, 0.8 + 1.9 * rows), layout="constrained"
    )
    if num_shown < len(codes):
        seconds, total_seconds = num_shown * seconds_per_frame, len(codes) * seconds_per_frame
        figure.suptitle(f"the first {seconds:.1f} s of {total_seconds:.1f} s", fontsize=9)
    decibels = _compute_spectrogram(
        waveform[0, : round(num_shown * seconds_per_frame * sample_rate)], sample_rate
    )
    for row in range(rows):
        first, stop = row * codes_per_row, min((row + 1) * codes_per_row, num_shown)
        axes = figure.add_subplot(rows, 1, row + 1)
        begin, end = first * seconds_per_frame, (first + codes_per_row) * seconds_per_frame
        _plot_spectrogram(axes, decibels, sample_rate, begin, end)
        _annotate_phones(axes, first, codes[first:stop], phones[first:stop], seconds_per_frame)
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _sort_by_frequency(*counts: Tensor) -> list[int]:
    """Return the indices with a nonzero count, by descending count of the first tensor."""
    order = counts[0].argsort(descending=True, stable=True).tolist()
    return [index for index in order if any(each[index] for each in counts)]


def _compute_spectrogram(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return decibels `[frequencies, columns]`, one column per `HOP_SECONDS`; the maximum is 0."""
    size = max(2, round(WINDOW_SECONDS * sample_rate))
    spectrum = torch.stft(
        waveform,
        size,
        hop_length=_get_hop_length(sample_rate),
        window=torch.hann_window(size),
        pad_mode="constant",
        return_complex=True,
    )
    decibels = 20 * spectrum.abs().clamp(min=EPS).log10()
    return decibels - decibels.max()


def _get_hop_length(sample_rate: int) -> int:
    return max(1, round(HOP_SECONDS * sample_rate))


def _plot_spectrogram(
    axes: Any, decibels: Tensor, sample_rate: int, begin: float, end: float
) -> None:
    """Plot the columns of a spectrogram between two times in seconds."""
    hop_length = _get_hop_length(sample_rate) / sample_rate
    columns = decibels[:, int(begin / hop_length) : math.ceil(end / hop_length) + 1]
    left = (int(begin / hop_length) - 0.5) * hop_length
    extent = (left, left + columns.shape[1] * hop_length, 0, sample_rate / 2000)
    axes.imshow(
        columns.numpy(),
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


def _annotate_phones(
    axes: Any, first: int, codes: Sequence[int], phones: Sequence[str], seconds_per_frame: float
) -> None:
    """Write the codes, and below them each run of equal phones once, in bold."""
    text_options = {
        "transform": axes.get_xaxis_transform(),
        "ha": "center",
        "va": "top",
        "color": INK_COLOR,
    }
    run_start = 0
    for index, code in enumerate(codes):
        middle = (first + index + 0.5) * seconds_per_frame
        axes.text(middle, -0.03, str(code), fontsize=6, **text_options)
        if index + 1 == len(codes) or phones[index + 1] != phones[index]:
            middle = (first + (run_start + index + 1) / 2) * seconds_per_frame
            bold_options = {"fontsize": 8, "fontweight": "bold", "parse_math": False}
            axes.text(middle, -0.16, phones[index], **bold_options, **text_options)
            axes.axvline((first + index + 1) * seconds_per_frame, color="white", linewidth=0.5)
            run_start = index + 1
