"""The two training stages, both at once, and decoders alone; needs the extra `train`."""

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
