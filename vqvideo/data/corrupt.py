"""Files that cannot be read: which, how many, and when there are too many to go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from vqvideo.media import MediaError

_NAMED = 3  # files that the error names


class TooManyCorruptError(MediaError):
    """More files cannot be read than may be: there is no going on without them."""


class CorruptFiles:
    """Counts the files that cannot be read, over all worker processes of a `DataLoader`.

    Args:
        paths: all files.
        allowed: the share of them that may be corrupt, from 0 to 1.

    Raises:
        ValueError: the share is out of range.
    """

    def __init__(self, paths: Sequence[Path], allowed: float) -> None:
        if not 0 <= allowed <= 1:
            raise ValueError(f"max_corrupt must be a share from 0 to 1, got {allowed}")
        self._paths, self._allowed = list(paths), allowed
        self._number = {path: number for number, path in enumerate(paths)}
        # One byte for each file, in memory that worker processes share with the main one.
        self._is_corrupt = torch.zeros(max(1, len(paths)), dtype=torch.bool).share_memory_()
        self._reasons: dict[Path, str] = {}

    def add(self, path: Path, error: MediaError) -> bool:
        """Count a file; whether it is new to all processes.

        Raises:
            TooManyCorruptError: now there are too many.
        """
        number = self._number[path]
        is_new = not self._is_corrupt[number]
        self._is_corrupt[number] = True
        self._reasons[path] = str(error)
        # Counted, not listed: of millions of files, thousands may be corrupt, one after the other.
        if int(self._is_corrupt.sum()) > self._allowed * len(self._paths):
            skipped = self.list()
            named = "; ".join(reason for _, reason in skipped[:_NAMED])
            raise TooManyCorruptError(
                f"{len(skipped)} of {len(self._paths)} files cannot be read, which is more than "
                f"max_corrupt={self._allowed:g} of them; mend or remove them, or allow more: "
                f"{named}{'; ...' if len(skipped) > _NAMED else ''}"
            ) from error
        return is_new

    def list(self) -> list[tuple[Path, str]]:
        """The corrupt files, and why; the log of the worker process that met one may say more."""
        corrupt = [self._paths[number] for number in self._is_corrupt.nonzero().flatten().tolist()]
        return [
            (path, self._reasons.get(path, f"{path} cannot be decoded by a worker process"))
            for path in corrupt
        ]
