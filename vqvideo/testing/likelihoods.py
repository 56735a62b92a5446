"""The laws of likelihoods, ordered so that the first failure is the most informative one."""

from __future__ import annotations

from collections.abc import Sequence

from vqvideo.likelihoods import Likelihood
from vqvideo.testing.evaluation import a_likelihood_in_training_mode_is_evaluated_unchanged
from vqvideo.testing.grids import GRIDS, check_rank
from vqvideo.testing.laws import build_and_get_name, check_laws
from vqvideo.testing.likelihood_data import (
    a_loaded_likelihood_is_the_one_that_was_saved,
    a_lower_temperature_is_less_random,
    an_unnormalized_likelihood_refuses_to_sample,
    autocast_changes_little,
    chunking_does_not_change_samples,
    items_are_scored_independently,
    large_parameters_stay_finite,
    log_prob_sums_over_positions,
    sample_stream_is_the_mode_or_a_sample,
    samples_are_data,
    the_mode_is_data,
)
from vqvideo.testing.likelihood_setup import Build, bind_sizes, build_likelihood
from vqvideo.testing.likelihood_values import (
    NUM_CELLS,
    a_density_integrates_to_one,
    probabilities_sum_to_one,
    samples_follow_the_density,
    samples_follow_the_probabilities,
    the_mode_is_the_peak_of_the_density,
)

LAWS = (
    items_are_scored_independently,
    the_mode_is_data,
    sample_stream_is_the_mode_or_a_sample,
    large_parameters_stay_finite,
    autocast_changes_little,
    a_loaded_likelihood_is_the_one_that_was_saved,
    a_likelihood_in_training_mode_is_evaluated_unchanged,
)
DISTRIBUTION_LAWS = (
    log_prob_sums_over_positions,
    samples_are_data,
    chunking_does_not_change_samples,
)
UNNORMALIZED_LAWS = (an_unnormalized_likelihood_refuses_to_sample,)
DISCRETE_LAWS = (probabilities_sum_to_one, samples_follow_the_probabilities)
DENSITY_LAWS = (
    a_density_integrates_to_one,
    samples_follow_the_density,
    the_mode_is_the_peak_of_the_density,
)
TEMPERATURE_LAWS = (a_lower_temperature_is_less_random,)


def check_likelihood(
    build: Build, ranks: Sequence[int] = tuple(GRIDS), *, channel_counts: Sequence[int] = (1, 2)
) -> None:
    """Check all laws of a likelihood.

    Fewer laws apply to an unnormalized likelihood: it has no samples, and must refuse to sample.

    Args:
        build: called with `rank` and `channels` if it has these parameters, and nothing else. Make
            it small if it has a network.
        ranks: ranks of data that the likelihood supports.
        channel_counts: numbers of channels for which all values of a position are enumerated; two
            channels of 256 values each take a while. A density is integrated over one or two
            channels.
    """
    for rank in ranks:
        check_rank(rank)
    name = build_and_get_name(bind_sizes(build, ranks[0], 3), Likelihood)
    likelihood = build_likelihood(build, ranks[0], 3)
    specific_laws = DISTRIBUTION_LAWS if likelihood.is_normalized else UNNORMALIZED_LAWS
    for rank in ranks:
        check_laws([*LAWS, *specific_laws], name, build, rank)
    if likelihood.num_values is not None:
        for channels in channel_counts:
            check_laws(DISCRETE_LAWS, name, build, ranks[0], channels)
    elif likelihood.is_normalized:
        for channels in NUM_CELLS.keys() & channel_counts:
            check_laws(DENSITY_LAWS, name, build, ranks[0], channels)
    if likelihood.is_normalized:
        check_laws(TEMPERATURE_LAWS, name, build, ranks[0])
