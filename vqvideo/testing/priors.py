"""The laws of priors, in the order in which a fault is best understood."""

from __future__ import annotations

import functools

from vqvideo.priors import Prior
from vqvideo.testing.grids import check_rank
from vqvideo.testing.laws import hold, named, noting
from vqvideo.testing.prior_conditions import (
    conditions_are_taken_or_refused,
    every_condition_reaches_the_logits,
    guidance_goes_from_no_condition_to_the_condition,
    what_is_told_of_a_step_changes_none_before,
    what_it_cannot_be_told_is_refused,
)
from vqvideo.testing.prior_latents import (
    codes_are_drawn_given_latents_that_the_seed_decides,
    latents_are_of_the_codes_alone,
    latents_have_a_price,
)
from vqvideo.testing.prior_logits import (
    a_loaded_prior_is_the_one_that_was_saved,
    every_code_in_the_receptive_field_is_seen,
    log_prob_is_the_sum_over_codes,
    no_logit_sees_its_own_code_or_a_later_one,
    probabilities_sum_to_one,
    training_minimises_a_scalar,
)
from vqvideo.testing.prior_sampling import (
    a_fused_step_draws_the_same_codes,
    all_methods_draw_the_same_codes,
    codes_are_drawn_with_their_exact_probabilities,
    filters_choose_as_they_say,
    the_log_prob_of_what_was_drawn_is_log_prob,
)
from vqvideo.testing.prior_setup import Build, redrawn
from vqvideo.testing.prior_states import (
    a_prefilled_state_goes_on_as_a_stepped_one,
    a_state_goes_on_beyond_its_grid,
    stepping_gives_the_logits_of_the_whole,
    stepping_gives_the_logits_of_the_whole_under_every_condition,
)
from vqvideo.testing.prior_streams import a_stream_is_the_longer_grid, sampling_leaves_no_trace

LAWS = (
    no_logit_sees_its_own_code_or_a_later_one,
    every_code_in_the_receptive_field_is_seen,
    log_prob_is_the_sum_over_codes,
    training_minimises_a_scalar,
    probabilities_sum_to_one,
    conditions_are_taken_or_refused,
    what_it_cannot_be_told_is_refused,
    a_loaded_prior_is_the_one_that_was_saved,
    every_condition_reaches_the_logits,
    what_is_told_of_a_step_changes_none_before,
    stepping_gives_the_logits_of_the_whole,
    stepping_gives_the_logits_of_the_whole_under_every_condition,
    a_prefilled_state_goes_on_as_a_stepped_one,
    a_state_goes_on_beyond_its_grid,
    all_methods_draw_the_same_codes,
    codes_are_drawn_with_their_exact_probabilities,
    a_fused_step_draws_the_same_codes,
    filters_choose_as_they_say,
    the_log_prob_of_what_was_drawn_is_log_prob,
    guidance_goes_from_no_condition_to_the_condition,
    a_stream_is_the_longer_grid,
    sampling_leaves_no_trace,
)
LAWS_WITH_LATENTS = (  # no code is drawn from all codes before it alone
    log_prob_is_the_sum_over_codes,
    probabilities_sum_to_one,
    training_minimises_a_scalar,
    conditions_are_taken_or_refused,
    what_it_cannot_be_told_is_refused,
    a_loaded_prior_is_the_one_that_was_saved,
    latents_have_a_price,
    latents_are_of_the_codes_alone,
    codes_are_drawn_given_latents_that_the_seed_decides,
)


def check_prior(build: Build, rank: int, *, num_codebooks: int = 1) -> None:
    """All laws of a prior on grids of one rank, of at most 60 positions.

    Args:
        build: called as `build(rank=..., codebook_size=...)`; with `num_codebooks=...` where that
            is above 1; and, if it has an option `cond`, with a `CondSpec` of each kind in turn,
            some of which it may refuse by `ValueError`. Make it small (a few layers).
        rank: a rank that the prior supports.
        num_codebooks: codes per position.
    """
    if num_codebooks > 1:
        build = functools.partial(build, num_codebooks=num_codebooks)
    check_rank(rank)
    name = named(build, Prior, rank=rank, codebook_size=5)
    with noting(f"raised by {name} as it was made ready for its laws"):
        prior = redrawn(build, rank)
    hold(LAWS if prior.drawn_from is prior else LAWS_WITH_LATENTS, name, build, rank)
