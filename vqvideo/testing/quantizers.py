"""The laws of quantizers, ordered so that the first failure is the most informative one."""

from __future__ import annotations

from vqvideo.quantizers import Quantizer
from vqvideo.testing.evaluation import a_quantizer_in_training_mode_is_evaluated_unchanged
from vqvideo.testing.grids import GRIDS
from vqvideo.testing.laws import build_and_get_name, check_laws
from vqvideo.testing.quantizer_codes import (
    codes_distinguish_vectors,
    codes_do_not_depend_on_autocast,
    codes_do_not_depend_on_the_batch,
    codes_fit_the_grid,
    decode_returns_z_q,
    the_perplexity_matches_the_codes,
    vectors_get_their_nearest_code,
)
from vqvideo.testing.quantizer_losses import (
    each_loss_stops_the_other_gradient,
    gradient_passes_straight_through,
    gradient_reaches_z_e,
    losses_and_perplexity_are_in_range,
    losses_match_equation_3,
    training_reaches_z_e_and_every_parameter,
)
from vqvideo.testing.quantizer_setup import Build
from vqvideo.testing.quantizer_states import (
    a_loaded_quantizer_is_the_one_that_was_saved,
    a_loaded_quantizer_trains_on_as_if_never_saved,
    an_empty_batch_has_no_codes,
    masked_positions_are_ignored,
    nan_is_refused,
    the_codebook_changes_only_in_training,
    two_half_batches_equal_one_batch,
    warming_up_ends,
)

INIT_LAWS = (warming_up_ends,)
CODE_LAWS = (  # on a grid of each rank
    codes_fit_the_grid,
    decode_returns_z_q,
    losses_and_perplexity_are_in_range,
    the_perplexity_matches_the_codes,
    codes_distinguish_vectors,
    training_reaches_z_e_and_every_parameter,
)
NEAREST_NEIGHBOR_LAWS = (
    vectors_get_their_nearest_code,
    gradient_passes_straight_through,
    losses_match_equation_3,
    each_loss_stops_the_other_gradient,
)
OTHER_LAWS = (gradient_reaches_z_e,)
STATE_LAWS = (
    the_codebook_changes_only_in_training,
    two_half_batches_equal_one_batch,
    codes_do_not_depend_on_the_batch,
    codes_do_not_depend_on_autocast,
    masked_positions_are_ignored,
    an_empty_batch_has_no_codes,
    a_loaded_quantizer_is_the_one_that_was_saved,
    a_loaded_quantizer_trains_on_as_if_never_saved,
    nan_is_refused,
    a_quantizer_in_training_mode_is_evaluated_unchanged,
)
ALL_LAWS = (
    *INIT_LAWS,
    *CODE_LAWS,
    *NEAREST_NEIGHBOR_LAWS,
    *OTHER_LAWS,
    *STATE_LAWS,
)


def check_quantizer(build: Build) -> None:
    """Check all laws of a quantizer, on grids of rank 1, 2 and 3.

    A quantizer with `is_nearest_neighbor` must keep four more laws: the nearest entry, the
    straight-through gradient, the losses of eq. 3 and their stop-gradients.

    Args:
        build: called as `build()` whenever a new quantizer of the same kind is needed. A small
            codebook (about ten codes) makes the checks more sensitive than a large one.
    """
    name = build_and_get_name(build, Quantizer)
    check_laws(INIT_LAWS, name, build)
    specific_laws = NEAREST_NEIGHBOR_LAWS if build().is_nearest_neighbor else OTHER_LAWS
    for rank in GRIDS:
        check_laws([*CODE_LAWS, *specific_laws], name, build, rank)
    check_laws(STATE_LAWS, name, build)
