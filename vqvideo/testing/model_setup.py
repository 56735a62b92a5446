"""The model that laws are checked on: its codebook started, and noise on all its weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.generator import Generator
from vqvideo.priors import Prior
from vqvideo.testing.prior_setup import told_by
from vqvideo.testing.quantizer_setup import WARM

Build = Callable[[], Generator]
ITEMS = 2


class Case(NamedTuple):
    """A model, in evaluation mode, data `[b, c, *axes]` for it, and what it is told of that."""

    generator: Generator
    x: Tensor
    cond: Cond | None

    @property
    def grid(self) -> tuple[int, ...]:
        """The code grid that its config says the data has."""
        return self.generator.vqvae.grid_shape(tuple(self.x.shape[2:]))

    @property
    def prior(self) -> Prior:
        """Its prior, known to be there."""
        assert self.generator.prior is not None, "the model has no prior: a config names one"
        return self.generator.prior


def untrained(build: Build) -> Case:
    """The model as it is built, and random data of the shape that it was configured for."""
    torch.manual_seed(0)
    generator = build().eval()
    config, vqvae, prior = generator.config, generator.vqvae, generator.prior
    x = torch.rand(ITEMS, config.channels, *config.sample_shape) * 2 - 1
    told: dict[str, Tensor] = {}
    for spec in (vqvae.cond, *([] if prior is None else [prior.cond])):
        cond = told_by(spec, ITEMS, vqvae.grid_shape(config.sample_shape), 0, x.dtype)
        told |= {} if cond is None else {k: v for k, v in vars(cond).items() if v is not None}
    return Case(generator, x, Cond(**told) if told else None)


@torch.no_grad()
def used(build: Build) -> Case:
    """The same once its first stage has seen data: networks that begin as less than they are, and
    codebooks that have not started, would make laws hold that do not.
    """
    case = untrained(build)
    for parameter in case.generator.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    vqvae = case.generator.vqvae.train()
    z_e = vqvae.z_e(case.x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small batches may rightly warn
        for _ in range(WARM):
            vqvae.quantizer(z_e + 0.1 * z_e.std() * torch.randn_like(z_e))
            if not vqvae.quantizer.warming_up:
                break
    vqvae.likelihood.observe(case.x)
    vqvae.eval()
    return case
