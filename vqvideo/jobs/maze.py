"""Models that are told what is done in a maze: which they are, and how they are told it."""

from __future__ import annotations

from torch import Tensor

from vqvideo.data.maze_walk import ACTIONS
from vqvideo.generator import Generator
from vqvideo.jobs.model import open_model

PREFIX = 6  # real frames that a model goes on from, as in section 4.4 of van den Oord et al. 2017


def open_maze_model(model: str, device: str) -> Generator:
    """A model of video whose prior is told the actions of `vqvideo record-maze`.

    Args:
        model: see `open_model`.
        device: see `open_model`.

    Raises:
        ValueError: it is another model; the message says what is missing.
    """
    generator = open_model(model, device)
    vqvae, prior = generator.vqvae, generator.prior
    if vqvae.rank != 3 or vqvae.encoder.channels != 3:
        raise ValueError(f"walks are video in colour; {model} makes something else")
    if vqvae.downsampling[0] != 1:
        raise ValueError(
            f"{model} has one code for {vqvae.downsampling[0]} frames; what is done between two "
            f"frames shows where each has codes of its own, as those of the model maze"
        )
    if prior is None:
        raise ValueError(
            f"{model} has no prior yet, so it imagines nothing; train one (vqvideo train-prior)"
        )
    names = prior.cond.action_names or ACTIONS  # those of older models are not written down
    if prior.cond.takes != ("actions",) or prior.cond.num_actions != len(ACTIONS):
        told = ", ".join(prior.cond.takes) or "nothing"
        number = f" ({prior.cond.num_actions} of them)" if prior.cond.num_actions else ""
        raise ValueError(
            f"the prior must be told the {len(ACTIONS)} actions of vqvideo record-maze, that is "
            f"cond.num_actions={len(ACTIONS)}, and nothing else; that of {model} is told "
            f"{told}{number}"
        )
    if names != ACTIONS:
        raise ValueError(
            f"the actions must be those of vqvideo record-maze, {', '.join(ACTIONS)}; those of "
            f"{model} are {', '.join(names)}"
        )
    return generator


def size_of(generator: Generator) -> tuple[int, int]:
    """Height and width of the frames that a model was made for."""
    _, height, width = generator.sample_shape or ()
    return height, width


def lengthened(actions: Tensor, length: int) -> Tensor:
    """Actions `[..., length]`: the given ones, and where they end, again from the first on.

    >>> import torch
    >>> lengthened(torch.tensor([0, 1, 3]), 5).tolist()
    [0, 1, 3, 0, 1]
    """
    times = -(-length // actions.shape[-1])
    return actions.repeat(*(1,) * (actions.ndim - 1), times)[..., :length]
