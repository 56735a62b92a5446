"""`vqvideo export`: a model with smaller weights, to ship or to send."""

from __future__ import annotations

from pathlib import Path

from vqvideo.card import card_of, notice_of, with_dtype
from vqvideo.checkpoint import CARD, save
from vqvideo.formats import DType
from vqvideo.jobs.model import model_folder, open_model


def export(
    *, model: str, out: str, dtype: DType = "int8", overwrite: bool = False
) -> tuple[Path, int]:
    """Copy a model into a folder of its own; returns the folder and the size of its weights.

    Its card goes along, or one is written, and the notice that says whose work is in the weights.

    Args:
        model: a model that ships, the folder of a trained one, or a name on the hub.
        out: the folder to write.
        dtype: of the weights on disk: "int8", "float16" or "float32".
        overwrite: replace a checkpoint that exists.

    Returns:
        The folder, and the bytes of all its files.
    """
    source, generator, folder = model_folder(model), open_model(model, "cpu"), Path(out)
    generator.notice, card = notice_of(source), with_dtype(card_of(source), dtype)
    save(generator, folder, dtype=dtype, overwrite=overwrite)
    (folder / CARD).write_text(card, encoding="utf-8")
    return folder, sum(file.stat().st_size for file in folder.iterdir())
