"""Likelihoods p(x | z_q)."""

from vqvideo.likelihoods.autoregressive import AutoregressiveLikelihood
from vqvideo.likelihoods.base import LIKELIHOODS, Likelihood, describe_density
from vqvideo.likelihoods.categorical import BernoulliLikelihood, CategoricalLikelihood
from vqvideo.likelihoods.gaussian import GaussianLikelihood
from vqvideo.likelihoods.logistic_mixture import LogisticMixtureLikelihood

__all__ = [
    "LIKELIHOODS",
    "AutoregressiveLikelihood",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "GaussianLikelihood",
    "Likelihood",
    "LogisticMixtureLikelihood",
    "describe_density",
]
