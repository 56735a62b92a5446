"""Training of the first stage, the second stage, both jointly, or a decoder alone.

Needs the extra `train`.
"""

from vqvideo.training.decoder import train_decoder
from vqvideo.training.joint import train_joint
from vqvideo.training.loop import train
from vqvideo.training.prior import train_prior
from vqvideo.training.task import OptimizerConfig, TrainingConfig
from vqvideo.training.vqvae import train_vqvae

__all__ = [
    "OptimizerConfig",
    "TrainingConfig",
    "train",
    "train_decoder",
    "train_joint",
    "train_prior",
    "train_vqvae",
]
