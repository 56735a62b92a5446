"""`vqvideo push`: a model onto the hub, with its card and its notice."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vqvideo.card import PLACE, card_of, notice_of, with_licence
from vqvideo.checkpoint import CARD, CONFIG, NOTICE, WEIGHTS, find, load, save
from vqvideo.generator import Generator
from vqvideo.hub import HubName, upload
from vqvideo.jobs.model import model_folder


def push_to_hub(
    model: Generator | str | Path,
    to: str,
    *,
    licence: str,
    private: bool = False,
    revision: str | None = None,
    commit_message: str = "Upload with vqvideo",
) -> str:
    """Put a model on the Hugging Face hub, in one commit; returns the address of the commit.

    Weights and config go as they are. The card says the licence and how to load the model from
    there; a notice of whose work is in the weights goes along. What else a repository holds stays.

    Args:
        model: a generator; or the folder of a checkpoint or of a run, or the name of a model that
            ships.
        to: `org/name`; the repository is made if there is none.
        licence: its identifier on the hub, as "apache-2.0".
        private: make a new repository private; one that is public is refused.
        revision: the branch, made if there is none; None for the main one.
        commit_message: of the commit.

    Raises:
        ValueError: a name or licence that is none, or a public repository where `private` is asked
            for.
        CheckpointError: the folder holds no model that `load` would read.
        HubError: no login, no right to write there, or the hub cannot be reached (an `OSError`).
    """
    name = HubName.of(to if revision is None else f"{to}@{revision}")
    if not licence.strip():
        raise ValueError("a model goes out under a licence; give its identifier, as apache-2.0")
    if not commit_message.strip():
        raise ValueError("commit_message must say something")
    with tempfile.TemporaryDirectory() as temporary:
        if isinstance(model, Generator):
            folder = Path(temporary) / name.repo.partition("/")[2]
            save(model, folder)
        else:
            folder = model_folder(model) if isinstance(model, str) else find(model)
            load(folder)  # what does not load here goes to nobody
        return upload(_files(folder, name, licence), name, commit_message, private=private)


def _files(folder: Path, name: HubName, licence: str) -> dict[str, Path | bytes]:
    card = with_licence(card_of(folder).replace(PLACE, str(name)), licence)
    files: dict[str, Path | bytes] = {
        CONFIG: folder / CONFIG,
        WEIGHTS: folder / WEIGHTS,
        CARD: card.encode(),
    }
    notice = notice_of(folder)
    if notice is not None:
        files[NOTICE] = notice.encode()
    return files
