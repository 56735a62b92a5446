"""Codebook report: metrics, one sentence of advice and a plot, from one pass over data.

    data -> encoder -> z_e -> quantizer -> codes -> CodebookStatistics -> CodebookMetrics -> advice

The statistics are in codebook_statistics.py, the metrics in codebook_metrics.py, the rules of the
advice in advice.py and the plot in codebook_plot.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vqvideo.data.clips import Sample
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.modes import eval_view
from vqvideo.quantizers import Quantizer
from vqvideo.report.advice import advise
from vqvideo.report.codebook_metrics import CodebookMetrics, compute_codebook_metrics
from vqvideo.report.codebook_plot import write_codebook_plot
from vqvideo.report.codebook_statistics import CodebookStatistics, list_codebooks, split_inputs
from vqvideo.vqvae import VQVAE

BATCH_SIZE = 8
Data = Iterable[Tensor] | Iterable[Sample] | Dataset[Sample]


@dataclasses.dataclass(frozen=True)
class CodebookReport:
    """State of the codebooks of a model on some data.

    Attributes:
        codebooks: metrics of each codebook; one unless the quantizer is a product or a residual.
        advice: "healthy", or one sentence with the worst problem and its remedy; with several
            codebooks it names the codebook.
        statistics: data of the plot, one entry per codebook.
    """

    codebooks: tuple[CodebookMetrics, ...]
    advice: str
    statistics: tuple[CodebookStatistics, ...] = dataclasses.field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return advice and metrics as plain, JSON-serializable data."""
        return {
            "advice": self.advice,
            "codebooks": [dataclasses.asdict(metrics) for metrics in self.codebooks],
        }

    def write_plot(self, path: str | Path) -> None:
        """Plot the usage of the entries, and a projection of entries and z_e, as a PNG.

        One row per codebook, at most four. Left: usage counts of the entries, sorted. Right:
        entries and a sample of z_e, projected onto the first two principal components of the used
        entries.

        Raises:
            ImportError: matplotlib is not installed; the message says how to install it.
        """
        write_codebook_plot(path, self.advice, self.codebooks, self.statistics)


def codebook_report(
    model: Generator | VQVAE,
    data: Data,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> CodebookReport:
    """Assess the codebook of a model by a full pass over data.

    The pass runs in evaluation mode and without gradients; it changes neither the model nor the
    random state of torch. Entries are the outputs of `quantizer.decode` for each code; with a
    projection, they are the projected entries.

    Args:
        model: the model; only its first stage is used.
        data: batches `[b, c, *axes]` in [-1, 1], or a dataset of samples `{"x": [c, *axes]}`,
            which is loaded in batches of 8. At least about ten codes per entry are needed.
        progress: called with (items done, total items) after each batch of a dataset.

    Raises:
        ValueError: the data is empty or does not fit the model, or the quantizer has several
            codebooks and is neither a product nor a residual.

    >>> import vqvideo
    >>> generator = vqvideo.build("image", quantizer={"codebook_size": 8})
    >>> report = codebook_report(generator, [torch.zeros(4, 3, 32, 32)])
    >>> report.advice
    'the codebook is not initialized yet; train the model first'
    """
    vqvae = eval_view(model.vqvae if isinstance(model, Generator) else model)
    device = get_device(vqvae)
    with torch.no_grad():
        monitor = CodebookMonitor(vqvae.quantizer, device)
        for x in _iter_batches(data, progress):
            z_e = vqvae.compute_z_e(x.to(device))
            monitor.update(z_e, vqvae.quantizer(z_e).codes)
        return monitor.compute()


class CodebookMonitor:
    """Incremental `codebook_report`, for passes over data that also compute other things.

    Use it in evaluation mode and without gradients.

    Args:
        quantizer: the quantizer to assess.
        device: device of the quantizer.

    Raises:
        ValueError: the quantizer has several codebooks and is neither a product nor a residual.
    """

    def __init__(self, quantizer: Quantizer, device: torch.device) -> None:
        self.quantizer, self.quantizers = quantizer, list_codebooks(quantizer)
        self.statistics = tuple(CodebookStatistics(part, device) for part in self.quantizers)

    def update(self, z_e: Tensor, codes: Tensor) -> None:
        """Add a batch: z_e `[b, z_channels, *grid]` and its codes `[b, *grid]`.

        With several codebooks, codes are `[b, *grid, s]`.
        """
        inputs = split_inputs(self.quantizer, z_e, codes)
        for statistics, part_z_e, part_codes in zip(self.statistics, *inputs, strict=True):
            statistics.update(part_z_e, part_codes)

    def compute(self) -> CodebookReport:
        """Return the report on all batches.

        Raises:
            ValueError: there were no batches.
        """
        if not self.statistics[0].counts.any():
            raise ValueError("the data is empty; a codebook report needs at least one batch")
        codebooks = tuple(
            compute_codebook_metrics(*each)
            for each in zip(self.quantizers, self.statistics, strict=True)
        )
        return CodebookReport(codebooks, advise(codebooks, self.quantizer), self.statistics)


def _iter_batches(data: Data, progress: Callable[[int, int], None] | None) -> Iterator[Tensor]:
    if not isinstance(data, Dataset):
        for batch in data:
            yield batch["x"] if isinstance(batch, Mapping) else batch
        return
    # Without its own generator, a loader would advance the global random state.
    loader: DataLoader[Any] = DataLoader(
        data, batch_size=BATCH_SIZE, collate_fn=_collate, generator=torch.Generator()
    )
    num_done = 0
    for x in loader:
        yield x
        num_done += len(x)
        if progress is not None:
            progress(num_done, len(data))  # type: ignore[arg-type]


def _collate(samples: list[Sample]) -> Tensor:
    return torch.stack([sample["x"] for sample in samples])
