"""Write the files of a command to a folder so that all of them come from one run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vqvideo.atomic import temporary_folder
from vqvideo.commands.model import check_output_files


@contextmanager
def atomic_output_folder(folder: Path, names: Sequence[str], overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder whose files move to `folder` when the block ends without an error.

    With `overwrite`, all files of these names from an earlier run are removed, so that no page
    shows plots of another model.

    Args:
        folder: the output folder; created if it does not exist.
        names: names of all files that the command may write.
        overwrite: replace existing files.

    Raises:
        FileExistsError: a file of these names appeared during the block, and `overwrite` is false;
            see `check_output_files` for the check before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder) as temporary:
        yield temporary
        for name in names:
            check_output_files(folder / name, 1, overwrite)
        for name in names:
            if (temporary / name).is_file():
                os.replace(temporary / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
