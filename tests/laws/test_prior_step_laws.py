"""Each law of states and streams catches the faults planted for it."""

import math
from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.cond import Cond
from vqvideo.incremental.causal import CausalState
from vqvideo.priors import CausalPrior
from vqvideo.testing import prior_states, prior_streams, priors

SMALL = {"width": 8, "kernel_radii": (1, 1, 1), "dilations": (1, 1, 1)}
STEPWISE_CONDITIONS = {"actions", "local"}  # what a state is told of later steps


class WrongBiasPrior(CausalPrior):
    """The classic fault of a cache: something is left out at the start of a row."""

    def init_state(self, batch, grid, cond=None):
        state = super().init_state(batch, grid, cond)
        state.net.horizontal.bias *= 0.5
        return state


class SharedStatePrior(CausalPrior):
    """A cache that belongs to the prior: a second sampler disturbs the first."""

    def init_state(self, batch, grid, cond=None):
        state = super().init_state(batch, grid, cond)
        self.rows = getattr(self, "rows", None)
        if self.rows is None or self.rows.shape != state.net.horizontal.history.shape:
            self.rows = state.net.horizontal.history
        state.net.horizontal.history = self.rows
        return state


class RowForgettingPrior(CausalPrior):
    """Prefilled up to the end of the first row, it starts anew."""

    def init_state(self, batch, grid, cond=None):
        state = super().init_state(batch, grid, cond)
        prefill = state.prefill

        def careless(codes, positions):
            prefill(codes * 0 if positions == grid[-1] else codes, positions)

        state.prefill = careless
        return state


class GridBoundPrior(CausalPrior):
    """Where the grid ends it starts anew."""

    def init_state(self, batch, grid, cond=None):
        state, pushed, push = super().init_state(batch, grid, cond), [0], None
        push = state.push

        def careless(codes):
            push(codes)
            pushed[0] += 1
            if pushed[0] == math.prod(grid):
                told = state.net.cond
                state.net = CausalState(self.net, batch, grid[1:])
                state.net.set_condition(told, None)

        state.push = careless
        return state


class UnqueriedForgettingPrior(CausalPrior):
    """A cache that is filled only where somebody asks for logits: wrong around known codes."""

    def init_state(self, batch, grid, cond=None):
        state = super().init_state(batch, grid, cond)
        push = state.net.push

        def careless(embedding):
            state.net.num_computed = max(state.net.num_computed, state.net.column + 1)
            push(embedding)

        state.net.push = careless
        return state


class WeightChangingPrior(CausalPrior):
    def init_state(self, batch, grid, cond=None):
        with torch.no_grad():
            self.embedding.weight[0, 0] += 1e-3
        return super().init_state(batch, grid, cond)


class CodeRecordingPrior(CausalPrior):
    """Sampling leaves a buffer behind."""

    def init_state(self, batch, grid, cond=None):
        self.register_buffer("last", torch.zeros(batch))
        return super().init_state(batch, grid, cond)


class UncopyablePrior(CausalPrior):
    """A copy gets a table of its own, and the first one's is read no more."""

    def __deepcopy__(self, memo):
        twin = CausalPrior(
            rank=self.rank, codebook_size=self.codebook_size, cond=self.cond, **SMALL
        )
        return twin.to(self.embedding.weight)


class UnconditionalStatePrior(CausalPrior):
    def init_state(self, batch, grid, cond=None):
        return super().init_state(batch, grid, None)


class GridBoundCondPrior(CausalPrior):
    """What it is told later it takes for nothing."""

    def init_state(self, batch, grid, cond=None):
        state = super().init_state(batch, grid, cond)

        tell = state.set_condition

        def careless(cond, steps):
            held = {name: value for name, value in vars(cond).items() if value is not None}
            silent = {
                name: torch.zeros_like(held[name]) for name in held.keys() & STEPWISE_CONDITIONS
            }
            tell(Cond(**{**held, **silent}), steps)

        state.set_condition = careless
        return state


class GlobalGeneratorPrior(CausalPrior):
    """A state whose beginning takes torch's random numbers."""

    def init_state(self, batch, grid, cond=None):
        torch.rand(1)
        return super().init_state(batch, grid, cond)


class WrongStreamPrior(CausalPrior):
    """A state that is made for more than one step takes another first code for granted."""

    def init_state(self, batch, grid, cond=None):
        state = super().init_state(batch, grid, cond)
        if batch == prior_streams.BATCH_SIZE and grid[0] == 1:
            logits = state.logits
            state.logits = lambda: -logits()
        return state


FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    ("stepping_matches_the_full_logits", WrongBiasPrior, "stepping differs from the full logits"),
    ("stepping_matches_the_full_logits", UnqueriedForgettingPrior, "queried every 3 positions"),
    (
        "stepping_matches_the_full_logits_under_every_condition",
        UnconditionalStatePrior,
        "under class_id stepping differs",
    ),
    ("a_state_continues_beyond_its_grid", GridBoundPrior, "beyond its grid, stepping differs"),
    ("a_state_continues_beyond_its_grid", GridBoundCondPrior, "beyond its grid, stepping differs"),
    ("a_stream_matches_the_longer_grid", WrongStreamPrior, "of a stream, of which 0 were known"),
    ("sampling_leaves_no_trace", CodeRecordingPrior, "sampling added last to the state_dict"),
    ("sampling_leaves_no_trace", GlobalGeneratorPrior, "sampling used the global random generator"),
    ("sampling_leaves_no_trace", UncopyablePrior, "a copy of the prior gives other logits"),
]
FAULTS_OF_ROWS = [
    ("stepping_matches_the_full_logits", SharedStatePrior, "stepping differs from the full logits"),
    (
        "a_prefilled_state_continues_as_a_stepped_one",
        RowForgettingPrior,
        "after prefill of [34] positions, stepping differs",
    ),
]


def run_law(law, broken, message, rank):
    found = f"^{broken.__name__} breaks the law {law}: .*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_prior(partial(broken, **SMALL), rank)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_steps_is_caught_by_its_law(law, broken, message, rank, only):
    only(law)
    run_law(law, broken, message, rank)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS_OF_ROWS)
def test_a_planted_fault_that_takes_a_row_is_caught_by_its_law(law, broken, message, rank, only):
    only(law)
    run_law(law, broken, message, rank)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_weight_that_sampling_moves_is_caught_by_whatever_samples_first(rank):
    with pytest.raises(AssertionError, match=r"stepping differs|sampling differ|sampling changed"):
        testing.check_prior(partial(WeightChangingPrior, **SMALL), rank)


def test_every_law_of_steps_has_a_planted_fault():
    modules = {prior_states.__name__, prior_streams.__name__}
    own = {law.__name__ for law in priors.LAWS if law.__module__ in modules}
    assert own == {law for law, *_ in (*FAULTS, *FAULTS_OF_ROWS)}
