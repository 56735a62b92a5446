"""The laws of quantizers, in the order in which a fault is best understood."""

from __future__ import annotations

from vqvideo.quantizers import Quantizer
from vqvideo.testing.grids import GRIDS
from vqvideo.testing.laws import hold, named
from vqvideo.testing.quantizer_codes import (
    codes_do_not_depend_on_autocast,
    codes_do_not_depend_on_the_batch,
    codes_fit_the_grid,
    codes_tell_vectors_apart,
    decode_gives_z_q,
    nearest_code_wins,
    the_perplexity_is_that_of_the_codes,
)
from vqvideo.testing.quantizer_losses import (
    each_loss_stops_the_other_gradient,
    gradient_passes_straight_through,
    gradient_reaches_z_e,
    losses_and_perplexity_are_in_range,
    losses_are_those_of_equation_3,
    training_moves_all_that_it_should,
)
from vqvideo.testing.quantizer_setup import Build
from vqvideo.testing.quantizer_states import (
    a_loaded_quantizer_is_the_one_that_was_saved,
    a_loaded_quantizer_trains_on_as_if_never_saved,
    an_empty_batch_gives_no_codes,
    codebook_moves_in_training_only,
    masked_positions_count_nowhere,
    nan_is_refused,
    two_half_batches_are_one_whole,
    warming_up_ends,
)

LAWS_OF_ITS_START = (warming_up_ends,)
LAWS_OF_CODES = (  # on a grid of each rank
    codes_fit_the_grid,
    decode_gives_z_q,
    losses_and_perplexity_are_in_range,
    the_perplexity_is_that_of_the_codes,
    codes_tell_vectors_apart,
    training_moves_all_that_it_should,
)
LAWS_OF_A_PLAIN_LOOKUP = (
    nearest_code_wins,
    gradient_passes_straight_through,
    losses_are_those_of_equation_3,
    each_loss_stops_the_other_gradient,
)
LAWS_OF_ANY_OTHER = (gradient_reaches_z_e,)
LAWS_OF_ITS_STATE = (
    codebook_moves_in_training_only,
    two_half_batches_are_one_whole,
    codes_do_not_depend_on_the_batch,
    codes_do_not_depend_on_autocast,
    masked_positions_count_nowhere,
    an_empty_batch_gives_no_codes,
    a_loaded_quantizer_is_the_one_that_was_saved,
    a_loaded_quantizer_trains_on_as_if_never_saved,
    nan_is_refused,
)
EVERY = (
    *LAWS_OF_ITS_START,
    *LAWS_OF_CODES,
    *LAWS_OF_A_PLAIN_LOOKUP,
    *LAWS_OF_ANY_OTHER,
    *LAWS_OF_ITS_STATE,
)


def check_quantizer(build: Build) -> None:
    """All laws of a quantizer, on grids of rank 1, 2 and 3.

    A quantizer that says it is a `plain_lookup` is held to four more: the nearest entry, the
    identity as gradient, the losses of eq. 3 and their stop-gradients.

    Args:
        build: called as `build()`, each time for a new quantizer of the same kind. A small one
            (some ten codes) is checked more sharply than a large one.
    """
    name = named(build, Quantizer)
    hold(LAWS_OF_ITS_START, name, build)
    own = LAWS_OF_A_PLAIN_LOOKUP if build().plain_lookup else LAWS_OF_ANY_OTHER
    for rank in GRIDS:
        hold([*LAWS_OF_CODES, *own], name, build, rank)
    hold(LAWS_OF_ITS_STATE, name, build)
