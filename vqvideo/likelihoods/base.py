"""How a decoder's output scores data: the interface of p(x | z_q).

A decoder's output is the `parameters` of a distribution over the data; a likelihood says how
many channels it needs, how probable data is, and what to show.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from vqvideo.registry import Registry


class Likelihood(nn.Module, ABC):
    """Interface of likelihoods.

    Attributes:
        is_density: true when `log_prob` is a density, which gives no bits per dimension.
    """

    is_density: bool

    @abstractmethod
    def num_parameters(self, channels: int) -> int:
        """Channels the decoder must give for data of `channels` channels."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Log p(x | parameters) in nats, summed over all dimensions of an item: `[b]`."""

    @abstractmethod
    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable data `[b, c, *axes]`, in [-1, 1]: what a decoder shows."""

    @abstractmethod
    def sample(self, parameters: Tensor, seed: int = 0) -> Tensor:
        """Data drawn from the distribution, in [-1, 1]."""

    def observe(self, x: Tensor) -> None:
        """See a training batch, this process's part of it; a likelihood may set itself up from the
        first ones.
        """


LIKELIHOODS: Registry[Likelihood] = Registry("likelihood")
