"""The files that a command leaves in one folder: all of them are of one run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_of_whole_files(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A hidden folder whose files move into `folder` when the block ends without an error.

    Of what an earlier run left under these names nothing stays, so that no page shows pictures of
    another model.

    Args:
        folder: where the files go; made if it is not there.
        names: of all files that the command may leave.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as unfinished:
        yield Path(unfinished)
        for name in names:
            if (Path(unfinished) / name).is_file():
                os.replace(Path(unfinished) / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
