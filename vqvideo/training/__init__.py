"""The two training stages; needs the extra `train`."""

from vqvideo.training.loop import train
from vqvideo.training.prior import train_prior
from vqvideo.training.task import TrainingConfig
from vqvideo.training.vqvae import train_vqvae

__all__ = ["TrainingConfig", "train", "train_prior", "train_vqvae"]
