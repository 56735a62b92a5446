"""The laws of encoders and decoders, in the order in which a fault is best understood."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from vqvideo.nets.autoencoder import Decoder, Encoder
from vqvideo.testing.autoencoder_outputs import (
    a_loaded_network_is_the_one_that_was_saved,
    an_encoder_says_what_it_is,
    an_item_does_not_depend_on_its_batch,
    every_channel_is_heard,
    the_input_decides_the_output,
    the_output_fits_the_grid,
)
from vqvideo.testing.autoencoder_pieces import (
    a_causal_network_sees_nothing_later,
    blocks_and_tiles_are_the_whole,
    pieces_change_no_bit,
)
from vqvideo.testing.autoencoder_setup import STRIDES, Z_CHANNELS, Case
from vqvideo.testing.grids import check_rank
from vqvideo.testing.laws import hold, named, noting

LAWS_OF_AN_ENCODER = (an_encoder_says_what_it_is,)
LAWS = (
    the_output_fits_the_grid,
    the_input_decides_the_output,
    an_item_does_not_depend_on_its_batch,
    every_channel_is_heard,
    a_loaded_network_is_the_one_that_was_saved,
    blocks_and_tiles_are_the_whole,
    pieces_change_no_bit,
    a_causal_network_sees_nothing_later,
)


def check_encoder(
    build: Callable[..., Encoder],
    rank: int,
    strides: Sequence[Sequence[int]] | None = None,
    *,
    channels: int = 3,
) -> None:
    """All laws of an encoder of one rank.

    Args:
        build: called as `build(rank=..., channels=..., z_channels=..., strides=...)`. Make it
            small.
        rank: a rank that it supports.
        strides: that it supports; None takes two levels whose strides differ from axis to axis.
        channels: that it supports, of the data or of the likelihood's parameters.
    """
    strides, sizes = _sizes(rank, strides, channels)
    name = named(build, Encoder, **sizes)
    with noting(f"raised by {name} as it was made ready for its laws"):
        case = Case.of_encoder(functools.partial(build, **sizes), strides, channels)
    hold(LAWS_OF_AN_ENCODER, name, case.net, rank, channels, case.in_steps)
    hold(LAWS, name, case)


def check_decoder(
    build: Callable[..., Decoder],
    rank: int,
    strides: Sequence[Sequence[int]] | None = None,
    *,
    channels: int = 3,
) -> None:
    """All laws of a decoder of one rank; the arguments are those of `check_encoder`."""
    strides, sizes = _sizes(rank, strides, channels)
    name = named(build, Decoder, **sizes)
    with noting(f"raised by {name} as it was made ready for its laws"):
        case = Case.of_decoder(functools.partial(build, **sizes), strides, channels)
    hold(LAWS, name, case)


def _sizes(
    rank: int, strides: Sequence[Sequence[int]] | None, channels: int
) -> tuple[Sequence[Sequence[int]], dict[str, Any]]:
    """The strides, and with them all that a builder is told."""
    check_rank(rank)
    strides = STRIDES[rank] if strides is None else strides
    sizes = {"rank": rank, "channels": channels, "z_channels": Z_CHANNELS, "strides": strides}
    return strides, sizes
