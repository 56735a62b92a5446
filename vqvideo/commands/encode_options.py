"""The options of `vqvideo encode`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vqvideo.media.pixels import Fit
from vqvideo.media.timestamps import check_fps

Engine = Literal["processes", "ray"]


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Options of `encode`.

    Attributes:
        clip_stride: split files into windows of the model's shape whose starts are this many frames
            or audio samples apart, and encode each by itself; None encodes each file as one clip,
            in constant memory.
        size: (height, width) to which frames are resized; None for the size of the model.
        fit: see `vqvideo.media.read_video`.
        fps: resample clips to this frame rate, for a model trained so; None keeps the rate of each
            file.
        compress: compress the codes under the model's prior.
        num_processes: shards encoded at the same time, each with an equal share of the CPU cores.
        engine: "processes" on this machine, or "ray": workers on all machines of a Ray cluster,
            which must see the folders under the same paths.
        max_corrupt: largest fraction of unreadable files that are skipped without an error. With
            fewer than 100 files, the default allows none.
        device: see `load_model`; with Ray, "auto" takes a GPU if the cluster has any.
        overwrite: start over and replace the code files of an earlier run.
    """

    clip_stride: int | None = None
    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    fps: float | None = None
    compress: bool = False
    num_processes: int = 1
    engine: Engine = "processes"
    max_corrupt: float = 0.01
    device: str = "auto"
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("clip_stride", "num_processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.max_corrupt <= 1:
            raise ValueError(f"max_corrupt must be a fraction from 0 to 1, got {self.max_corrupt}")
        if self.fps is not None:
            check_fps(self.fps)
        if self.engine not in get_args(Engine):
            known = " or ".join(map(repr, get_args(Engine)))
            raise ValueError(f"engine must be {known}, got {self.engine!r}")
        if self.engine == "ray" and ":" in self.device:
            raise ValueError(
                f"device must be 'auto', 'cpu' or 'cuda' for the engine 'ray', which assigns each "
                f"worker its own GPU, got {self.device!r}"
            )
