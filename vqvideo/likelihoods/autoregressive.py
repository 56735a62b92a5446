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
        known: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """As of any likelihood; each value is told those of earlier pieces too, and where pieces
        are cut decides nothing. What is known is given back as the nearest of the 256 values.

        A prior that cannot go on without end waits for the last piece.

        Raises:
            ValueError: more is known than the pieces are long.
        """
        options: dict[str, Any] = {"temperature": temperature, "seed": seed}
        each = (piece for piece in pieces if piece.shape[2])
        parts: Iterator[Tensor]
        parts = (widened(part) for piece in each for part in piece.split(AT_ONCE, dim=2))
        goes_on = self._goes_on
        if not goes_on:
            whole = list(parts)
            parts = iter([torch.cat(whole, dim=2)] if whole else [])
        number = 0 if known is None else known.shape[2]
        told, parts = _first_steps(parts, number)
        if known is not None and number:
            codes = self._as_codes(known)
            options |= {"known": codes, "cond": Cond(local=told)}
            yield self._values(codes)
        for first in parts:
            inner, batch = tuple(first.shape[3:]), len(first)
            if goes_on:
                conds = (Cond(local=part) for part in itertools.chain([first], parts))
                blocks = stream_blocks(self.prior, inner, batch=batch, conds=conds, **options)
                yield from map(self._values, blocks)
            else:
                yield self._values(self._after(first, **options))

    def _after(
        self, rest: Tensor, known: Tensor | None = None, cond: Cond | None = None, **options: Any
    ) -> Tensor:
        """Codes drawn for `rest`, behind those that are known, told `cond`."""
        masked: dict[str, Any] = {}
        local, steps = rest, 0
        if known is not None and cond is not None and cond.local is not None:
            local, steps = torch.cat([cond.local, rest], dim=2), known.shape[1]
            mask = torch.zeros(local.shape[2:], dtype=torch.bool)
            mask[:steps] = True
            empty = known.new_zeros(len(known), rest.shape[2], *known.shape[2:])
            masked = {"known": torch.cat([known, empty], dim=1), "mask": mask}
        shape, cond = tuple(local.shape[2:]), Cond(local=local)
        codes = generate(self.prior, shape, batch=len(local), cond=cond, **masked, **options)
        return codes[:, steps:]

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


def _first_steps(parts: Iterator[Tensor], number: int) -> tuple[Tensor | None, Iterator[Tensor]]:
    """The first steps along the first axis, so many, and all parts that follow."""
    held: list[Tensor] = []
    lacking = number
    while lacking > 0:
        part = next(parts, None)
        if part is None:
            raise ValueError(
                f"{number} steps are known, of {number - lacking} there are parameters"
            )
        held.append(part[:, :, :lacking])
        rest, lacking = part[:, :, lacking:], lacking - part.shape[2]
    if not held:
        return None, parts
    return torch.cat(held, dim=2), itertools.chain([rest] if rest.shape[2] else [], parts)
