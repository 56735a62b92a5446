"""Spectrograms and audio files of example utterances and their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from vqvideo import media
from vqvideo.report.codebook_plot import import_figure_class
from vqvideo.spectra import render_spectrogram

MAX_PLOT_SECONDS = 3.0


class AudioVersion(NamedTuple):
    """One version of an utterance: the original, a reconstruction or a conversion.

    Attributes:
        name: name of its file, without number and suffix.
        title: title of its spectrogram.
        samples: audio `[1, t]`.
    """

    name: str
    title: str
    samples: Tensor


PLOT_FILE = "speech.png"
VERSION_NAMES = ("original", "reconstruction", "conversion_a", "conversion_b")
AUDIO_FILES = tuple(f"{name}_{number}.wav" for number in (1, 2) for name in VERSION_NAMES)


def write_examples(
    folder: Path, examples: Sequence[Sequence[AudioVersion]], sample_rate: int
) -> None:
    """Write every version of every example to `NAME_NUMBER.wav`."""
    for number, versions in enumerate(examples, start=1):
        for version in versions:
            file = folder / f"{version.name}_{number}.wav"
            media.write_audio(file, version.samples, sample_rate)


def plot_spectrograms(
    path: Path, examples: Sequence[Sequence[AudioVersion]], sample_rate: int
) -> None:
    """Plot the spectrograms of all versions, one column per example, over the loudest part of the
    recording, which comes first.
    """
    rows = max(len(versions) for versions in examples)
    figure = import_figure_class()(figsize=(14, 0.4 + 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, len(examples), squeeze=False)
    for column, versions in enumerate(examples):
        shown = _find_loudest(versions[0].samples, round(MAX_PLOT_SECONDS * sample_rate))
        for row in range(rows):
            if row < len(versions):
                _plot_spectrogram(axes[row, column], versions[row], sample_rate, shown)
            else:
                axes[row, column].set_axis_off()
        axes[len(versions) - 1, column].set_xlabel("seconds")
    figure.savefig(path, dpi=110, format="png")


def _find_loudest(samples: Tensor, length: int) -> slice:
    """Return the window of `length` samples with the highest energy in audio `[1, t]`.

    >>> import torch
    >>> _find_loudest(torch.tensor([[0.0, 0.1, 0.5, -0.5, 0.0]]), 2)
    slice(2, 4, None)
    """
    length = min(length, samples.shape[1])
    energy = F.pad(samples[0].double().square().cumsum(dim=0), (1, 0))
    start = int((energy[length:] - energy[: len(energy) - length]).argmax())
    return slice(start, start + length)


def _plot_spectrogram(axes: Any, version: AudioVersion, sample_rate: int, shown: slice) -> None:
    axes.imshow(
        render_spectrogram(version.samples[:, shown], sample_rate)[0, 0].numpy(),
        cmap="gray",
        vmin=-1,
        vmax=1,
        aspect="auto",
        extent=(shown.start / sample_rate, shown.stop / sample_rate, 0, 1),
    )
    axes.set_yticks([])
    axes.set_ylabel("mel bands")
    axes.set_title(version.title, fontsize=11, parse_math=False)
