"""`vqvideo export`: copy a model with weights of a smaller data type."""

from __future__ import annotations

from pathlib import Path

from vqvideo.atomic import write_text
from vqvideo.checkpoint import CARD_NAME, save
from vqvideo.commands.model import find_model_folder, load_model
from vqvideo.config_versions import DType
from vqvideo.model_card import read_notice, read_or_build_card, set_dtype_note


def export(
    *, model: str, out: str, dtype: DType = "int8", overwrite: bool = False
) -> tuple[Path, int]:
    """Copy a model to a folder, with its model card and its notice.

    A card is generated if the model has none. The notice lists works contained in the weights.

    Args:
        model: name of a shipped model, the folder of a trained one, or a name on the hub.
        out: the folder to write.
        dtype: data type of the stored weights: "int8", "float16" or "float32".
        overwrite: replace an existing checkpoint.

    Returns:
        The folder, and the total size of its files in bytes.
    """
    source, generator, folder = find_model_folder(model), load_model(model, "cpu"), Path(out)
    generator.notice, card = read_notice(source), set_dtype_note(read_or_build_card(source), dtype)
    save(generator, folder, dtype=dtype, overwrite=overwrite)
    write_text(folder / CARD_NAME, card)
    return folder, sum(file.stat().st_size for file in folder.iterdir())
