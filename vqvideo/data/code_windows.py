"""What a prior is trained on: windows of one shape, out of code files."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from vqvideo.data.clips import Sample
from vqvideo.data.codes import CodeClip, CodeFile
from vqvideo.data.items import different_names

Windows = npt.NDArray[np.int64]  # [n, 3]: number of the file, of the clip in it, first code
HELD_OUT = 10  # without a test split, the last tenth of the windows is held out


class CodeWindows(Dataset[Sample]):
    """Windows of the clips of code files; each is read when it is asked for.

    Clips that the data held out are the split "test". Where it held out none, the last tenth of the
    windows is, and no code of theirs is trained on.

    Args:
        files: of one tokenizer; see `open_codes`.
        grid: of a window.
        split: "train" or "test".
        step: codes along the first axis between the starts of two windows of a clip; None puts
            them side by side.

    Attributes:
        names: what the numbers of `class_id` and `speaker` stand for, in their order; empty lists
            unless every clip has one.
        has_actions: whether every clip has actions.

    Raises:
        ValueError: no clip is long enough, or the frames of the clips have another size.
    """

    def __init__(
        self,
        files: Sequence[CodeFile],
        grid: tuple[int, ...],
        *,
        split: str = "train",
        step: int | None = None,
    ) -> None:
        if step is not None and step < 1:
            raise ValueError(f"step must be at least 1, got {step}")
        self.files, self.grid, self.step = files, tuple(grid), step or grid[0]
        every = [clip for file in files for clip in file.clips]
        self.names = {
            "class_id": different_names([clip.class_name for clip in every]),
            "speaker": different_names([clip.speaker for clip in every]),
        }
        self.has_actions = all(
            file.has_actions(index) for file in files for index in range(len(file))
        )
        held_out = any(clip.split == "test" for clip in every)
        windows = [
            (file, clip, first)
            for file, each in enumerate(files)
            for clip, about in enumerate(each.clips)
            if not held_out or about.split == split
            for first in self._starts(about, each.header.downsampling[0])
        ]
        self.windows = np.array(windows, dtype=np.int64).reshape(-1, 3)
        if not held_out:
            self.windows = _without_overlap(self.windows, split, self.grid[0])
        if not len(self.windows):
            sizes = sorted({clip.grid for clip in every})[:3]
            raise ValueError(
                f"no window of {list(grid)} codes in the split {split!r}: {len(every)} clips, of "
                f"{', '.join(str(list(size)) for size in sizes)} codes"
            )

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        number, clip, first = (int(n) for n in self.windows[index])
        file = self.files[number]
        about, stride = file.clips[clip], file.header.downsampling[0]
        sample: Sample = {"codes": file.codes(clip, first, first + self.grid[0])}
        for name, said in (("class_id", about.class_name), ("speaker", about.speaker)):
            if self.names[name] and said is not None:
                sample[name] = torch.tensor(self.names[name].index(said))
        if self.has_actions:
            last = first + self.grid[0]
            sample["actions"] = file.actions(clip, first * stride, last * stride)
        return sample

    def _starts(self, clip: CodeClip, stride: int) -> range:
        """Where windows begin; a last code that data fills only in part is left out."""
        if clip.grid[1:] != self.grid[1:]:
            raise ValueError(
                f"the codes of {clip.source} are {list(clip.grid)}, windows {list(self.grid)}; "
                f"encode the data at the size of the model"
            )
        return range(0, clip.length // stride - self.grid[0] + 1, self.step)


def _without_overlap(windows: Windows, split: str, length: int) -> Windows:
    """The last tenth for testing; for training, the others as far as they share no code with it."""
    first = len(windows) - math.ceil(len(windows) / HELD_OUT)
    if split == "test" or not len(windows):
        return windows[first:]
    same = (windows[:first, :2] == windows[first, :2]).all(axis=1)
    shares: npt.NDArray[np.bool_] = same & (windows[:first, 2] + length > windows[first, 2])
    return windows[:first][~shares]
