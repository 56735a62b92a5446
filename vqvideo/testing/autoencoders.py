"""The laws of encoders and decoders, ordered so that the first failure is most informative."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from vqvideo.nets.autoencoder import Decoder, Encoder
from vqvideo.testing.autoencoder_chunks import (
    a_causal_network_ignores_later_steps,
    chunks_and_tiles_match_the_whole,
    splitting_the_input_changes_no_bit,
)
from vqvideo.testing.autoencoder_outputs import (
    a_loaded_network_is_the_one_that_was_saved,
    an_item_does_not_depend_on_its_batch,
    encoder_attributes_match_its_options,
    every_channel_gets_a_gradient,
    the_input_decides_the_output,
    the_output_fits_the_grid,
)
from vqvideo.testing.autoencoder_setup import STRIDES, Z_CHANNELS, AutoencoderCase
from vqvideo.testing.evaluation import a_network_in_training_mode_is_evaluated_unchanged
from vqvideo.testing.grids import check_rank
from vqvideo.testing.laws import build_and_get_name, check_laws, note_on_error

ENCODER_LAWS = (encoder_attributes_match_its_options,)
LAWS = (
    the_output_fits_the_grid,
    the_input_decides_the_output,
    an_item_does_not_depend_on_its_batch,
    every_channel_gets_a_gradient,
    a_loaded_network_is_the_one_that_was_saved,
    a_network_in_training_mode_is_evaluated_unchanged,
    chunks_and_tiles_match_the_whole,
    splitting_the_input_changes_no_bit,
    a_causal_network_ignores_later_steps,
)


def check_encoder(
    build: Callable[..., Encoder],
    rank: int,
    strides: Sequence[Sequence[int]] | None = None,
    *,
    channels: int = 3,
) -> None:
    """Check all laws of an encoder of one rank.

    Args:
        build: called as `build(rank=..., channels=..., z_channels=..., strides=...)`. Make it
            small.
        rank: a rank that the network supports.
        strides: strides that the network supports; None takes two levels with strides that differ
            between axes.
        channels: number of channels of the data, or of the likelihood parameters for a decoder.
    """
    strides, sizes = _get_build_options(rank, strides, channels)
    name = build_and_get_name(build, Encoder, **sizes)
    with note_on_error(f"raised by {name} while it was prepared for its laws"):
        case = AutoencoderCase.from_encoder(functools.partial(build, **sizes), strides, channels)
    check_laws(ENCODER_LAWS, name, case.net, rank, channels, case.in_steps)
    check_laws(LAWS, name, case)


def check_decoder(
    build: Callable[..., Decoder],
    rank: int,
    strides: Sequence[Sequence[int]] | None = None,
    *,
    channels: int = 3,
) -> None:
    """Check all laws of a decoder of one rank, with the arguments of `check_encoder`."""
    strides, sizes = _get_build_options(rank, strides, channels)
    name = build_and_get_name(build, Decoder, **sizes)
    with note_on_error(f"raised by {name} while it was prepared for its laws"):
        case = AutoencoderCase.from_decoder(functools.partial(build, **sizes), strides, channels)
    check_laws(LAWS, name, case)


def _get_build_options(
    rank: int, strides: Sequence[Sequence[int]] | None, channels: int
) -> tuple[Sequence[Sequence[int]], dict[str, Any]]:
    """Return the strides, and all options for the builder."""
    check_rank(rank)
    strides = STRIDES[rank] if strides is None else strides
    sizes = {"rank": rank, "channels": channels, "z_channels": Z_CHANNELS, "strides": strides}
    return strides, sizes
