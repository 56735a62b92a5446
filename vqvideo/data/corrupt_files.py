"""Name and track the files that cannot be read, and stop when there are too many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from vqvideo.media import MediaError

_MAX_LISTED = 3  # files named in the error


class TooManyCorruptError(MediaError):
    """Error raised when more files cannot be read than `max_corrupt` allows."""


class CorruptFiles:
    """Counter of the files that cannot be read, over all worker processes of a `DataLoader`.

    Args:
        paths: all files.
        max_corrupt: the fraction of them that may be corrupt, from 0 to 1.

    Raises:
        ValueError: `max_corrupt` is out of range.
    """

    def __init__(self, paths: Sequence[Path], max_corrupt: float) -> None:
        if not 0 <= max_corrupt <= 1:
            raise ValueError(f"max_corrupt must be a fraction from 0 to 1, got {max_corrupt}")
        self._paths, self._max_corrupt = list(paths), max_corrupt
        self._indices = {path: index for index, path in enumerate(paths)}
        # One byte per file, in memory shared by the worker processes and the main process.
        self._is_corrupt = torch.zeros(max(1, len(paths)), dtype=torch.bool).share_memory_()
        self._reasons: dict[Path, str] = {}

    def add(self, path: Path, error: MediaError) -> bool:
        """Mark a file as corrupt; return whether it is the first report by any process.

        Raises:
            TooManyCorruptError: the number of corrupt files exceeds the limit.
        """
        index = self._indices[path]
        is_new = not self._is_corrupt[index]
        self._is_corrupt[index] = True
        self._reasons[path] = str(error)
        # Count without a list: of millions of files, thousands may be corrupt.
        if int(self._is_corrupt.sum()) > self._max_corrupt * len(self._paths):
            skipped = self.to_list()
            reasons = "; ".join(reason for _, reason in skipped[:_MAX_LISTED])
            raise TooManyCorruptError(
                f"{len(skipped)} of {len(self._paths)} files cannot be read, which is more than "
                f"max_corrupt={self._max_corrupt:g} of them; repair or remove them, or increase "
                f"max_corrupt: "
                f"{reasons}{'; ...' if len(skipped) > _MAX_LISTED else ''}"
            ) from error
        return is_new

    def to_list(self) -> list[tuple[Path, str]]:
        """Return the corrupt files and the reasons.

        The log of the worker process that read a file may have more detail.
        """
        corrupt = [self._paths[index] for index in self._is_corrupt.nonzero().flatten().tolist()]
        return [
            (path, self._reasons.get(path, f"{path} cannot be decoded by a worker process"))
            for path in corrupt
        ]
