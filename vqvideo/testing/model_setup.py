"""The model that laws are checked on: initialized codebook, noise added to all weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vqvideo.cond import Cond
from vqvideo.generator import Generator
from vqvideo.priors import Prior
from vqvideo.testing.prior_setup import make_cond_for_spec
from vqvideo.testing.quantizer_setup import MAX_WARMUP_STEPS

Build = Callable[[], Generator]
BATCH_SIZE = 2


class ModelCase(NamedTuple):
    """A model in evaluation mode, data `[b, c, *axes]` for it, and the conditions of the data."""

    generator: Generator
    x: Tensor
    cond: Cond | None

    @property
    def grid(self) -> tuple[int, ...]:
        """The code grid of the data according to the config."""
        return self.generator.vqvae.compute_grid_shape(tuple(self.x.shape[2:]))

    @property
    def prior(self) -> Prior:
        """The prior of the model."""
        assert self.generator.prior is not None, "the model has no prior; name one in the config"
        return self.generator.prior


def build_untrained_case(build: Build) -> ModelCase:
    """Return the model as built, with random data of its configured sample shape."""
    torch.manual_seed(0)
    generator = build().eval()
    config, vqvae, prior = generator.config, generator.vqvae, generator.prior
    x = torch.rand(BATCH_SIZE, config.channels, *config.sample_shape) * 2 - 1
    kwargs: dict[str, Tensor] = {}
    for spec in (vqvae.cond, *([] if prior is None else [prior.cond])):
        cond = make_cond_for_spec(
            spec, BATCH_SIZE, vqvae.compute_grid_shape(config.sample_shape), 0, x.dtype
        )
        kwargs |= {} if cond is None else {k: v for k, v in vars(cond).items() if v is not None}
    return ModelCase(generator, x, Cond(**kwargs) if kwargs else None)


@torch.no_grad()
def build_warmed_up_case(build: Build) -> ModelCase:
    """Return the model with noise on its weights, after its first stage has seen data.

    Zero-initialized layers and uninitialized codebooks would satisfy laws that the trained model
    breaks.
    """
    case = build_untrained_case(build)
    for parameter in case.generator.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    vqvae = case.generator.vqvae.train()
    z_e = vqvae.compute_z_e(case.x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about small batches are expected here
        for _ in range(MAX_WARMUP_STEPS):
            vqvae.quantizer(z_e + 0.1 * z_e.std() * torch.randn_like(z_e))
            if not vqvae.quantizer.is_warming_up:
                break
    vqvae.likelihood.observe(case.x)
    vqvae.eval()
    return case
