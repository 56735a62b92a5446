"""What a model says of data: the terms of the lower bound of log p(x) (section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from vqvideo.metrics import bits_per_dim


class Score(NamedTuple):
    """The terms of a lower bound of log p(x), per item, in nats `[b]` (section 3.2).

    log p(x) >= reconstruction + prior, and as well >= reconstruction + uniform.

    Attributes:
        reconstruction: log p(x | z_q).
        prior: log p(codes | cond); None where there is no prior yet.
        uniform: the same under the uniform prior that the first stage is trained with, -N ln K for
            N codes: minus the constant KL of section 3.1.
        num_dims: dimensions of an item.
        gives_bits: whether the reconstruction term is that of probabilities.
    """

    reconstruction: Tensor
    prior: Tensor | None
    uniform: Tensor
    num_dims: int
    gives_bits: bool

    @property
    def bound(self) -> Tensor:
        """Nats `[b]` that log p(x) is at least; under the uniform prior where there is no other."""
        return self.reconstruction + (self.uniform if self.prior is None else self.prior)

    @property
    def bits_per_dim(self) -> Tensor:
        """Bits per dimension `[b]` by that bound; raises `ValueError` where the likelihood is a
        density.
        """
        if not self.gives_bits:
            raise ValueError(
                "this model's likelihood gives no probabilities, so no bits per dimension follow; "
                "logistic_mixture, categorical and autoregressive give probabilities to the 256 "
                "values, bernoulli to two"
            )
        return bits_per_dim(-self.bound, self.num_dims)
