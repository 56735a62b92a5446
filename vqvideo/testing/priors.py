"""The laws of priors, ordered so that the first failure is the most informative one."""

from __future__ import annotations

import functools

from vqvideo.priors import Prior
from vqvideo.testing.evaluation import a_prior_in_training_mode_is_evaluated_unchanged
from vqvideo.testing.grids import check_rank
from vqvideo.testing.laws import build_and_get_name, check_laws, note_on_error
from vqvideo.testing.prior_conditions import (
    a_condition_changes_no_earlier_step,
    conditions_are_taken_or_refused,
    every_condition_reaches_the_logits,
    guidance_scale_0_is_unconditional_and_1_is_conditional,
    unsupported_conditions_are_refused,
)
from vqvideo.testing.prior_latents import (
    codes_are_sampled_given_seeded_latents,
    log_prob_includes_the_latent_term,
    the_bound_does_not_depend_on_the_batch,
)
from vqvideo.testing.prior_logits import (
    a_loaded_prior_is_the_one_that_was_saved,
    log_prob_is_the_sum_over_codes,
    logits_are_strictly_causal,
    logits_depend_on_the_whole_receptive_field,
    probabilities_sum_to_one,
    training_minimises_a_scalar,
)
from vqvideo.testing.prior_sampling import (
    a_fused_step_draws_the_same_codes,
    all_methods_draw_the_same_codes,
    codes_are_sampled_with_their_exact_probabilities,
    filters_select_the_right_codes,
    the_reported_log_prob_is_that_of_the_codes,
)
from vqvideo.testing.prior_setup import Build, build_noisy_prior
from vqvideo.testing.prior_states import (
    a_prefilled_state_continues_as_a_stepped_one,
    a_state_continues_beyond_its_grid,
    stepping_matches_the_full_logits,
    stepping_matches_the_full_logits_under_every_condition,
)
from vqvideo.testing.prior_streams import a_stream_matches_the_longer_grid, sampling_leaves_no_trace

LAWS = (
    logits_are_strictly_causal,
    logits_depend_on_the_whole_receptive_field,
    log_prob_is_the_sum_over_codes,
    training_minimises_a_scalar,
    probabilities_sum_to_one,
    conditions_are_taken_or_refused,
    unsupported_conditions_are_refused,
    a_loaded_prior_is_the_one_that_was_saved,
    every_condition_reaches_the_logits,
    a_condition_changes_no_earlier_step,
    stepping_matches_the_full_logits,
    stepping_matches_the_full_logits_under_every_condition,
    a_prefilled_state_continues_as_a_stepped_one,
    a_state_continues_beyond_its_grid,
    all_methods_draw_the_same_codes,
    codes_are_sampled_with_their_exact_probabilities,
    a_fused_step_draws_the_same_codes,
    filters_select_the_right_codes,
    the_reported_log_prob_is_that_of_the_codes,
    guidance_scale_0_is_unconditional_and_1_is_conditional,
    a_stream_matches_the_longer_grid,
    sampling_leaves_no_trace,
    a_prior_in_training_mode_is_evaluated_unchanged,
)
LATENT_LAWS = (  # for priors whose codes depend on latents as well as on earlier codes
    log_prob_is_the_sum_over_codes,
    probabilities_sum_to_one,
    training_minimises_a_scalar,
    conditions_are_taken_or_refused,
    unsupported_conditions_are_refused,
    a_loaded_prior_is_the_one_that_was_saved,
    log_prob_includes_the_latent_term,
    the_bound_does_not_depend_on_the_batch,
    codes_are_sampled_given_seeded_latents,
    a_prior_in_training_mode_is_evaluated_unchanged,
)


def check_prior(build: Build, rank: int, *, num_codebooks: int = 1) -> None:
    """Check all laws of a prior on grids of one rank, of at most 60 positions.

    Args:
        build: called as `build(rank=..., codebook_size=...)`, with `num_codebooks=...` if that is
            above 1. If it has an option `cond`, it is also called with a `CondSpec` of each kind;
            it may refuse some kinds with `ValueError`. Make it small (a few layers).
        rank: a rank that the prior supports.
        num_codebooks: number of codes per position.
    """
    if num_codebooks > 1:
        build = functools.partial(build, num_codebooks=num_codebooks)
    check_rank(rank)
    name = build_and_get_name(build, Prior, rank=rank, codebook_size=5)
    with note_on_error(f"raised by {name} while it was prepared for its laws"):
        prior = build_noisy_prior(build, rank)
    check_laws(LAWS if prior.code_prior is prior else LATENT_LAWS, name, build, rank)
