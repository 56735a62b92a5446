"""The `autoregressive` likelihood: each data value is conditioned on the decoder's output and on
all earlier values.

It is a prior over bytes instead of codes. So any registered prior can serve, WaveNet for audio,
PixelCNN for images or a plugin's, and the fast sampling methods of priors apply.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vqvideo.cond import Cond, CondSpec
from vqvideo.likelihoods.base import LIKELIHOODS, NUM_LEVELS, ByteLikelihood, upcast
from vqvideo.priors import PRIORS, get_default_prior
from vqvideo.sampling import generate, stream_chunks

CHUNK_SIZE = 2048  # steps sampled at once; limits the memory of the prior's conditions


@LIKELIHOODS.register("autoregressive")
class AutoregressiveLikelihood(ByteLikelihood):
    """p(x | z_q) as a product over all values of x in raster order, channels last.

    It models local detail that follows from neighbouring pixels, so the codes need not store it
    (the decoder of section 4.2 of van den Oord et al. 2017). Training takes one pass, sampling one
    pass per position.

    Args:
        rank: number of axes of the data.
        channels: channels of the data.
        num_features: channels of the decoder's output, the local condition of each position.
        prior: name of a registered prior that accepts the condition `local`, with its options;
            None is the default prior for the rank.
        mu_law: whether the 256 values are uniform on the mu-law scale, for audio, or linear.
    """

    is_autoregressive = True

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        num_features: int = 64,
        prior: str | Mapping[str, Any] | None = None,
        mu_law: bool = False,
    ) -> None:
        super().__init__(mu_law=mu_law)
        options = {"name": prior} if isinstance(prior, str) else dict(prior or {})
        name = options.pop("name", get_default_prior(rank))
        kwargs = {"num_codebooks": channels} if channels > 1 else {}
        self.channels, self.num_features = channels, num_features
        self.prior = PRIORS.build(
            name,
            options,
            rank=rank,
            codebook_size=NUM_LEVELS,
            cond=CondSpec(local_channels=num_features, dropout=0.0),
            **kwargs,
        )

    def num_parameters(self, channels: int) -> int:
        if channels != self.channels:
            raise ValueError(
                f"this likelihood was built for {self.channels} channels, got {channels}"
            )
        return self.num_features

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return self.prior.log_prob(self._to_codes(x), Cond(local=parameters))

    def mode(self, parameters: Tensor) -> Tensor:
        """Return the result of greedy decoding, which need not be the most probable data."""
        return torch.cat(list(self.sample_stream([parameters])), dim=2)

    def sample(self, parameters: Tensor, seed: int = 0, *, temperature: float = 1.0) -> Tensor:
        return torch.cat(
            list(self.sample_stream([parameters], temperature=temperature, seed=seed)), dim=2
        )

    def sample_stream(
        self,
        chunks: Iterable[Tensor],
        *,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        known: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield data for chunks of parameters along the first axis, chunk by chunk.

        Each value is conditioned on the values of earlier chunks too, so the result does not
        depend on where the chunks are split. Known data is yielded first, rounded to the nearest of
        the 256 values. A prior that does not support streaming waits for the last chunk.

        Raises:
            ValueError: there is more known data than parameters.
        """
        options: dict[str, Any] = {"temperature": temperature, "seed": seed}
        non_empty = (chunk for chunk in chunks if chunk.shape[2])
        parts: Iterator[Tensor]
        parts = (upcast(part) for chunk in non_empty for part in chunk.split(CHUNK_SIZE, dim=2))
        supports_streaming = self._supports_streaming
        if not supports_streaming:
            all_parts = list(parts)
            parts = iter([torch.cat(all_parts, dim=2)] if all_parts else [])
        num_known = 0 if known is None else known.shape[2]
        known_parameters, parts = _split_first_steps(parts, num_known)
        if known is not None and num_known:
            codes = self._to_codes(known)
            options |= {"known": codes, "cond": Cond(local=known_parameters)}
            yield self._from_codes(codes)
        for first in parts:
            inner_shape, batch = tuple(first.shape[3:]), len(first)
            if supports_streaming:
                conds = (Cond(local=part) for part in itertools.chain([first], parts))
                code_chunks = stream_chunks(
                    self.prior, inner_shape, batch=batch, conds=conds, **options
                )
                yield from map(self._from_codes, code_chunks)
            else:
                yield self._from_codes(self._sample_codes(first, **options))

    def _sample_codes(
        self,
        parameters: Tensor,
        known: Tensor | None = None,
        cond: Cond | None = None,
        **options: Any,
    ) -> Tensor:
        """Sample the codes for `parameters`, which follow the known codes with the condition
        `cond`.
        """
        known_options: dict[str, Any] = {}
        local, num_known = parameters, 0
        if known is not None and cond is not None and cond.local is not None:
            local, num_known = torch.cat([cond.local, parameters], dim=2), known.shape[1]
            mask = torch.zeros(local.shape[2:], dtype=torch.bool)
            mask[:num_known] = True
            padding = known.new_zeros(len(known), parameters.shape[2], *known.shape[2:])
            known_options = {"known": torch.cat([known, padding], dim=1), "mask": mask}
        shape, cond = tuple(local.shape[2:]), Cond(local=local)
        codes = generate(self.prior, shape, batch=len(local), cond=cond, **known_options, **options)
        return codes[:, num_known:]

    @property
    def _supports_streaming(self) -> bool:
        """Return whether the prior supports streaming: it has a state and is unbounded."""
        return (
            self.prior.is_unbounded and self.prior.init_state(1, (1,) * self.prior.rank) is not None
        )

    def _from_codes(self, codes: Tensor) -> Tensor:
        values = self.from_levels(codes)
        return values.movedim(-1, 1) if self.channels > 1 else values[:, None]

    def _to_codes(self, x: Tensor) -> Tensor:
        levels = self.to_levels(x)
        return levels.movedim(1, -1) if self.channels > 1 else levels[:, 0]


def _split_first_steps(
    chunks: Iterator[Tensor], num_steps: int
) -> tuple[Tensor | None, Iterator[Tensor]]:
    """Return the first `num_steps` steps along the first axis, and the remaining chunks."""
    first_chunks: list[Tensor] = []
    num_missing = num_steps
    while num_missing > 0:
        chunk = next(chunks, None)
        if chunk is None:
            raise ValueError(
                f"known data has {num_steps} steps, but there are parameters for only "
                f"{num_steps - num_missing} steps"
            )
        first_chunks.append(chunk[:, :, :num_missing])
        rest, num_missing = chunk[:, :, num_missing:], num_missing - chunk.shape[2]
    if not first_chunks:
        return None, chunks
    return torch.cat(first_chunks, dim=2), itertools.chain([rest] if rest.shape[2] else [], chunks)
