"""Load the actions of a recorded episode from a `.npy` file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def load_actions(path: Path) -> Tensor:
    """Load all actions of a file, int64 `[t]` or float32 `[t, a]`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file does not contain integers `[t]` or finite numbers `[t, a]`.
    """
    expected = f"{path} must be a .npy file of integers [t] or of numbers [t, a]"
    if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
        raise ValueError(f"{expected}, got a folder, a pipe or a device")
    try:
        stored = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # numpy raises many types, and suggests to allow pickled code
        raise ValueError(f"{expected}, got another format or a damaged file") from error
    if not isinstance(stored, np.ndarray):
        stored.close()
        raise ValueError(f"{expected}, got an archive of several arrays")
    kinds = {1: "iu", 2: "iuf"}.get(stored.ndim, "")  # time differences are of another kind
    if stored.dtype.kind not in kinds:
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


def read_frame_actions(path: Path, start: int, length: int | None) -> Tensor:
    """Return the action that led to each frame; 0 for the first frame of an episode.

    Args:
        path: see `load_actions`; action t leads from frame t to frame t + 1.
        start: the first frame.
        length: number of frames; None reads to the frame that the last action leads to.

    Returns:
        int64 `[length]` or float32 `[length, a]`.

    Raises:
        ValueError: the file is invalid or has too few actions.
    """
    recorded = load_actions(Path(path))
    first = torch.zeros(1, *recorded.shape[1:], dtype=recorded.dtype)
    frame_actions = torch.cat([first, recorded])[start:][:length]
    if length is not None and len(frame_actions) < length:
        raise ValueError(
            f"{path} holds {len(recorded)} actions; frames {start} to {start + length - 1} "
            f"need {start + length - 1}"
        )
    return frame_actions
