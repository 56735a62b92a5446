"""Config of the built-in model of a maze."""

from __future__ import annotations

from vqvideo.config import MODELS, GeneratorConfig
from vqvideo.presets import video
from vqvideo.recipes.worlds.maze_agent import ACTIONS


@MODELS.register("maze")
def maze() -> GeneratorConfig:
    """Return the config of an action-conditioned model of a maze: 64x64 frames, 16x16 codes each.

    The temporal stride is 1, so an action takes effect in the next frame; the prior is conditioned
    on the action that led to each frame.
    """
    nets = {"widths": (64, 128), "num_blocks": (1, 3)}
    cond = {"num_actions": len(ACTIONS), "action_names": ACTIONS}
    prior = {"width": 64, "num_layers": 8, "dropout": 0.1, "cond": cond}
    return video().merge(
        strides=((1, 2, 2), (1, 2, 2)),
        encoder=nets,
        decoder=nets,
        prior=prior,
    )
