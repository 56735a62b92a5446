"""Actions beside the frames of a recording, in a `.npy` file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_actions(path: Path, start: int, length: int) -> Tensor:
    """One action per frame: the one that led into it; 0 for the first frame of a recording.

    Args:
        path: integers `[t]` or numbers `[t, a]`; action t leads from frame t to frame t + 1.
        start: the first frame.
        length: frames.

    Returns:
        int64 `[length]` or float32 `[length, a]`.

    Raises:
        ValueError: another kind of file, or too few actions in it.
    """
    recorded = np.load(path, allow_pickle=False)
    if recorded.ndim == 1 and not np.issubdtype(recorded.dtype, np.integer):
        raise ValueError(
            f"{path} must hold integers [t] or numbers [t, a], got {recorded.dtype} [t]"
        )
    led = np.concatenate([np.zeros_like(recorded[:1]), recorded])[start : start + length]
    if len(led) < length:
        raise ValueError(
            f"{path} holds {len(recorded)} actions; frames {start} to {start + length - 1} "
            f"need {start + length - 1}"
        )
    return torch.from_numpy(led.astype(np.float32 if led.ndim > 1 else np.int64))
