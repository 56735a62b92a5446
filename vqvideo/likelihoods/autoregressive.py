"""The `autoregressive` likelihood: data value by value, each told the decoder's output and all
values before it.

It is a prior over bytes in place of codes. So every prior is one, WaveNet for sound, PixelCNN for
images, those of plugins too, and all that speeds up the drawing of codes speeds up this.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vqvideo.cond import Cond, CondSpec
from vqvideo.likelihoods.base import BYTES, LIKELIHOODS, Bytes, widened
from vqvideo.priors import PRIORS, default_prior
from vqvideo.sampling import generate, stream_blocks

AT_ONCE = 2048  # steps that are drawn at once: what a prior is told of more would fill memory


@LIKELIHOODS.register("autoregressive")
class AutoregressiveLikelihood(Bytes):
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
        mu_law: whether the 256 values lie as on the mu-law scale, for sound, or evenly.
    """

    is_autoregressive = True

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        features: int = 64,
        prior: str | Mapping[str, Any] | None = None,
        mu_law: bool = False,
    ) -> None:
        super().__init__(mu_law=mu_law)
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
        return torch.cat(list(self.drawn([parameters])), dim=2)

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        return torch.cat(list(self.drawn([parameters], temperature=temperature, seed=seed)), dim=2)

    def drawn(
        self,
        pieces: Iterable[Tensor],
        *,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
    ) -> Iterator[Tensor]:
        """As of any likelihood; each value is told those of earlier pieces too, and where pieces
        are cut decides nothing.

        A prior that cannot go on without end waits for the last piece.
        """
        options: dict[str, Any] = {"temperature": temperature, "seed": seed}
        each = (piece for piece in pieces if piece.shape[2])
        parts: Iterator[Tensor]
        parts = (widened(part) for piece in each for part in piece.split(AT_ONCE, dim=2))
        if not self._goes_on:
            whole = list(parts)
            parts = iter([torch.cat(whole, dim=2)] if whole else [])
        for first in parts:
            shape, batch = tuple(first.shape[2:]), len(first)
            if not self._goes_on:
                cond = Cond(local=first)
                yield self._values(generate(self.prior, shape, batch=batch, cond=cond, **options))
                return
            conds = (Cond(local=part) for part in itertools.chain([first], parts))
            blocks = stream_blocks(self.prior, shape[1:], batch=batch, conds=conds, **options)
            yield from map(self._values, blocks)

    @property
    def _goes_on(self) -> bool:
        """Whether the prior can be drawn from step by step, without end."""
        return self.prior.endless and self.prior.start(1, (1,) * self.prior.rank) is not None

    def _values(self, codes: Tensor) -> Tensor:
        values = self.from_levels(codes)
        return values.movedim(-1, 1) if self.channels > 1 else values[:, None]

    def _as_codes(self, x: Tensor) -> Tensor:
        levels = self.to_levels(x)
        return levels.movedim(1, -1) if self.channels > 1 else levels[:, 0]
