"""`vqvideo export`: a model with smaller weights, to ship or to send."""

from __future__ import annotations

import shutil
from pathlib import Path

from vqvideo.checkpoint import NOTICE, DType, save
from vqvideo.jobs.model import open_model
from vqvideo.models import SHIPPED, list_models


def export(
    *, model: str, out: str, dtype: DType = "int8", overwrite: bool = False
) -> tuple[Path, int]:
    """Copy a model into a folder of its own; returns the folder and the size of its weights.

    Args:
        model: a model that ships or the folder of a trained one.
        out: the folder to write.
        dtype: of the weights on disk: "int8", "float16" or "float32".
        overwrite: replace a checkpoint that exists.

    Returns:
        The folder, and the bytes of all its files.
    """
    folder = Path(out)
    save(open_model(model, "cpu"), folder, dtype=dtype, overwrite=overwrite)
    notice = SHIPPED / model / NOTICE
    if model in list_models() and notice.is_file():
        shutil.copy(notice, folder / NOTICE)  # whose weights they are goes where they go
    return folder, sum(file.stat().st_size for file in folder.iterdir())
