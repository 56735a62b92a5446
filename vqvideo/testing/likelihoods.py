"""The laws of likelihoods, in the order in which a fault is best understood."""

from __future__ import annotations

from collections.abc import Sequence

from vqvideo.likelihoods import Likelihood
from vqvideo.testing.grids import GRIDS, check_rank
from vqvideo.testing.laws import hold, named
from vqvideo.testing.likelihood_data import (
    a_loaded_likelihood_is_the_one_that_was_saved,
    a_lower_temperature_is_less_random,
    an_item_is_scored_by_itself,
    autocast_changes_little,
    far_parameters_give_numbers,
    nats_of_positions_add_up,
    pieces_of_an_autoregressive_one_decide_nothing,
    samples_are_data,
    the_mode_is_data,
    there_are_no_samples,
    what_is_drawn_is_mode_or_sample,
)
from vqvideo.testing.likelihood_setup import Build, built, made_for
from vqvideo.testing.likelihood_values import (
    CELLS,
    a_density_integrates_to_one,
    probabilities_sum_to_one,
    samples_are_spread_as_the_density,
    samples_come_as_often_as_they_are_probable,
    the_mode_is_the_peak_of_the_density,
)

LAWS = (
    an_item_is_scored_by_itself,
    the_mode_is_data,
    what_is_drawn_is_mode_or_sample,
    far_parameters_give_numbers,
    autocast_changes_little,
    a_loaded_likelihood_is_the_one_that_was_saved,
)
LAWS_OF_A_DISTRIBUTION = (
    nats_of_positions_add_up,
    samples_are_data,
    pieces_of_an_autoregressive_one_decide_nothing,
)
LAWS_OF_A_SCORE = (there_are_no_samples,)
LAWS_OF_PROBABILITIES = (probabilities_sum_to_one, samples_come_as_often_as_they_are_probable)
LAWS_OF_A_DENSITY = (
    a_density_integrates_to_one,
    samples_are_spread_as_the_density,
    the_mode_is_the_peak_of_the_density,
)
LAWS_OF_TEMPERATURE = (a_lower_temperature_is_less_random,)


def check_likelihood(
    build: Build, ranks: Sequence[int] = tuple(GRIDS), *, counted: Sequence[int] = (1, 2)
) -> None:
    """All laws of a likelihood.

    One that is not normalised is held to fewer: it has no samples, and must say so.

    Args:
        build: called with `rank` and `channels` if it takes them, and nothing else. Make it small
            if it has a network.
        ranks: of the data that it is for.
        counted: channels of a position, of which every value it can have is gone through; two of
            256 values each take a while. A density is integrated, over one or two channels.
    """
    for rank in ranks:
        check_rank(rank)
    name = named(made_for(build, ranks[0], 3), Likelihood)
    likelihood = built(build, ranks[0], 3)
    special = LAWS_OF_A_DISTRIBUTION if likelihood.is_normalized else LAWS_OF_A_SCORE
    for rank in ranks:
        hold([*LAWS, *special], name, build, rank)
    if likelihood.num_values is not None:
        for channels in counted:
            hold(LAWS_OF_PROBABILITIES, name, build, ranks[0], channels)
    elif likelihood.is_normalized:
        for channels in CELLS.keys() & counted:
            hold(LAWS_OF_A_DENSITY, name, build, ranks[0], channels)
    if likelihood.is_normalized:
        hold(LAWS_OF_TEMPERATURE, name, build, ranks[0])
