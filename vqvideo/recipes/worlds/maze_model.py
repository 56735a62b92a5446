"""Load video models that are conditioned on the actions of `vqvideo record-maze`."""

from __future__ import annotations

from torch import Tensor

from vqvideo.commands.model import load_model
from vqvideo.generator import Generator
from vqvideo.recipes.worlds.maze_agent import ACTIONS

NUM_PREFIX_FRAMES = 6  # real frames before a rollout: section 4.4 of van den Oord et al. 2017


def load_maze_model(model: str, device: str) -> Generator:
    """Load a video model whose prior is conditioned on the actions of `vqvideo record-maze`.

    Args:
        model: see `load_model`.
        device: see `load_model`.

    Raises:
        ValueError: the model does not qualify; the message says what is missing.
    """
    generator = load_model(model, device)
    vqvae, prior = generator.vqvae, generator.prior
    if vqvae.rank != 3 or vqvae.encoder.channels != 3:
        raise ValueError(f"expected a model of RGB video; {model} generates other data")
    if vqvae.downsampling[0] != 1:
        raise ValueError(
            f"{model} has one code frame for {vqvae.downsampling[0]} frames; one action per frame "
            f"needs a temporal stride of 1, as in the model maze"
        )
    if prior is None:
        raise ValueError(
            f"{model} has no prior, so it cannot generate; train one with vqvideo train-prior"
        )
    names = prior.cond.action_names or ACTIONS  # older models do not store the names
    if prior.cond.keys != ("actions",) or prior.cond.num_actions != len(ACTIONS):
        known = ", ".join(prior.cond.keys) or "none"
        count = f" ({prior.cond.num_actions} of them)" if prior.cond.num_actions else ""
        raise ValueError(
            f"the prior must be conditioned on the {len(ACTIONS)} actions of vqvideo record-maze, "
            f"that is cond.num_actions={len(ACTIONS)}, and nothing else; the conditions of {model} "
            f"are: {known}{count}"
        )
    if names != ACTIONS:
        raise ValueError(
            f"expected the actions of vqvideo record-maze, {', '.join(ACTIONS)}; the actions of "
            f"{model} are {', '.join(names)}"
        )
    return generator


def get_frame_size(generator: Generator) -> tuple[int, int]:
    """Return (height, width) of the frames of a model."""
    _, height, width = generator.sample_shape or ()
    return height, width


def repeat_actions(actions: Tensor, length: int) -> Tensor:
    """Repeat a sequence of actions `[..., n]` from its start up to `[..., length]`.

    >>> import torch
    >>> repeat_actions(torch.tensor([0, 1, 3]), 5).tolist()
    [0, 1, 3, 0, 1]
    """
    num_repeats = -(-length // actions.shape[-1])
    return actions.repeat(*(1,) * (actions.ndim - 1), num_repeats)[..., :length]
