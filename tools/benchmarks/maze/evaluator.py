"""Evaluate rollouts for `tools/benchmark.py maze`, batch by batch, without storing them.

real frames ─┬─ codes ─┬─ decoded: reconstruction
             │         └─ NLL of the prior, given the true, shuffled or no actions
             └─ first six frames ── rollout, given the true or no actions
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.maze.drift import compute_frame_statistics
from benchmarks.maze.inverse_dynamics import InverseDynamicsModel
from vqvideo.cond import Cond
from vqvideo.data.items import evenly_spaced
from vqvideo.data.metadata import Item
from vqvideo.device import get_device
from vqvideo.generator import Generator
from vqvideo.metrics import MAX_PSNR_DB, build_ssim, code_histogram, psnr_db
from vqvideo.recipes.worlds.episodes import Episode, read_discrete_actions, read_episode
from vqvideo.recipes.worlds.maze_agent import ACTIONS
from vqvideo.recipes.worlds.maze_model import NUM_PREFIX_FRAMES, get_frame_size, repeat_actions
from vqvideo.sampling import select_method

HORIZONS = (1, 5, 10)  # number of frames after the prefix at which predictions are evaluated
MIN_FRAMES = NUM_PREFIX_FRAMES + HORIZONS[-1]
MAX_WINDOWS = 2  # windows per episode for the NLL
EPISODE_BATCH_SIZE = 32  # unless single episodes are faster

ImageMetrics = dict[str, float]
"""`psnr_db` and `ssim` of images relative to the real ones."""


class EpisodeMetrics(NamedTuple):
    """The metrics of one episode.

    Attributes:
        reconstruction: PSNR of the mean squared error, and mean SSIM, over all frames.
        prediction: metrics at each of `HORIZONS`, by predictor (`imagined`, `unconditional`,
            `last_frame`).
        nats_per_code: NLL by the actions given to the prior (`right`, `shuffled`, `none`).
        action_pairs: int64 `[2, HORIZONS[-1] - 1]` by source of the frames: the true actions
            between the frames after the prefix, and the actions predicted by the inverse model.
        statistics: `[t, 12]` of the frames after the prefix, by source of the frames.
    """

    reconstruction: ImageMetrics
    prediction: dict[str, list[ImageMetrics]]
    nats_per_code: dict[str, float]
    action_pairs: dict[str, Tensor]
    statistics: dict[str, Tensor]


@dataclass(kw_only=True)
class MazeEvaluator:
    """Evaluates a model on episodes and collects the metrics.

    Attributes:
        generator: the model.
        inverse_model: predicts the action between two frames.
        num_frames: length of the rollout for each episode.
        temperature: sampling temperature of the prior.
        guidance_scale: guidance scale of conditional rollouts.
        seed: seed of the first episode; later episodes use the following seeds.
        on_batch_end: called with the number of episodes of each batch.
        episode_metrics: metrics of all episodes so far.
        code_counts: `[K]`, count of each code in the windows used for the NLL.
    """

    generator: Generator
    inverse_model: InverseDynamicsModel
    num_frames: int
    temperature: float
    guidance_scale: float | None
    seed: int
    on_batch_end: Callable[[int], object] = lambda number: None
    episode_metrics: list[EpisodeMetrics] = field(default_factory=list)
    code_counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def evaluate(self, items: Sequence[Item], length: int) -> None:
        """Evaluate the first `length` frames of each recording."""
        size = choose_batch_size(self.generator, self.guidance_scale)
        for start in range(0, len(items), size):
            indices = range(start, min(start + size, len(items)))
            episodes = [load_episode(items[index], self.generator, length) for index in indices]
            shuffled_actions = [
                read_discrete_actions(
                    _get_actions_path(items[(index + 1) % len(items)]), length, len(ACTIONS)
                )
                for index in indices
            ]
            seeds = [self.seed + index for index in indices]
            self._evaluate_batch(episodes, shuffled_actions, seeds)
            self.on_batch_end(len(indices))

    def imagine(
        self, frames: Tensor, actions: Tensor | None, num_frames: int, seeds: Sequence[int]
    ) -> Tensor:
        """Generate the frames `[b, 3, num_frames, h, w]` after the prefix of real frames.

        Args:
            frames: real frames `[b, 3, t, h, w]`, of which the first six are given to the model.
            actions: `[b, t]`, repeated from the start if too short; None is unconditional.
            num_frames: number of frames to generate.
            seeds: one seed for each item.
        """
        if actions is not None:
            actions = repeat_actions(actions, NUM_PREFIX_FRAMES + num_frames)
        clip = self.generator.continue_clip(
            frames[:, :, :NUM_PREFIX_FRAMES],
            num_frames,
            actions=actions,
            temperature=self.temperature,
            guidance_scale=None if actions is None else self.guidance_scale,
            seed=list(seeds),
        )
        return clip[:, :, NUM_PREFIX_FRAMES:]

    @torch.no_grad()
    def _evaluate_batch(
        self, episodes: Sequence[Episode], shuffled_actions: Sequence[Tensor], seeds: Sequence[int]
    ) -> None:
        device = get_device(self.generator)
        frames = torch.stack([episode.frames for episode in episodes]).to(device)
        actions = torch.stack([episode.actions for episode in episodes]).to(device)
        codes = self.generator.vqvae.encode(frames)
        reconstructed = self.generator.vqvae.decode(codes)
        imagined = self.imagine(frames, actions, self.num_frames, seeds)
        unconditional = self.imagine(frames, None, HORIZONS[-1], seeds)
        nll = self._compute_nll(codes, actions, torch.stack(list(shuffled_actions)).to(device))
        last_prefix = slice(NUM_PREFIX_FRAMES - 1, NUM_PREFIX_FRAMES)
        clips_by_source = {
            "real": frames[:, :, NUM_PREFIX_FRAMES - 1 :],
            "reconstructed": reconstructed[:, :, NUM_PREFIX_FRAMES - 1 :],
            "imagined": torch.cat([frames[:, :, last_prefix], imagined], dim=2),
        }
        predicted = {
            "imagined": imagined,
            "unconditional": unconditional,
            "last_frame": frames[:, :, last_prefix].expand_as(unconditional),
        }
        action_pairs = self._pair_actions(actions, clips_by_source)
        statistics = {
            name: compute_frame_statistics(clips).cpu() for name, clips in clips_by_source.items()
        }
        for i, real in enumerate(frames):
            row = EpisodeMetrics(
                reconstruction=compute_image_metrics(reconstructed[i], real),
                prediction={
                    name: [_evaluate_prediction(clips[i], real, horizon) for horizon in HORIZONS]
                    for name, clips in predicted.items()
                },
                nats_per_code={name: values[i].item() for name, values in nll.items()},
                action_pairs={name: pairs[i] for name, pairs in action_pairs.items()},
                statistics={name: values[i] for name, values in statistics.items()},
            )
            self.episode_metrics.append(row)

    def _pair_actions(
        self, actions: Tensor, clips_by_source: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the true and the predicted actions between the frames after the prefix: int64
        `[b, 2, HORIZONS[-1] - 1]` by source of the frames.
        """
        true = actions[:, NUM_PREFIX_FRAMES + 1 : MIN_FRAMES]
        return {
            name: torch.stack(
                [true, self.inverse_model.predict_actions(clips[:, :, 1 : 1 + HORIZONS[-1]])], 1
            ).cpu()
            for name, clips in clips_by_source.items()
        }

    def _compute_nll(
        self, codes: Tensor, actions: Tensor, shuffled_actions: Tensor
    ) -> dict[str, Tensor]:
        """Return the NLL in nats per code `[b]` by actions given to the prior; count the codes."""
        prior, shape = self.generator.prior, self.generator.sample_shape
        assert prior is not None and shape is not None
        length, nll = shape[0], dict[str, list[Tensor]]()
        starts = evenly_spaced(range(0, codes.shape[1] - length + 1, length), MAX_WINDOWS)
        for start in starts:
            window = slice(start, start + length)
            chunk = codes[:, window]
            counts = code_histogram(chunk, prior.codebook_size).cpu()
            self.code_counts = counts + (self.code_counts if len(self.code_counts) else 0)
            conditions = {
                "right": actions[:, window],
                "shuffled": shuffled_actions[:, window],
                "none": None,
            }
            for name, given_actions in conditions.items():
                cond = None if given_actions is None else Cond(actions=given_actions)
                values = -prior.log_prob(chunk, cond).double() / chunk[0].numel()
                nll.setdefault(name, []).append(values)
        return {name: torch.stack(rows).mean(dim=0) for name, rows in nll.items()}


def load_episode(item: Item, generator: Generator, length: int | None = None) -> Episode:
    """Load the first `length` frames of a recording listed by `list_episodes`; None loads all."""
    return read_episode(
        item.path,
        _get_actions_path(item),
        size=get_frame_size(generator),
        num_actions=len(ACTIONS),
        length=length,
    )


def choose_batch_size(generator: Generator, guidance_scale: float | None) -> int:
    """Return the number of episodes per batch: 1 if fused sampling is used, which is unbatched."""
    assert generator.prior is not None
    is_single = select_method(generator.prior, guidance_scale=guidance_scale) == "fused"
    return 1 if is_single else EPISODE_BATCH_SIZE


def compute_image_metrics(clip: Tensor, real: Tensor) -> ImageMetrics:
    """Return the PSNR and SSIM of frames `[3, t, h, w]` relative to real ones."""
    ssim = build_ssim()(clip.transpose(0, 1), real.transpose(0, 1)).mean()
    return {"psnr_db": min(psnr_db(clip, real), MAX_PSNR_DB), "ssim": ssim.item()}


def _evaluate_prediction(predicted: Tensor, real: Tensor, horizon: int) -> ImageMetrics:
    """Return the metrics of the predicted frame `horizon`, counted from the end of the prefix."""
    frame = NUM_PREFIX_FRAMES + horizon - 1
    return compute_image_metrics(predicted[:, horizon - 1 : horizon], real[:, frame : frame + 1])


def _get_actions_path(item: Item) -> Path:
    assert item.actions is not None  # checked by `list_episodes`
    return item.actions
