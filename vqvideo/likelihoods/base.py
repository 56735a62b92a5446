"""How a decoder's output scores data: the interface of p(x | z_q).

A decoder's output is the `parameters` of a distribution over the data; a likelihood says how
many channels it needs, how probable data is, and what to show.

Data in files is bytes, and a discrete likelihood gives probabilities to the 256 values that
`media.from_uint8` makes of them. What lies between two values is scored as the nearer one, which
is what a file of it would hold.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from vqvideo.modes import evaluating
from vqvideo.registry import Registry

BYTES = 256
PIECES_APART = 15_485_863  # two pieces must not be drawn from the same noise
OUTSIDE = 1e-3  # by which rounding may put data outside of [-1, 1]


class Likelihood(nn.Module, ABC):
    """Interface of likelihoods; `vqvideo.testing.check_likelihood` holds its laws.

    A registered builder is given `rank`, `channels` and `sample_rate` (in Hz) of the data if it
    takes them, besides its own options.

    Attributes:
        num_values: how many values a dimension can take, those that `from_levels` gives; None for
            a density, which gives no bits per dimension.
        is_autoregressive: whether each dimension is told those before it, so that `mode` and
            `sample` take one pass for each.
        is_normalized: whether `log_prob` is that of a distribution, or a score like one, by which
            a model can be trained but which bounds nothing and has no samples.
    """

    num_values: int | None = None
    is_autoregressive: bool = False
    is_normalized: bool = True

    @property
    def usual_temperature(self) -> float:
        """Of `drawn` where nobody says: 0, the mode; 1, a sample, of an autoregressive one, whose
        most probable values one after the other are often nothing but silence.
        """
        return float(self.is_autoregressive)

    @property
    def gives_bits(self) -> bool:
        """Whether `log_prob` is that of probabilities, so that bits per dimension follow."""
        return self.num_values is not None

    @property
    def is_density(self) -> bool:
        """Whether `log_prob` is that of a density, which gives no bits per dimension."""
        return self.is_normalized and not self.gives_bits

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
    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        """Data drawn from the distribution, in [-1, 1].

        Args:
            parameters: of the distribution.
            seed: decides all noise.
            temperature: T above 0; drawn is from what is proportional to p^(1/T), or near to it.
        """

    def drawn(
        self,
        pieces: Iterable[Tensor],
        *,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        known: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Data for parameters that come in pieces along the first axis, as they come.

        Args:
            pieces: parameters; where they are cut decides which noise meets which of them.
            temperature: 0 gives the mode, 1 a sample, in between less noise than a sample has.
            seed: decides all noise; an autoregressive likelihood takes one for each item too.
            known: data `[b, c, n, ...]` of the first n steps, which an autoregressive likelihood
                goes on from; to any other it says nothing about the rest.
        """
        if temperature and not isinstance(seed, int):
            raise ValueError("this likelihood draws a batch from one seed, got several")
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        for number, parameters in enumerate(pieces):
            with torch.no_grad(), evaluating(self):
                if temperature == 0:
                    data = self.mode(parameters)
                else:
                    assert isinstance(seed, int)
                    own = seed + PIECES_APART * number
                    data = self.sample(parameters, seed=own, temperature=temperature)
            yield data

    def to_levels(self, x: Tensor) -> Tensor:
        """The numbers, from 0, of the values nearest to x; raises `ValueError` if x leaves [-1, 1]
        or this is a density.
        """
        return to_levels(x, self._num_values())

    def from_levels(self, levels: Tensor) -> Tensor:
        """The values with these numbers; raises `ValueError` if this is a density."""
        return from_levels(levels, self._num_values())

    def _num_values(self) -> int:
        if self.num_values is None:
            raise ValueError("a density takes all values and numbers none")
        return self.num_values

    def observe(self, x: Tensor) -> None:
        """See a training batch, this process's part of it; a likelihood may set itself up from the
        first ones.
        """


LIKELIHOODS: Registry[Likelihood] = Registry("likelihood", Likelihood)


def density_note(likelihood: Likelihood, name: str) -> str | None:
    """What must be said beside figures of a likelihood of that name, lest they be misread; None
    unless it is a density.
    """
    if not likelihood.is_normalized:
        return (
            f"The likelihood is {name}, a score that no distribution stands behind: the "
            f"reconstruction term, and with it loss and bound, compares models that are scored "
            f"alike, and bounds nothing."
        )
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
    x = in_range(x, num_values)
    return ((x + 1) * ((num_values - 1) / 2)).round().long().clamp(0, num_values - 1)


def in_range(x: Tensor, num_values: int) -> Tensor:
    """Data in float32 at least; raises `ValueError` if it leaves [-1, 1]."""
    x = widened(x)
    if x.numel() and not x.abs().max() <= 1 + OUTSIDE:  # NaN is not either
        raise ValueError(
            f"data must lie in [-1, 1] for a likelihood over {num_values} values, got values from "
            f"{x.min().item():.3g} to {x.max().item():.3g}; scale it, as media.from_uint8 does"
        )
    return x


def from_levels(levels: Tensor, num_values: int) -> Tensor:
    """The values with these numbers: float32; of 256 values to the bit what `media.from_uint8`
    gives.

    >>> from_levels(torch.tensor([0, 1]), 2).tolist()
    [-1.0, 1.0]
    """
    return levels.float() / ((num_values - 1) / 2) - 1


def mu_law(x: Tensor) -> Tensor:
    """Sound in [-1, 1] on the mu-law scale, in [-1, 1] too: of evenly spaced steps there, those
    near silence are the finest (ITU-T G.711 with mu = 255; van den Oord et al. 2016, section 2.2).

    >>> mu_law(torch.tensor([-1.0, 0.0, 0.01]))
    tensor([-1.0000,  0.0000,  0.2285])
    """
    return x.sign() * torch.log1p((BYTES - 1) * x.abs()) / math.log(BYTES)


def from_mu_law(y: Tensor) -> Tensor:
    """The inverse of `mu_law`."""
    return y.sign() * torch.expm1(y.abs() * math.log(BYTES)) / (BYTES - 1)


class Bytes(Likelihood):
    """What likelihoods have in common that give each of 256 values a probability of its own.

    Args:
        mu_law: whether the values lie as on the mu-law scale, for sound, or evenly.
    """

    num_values = BYTES

    def __init__(self, *, mu_law: bool = False) -> None:
        super().__init__()
        self.mu_law = mu_law

    def to_levels(self, x: Tensor) -> Tensor:
        return super().to_levels(mu_law(in_range(x, BYTES)) if self.mu_law else x)

    def from_levels(self, levels: Tensor) -> Tensor:
        values = super().from_levels(levels)
        return from_mu_law(values) if self.mu_law else values


def widened(x: Tensor) -> Tensor:
    """In float32 at least: sums of log-probabilities are long."""
    return x if x.dtype == torch.float64 else x.float()


def uniform_noise(shape: torch.Size, seed: int, device: torch.device) -> Tensor:
    """In (0, 1), the same on every device."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return noise.clamp(2**-25, 1 - 2**-24).to(device)
