"""The log-likelihood bound of a model: the terms of the lower bound of log p(x) (section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from vqvideo.metrics import bits_per_dim


class Score(NamedTuple):
    """The terms of a lower bound of log p(x), per item, in nats `[b]` (section 3.2).

    log p(x) >= reconstruction + prior, and also >= reconstruction + uniform.

    Attributes:
        reconstruction: log p(x | z_q).
        prior: log p(codes | cond); None if there is no prior yet.
        uniform: log p(codes) under the uniform prior that the first stage is trained with, -N ln K
            for N codes: minus the constant KL of section 3.1.
        num_dims: number of dimensions of an item.
        is_discrete: whether the likelihood is a probability of discrete values, not a density.
    """

    reconstruction: Tensor
    prior: Tensor | None
    uniform: Tensor
    num_dims: int
    is_discrete: bool

    @property
    def elbo(self) -> Tensor:
        """Lower bound of log p(x) in nats `[b]`; uses the uniform prior if there is no other."""
        return self.reconstruction + (self.uniform if self.prior is None else self.prior)

    @property
    def bits_per_dim(self) -> Tensor:
        """Negative ELBO in bits per dimension `[b]`; raises `ValueError` if the likelihood is not
        discrete.
        """
        if not self.is_discrete:
            raise ValueError(
                "this model's likelihood gives no probabilities, so no bits per dimension exist; "
                "use logistic-mixture, categorical or autoregressive (256 values) or bernoulli "
                "(two values)"
            )
        return bits_per_dim(-self.elbo, self.num_dims)
