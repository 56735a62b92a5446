"""Whether a codebook is healthy: one pass over data, figures, a sentence of advice, a picture.

    data -> encoder -> z_e -> quantizer -> codes -> Seen -> CodebookFigures -> advice

Not here: the figures (figures.py), the rules of advice (advice.py), the picture (picture.py).
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
from vqvideo.generator import Generator
from vqvideo.modes import evaluating
from vqvideo.quantizers import Quantizer
from vqvideo.report.advice import advise
from vqvideo.report.figures import CodebookFigures, figures_of
from vqvideo.report.picture import write_picture
from vqvideo.report.seen import Seen, given_to_parts, parts_of
from vqvideo.vqvae import VQVAE

BATCH_SIZE = 8
Data = Iterable[Tensor] | Iterable[Sample] | Dataset[Sample]


@dataclasses.dataclass(frozen=True)
class CodebookReport:
    """How the codebooks of a model fared with some data.

    Attributes:
        codebooks: figures of each; one unless the quantizer is a product or a residual.
        advice: one sentence, what is wrong and what to do, or "healthy"; of several codebooks
            the gravest, with the number of its codebook.
        seen: what the picture is drawn from.
    """

    codebooks: tuple[CodebookFigures, ...]
    advice: str
    seen: tuple[Seen, ...] = dataclasses.field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Advice and figures as plain data that JSON can hold."""
        return {
            "advice": self.advice,
            "codebooks": [dataclasses.asdict(figures) for figures in self.codebooks],
        }

    def write_picture(self, path: str | Path) -> None:
        """Draw how often each entry is used, and where entries and z_e lie, as a PNG.

        One row a codebook, at most four. To the left entries by how often they were used; to the
        right entries and some of the z_e, seen along the two directions in which used entries
        differ most.

        Raises:
            ImportError: matplotlib is not installed; the message says how to.
        """
        write_picture(path, self.advice, self.codebooks, self.seen)


def codebook_report(
    model: Generator | VQVAE,
    data: Data,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> CodebookReport:
    """Tell whether the codebook of a model is healthy, by a full pass over data.

    The pass is in evaluation mode and without gradients; nothing of the model moves, nor does
    the random state of torch. Entries are what `quantizer.decode` gives for each code: with a
    projection, the projected ones.

    Args:
        model: its first stage is looked at.
        data: batches `[b, c, *axes]` in [-1, 1], or a data set of samples `{"x": [c, *axes]}`,
            which is batched by 8. Some ten codes per entry are needed at least.
        progress: called with (items done, items in all) after each batch of a data set.

    Raises:
        ValueError: no data at all, data that is not for this model, or a quantizer of several
            codebooks that is neither a product nor a residual.

    >>> import vqvideo
    >>> generator = vqvideo.build("image", quantizer={"codebook_size": 8})
    >>> report = codebook_report(generator, [torch.zeros(4, 3, 32, 32)])
    >>> report.advice
    'the codebook has not started yet; train the model first'
    """
    vqvae = model.vqvae if isinstance(model, Generator) else model
    device = next(vqvae.parameters()).device
    with torch.no_grad(), evaluating(vqvae):
        watch = CodebookWatch(vqvae.quantizer, device)
        for x in _batches(data, progress):
            z_e = vqvae.z_e(x.to(device))
            watch.add(z_e, vqvae.quantizer(z_e).codes)
        return watch.report()


class CodebookWatch:
    """What `codebook_report` keeps of a pass, for a pass that does other things too.

    To be used in evaluation mode and without gradients.

    Args:
        quantizer: the one to judge.
        device: where it is.

    Raises:
        ValueError: it has several codebooks and is neither a product nor a residual.
    """

    def __init__(self, quantizer: Quantizer, device: torch.device) -> None:
        self.quantizer, self.parts = quantizer, parts_of(quantizer)
        self.seen = tuple(Seen(part, device) for part in self.parts)

    def add(self, z_e: Tensor, codes: Tensor) -> None:
        """Take in a batch: z_e `[b, z_channels, *grid]` and its codes `[b, *grid]`, of several
        codebooks `[b, *grid, s]`.
        """
        given = given_to_parts(self.quantizer, z_e, codes)
        for each, part_z_e, part_codes in zip(self.seen, *given, strict=True):
            each.add(part_z_e, part_codes)

    def report(self) -> CodebookReport:
        """On all that was taken in; raises `ValueError` where that is nothing."""
        if not self.seen[0].counts.any():
            raise ValueError("the data holds nothing to judge a codebook by")
        codebooks = tuple(figures_of(*each) for each in zip(self.parts, self.seen, strict=True))
        return CodebookReport(codebooks, advise(codebooks, self.quantizer), self.seen)


def _batches(data: Data, progress: Callable[[int, int], None] | None) -> Iterator[Tensor]:
    if not isinstance(data, Dataset):
        for batch in data:
            yield batch["x"] if isinstance(batch, Mapping) else batch
        return
    # A loader without a generator of its own draws a number from that of torch.
    loader: DataLoader[Any] = DataLoader(
        data, batch_size=BATCH_SIZE, collate_fn=_stacked, generator=torch.Generator()
    )
    done = 0
    for x in loader:
        yield x
        done += len(x)
        if progress is not None:
            progress(done, len(data))  # type: ignore[arg-type]


def _stacked(samples: list[Sample]) -> Tensor:
    return torch.stack([sample["x"] for sample in samples])
