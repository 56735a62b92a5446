"""How a decoder's output scores data: the interface of p(x | z_q).

A decoder's output is the `parameters` of a distribution over the data; a likelihood says how
many channels it needs, how probable data is, and what to show.

Data in files is bytes, and a discrete likelihood gives probabilities to the 256 values that
`media.from_uint8` makes of them. What lies between two values is scored as the nearer one, which
is what a file of it would hold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vqvideo.registry import Registry

BYTES = 256
OUTSIDE = 1e-3  # by which rounding may put data outside of [-1, 1]


class Likelihood(nn.Module, ABC):
    """Interface of likelihoods; `vqvideo.testing.check_likelihood` holds its laws.

    A registered builder is given `rank` and `channels` of the data if it takes them, besides its
    own options.

    Attributes:
        num_values: how many values a dimension can take, evenly spaced from -1 to 1; None for a
            density, which gives no bits per dimension.
        is_autoregressive: whether each dimension is told those before it, so that `mode` and
            `sample` take one pass for each.
    """

    num_values: int | None = None
    is_autoregressive: bool = False

    @property
    def is_density(self) -> bool:
        """Whether `log_prob` is that of a density, which gives no bits per dimension."""
        return self.num_values is None

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


def density_note(likelihood: Likelihood, name: str) -> str | None:
    """What must be said beside figures of a likelihood of that name, lest they be misread; None
    unless it is a density.
    """
    if not likelihood.is_density:
        return None
    return (
        f"The likelihood is {name}, a density: the reconstruction term, and with it loss and "
        f"bound, is a log-density. Its nats may be positive and cannot be compared with those of "
        f"probabilities, and no bits per dimension follow from them."
    )


def to_levels(x: Tensor, num_values: int) -> Tensor:
    """The numbers, from 0, of the values nearest to x: int64, shaped like x.

    Raises:
        ValueError: x leaves [-1, 1].

    >>> to_levels(torch.tensor([-1.0, 0.001, 1.0]), 256).tolist()
    [0, 128, 255]
    """
    x = widened(x)
    if x.numel() and not x.abs().max() <= 1 + OUTSIDE:  # NaN is not either
        raise ValueError(
            f"data must lie in [-1, 1] for a likelihood over {num_values} values, got values from "
            f"{x.min().item():.3g} to {x.max().item():.3g}; scale it, as media.from_uint8 does"
        )
    return ((x + 1) * ((num_values - 1) / 2)).round().long().clamp(0, num_values - 1)


def from_levels(levels: Tensor, num_values: int) -> Tensor:
    """The values with these numbers: float32; of 256 values to the bit what `media.from_uint8`
    gives.

    >>> from_levels(torch.tensor([0, 1]), 2).tolist()
    [-1.0, 1.0]
    """
    return levels.float() / ((num_values - 1) / 2) - 1


def widened(x: Tensor) -> Tensor:
    """In float32 at least: sums of log-probabilities are long."""
    return x if x.dtype == torch.float64 else x.float()


def uniform_noise(shape: torch.Size, seed: int, device: torch.device) -> Tensor:
    """In (0, 1), the same on every device."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return noise.clamp(2**-25, 1 - 2**-24).to(device)
