"""Imagine walks for `vqvideo benchmark maze`, and measure each before it is dropped.

real frames ─┬─ codes ─┬─ decoded: reconstruction
             │         └─ nats of the prior: told what was done, something else, nothing
             └─ the first six ── imagined on: told what was done, nothing
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.data.episodes import Episode, numbered_actions, read_episode
from vqvideo.data.items import spread
from vqvideo.data.maze_walk import ACTIONS
from vqvideo.data.metadata import Item
from vqvideo.generator import Generator
from vqvideo.jobs.benchmark.maze.drift import frame_statistics
from vqvideo.jobs.benchmark.maze.inverse import InverseModel
from vqvideo.jobs.maze import PREFIX, lengthened, size_of
from vqvideo.metrics import BEST_PSNR_DB, code_histogram, psnr_db, ssim_measure
from vqvideo.sampling import method_for

AHEAD = (1, 5, 10)  # frames after the real ones at which predictions are measured
LEAST_FRAMES = PREFIX + AHEAD[-1]
MOST_WINDOWS = 2  # of an episode, whose nats are measured
AT_ONCE = 32  # episodes, where single ones are not quicker

Pictures = dict[str, float]
"""`psnr_db` and `ssim` of pictures beside what they should be."""


class Row(NamedTuple):
    """What is measured of one episode.

    Attributes:
        reconstruction: of all its frames: the PSNR of their mean squared error, the mean SSIM.
        prediction: by who predicts (`imagined`, `told_nothing`, `last_frame`), at each of `AHEAD`.
        nats_per_code: by what the prior is told: `right`, `shuffled`, `none`.
        recovered: by whose frames, int64 `[2, AHEAD[-1] - 1]`: the actions between the frames after
            the first six, and those that the inverse model sees there.
        statistics: by whose frames, `[t, 12]` of the frames after the first six.
    """

    reconstruction: Pictures
    prediction: dict[str, list[Pictures]]
    nats_per_code: dict[str, float]
    recovered: dict[str, Tensor]
    statistics: dict[str, Tensor]


@dataclass(kw_only=True)
class MazePass:
    """What is measured on episode after episode.

    Attributes:
        generator: the model.
        inverse: tells what was done between two frames.
        num_frames: imagined of each episode.
        temperature: of the prior.
        guidance: of the prior, where it is told anything.
        seed: of the first episode; the next has the next.
        tell: called with the number of episodes of each batch.
        rows: one for each episode so far.
        counts: `[K]`, how often each code came in the windows whose nats are in the rows.
    """

    generator: Generator
    inverse: InverseModel
    num_frames: int
    temperature: float
    guidance: float | None
    seed: int
    tell: Callable[[int], object] = lambda number: None
    rows: list[Row] = field(default_factory=list)
    counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def measure(self, items: Sequence[Item], length: int) -> None:
        """Measure the first `length` frames of each of some recordings."""
        size = at_once(self.generator, self.guidance)
        for start in range(0, len(items), size):
            some = range(start, min(start + size, len(items)))
            episodes = [read_walk(items[index], self.generator, length) for index in some]
            others = [
                numbered_actions(_actions_of(items[(index + 1) % len(items)]), length, len(ACTIONS))
                for index in some
            ]
            self._measure(episodes, others, [self.seed + index for index in some])
            self.tell(len(some))

    def imagined(
        self, frames: Tensor, actions: Tensor | None, number: int, seeds: Sequence[int]
    ) -> Tensor:
        """The frames `[b, 3, number, h, w]` that follow the first six of `[b, 3, t, h, w]`.

        Args:
            frames: real ones.
            actions: `[b, t]`, gone through again where they end; None tells nothing.
            number: of frames.
            seeds: one for each item.
        """
        told = None if actions is None else lengthened(actions, PREFIX + number)
        clip = self.generator.continue_clip(
            frames[:, :, :PREFIX],
            number,
            actions=told,
            temperature=self.temperature,
            guidance=None if told is None else self.guidance,
            seed=list(seeds),
        )
        return clip[:, :, PREFIX:]

    @torch.no_grad()
    def _measure(
        self, episodes: Sequence[Episode], others: Sequence[Tensor], seeds: Sequence[int]
    ) -> None:
        device = next(self.generator.parameters()).device
        frames = torch.stack([episode.frames for episode in episodes]).to(device)
        actions = torch.stack([episode.actions for episode in episodes]).to(device)
        codes = self.generator.vqvae.encode(frames)
        again = self.generator.vqvae.decode(codes)
        imagined = self.imagined(frames, actions, self.num_frames, seeds)
        nothing = self.imagined(frames, None, AHEAD[-1], seeds)
        nats = self._nats(codes, actions, torch.stack(list(others)).to(device))
        sixth = slice(PREFIX - 1, PREFIX)
        from_sixth = {
            "real": frames[:, :, PREFIX - 1 :],
            "reconstructed": again[:, :, PREFIX - 1 :],
            "imagined": torch.cat([frames[:, :, sixth], imagined], dim=2),
        }
        predicted = {
            "imagined": imagined,
            "told_nothing": nothing,
            "last_frame": frames[:, :, sixth].expand_as(nothing),
        }
        recovered = self._recovered(actions, from_sixth)
        statistics = {name: frame_statistics(clips).cpu() for name, clips in from_sixth.items()}
        for i, real in enumerate(frames):
            row = Row(
                reconstruction=nearness(again[i], real),
                prediction={
                    name: [_prediction(clips[i], real, k) for k in AHEAD]
                    for name, clips in predicted.items()
                },
                nats_per_code={name: values[i].item() for name, values in nats.items()},
                recovered={name: pairs[i] for name, pairs in recovered.items()},
                statistics={name: values[i] for name, values in statistics.items()},
            )
            self.rows.append(row)

    def _recovered(self, actions: Tensor, from_sixth: dict[str, Tensor]) -> dict[str, Tensor]:
        """What was done between the frames after the sixth, and what is seen there: int64
        `[b, 2, AHEAD[-1] - 1]` by whose frames they are.
        """
        done = actions[:, PREFIX + 1 : LEAST_FRAMES]
        return {
            name: torch.stack(
                [done, self.inverse.recovered(clips[:, :, 1 : 1 + AHEAD[-1]])], 1
            ).cpu()
            for name, clips in from_sixth.items()
        }

    def _nats(self, codes: Tensor, actions: Tensor, others: Tensor) -> dict[str, Tensor]:
        """Nats per code `[b]` by what the prior is told; the codes are counted on the way."""
        prior, shape = self.generator.prior, self.generator.sample_shape
        assert prior is not None and shape is not None
        window, found = shape[0], dict[str, list[Tensor]]()
        starts = spread(range(0, codes.shape[1] - window + 1, window), MOST_WINDOWS)
        for start in starts:
            some = slice(start, start + window)
            seen = codes[:, some]
            counts = code_histogram(seen, prior.codebook_size).cpu()
            self.counts = counts + (self.counts if len(self.counts) else 0)
            told = {"right": actions[:, some], "shuffled": others[:, some], "none": None}
            for name, given in told.items():
                cond = None if given is None else Cond(actions=given)
                nats = -prior.log_prob(seen, cond).double() / seen[0].numel()
                found.setdefault(name, []).append(nats)
        return {name: torch.stack(values).mean(dim=0) for name, values in found.items()}


def read_walk(item: Item, generator: Generator, length: int | None = None) -> Episode:
    """The first frames of a recording that `episode_items` has looked at, all by default."""
    return read_episode(
        item.path,
        _actions_of(item),
        size=size_of(generator),
        num_actions=len(ACTIONS),
        length=length,
    )


def at_once(generator: Generator, guidance: float | None) -> int:
    """How many episodes to work on at a time: one where the compiled step draws single ones."""
    assert generator.prior is not None
    is_single = method_for(generator.prior, guidance=guidance) == "fused"
    return 1 if is_single else AT_ONCE


def nearness(clip: Tensor, real: Tensor) -> Pictures:
    """How near frames `[3, t, h, w]` come to real ones."""
    ssim = ssim_measure()(clip.transpose(0, 1), real.transpose(0, 1)).mean()
    return {"psnr_db": min(psnr_db(clip, real), BEST_PSNR_DB), "ssim": ssim.item()}


def _prediction(after: Tensor, real: Tensor, k: int) -> Pictures:
    """How near frame k of those that follow comes to the real one."""
    frame = PREFIX + k - 1
    return nearness(after[:, k - 1 : k], real[:, frame : frame + 1])


def _actions_of(item: Item) -> Path:
    assert item.actions is not None  # `episode_items` has looked
    return item.actions
