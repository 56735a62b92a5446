"""Interactive rollouts: each frame is sampled on request, given the current action.

At a constant temperature the frames equal the output of `Generator.stream` bit for bit. `stream`
has a single temperature and does not return codes; here the temperature may change at each step,
and the page shows the codes, so this module uses the functions below `stream`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from vqvideo.arguments import offset_seed
from vqvideo.cond import Cond
from vqvideo.generator import SEED_OFFSET, Generator
from vqvideo.recipes.worlds.play.starts import Start
from vqvideo.sampling import SamplingParams, stream


def get_action_labels(generator: Generator) -> tuple[str, ...]:
    """Return the names of the actions of a model; empty if it has no conditions.

    Raises:
        ValueError: the model does not support interactive rollouts; the message says why.
    """
    if generator.vqvae.rank != 3 or generator.vqvae.encoder.channels != 3:
        raise ValueError("play needs a model of RGB video; this one generates other data")
    if generator.prior is None:
        raise ValueError(
            "this model has no prior, so it cannot generate; train one with vqvideo train-prior"
        )
    cond = generator.prior.cond
    unsupported = [name for name in cond.keys if name != "actions"]
    if unsupported or cond.action_dim:
        conditions = ", ".join(unsupported) or "vectors of actions"
        raise ValueError(
            f"play needs a prior conditioned on discrete actions (num_actions) only; this one is "
            f"conditioned on {conditions}"
        )
    return cond.action_labels


class Rollout:
    """The rollout of one visitor, with the states of the prior and the decoder.

    One step samples one code frame, that is as many frames as the temporal stride, for one action.
    (A decoder with lookahead delays the frames accordingly.)

    Args:
        generator: a model that `get_action_labels` accepts.
        start: frames to continue; unknown actions count as 0, "none". None starts without frames.
        seed: seed of all sampling.

    Attributes:
        codes: `[h, w]`, the last sampled code frame, several codebooks side by side; before the
            first step, the last code frame of the start.
    """

    def __init__(self, generator: Generator, start: Start | None = None, *, seed: int = 0) -> None:
        self.action_names = get_action_labels(generator)
        vqvae, prior, shape = generator.vqvae, generator.prior, generator.sample_shape
        assert prior is not None and shape is not None
        self.stride, self.device = vqvae.downsampling[0], prior.device
        self._action, self._temperature = 0, 1.0
        grid = vqvae.compute_grid_shape(shape)[1:]
        frames = known = cond = None
        if start is not None:
            frames = start.frames[None].to(self.device)
            known = vqvae.encode(frames)
            cond = self._build_initial_cond(start) if self.action_names else None
            (cond or Cond()).check(prior.cond, 1, tuple(known.shape[1:4]))
        self.codes = (
            torch.zeros(grid, dtype=torch.int64)
            if known is None
            else _flatten_codebooks(known[:, -1])
        )
        steps = stream(
            prior,
            grid,
            known=known,
            cond=cond,
            conds=self._iter_conds() if self.action_names else None,
            temperature=self._iter_temperatures(),
            seed=seed,
        )
        codes = itertools.chain([] if known is None else [known], map(self._record_codes, steps))
        chunks = vqvae.decode_stream(codes, seed=offset_seed(seed, SEED_OFFSET), known=frames)
        all_frames = (frame for chunk in chunks for frame in chunk.unbind(2))
        self._frames = itertools.islice(all_frames, 0 if frames is None else frames.shape[2], None)

    def step(self, action: int = 0, temperature: float = 1.0) -> Tensor:
        """Return the next frames `[n, 3, h, w]` in [-1, 1], n the temporal stride.

        Args:
            action: id of the action; 0 for a model without actions.
            temperature: temperature of the prior; 0 takes the most probable codes.

        Raises:
            ValueError: the action or the temperature is invalid; the rollout can continue.
        """
        _check_action(action, self.action_names)
        if type(temperature) not in (int, float):
            raise ValueError(f"temperature must be a number, got {temperature!r}")
        SamplingParams(temperature=temperature)  # an error inside the stream would end it
        self._action, self._temperature = action, float(temperature)
        return torch.cat(list(itertools.islice(self._frames, self.stride)))

    def _build_initial_cond(self, start: Start) -> Cond:
        actions = start.actions
        if actions is None:
            actions = torch.zeros(start.frames.shape[1], dtype=torch.int64)
        return Cond(actions=actions[None]).to(self.device)

    def _iter_conds(self) -> Iterator[Cond]:
        while True:
            yield Cond(actions=torch.full((1, self.stride), self._action, device=self.device))

    def _iter_temperatures(self) -> Iterator[float]:
        while True:
            yield self._temperature

    def _record_codes(self, step: Tensor) -> Tensor:
        self.codes = _flatten_codebooks(step)
        return step[:, None]


def _check_action(action: object, names: tuple[str, ...]) -> None:
    """Raise `ValueError` if an action is not a valid id."""
    if (
        isinstance(action, int)
        and not isinstance(action, bool)
        and action in range(len(names) or 1)
    ):
        return
    listed = ", ".join(f"{index} {name}" for index, name in enumerate(names))
    known = f"the actions of this model are: {listed}" if names else "this model has no actions"
    raise ValueError(f"{known}; got {action!r}")


def _flatten_codebooks(codes: Tensor) -> Tensor:
    """Return codes `[1, h, w]` as `[h, w]`, or `[1, h, w, s]` as `[h, s w]`."""
    codes = codes[0].cpu()
    return codes if codes.ndim == 2 else codes.movedim(-1, 1).flatten(1)
