"""A VQ-VAE and a prior together: sample codes and decode them, continue a clip, score data.

Two-stage generation as in sections 3.3 and 4 of van den Oord et al. 2017: codes are sampled from
the prior in raster order (ancestral sampling) and decoded by one pass of the decoder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from vqvideo.arguments import check_count, offset_seeds
from vqvideo.cond import Cond, CondSpec
from vqvideo.grid import ceil_div
from vqvideo.modes import eval_view
from vqvideo.priors import Prior
from vqvideo.sampling import GenerateOptions, StreamOptions, generate, stream
from vqvideo.score import Score
from vqvideo.vqvae import VQVAE, VQVAEOutput

SEED_OFFSET = 32_452_843  # the decoder's noise must differ from the noise of the codes


class Generator(nn.Module):
    """A VQ-VAE and a prior over its codes, as `vqvideo.build` and `vqvideo.load` return it.

    Args:
        vqvae: first stage.
        prior: second stage; None until one is trained.
        config: config it was built from, stored in its checkpoint.
        sample_shape: axes of the data that `sample` generates by default.

    Attributes:
        notice: attribution and licence text that must accompany the weights; None if there is
            none. `load` and `save` keep it.
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
        **options: Unpack[GenerateOptions],
    ) -> Tensor:
        """Sample new data `[num_samples, c, *shape]` in [-1, 1].

        Args:
            num_samples: number of samples; sample i depends on `seed` and i only.
            shape: axes of the data, each divisible by the downsampling; None takes the shape
                the model was configured for.
            cond: conditions of prior and decoder; each gets those it takes.
            decoder_temperature: temperature of a decoder that samples, see `DecodingOptions`; its
                seed is derived from the seed in `options`.
            options: temperature, top_k, top_p, seed, method, progress; see
                `vqvideo.sampling.generate`.
        """
        check_count("num_samples", num_samples)
        axes = shape or self.sample_shape
        if axes is None:
            raise ValueError("this model has no sample_shape; give the shape of the data to sample")
        codes = generate(
            self._require_prior(),
            self.vqvae.compute_grid_shape(axes),
            batch=num_samples,
            cond=self.select_prior_cond(cond),
            **options,
        )
        decoding = _get_decoding_options(decoder_temperature, options)
        return self.vqvae.decode(codes, self.select_decoder_cond(cond), **decoding)

    def continue_clip(
        self,
        first_frames: Tensor,
        num_frames: int,
        *,
        actions: Tensor | None = None,
        cond: Cond | None = None,
        decoder_temperature: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Tensor:
        """Continue a clip and return it, `[b, c, n + num_frames, ...]`, with its first n frames.

        The first frames are encoded; their codes stay fixed while the prior samples the codes that
        follow. The first frames are returned as they were given, not as reconstructions.

        Args:
            first_frames: `[b, c, n, ...]`; n must be a whole number of code frames.
            num_frames: number of frames to add; the last code frame is cropped if it is not used
                up.
            actions: short for `cond=Cond(actions=...)`.
            cond: conditions of prior and decoder for the whole clip; each gets those it takes. One
                action per frame, including the frames that are cropped at the end.
            decoder_temperature: temperature of a decoder that samples, see `DecodingOptions`; its
                seed is derived from the seed in `options`.
            options: temperature, top_k, top_p, seed, method, progress; see
                `vqvideo.sampling.generate`.

        Raises:
            ValueError: n is no multiple of the temporal stride, or num_frames is below 1.
        """
        prior, stride = self._require_prior(), self.vqvae.downsampling[0]
        check_count("num_frames", num_frames)
        if actions is not None:
            cond = replace(cond or Cond(), actions=actions)
        prefix = self.vqvae.encode(first_frames)
        num_new = ceil_div(num_frames, stride)
        empty = prefix.new_zeros(len(prefix), num_new, *prefix.shape[2:])
        known = torch.cat([prefix, empty], dim=1)
        grid = tuple(known.shape[1 : 1 + self.vqvae.rank])
        mask = torch.zeros(grid, dtype=torch.bool)
        mask[: prefix.shape[1]] = True
        codes = generate(
            prior,
            grid,
            batch=len(known),
            cond=self.select_prior_cond(cond),
            known=known,
            mask=mask,
            **options,
        )
        decoding = _get_decoding_options(decoder_temperature, options, known=first_frames)
        clip = self.vqvae.decode(codes, self.select_decoder_cond(cond), **decoding)
        clip = clip[:, :, : first_frames.shape[2] + num_frames]
        clip[:, :, : first_frames.shape[2]] = first_frames
        return clip

    def stream(
        self,
        first_frames: Tensor | None = None,
        *,
        batch_size: int = 1,
        actions: Tensor | Iterable[Tensor] | None = None,
        cond: Cond | None = None,
        decoder_temperature: float | None = None,
        **options: Unpack[StreamOptions],
    ) -> Iterator[Tensor]:
        """Generate frames `[b, c, h, w]` one by one, without end, in bounded memory.

        They equal the frames that `continue_clip` adds, bit for bit, whatever their number. A code
        frame is sampled when its first frame is requested and yields as many frames as the
        temporal stride; a decoder with lookahead (`conv` unless causal) needs some more code
        frames before it can yield one.

        Args:
            first_frames: `[b, c, n, h, w]`; n must be a whole number of code frames. They are not
                yielded. None generates from scratch.
            batch_size: number of clips, if there are no first frames.
            actions: one per data frame, including the actions of the first frames, as
                `[b, t]` (or `[b, t, a]`), or an iterable of `[b]` (or `[b, a]`), which is read only
                as needed; the frames end when the actions end.
            cond: other conditions of prior and decoder, constant over time.
            decoder_temperature: temperature of a decoder that samples, see `DecodingOptions`; its
                seed is derived from the seed in `options`.
            options: temperature, top_k, top_p, guidance_scale, seed, method; see
                `vqvideo.sampling.stream`.

        Raises:
            ValueError: as for `continue_clip`, and if the decoder or the prior does not support
                streaming.
        """
        check_count("batch_size", batch_size)
        prior, vqvae = self._require_prior(), self.vqvae
        known = None if first_frames is None else vqvae.encode(first_frames)
        axes = self.sample_shape if first_frames is None else tuple(first_frames.shape[2:])
        if axes is None:
            raise ValueError("this model has no sample_shape; give first frames")
        stride, num_known = vqvae.downsampling[0], 0 if known is None else known.shape[1]
        decoder_cond, cond = self.select_decoder_cond(cond), self.select_prior_cond(cond)
        prefix_cond, conds = cond, None
        if actions is not None:
            frame_actions = actions.unbind(1) if isinstance(actions, Tensor) else actions
            groups = _group_actions(frame_actions, stride, cond or Cond())
            prefix_cond, conds = _concat_conds(itertools.islice(groups, num_known), cond), groups
        steps = stream(
            prior,
            vqvae.compute_grid_shape(axes)[1:],
            batch=batch_size if known is None else len(known),
            known=known,
            cond=prefix_cond,
            conds=conds,
            **options,
        )
        codes = itertools.chain([] if known is None else [known], (step[:, None] for step in steps))
        decoding = _get_decoding_options(decoder_temperature, options, known=first_frames)
        chunks = vqvae.decode_stream(codes, decoder_cond, **decoding)
        frames = (frame for chunk in chunks for frame in chunk.unbind(2))
        return itertools.islice(frames, num_known * stride, None)

    @torch.no_grad()
    def log_prob(
        self, x: Tensor, cond: Cond | None = None, *, output: VQVAEOutput | None = None
    ) -> Score:
        """Return the terms of the bound of section 3.2 for data `[b, c, *axes]`, in nats.

        Args:
            x: data.
            cond: conditions of prior and decoder; each gets those it takes.
            output: result of `vqvae(x, cond)` in evaluation mode; None calls it here.
        """
        prior_cond = self.select_prior_cond(cond)
        if self.prior is None and prior_cond is not None:
            prior_cond.check(CondSpec(), len(x), (1,))  # raises: no part takes it
        vqvae, prior = eval_view(self.vqvae), eval_view(self.prior)
        parameters, quantized = output or vqvae(x, self.select_decoder_cond(cond))
        reconstruction = vqvae.likelihood.log_prob(parameters, x)
        codebook_size, num_codes = vqvae.quantizer.codebook_size, quantized.codes[0].numel()
        return Score(
            reconstruction=reconstruction,
            prior=None if prior is None else prior.log_prob(quantized.codes, prior_cond),
            uniform=torch.full_like(reconstruction, -num_codes * math.log(codebook_size)),
            num_dims=x[0].numel(),
            is_discrete=vqvae.likelihood.is_discrete,
        )

    @property
    def cond_keys(self) -> tuple[str, ...]:
        """Names of the conditions that prior or decoder take, see `CondSpec.keys`."""
        prior_keys = () if self.prior is None else self.prior.cond.keys
        return tuple(dict.fromkeys((*prior_keys, *self.vqvae.cond.keys)))

    def select_decoder_cond(self, cond: Cond | None) -> Cond | None:
        """Return the conditions that the decoder takes."""
        return None if cond is None else cond.select(self.vqvae.cond.keys)

    def select_prior_cond(self, cond: Cond | None) -> Cond | None:
        """Return the conditions that the prior takes, and any that no part takes, which the prior's
        check then rejects.
        """
        if cond is None:
            return None
        prior_keys = () if self.prior is None else self.prior.cond.keys
        return cond.exclude(set(self.vqvae.cond.keys) - set(prior_keys))

    def _require_prior(self) -> Prior:
        if self.prior is None:
            raise ValueError(
                "this model has no prior yet; train one (vqvideo train-prior) or build with prior="
            )
        return self.prior


def _get_decoding_options(
    temperature: float | None,
    options: GenerateOptions | StreamOptions,
    known: Tensor | None = None,
) -> dict[str, Any]:
    """Return the options of the decoder, with a seed derived from that of the codes."""
    seed = offset_seeds(options.get("seed", 0), SEED_OFFSET)
    return {"temperature": temperature, "seed": seed, "known": known}


def _group_actions(actions: Iterable[Tensor], stride: int, cond: Cond) -> Iterator[Cond]:
    """Yield `cond` with the actions of each code frame, from one action per data frame."""
    iterator = iter(actions)
    while len(group := list(itertools.islice(iterator, stride))) == stride:
        yield replace(cond, actions=torch.stack(group, dim=1))


def _concat_conds(conds: Iterable[Cond], cond: Cond | None) -> Cond | None:
    """Concatenate the conditions of successive code frames; return `cond` if there are none."""
    actions = [item.actions for item in conds if item.actions is not None]
    return replace(cond or Cond(), actions=torch.cat(actions, dim=1)) if actions else cond
