"""Each law of states and streams catches the faults planted for it."""

import math
from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.cond import Cond
from vqvideo.priors import CausalPrior
from vqvideo.testing import prior_states, prior_streams, priors

SMALL = {"width": 8, "reaches": (1, 1, 1), "dilations": (1, 1, 1)}
LATER = {"actions", "local"}  # what a state is told of later steps


class WrongBias(CausalPrior):
    """The classic fault of a cache: something is left out at the start of a row."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        state.net.horizontal.bias *= 0.5
        return state


class SharedState(CausalPrior):
    """A cache that belongs to the prior: a second sampler disturbs the first."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        self.rows = getattr(self, "rows", None)
        if self.rows is None or self.rows.shape != state.net.horizontal.history.shape:
            self.rows = state.net.horizontal.history
        state.net.horizontal.history = self.rows
        return state


class ForgetsARowThatEnds(CausalPrior):
    """Prefilled up to the end of the first row, it starts anew."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        prefill = state.prefill

        def careless(codes, positions):
            prefill(codes * 0 if positions == grid[-1] else codes, positions)

        state.prefill = careless
        return state


class ForgetsBeyondItsGrid(CausalPrior):
    """Where the grid ends it starts anew."""

    def start(self, batch, grid, cond=None):
        state, pushed, push = super().start(batch, grid, cond), [0], None
        push = state.push

        def careless(codes):
            push(codes)
            pushed[0] += 1
            if pushed[0] == math.prod(grid):
                told = state.net.told
                state.net = self.walk(batch, grid, None, None)
                state.net.tell(told, None)

        state.push = careless
        return state


class ForgetsUnaskedPositions(CausalPrior):
    """A cache that is filled only where somebody asks for logits: wrong around known codes."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        push = state.net.push

        def careless(embedding):
            state.net.known = max(state.net.known, state.net.column + 1)
            push(embedding)

        state.net.push = careless
        return state


class LeavesATrace(CausalPrior):
    def start(self, batch, grid, cond=None):
        with torch.no_grad():
            self.embedding.weight[0, 0] += 1e-3
        return super().start(batch, grid, cond)


class WatchesItsCodes(CausalPrior):
    """Sampling leaves a buffer behind."""

    def start(self, batch, grid, cond=None):
        self.register_buffer("last", torch.zeros(batch))
        return super().start(batch, grid, cond)


class CannotBeCopied(CausalPrior):
    """A copy gets a table of its own, and the first one's is read no more."""

    def __deepcopy__(self, memo):
        twin = CausalPrior(
            rank=self.rank, codebook_size=self.codebook_size, cond=self.cond, **SMALL
        )
        return twin.to(self.embedding.weight)


class DeafState(CausalPrior):
    def start(self, batch, grid, cond=None):
        return super().start(batch, grid, None)


class DeafBeyondItsGrid(CausalPrior):
    """What it is told later it takes for nothing."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)

        tell = state.tell

        def careless(cond, steps):
            held = {name: value for name, value in vars(cond).items() if value is not None}
            silent = {name: torch.zeros_like(held[name]) for name in held.keys() & LATER}
            tell(Cond(**{**held, **silent}), steps)

        state.tell = careless
        return state


class DrawsFromTorch(CausalPrior):
    """A state whose beginning takes torch's random numbers."""

    def start(self, batch, grid, cond=None):
        torch.rand(1)
        return super().start(batch, grid, cond)


class StreamsAnotherGrid(CausalPrior):
    """A state that is made for more than one step takes another first code for granted."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        if batch == prior_streams.BATCH and grid[0] == 1:
            logits = state.logits
            state.logits = lambda: -logits()
        return state


FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    ("stepping_gives_the_logits_of_the_whole", WrongBias, "stepping differs from the whole"),
    ("stepping_gives_the_logits_of_the_whole", ForgetsUnaskedPositions, "asked at every 3"),
    (
        "stepping_gives_the_logits_of_the_whole_under_every_condition",
        DeafState,
        "under class_id stepping differs",
    ),
    ("a_state_goes_on_beyond_its_grid", ForgetsBeyondItsGrid, "beyond its grid, stepping differs"),
    ("a_state_goes_on_beyond_its_grid", DeafBeyondItsGrid, "beyond its grid, stepping differs"),
    ("a_stream_is_the_longer_grid", StreamsAnotherGrid, "of a stream, of which 0 were known"),
    ("sampling_leaves_no_trace", WatchesItsCodes, "sampling put last into the state_dict"),
    ("sampling_leaves_no_trace", DrawsFromTorch, "sampling used torch's generator"),
    ("sampling_leaves_no_trace", CannotBeCopied, "a copy of the prior gives other logits"),
]
FAULTS_OF_ROWS = [
    ("stepping_gives_the_logits_of_the_whole", SharedState, "stepping differs from the whole"),
    (
        "a_prefilled_state_goes_on_as_a_stepped_one",
        ForgetsARowThatEnds,
        "after prefill of [34] positions, stepping differs",
    ),
]


def check(law, broken, message, rank):
    found = f"^{broken.__name__} breaks the law {law}: .*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_prior(partial(broken, **SMALL), rank)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_steps_is_caught_by_its_law(law, broken, message, rank):
    check(law, broken, message, rank)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS_OF_ROWS)
def test_a_planted_fault_that_takes_a_row_is_caught_by_its_law(law, broken, message, rank):
    check(law, broken, message, rank)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_weight_that_sampling_moves_is_caught_by_whatever_samples_first(rank):
    with pytest.raises(AssertionError, match=r"stepping differs|sampling differ|sampling changed"):
        testing.check_prior(partial(LeavesATrace, **SMALL), rank)


def test_every_law_of_steps_has_a_planted_fault():
    modules = {prior_states.__name__, prior_streams.__name__}
    own = {law.__name__ for law in priors.LAWS if law.__module__ in modules}
    assert own == {law for law, *_ in (*FAULTS, *FAULTS_OF_ROWS)}
