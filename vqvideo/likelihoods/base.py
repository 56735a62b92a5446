"""Interface of likelihoods p(x | z_q).

A decoder's output is the `parameters` of a distribution over the data. A likelihood defines the
number of parameter channels, the log-probability of data, and the mode and samples to show.

Data in files is bytes, and a discrete likelihood gives probabilities to the 256 values that
`media.from_uint8` maps bytes to. Data between two values is rounded to the nearest value, as it is
when written to a file.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from vqvideo.arguments import check_seed, offset_seed
from vqvideo.modes import eval_view
from vqvideo.registry import Registry

NUM_LEVELS = 256
CHUNK_SEED_OFFSET = 15_485_863  # two chunks must not be sampled with the same noise
RANGE_TOLERANCE = 1e-3  # rounding may move data outside [-1, 1] by this much


class Likelihood(nn.Module, ABC):
    """Interface of likelihoods; `vqvideo.testing.check_likelihood` tests its laws.

    Besides its own options, a registered builder receives `rank`, `channels` and `sample_rate`
    (in Hz) of the data if its signature has them.

    Attributes:
        num_values: number of values that a dimension can take (see `from_levels`); None for a
            density, for which bits per dimension are not defined.
        is_autoregressive: whether each dimension is conditioned on earlier dimensions, so that
            `mode` and `sample` take one pass per position.
        is_normalized: whether `log_prob` is the log-probability of a distribution. If not, it is a
            score for training that bounds nothing, and there are no samples.
    """

    num_values: int | None = None
    is_autoregressive: bool = False
    is_normalized: bool = True

    @property
    def default_temperature(self) -> float:
        """Default temperature for `sample_stream`: 0, the mode, or 1, a sample, if the likelihood
        is autoregressive, since greedy decoding often gives only silence.
        """
        return float(self.is_autoregressive)

    @property
    def is_discrete(self) -> bool:
        """Return whether `log_prob` is a log-probability of discrete values, so that bits per
        dimension are defined.
        """
        return self.num_values is not None

    @property
    def is_density(self) -> bool:
        """Return whether `log_prob` is a log-density, so that bits per dimension are undefined."""
        return self.is_normalized and not self.is_discrete

    @abstractmethod
    def num_parameters(self, channels: int) -> int:
        """Return the number of decoder output channels for data of `channels` channels."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | parameters) in nats, summed over all dimensions of an item: `[b]`."""

    @abstractmethod
    def mode(self, parameters: Tensor) -> Tensor:
        """Return the mode, the most probable data `[b, c, *axes]` in [-1, 1]."""

    @abstractmethod
    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        """Return a sample from the distribution, in [-1, 1].

        Args:
            parameters: parameters of the distribution.
            seed: seed of all noise.
            temperature: T > 0; samples are from a distribution proportional to p^(1/T), or from an
                approximation of it.
        """

    def sample_stream(
        self,
        chunks: Iterable[Tensor],
        *,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        known: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield data for chunks of parameters along the first axis, chunk by chunk.

        Args:
            chunks: parameters; the noise depends on where they are split into chunks.
            temperature: 0 gives the mode, 1 a sample; values in between reduce the noise.
            seed: seed of all noise; an autoregressive likelihood also accepts one per item.
            known: data `[b, c, n, ...]` of the first n steps. An autoregressive likelihood
                continues from it; other likelihoods ignore it.
        """
        if not isinstance(seed, Sequence):
            seed = check_seed(seed)
        elif temperature:
            raise ValueError(
                "this likelihood requires one seed for the whole batch, got a sequence of seeds"
            )
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        view = eval_view(self)
        for chunk_index, parameters in enumerate(chunks):
            with torch.no_grad():
                if temperature == 0:
                    data = view.mode(parameters)
                else:
                    assert isinstance(seed, int)
                    chunk_seed = offset_seed(seed, CHUNK_SEED_OFFSET * chunk_index)
                    data = view.sample(parameters, seed=chunk_seed, temperature=temperature)
            yield data

    def to_levels(self, x: Tensor) -> Tensor:
        """Return the levels, integers from 0, of the values nearest to x.

        Raises:
            ValueError: x is outside [-1, 1], or the likelihood is not discrete.
        """
        return to_levels(x, self._require_num_values())

    def from_levels(self, levels: Tensor) -> Tensor:
        """Return the values of levels; raise `ValueError` if the likelihood is not discrete."""
        return from_levels(levels, self._require_num_values())

    def _require_num_values(self) -> int:
        if self.num_values is None:
            raise ValueError(
                "this likelihood is not discrete (num_values is None), so has no levels"
            )
        return self.num_values

    def observe(self, x: Tensor) -> None:
        """Update statistics from this process's part of a training batch; by default do nothing.

        Training calls it for every batch; `gaussian` estimates its variance from the first ones.
        """


LIKELIHOODS: Registry[Likelihood] = Registry("likelihood", Likelihood)


def describe_density(likelihood: Likelihood, name: str) -> str | None:
    """Return a note on how to read the metrics of a likelihood that is not discrete, else None.

    `name` is the registered name of the likelihood.
    """
    if not likelihood.is_normalized:
        return (
            f"The likelihood is {name}, a score that is not normalized: the reconstruction term, "
            f"the loss and the ELBO are comparable only between models with the same likelihood, "
            f"and the ELBO is not a bound."
        )
    if not likelihood.is_density:
        return None
    return (
        f"The likelihood is {name}, a density: the reconstruction term is a log-density, and so "
        f"are the loss and the ELBO. They may be positive, are not comparable with the metrics of "
        f"a discrete likelihood, and do not give bits per dimension."
    )


def to_levels(x: Tensor, num_values: int) -> Tensor:
    """Return the levels, integers from 0, of the values nearest to x: int64, in the shape of x.

    Raises:
        ValueError: x is outside [-1, 1].

    >>> to_levels(torch.tensor([-1.0, 0.001, 1.0]), 256).tolist()
    [0, 128, 255]
    """
    x = check_range(x, num_values)
    return ((x + 1) * ((num_values - 1) / 2)).round().long().clamp(0, num_values - 1)


def check_range(x: Tensor, num_values: int) -> Tensor:
    """Return data in float32 or float64; raise `ValueError` if it is outside [-1, 1]."""
    x = upcast(x)
    if x.numel() and not x.abs().max() <= 1 + RANGE_TOLERANCE:  # also true for NaN
        raise ValueError(
            f"data must lie in [-1, 1] for a likelihood over {num_values} values, got values from "
            f"{x.min().item():.3g} to {x.max().item():.3g}; scale it, as media.from_uint8 does"
        )
    return x


def from_levels(levels: Tensor, num_values: int) -> Tensor:
    """Return the values of levels, in float32; with 256 values they equal the output of
    `media.from_uint8` bit for bit.

    >>> from_levels(torch.tensor([0, 1]), 2).tolist()
    [-1.0, 1.0]
    """
    return levels.float() / ((num_values - 1) / 2) - 1


def mu_law_compress(x: Tensor) -> Tensor:
    """Map audio in [-1, 1] to the mu-law scale, also in [-1, 1].

    Uniform steps on that scale are finest near silence (ITU-T G.711 with mu = 255; van den Oord et
    al. 2016, section 2.2).

    >>> mu_law_compress(torch.tensor([-1.0, 0.0, 0.01]))
    tensor([-1.0000,  0.0000,  0.2285])
    """
    return x.sign() * torch.log1p((NUM_LEVELS - 1) * x.abs()) / math.log(NUM_LEVELS)


def mu_law_expand(y: Tensor) -> Tensor:
    """Invert `mu_law_compress`."""
    return y.sign() * torch.expm1(y.abs() * math.log(NUM_LEVELS)) / (NUM_LEVELS - 1)


class ByteLikelihood(Likelihood):
    """Base class of likelihoods with a separate probability for each of 256 values.

    Args:
        mu_law: whether the values are uniform on the mu-law scale, for audio, or linear.
    """

    num_values = NUM_LEVELS

    def __init__(self, *, mu_law: bool = False) -> None:
        super().__init__()
        self.mu_law = mu_law

    def to_levels(self, x: Tensor) -> Tensor:
        return super().to_levels(mu_law_compress(check_range(x, NUM_LEVELS)) if self.mu_law else x)

    def from_levels(self, levels: Tensor) -> Tensor:
        values = super().from_levels(levels)
        return mu_law_expand(values) if self.mu_law else values


def upcast(x: Tensor) -> Tensor:
    """Return x in float32, or float64 if it is already; lower precision loses accuracy in sums."""
    return x if x.dtype == torch.float64 else x.float()


def sample_uniform(shape: torch.Size, seed: int, device: torch.device) -> Tensor:
    """Return uniform noise in (0, 1), the same on every device."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(check_seed(seed)))
    return noise.clamp(2**-25, 1 - 2**-24).to(device)
