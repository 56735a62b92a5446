"""The `autoregressive` likelihood: data value by value, each told the decoder's output and all
values before it.

It is a prior over bytes in place of codes. So every prior is one, WaveNet for sound, PixelCNN for
images, those of plugins too, and all that speeds up the drawing of codes speeds up this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqvideo.cond import Cond, CondSpec
from vqvideo.likelihoods.base import (
    BYTES,
    LIKELIHOODS,
    Likelihood,
    from_levels,
    to_levels,
    widened,
)
from vqvideo.priors import PRIORS, default_prior
from vqvideo.sampling import generate


@LIKELIHOODS.register("autoregressive")
class AutoregressiveLikelihood(Likelihood):
    """p(x | z_q) as a product over all values of x in raster order, channels last.

    What the codes need not say, since it follows from the pixels around, this learns by itself
    (section 4.2 of van den Oord et al. 2017 decodes so). Training takes one pass, drawing one for
    each position.

    Args:
        rank: axes of the data.
        channels: of the data.
        features: channels that the decoder gives, of which each position is told its own.
        prior: the name of a registered prior that takes `local`, and its options; None is the one
            for the rank.
    """

    num_values = BYTES
    is_autoregressive = True

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        features: int = 64,
        prior: str | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options = {"name": prior} if isinstance(prior, str) else dict(prior or {})
        name = options.pop("name", default_prior(rank))
        several = {"num_codebooks": channels} if channels > 1 else {}
        self.channels, self.features = channels, features
        self.prior = PRIORS.build(
            name,
            options,
            rank=rank,
            codebook_size=BYTES,
            cond=CondSpec(local_channels=features, dropout=0.0),
            **several,
        )

    def num_parameters(self, channels: int) -> int:
        if channels != self.channels:
            raise ValueError(f"this likelihood is for {self.channels} channels, not {channels}")
        return self.features

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return self.prior.log_prob(self._as_codes(x), Cond(local=parameters))

    def mode(self, parameters: Tensor) -> Tensor:
        """Each value the most probable one after those before it, which need not be the most
        probable whole.
        """
        return self._drawn(parameters, temperature=0.0)

    def sample(self, parameters: Tensor, seed: int = 0) -> Tensor:
        return self._drawn(parameters, seed=seed)

    def _drawn(self, parameters: Tensor, **options: Any) -> Tensor:
        codes = generate(
            self.prior,
            tuple(parameters.shape[2:]),
            batch=len(parameters),
            cond=Cond(local=widened(parameters)),
            **options,
        )
        values = from_levels(codes, BYTES)
        return values.movedim(-1, 1) if self.channels > 1 else values[:, None]

    def _as_codes(self, x: Tensor) -> Tensor:
        levels = to_levels(x, BYTES)
        return levels.movedim(1, -1) if self.channels > 1 else levels[:, 0]
