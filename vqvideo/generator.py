"""A VQ-VAE and a prior together: sample codes, decode them; continue a clip; score data.

Two-stage generation as in sections 3.3 and 4 of van den Oord et al. 2017: codes are drawn from
the prior in raster order (ancestral sampling) and decoded by one pass of the decoder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from vqvideo.cond import Cond, CondSpec
from vqvideo.grid import codes_needed
from vqvideo.modes import evaluating
from vqvideo.priors import Prior
from vqvideo.sampling import SamplingOptions, StreamOptions, generate, stream
from vqvideo.score import Score
from vqvideo.vqvae import VQVAE, VQVAEOutput

SEEDS_APART = 32_452_843


class Generator(nn.Module):
    """What `vqvideo.build` and `vqvideo.load` return.

    Args:
        vqvae: first stage.
        prior: over its codes; None until one is trained.
        config: what it was built from, stored in its checkpoint.
        sample_shape: axes of the data that `sample` makes by default.

    Attributes:
        notice: whose work is in the weights, and under which licence, where that must be said
            wherever they go; None if nothing must. `load` and `save` keep it.
    """

    def __init__(
        self,
        vqvae: VQVAE,
        prior: Prior | None = None,
        config: Any = None,
        sample_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.vqvae = vqvae
        self.prior = prior
        self.config = config
        self.sample_shape = sample_shape or getattr(config, "sample_shape", None)
        self.notice: str | None = None

    def sample(
        self,
        *,
        num_samples: int = 1,
        shape: tuple[int, ...] | None = None,
        cond: Cond | None = None,
        decoder_temperature: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Tensor:
        """New data `[num_samples, c, *shape]` in [-1, 1].

        Args:
            num_samples: sample i depends on `seed` and i only.
            shape: axes of the data, each divisible by the downsampling; None takes the shape
                the model was configured for.
            cond: what prior and decoder are told, each what it takes.
            decoder_temperature: of a decoder that draws, see `DecodingOptions`; its seed follows
                from that of the options.
            options: temperature, top_k, top_p, seed, method, progress, as
                `vqvideo.sampling.generate` takes them.
        """
        axes = shape or self.sample_shape
        if axes is None:
            raise ValueError("this model has no sample_shape; give the shape of the data to make")
        codes = generate(
            self._prior(),
            self.vqvae.grid_shape(axes),
            batch=num_samples,
            cond=self.for_prior(cond),
            **options,
        )
        return self.vqvae.decode(
            codes,
            self.for_decoder(cond),
            temperature=decoder_temperature,
            seed=_decoder_seed(options.get("seed", 0)),
        )

    def continue_clip(
        self,
        first_frames: Tensor,
        num_frames: int,
        *,
        actions: Tensor | None = None,
        cond: Cond | None = None,
        decoder_temperature: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Tensor:
        """A clip `[b, c, n + num_frames, ...]` whose first n frames are the given ones.

        The given frames are encoded; their codes stay as they are while the prior draws the
        codes that follow. They come back as they were given, not as they would be decoded.

        Args:
            first_frames: `[b, c, n, ...]`; n must be a whole number of code frames.
            num_frames: frames to add; the last code frame is cropped if it is not used up.
            actions: short for `cond=Cond(actions=...)`.
            cond: what prior and decoder are told about the whole clip, each what it takes; actions
                one per frame, the frames that are cropped at the end included.
            decoder_temperature: of a decoder that draws, see `DecodingOptions`; its seed follows
                from that of the options.
            options: temperature, top_k, top_p, seed, method, progress, as
                `vqvideo.sampling.generate` takes them.

        Raises:
            ValueError: n is no multiple of the temporal stride, or num_frames is below 1.
        """
        prior, stride = self._prior(), self.vqvae.downsampling[0]
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {num_frames}")
        if actions is not None:
            cond = replace(cond or Cond(), actions=actions)
        start = self.vqvae.encode(first_frames)
        added = codes_needed(num_frames, stride)
        empty = start.new_zeros(len(start), added, *start.shape[2:])
        known = torch.cat([start, empty], dim=1)
        grid = tuple(known.shape[1 : 1 + self.vqvae.rank])
        mask = torch.zeros(grid, dtype=torch.bool)
        mask[: start.shape[1]] = True
        codes = generate(
            prior,
            grid,
            batch=len(known),
            cond=self.for_prior(cond),
            known=known,
            mask=mask,
            **options,
        )
        clip = self.vqvae.decode(
            codes,
            self.for_decoder(cond),
            temperature=decoder_temperature,
            seed=_decoder_seed(options.get("seed", 0)),
            known=first_frames,
        )
        clip = clip[:, :, : first_frames.shape[2] + num_frames]
        clip[:, :, : first_frames.shape[2]] = first_frames
        return clip

    def stream(
        self,
        first_frames: Tensor | None = None,
        *,
        batch: int = 1,
        actions: Tensor | Iterable[Tensor] | None = None,
        cond: Cond | None = None,
        decoder_temperature: float | None = None,
        **options: Unpack[StreamOptions],
    ) -> Iterator[Tensor]:
        """Frames `[b, c, h, w]` one after the other, without end, in bounded memory.

        They are those that `continue_clip` adds, bit for bit, however many are asked for. A code
        frame is drawn when its first frame is asked for, and gives as many frames as the temporal
        stride; a decoder that looks ahead (`conv` unless causal) needs some code frames more
        before it can show one.

        Args:
            first_frames: `[b, c, n, h, w]`; n must be a whole number of code frames. They are not
                given back. None starts from nothing.
            batch: number of clips, where there are no first frames.
            actions: one per data frame, those that led into the first frames included, as
                `[b, t]` (or `[b, t, a]`), or one by one as `[b]` (or `[b, a]`), asked for as they
                are needed; the frames end where they end.
            cond: what else prior and decoder are told, nothing that differs from frame to frame.
            decoder_temperature: of a decoder that draws, see `DecodingOptions`; its seed follows
                from that of the options.
            options: temperature, top_k, top_p, guidance, seed, method, as
                `vqvideo.sampling.stream` takes them.

        Raises:
            ValueError: as `continue_clip`, and where the decoder or the prior cannot go on.
        """
        prior, vqvae = self._prior(), self.vqvae
        known = None if first_frames is None else vqvae.encode(first_frames)
        axes = self.sample_shape if first_frames is None else tuple(first_frames.shape[2:])
        if axes is None:
            raise ValueError("this model has no sample_shape; give first frames")
        stride, num_known = vqvae.downsampling[0], 0 if known is None else known.shape[1]
        for_decoder, cond = self.for_decoder(cond), self.for_prior(cond)
        told, conds = cond, None
        if actions is not None:
            each = actions.unbind(1) if isinstance(actions, Tensor) else actions
            groups = _groups(each, stride, cond or Cond())
            told, conds = _joined(itertools.islice(groups, num_known), cond), groups
        steps = stream(
            prior,
            vqvae.grid_shape(axes)[1:],
            batch=batch if known is None else len(known),
            known=known,
            cond=told,
            conds=conds,
            **options,
        )
        codes = itertools.chain([] if known is None else [known], (step[:, None] for step in steps))
        pieces = vqvae.decode_stream(
            codes,
            for_decoder,
            temperature=decoder_temperature,
            seed=_decoder_seed(options.get("seed", 0)),
            known=first_frames,
        )
        frames = (frame for piece in pieces for frame in piece.unbind(2))
        return itertools.islice(frames, num_known * stride, None)

    @torch.no_grad()
    def log_prob(
        self, x: Tensor, cond: Cond | None = None, *, output: VQVAEOutput | None = None
    ) -> Score:
        """The terms of the bound of section 3.2 for data `[b, c, *axes]`, in nats.

        Args:
            x: data.
            cond: what prior and decoder are told, each what it takes.
            output: what `vqvae(x, cond)` returned in evaluation mode; None calls it here.
        """
        told = self.for_prior(cond)
        if self.prior is None and told is not None:
            told.check(CondSpec(), len(x), (1,))  # raises: nobody takes it
        with evaluating(self):
            parameters, quantized = output or self.vqvae(x, self.for_decoder(cond))
            likelihood, codes = self.vqvae.likelihood, quantized.codes
            reconstruction = likelihood.log_prob(parameters, x)
            size, number = self.vqvae.quantizer.codebook_size, codes[0].numel()
            return Score(
                reconstruction=reconstruction,
                prior=None if self.prior is None else self.prior.log_prob(codes, told),
                uniform=torch.full_like(reconstruction, -number * math.log(size)),
                num_dims=x[0].numel(),
                gives_bits=likelihood.gives_bits,
            )

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the conditions that prior or decoder take, see `CondSpec.takes`."""
        of_prior = () if self.prior is None else self.prior.cond.takes
        return tuple(dict.fromkeys((*of_prior, *self.vqvae.cond.takes)))

    def for_decoder(self, cond: Cond | None) -> Cond | None:
        """What the decoder takes of it."""
        return None if cond is None else cond.of(self.vqvae.cond.takes)

    def for_prior(self, cond: Cond | None) -> Cond | None:
        """What the prior takes of it, and what nobody takes, so that it is refused."""
        if cond is None:
            return None
        takes = () if self.prior is None else self.prior.cond.takes
        return cond.besides(set(self.vqvae.cond.takes) - set(takes))

    def _prior(self) -> Prior:
        if self.prior is None:
            raise ValueError(
                "this model has no prior yet; train one (vqvideo train-prior) or build with prior="
            )
        return self.prior


def _decoder_seed(seed: int | Sequence[int]) -> int | list[int]:
    """Of the decoder's noise, which must not be that the codes were drawn with."""
    if isinstance(seed, int):
        return seed + SEEDS_APART
    return [each + SEEDS_APART for each in seed]


def _groups(actions: Iterable[Tensor], stride: int, cond: Cond) -> Iterator[Cond]:
    """What holds for each code frame, of actions that come data frame by data frame."""
    each = iter(actions)
    while len(group := list(itertools.islice(each, stride))) == stride:
        yield replace(cond, actions=torch.stack(group, dim=1))


def _joined(conds: Iterable[Cond], cond: Cond | None) -> Cond | None:
    """The conditions of code frames that follow each other as one; `cond` if there are none."""
    actions = [told.actions for told in conds if told.actions is not None]
    return replace(cond or Cond(), actions=torch.cat(actions, dim=1)) if actions else cond
