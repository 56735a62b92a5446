"""Two utterances as a model gives them back: spectrograms to look at, and sounds to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from vqvideo import media
from vqvideo.report.picture import matplotlib_figure
from vqvideo.spectra import spectrogram

SHOWN_SECONDS = 3.0  # of each sound, at most


class Version(NamedTuple):
    """One sound of an utterance.

    Attributes:
        name: of its file, without number and ending.
        title: in words, above its spectrogram.
        samples: `[1, t]`.
    """

    name: str
    title: str
    samples: Tensor


PICTURE = "speech.png"
NAMES = ("original", "reconstruction", "conversion_a", "conversion_b")
SOUNDS = tuple(f"{name}_{number}.wav" for number in (1, 2) for name in NAMES)


def write_sounds(folder: Path, examples: Sequence[Sequence[Version]], sample_rate: int) -> None:
    """Every version of every example, as `NAME_NUMBER.wav`."""
    for number, versions in enumerate(examples, start=1):
        for version in versions:
            file = folder / f"{version.name}_{number}.wav"
            media.write_audio(file, version.samples, sample_rate)


def draw_speech(path: Path, examples: Sequence[Sequence[Version]], sample_rate: int) -> None:
    """The spectrograms of all versions, a column for each example: where its recording, which comes
    first, is loudest, and all of it that is shorter.
    """
    rows = max(len(versions) for versions in examples)
    figure = matplotlib_figure()(figsize=(14, 0.4 + 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, len(examples), squeeze=False)
    for column, versions in enumerate(examples):
        shown = _loudest(versions[0].samples, round(SHOWN_SECONDS * sample_rate))
        for row in range(rows):
            if row < len(versions):
                _draw(axes[row, column], versions[row], sample_rate, shown)
            else:
                axes[row, column].set_axis_off()
        axes[len(versions) - 1, column].set_xlabel("seconds")
    figure.savefig(path, dpi=110, format="png")


def _loudest(samples: Tensor, length: int) -> slice:
    """The stretch of that length, or all of a shorter sound `[1, t]`, that has most energy.

    >>> import torch
    >>> _loudest(torch.tensor([[0.0, 0.1, 0.5, -0.5, 0.0]]), 2)
    slice(2, 4, None)
    """
    length = min(length, samples.shape[1])
    energy = F.pad(samples[0].double().square().cumsum(dim=0), (1, 0))
    start = int((energy[length:] - energy[: len(energy) - length]).argmax())
    return slice(start, start + length)


def _draw(axes: Any, version: Version, sample_rate: int, shown: slice) -> None:
    axes.imshow(
        spectrogram(version.samples[:, shown], sample_rate)[0, 0].numpy(),
        cmap="gray",
        vmin=-1,
        vmax=1,
        aspect="auto",
        extent=(shown.start / sample_rate, shown.stop / sample_rate, 0, 1),
    )
    axes.set_yticks([])
    axes.set_ylabel("mel bands")
    axes.set_title(version.title, fontsize=11, parse_math=False)
