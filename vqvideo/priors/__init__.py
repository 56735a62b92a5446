"""Priors p(codes | cond), chosen by the rank of the code grid."""

from vqvideo.priors.base import PRIORS, Prior, get_default_prior
from vqvideo.priors.causal import CausalPrior, masked3d, pixelcnn, wavenet
from vqvideo.priors.transformer import TransformerPrior, transformer
from vqvideo.priors.vqvae import VQVAEPrior

__all__ = [
    "PRIORS",
    "CausalPrior",
    "Prior",
    "TransformerPrior",
    "VQVAEPrior",
    "get_default_prior",
    "masked3d",
    "pixelcnn",
    "transformer",
    "wavenet",
]
