"""A data set of code windows of one shape, for training priors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from vqvideo.data.clips import Sample
from vqvideo.data.codes import CodeClip, CodeFile
from vqvideo.data.items import collect_names

WindowArray = npt.NDArray[
    np.int64
]  # [n, 3]: index of the file, index of the clip in it, first code
VAL_DIVISOR = 10  # without a test split, the last tenth of the windows is held out


class CodeDataset(Dataset[Sample]):
    """Windows of the clips of code files, read on access.

    The split "test" contains the test clips of the data. Without test clips, it contains the last
    tenth of the windows, and no code in them is used for training.

    Args:
        files: code files of one tokenizer; see `open_codes`.
        grid: shape of a window in codes.
        split: "train" or "test".
        clip_stride: codes along the first axis between the starts of two windows of a clip; None
            makes windows adjacent.

    Attributes:
        label_names: names of the classes and speakers, indexed by `class_id` and `speaker`; empty
            lists unless every clip has one.
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
        clip_stride: int | None = None,
    ) -> None:
        if clip_stride is not None and clip_stride < 1:
            raise ValueError(f"clip_stride must be at least 1, got {clip_stride}")
        self.files, self.grid, self.clip_stride = files, tuple(grid), clip_stride or grid[0]
        clips = [clip for file in files for clip in file.clips]
        self.label_names = {
            "class_id": collect_names([clip.class_name for clip in clips]),
            "speaker": collect_names([clip.speaker for clip in clips]),
        }
        self.has_actions = all(
            file.has_actions(index) for file in files for index in range(len(file))
        )
        has_test_split = any(clip.split == "test" for clip in clips)
        windows = [
            (file, clip, first)
            for file, code_file in enumerate(files)
            for clip, metadata in enumerate(code_file.clips)
            if not has_test_split or metadata.split == split
            for first in self._compute_starts(metadata, code_file.header.downsampling[0])
        ]
        self.windows = np.array(windows, dtype=np.int64).reshape(-1, 3)
        if not has_test_split:
            self.windows = _split_windows(self.windows, split, self.grid[0])
        if not len(self.windows):
            sizes = sorted({clip.grid for clip in clips})[:3]
            raise ValueError(
                f"no window of {list(grid)} codes in the split {split!r}: {len(clips)} clips, of "
                f"{', '.join(str(list(size)) for size in sizes)} codes"
            )

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        file_index, clip_index, first = (int(i) for i in self.windows[index])
        file = self.files[file_index]
        clip, stride = file.clips[clip_index], file.header.downsampling[0]
        sample: Sample = {"codes": file.get_codes(clip_index, first, first + self.grid[0])}
        for name, label in (("class_id", clip.class_name), ("speaker", clip.speaker)):
            if self.label_names[name] and label is not None:
                sample[name] = torch.tensor(self.label_names[name].index(label))
        if self.has_actions:
            last = first + self.grid[0]
            sample["actions"] = file.get_actions(clip_index, first * stride, last * stride)
        return sample

    def _compute_starts(self, clip: CodeClip, stride: int) -> range:
        """Return the starts of the windows; leave out a last code that has padded data."""
        if clip.grid[1:] != self.grid[1:]:
            raise ValueError(
                f"the codes of {clip.source} are {list(clip.grid)}, windows {list(self.grid)}; "
                f"encode the data at the size of the model"
            )
        return range(0, clip.length // stride - self.grid[0] + 1, self.clip_stride)


def _split_windows(windows: WindowArray, split: str, length: int) -> WindowArray:
    """Return the last tenth for testing; for training, the others that share no code with it."""
    first = len(windows) - math.ceil(len(windows) / VAL_DIVISOR)
    if split == "test" or not len(windows):
        return windows[first:]
    same_clip = (windows[:first, :2] == windows[first, :2]).all(axis=1)
    overlaps: npt.NDArray[np.bool_] = same_clip & (windows[:first, 2] + length > windows[first, 2])
    return windows[:first][~overlaps]
