"""Actions beside the frames of a recording, in a `.npy` file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def load_actions(path: Path) -> Tensor:
    """All actions of a file, int64 `[t]` or float32 `[t, a]`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds anything else than integers `[t]` or finite numbers `[t, a]`.
    """
    expected = f"{path} must be a .npy file of integers [t] or of numbers [t, a]"
    try:
        stored = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:  # numpy would have a pickle loaded, which runs code
        raise ValueError(f"{expected}; it is none") from error
    if not isinstance(stored, np.ndarray):
        stored.close()
        raise ValueError(f"{expected}, got an archive of several")
    is_numbers = np.issubdtype(stored.dtype, np.integer) or np.issubdtype(stored.dtype, np.floating)
    fits = stored.ndim in (1, 2) and is_numbers
    if not fits or (stored.ndim == 1 and not np.issubdtype(stored.dtype, np.integer)):
        raise ValueError(f"{expected}, got {stored.dtype} {list(stored.shape)}")
    if stored.ndim == 1:
        if stored.size and int(stored.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{expected}, got {int(stored.max())}")
        return torch.from_numpy(stored.astype(np.int64))
    with np.errstate(over="ignore"):
        vectors = stored.astype(np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError(f"{expected}; some are NaN or infinite")
    return torch.from_numpy(vectors)


def read_actions(path: Path, start: int, length: int | None) -> Tensor:
    """One action per frame: the one that led into it; 0 for the first frame of a recording.

    Args:
        path: see `load_actions`; action t leads from frame t to frame t + 1.
        start: the first frame.
        length: frames; None is as many as the actions lead to.

    Returns:
        int64 `[length]` or float32 `[length, a]`.

    Raises:
        ValueError: another kind of file, or too few actions in it.
    """
    recorded = load_actions(Path(path))
    first = torch.zeros(1, *recorded.shape[1:], dtype=recorded.dtype)
    led = torch.cat([first, recorded])[start:][:length]
    if length is not None and len(led) < length:
        raise ValueError(
            f"{path} holds {len(recorded)} actions; frames {start} to {start + length - 1} "
            f"need {start + length - 1}"
        )
    return led
