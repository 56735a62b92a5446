"""Likelihoods p(x | z_q)."""

from vqvideo.likelihoods.base import LIKELIHOODS, Likelihood
from vqvideo.likelihoods.gaussian import GaussianLikelihood

__all__ = ["LIKELIHOODS", "GaussianLikelihood", "Likelihood"]
