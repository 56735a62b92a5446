"""One walk: a frame after the other, each drawn when it is asked for and told what is done.

The frames are those of `Generator.stream`, bit for bit, at a temperature that stays as it is.
`stream` takes one temperature and gives no codes; here the temperature may change from step to
step, and the codes are there to be shown, so codes are drawn and decoded one level below it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.demo.starts import Start
from vqvideo.generator import SEEDS_APART, Generator
from vqvideo.sampling import Sampling, stream


def actions_of(generator: Generator) -> tuple[str, ...]:
    """What can be done in the world of a model, by name; empty where it is told nothing.

    Raises:
        ValueError: one cannot walk through what this model makes; the message says why.
    """
    if generator.vqvae.rank != 3 or generator.vqvae.encoder.channels != 3:
        raise ValueError("to play takes a model of video in colour; this one makes something else")
    if generator.prior is None:
        raise ValueError(
            "this model has no prior yet, so it imagines nothing; train one (vqvideo train-prior)"
        )
    cond = generator.prior.cond
    beside = [name for name in cond.takes if name != "actions"]
    if beside or cond.action_dim:
        told = ", ".join(beside) or "actions that are vectors"
        raise ValueError(
            f"to play takes a prior that is told nothing but actions with numbers (num_actions); "
            f"this one is told {told}"
        )
    return cond.actions_called


class Walk:
    """What a model imagines for one visitor, with the state of its prior and its decoder.

    One code frame, and so one decision, makes as many frames as the temporal stride. (A decoder
    that looks ahead shows them late by as much as it does.)

    Args:
        generator: a model that `actions_of` has nothing against.
        start: frames to go on from; their actions are 0, "none", where nobody knows them. None
            starts from nothing.
        seed: decides all that is drawn.

    Attributes:
        codes: `[h, w]` of the code frame drawn last, several codebooks side by side; of the start
            before the first step.
    """

    def __init__(self, generator: Generator, start: Start | None = None, *, seed: int = 0) -> None:
        self.names = actions_of(generator)
        vqvae, prior, shape = generator.vqvae, generator.prior, generator.sample_shape
        assert prior is not None and shape is not None
        self.stride, self.device = vqvae.downsampling[0], prior.device
        self._action, self._temperature = 0, 1.0
        grid = vqvae.grid_shape(shape)[1:]
        frames = known = cond = None
        if start is not None:
            frames = start.frames[None].to(self.device)
            known = vqvae.encode(frames)
            cond = self._led(start) if self.names else None
            (cond or Cond()).check(prior.cond, 1, tuple(known.shape[1:4]))
        self.codes = torch.zeros(grid, dtype=torch.int64) if known is None else _flat(known[:, -1])
        steps = stream(
            prior,
            grid,
            known=known,
            cond=cond,
            conds=self._told() if self.names else None,
            temperature=self._temperatures(),
            seed=seed,
        )
        codes = itertools.chain([] if known is None else [known], map(self._noted, steps))
        pieces = vqvae.decode_stream(codes, seed=seed + SEEDS_APART, known=frames)
        each = (frame for piece in pieces for frame in piece.unbind(2))
        self._frames = itertools.islice(each, 0 if frames is None else frames.shape[2], None)

    def step(self, action: int = 0, temperature: float = 1.0) -> Tensor:
        """The next frames `[n, 3, h, w]` in [-1, 1], n the temporal stride.

        Args:
            action: what is done: its number; 0 for a model that is told none.
            temperature: of the prior; 0 takes the most probable codes.

        Raises:
            ValueError: there is no such action or temperature; the walk can go on.
        """
        _check_action(action, self.names)
        if type(temperature) not in (int, float):
            raise ValueError(f"a temperature is a number, got {temperature!r}")
        Sampling(temperature=temperature)  # raises here, where no stream ends of it
        self._action, self._temperature = action, float(temperature)
        return torch.cat(list(itertools.islice(self._frames, self.stride)))

    def _led(self, start: Start) -> Cond:
        actions = start.actions
        if actions is None:
            actions = torch.zeros(start.frames.shape[1], dtype=torch.int64)
        return Cond(actions=actions[None]).to(self.device)

    def _told(self) -> Iterator[Cond]:
        while True:
            yield Cond(actions=torch.full((1, self.stride), self._action, device=self.device))

    def _temperatures(self) -> Iterator[float]:
        while True:
            yield self._temperature

    def _noted(self, step: Tensor) -> Tensor:
        self.codes = _flat(step)
        return step[:, None]


def _check_action(action: object, names: tuple[str, ...]) -> None:
    if (
        isinstance(action, int)
        and not isinstance(action, bool)
        and action in range(len(names) or 1)
    ):
        return
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(names))
    known = f"the actions of this model are: {listed}" if names else "this model is told no actions"
    raise ValueError(f"{known}; got {action!r}")


def _flat(codes: Tensor) -> Tensor:
    """Codes `[1, h, w]`, or `[1, h, w, s]`, as the picture `[h, w]`, or `[h, s w]`."""
    codes = codes[0].cpu()
    return codes if codes.ndim == 2 else codes.movedim(-1, 1).flatten(1)
