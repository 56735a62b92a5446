"""`vqvideo push`: upload a model to the Hugging Face hub, with its card and its notice."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vqvideo.checkpoint import (
    CARD_NAME,
    CONFIG_NAME,
    NOTICE_NAME,
    WEIGHTS_NAME,
    load,
    resolve_checkpoint,
    save,
)
from vqvideo.commands.model import find_model_folder
from vqvideo.generator import Generator
from vqvideo.hub import HubName, upload
from vqvideo.model_card import REPO_PLACEHOLDER, read_notice, read_or_build_card, set_license


def push_to_hub(
    model: Generator | str | Path,
    to: str,
    *,
    license: str,
    private: bool = False,
    revision: str | None = None,
    commit_message: str = "Upload with vqvideo",
) -> str:
    """Upload a model to the Hugging Face hub in one commit; return the URL of the commit.

    Weights and config are uploaded unchanged. The card states the license and how to load the model
    from the hub; the notice lists works contained in the weights. Other files of the repository are
    kept.

    Args:
        model: a generator, the folder of a checkpoint or of a run, or the name of a shipped model.
        to: `org/name`; the repository is created if it does not exist.
        license: identifier of the license on the hub, for example "apache-2.0".
        private: create a private repository; raise if it exists and is public.
        revision: the branch, created if it does not exist; None for the main branch.
        commit_message: message of the commit.

    Raises:
        ValueError: the name or the license is invalid, or the repository is public and `private` is
            set.
        CheckpointError: the folder has no model that `load` can read.
        HubError: not logged in, no write access, or the hub cannot be reached (an `OSError`).
    """
    name = HubName.parse(to if revision is None else f"{to}@{revision}")
    if not license.strip():
        raise ValueError("license must not be empty; give an identifier such as apache-2.0")
    if not commit_message.strip():
        raise ValueError("commit_message must not be empty")
    with tempfile.TemporaryDirectory() as temporary:
        if isinstance(model, Generator):
            folder = Path(temporary) / name.repo_id.partition("/")[2]
            save(model, folder)
        else:
            folder = (
                find_model_folder(model) if isinstance(model, str) else resolve_checkpoint(model)
            )
            load(folder)  # do not upload a model that cannot be loaded
        return upload(_collect_files(folder, name, license), name, commit_message, private=private)


def _collect_files(folder: Path, name: HubName, license: str) -> dict[str, Path | bytes]:
    """Return the files to upload by name, with the card completed."""
    card = set_license(read_or_build_card(folder).replace(REPO_PLACEHOLDER, str(name)), license)
    files: dict[str, Path | bytes] = {
        CONFIG_NAME: folder / CONFIG_NAME,
        WEIGHTS_NAME: folder / WEIGHTS_NAME,
        CARD_NAME: card.encode(),
    }
    notice = read_notice(folder)
    if notice is not None:
        files[NOTICE_NAME] = notice.encode()
    return files
