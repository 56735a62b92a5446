"""Each law of drawn codes catches the faults planted for it."""

import importlib
import importlib.util
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from vqvideo import testing
from vqvideo.priors import CausalPrior
from vqvideo.sampling import GumbelNoise, Sampling
from vqvideo.sampling.walk import Task
from vqvideo.testing import prior_sampling as laws
from vqvideo.testing import priors

SMALL = {"width": 8, "reaches": (1, 1, 1), "dilations": (1, 1, 1)}
streaming = importlib.import_module("vqvideo.sampling.stream")


class OwnNoise(CausalPrior):
    """Steps exactly, but a state that is asked twice answers differently."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        if batch > 2:
            exact = state.logits
            state.logits = lambda: nn.functional.dropout(exact(), 0.5)
        return state


class FusesAnotherStep(CausalPrior):
    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        fused = state.fused

        def careless():
            drawer = fused()
            draw = drawer.draw
            drawer.draw = lambda noise, sampling, codes: draw(-noise, sampling, codes)
            return drawer

        state.fused = careless
        return state


def ignore_temperature(monkeypatch):
    choose = Sampling.choose
    plain = {"temperature": 1.0}
    monkeypatch.setattr(
        Sampling,
        "choose",
        lambda self, *given: choose(replace(self, **plain) if self.temperature else self, *given),
    )


def keep_one_code_more(monkeypatch):
    chosen = Sampling.filter

    def careless(self, logits):
        more = self.top_k and min(self.top_k + 1, logits.shape[-1])
        return chosen(replace(self, top_k=more), logits)

    monkeypatch.setattr(Sampling, "filter", careless)


def keep_two_codes_for_one(monkeypatch):
    chosen = Sampling.filter

    def careless(self, logits):
        return chosen(replace(self, top_k=2) if self.top_k == 1 else self, logits)

    monkeypatch.setattr(Sampling, "filter", careless)


def draw_flat_noise(monkeypatch):
    """Uniform noise instead of Gumbel noise."""
    ahead = GumbelNoise.ahead

    def careless(self, most):
        noise = ahead(self, most)
        if self.used == 0:
            self.block = (-(-self.block).exp()).exp()
        return self.block[self.used : self.used + len(noise)]

    monkeypatch.setattr(GumbelNoise, "ahead", careless)


def report_no_log_prob(monkeypatch):
    monkeypatch.setattr(Task, "add_log_prob", lambda self, logits, codes: None)


def report_the_tempered_log_prob(monkeypatch):
    add = Task.add_log_prob

    def careless(self, logits, codes):
        add(self, logits / (self.sampling.temperature or 1), codes)

    monkeypatch.setattr(Task, "add_log_prob", careless)


def forget_the_known_steps(monkeypatch):
    begin = streaming._begin

    def careless(prior, batch, inner, known, number, cond):
        return begin(prior, batch, inner, known if known is None else known * 0, number, cond)

    monkeypatch.setattr(streaming, "_begin", careless)


def draw_the_known_noise_again(monkeypatch):
    class Careless(GumbelNoise):
        def skip(self, positions):
            pass

    monkeypatch.setattr(streaming, "GumbelNoise", Careless)


EXACT = "codes_are_drawn_with_their_exact_probabilities"
REPORTED = "the_log_prob_of_what_was_drawn_is_log_prob"
PLANTED = [  # the law, what is planted in sampling itself, what is said
    (EXACT, ignore_temperature, "drawn at temperature 0.7 do not have their probabilities"),
    (EXACT, keep_one_code_more, "drawn with top_k 2, a code is impossible"),
    (EXACT, draw_flat_noise, "drawn freely do not have their probabilities"),
    (
        "filters_choose_as_they_say",
        keep_two_codes_for_one,
        "auto sampling with {'top_k': 1} is not",
    ),
    (REPORTED, report_no_log_prob, "auto sampling at temperature 1.0 reports a log_prob"),
    (REPORTED, report_the_tempered_log_prob, "auto sampling at temperature 0.7 reports a log_prob"),
    ("a_stream_is_the_longer_grid", forget_the_known_steps, "of which 2 were known, is not that"),
    (
        "a_stream_is_the_longer_grid",
        draw_the_known_noise_again,
        "of which 2 were known, is not that",
    ),
]
FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    ("all_methods_draw_the_same_codes", OwnNoise, "auto and fixed-point sampling differ"),
    ("a_fused_step_draws_the_same_codes", FusesAnotherStep, "fused and cached sampling differ"),
]


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(("law", "plant", "message"), PLANTED)
def test_a_planted_fault_in_sampling_is_caught_by_its_law(law, plant, message, rank, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=f"^CausalPrior breaks the law {law}: .*{message}"):
        testing.check_prior(partial(CausalPrior, **SMALL), rank)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_how_a_prior_draws_is_caught_by_its_law(law, broken, message, rank):
    if broken is FusesAnotherStep and importlib.util.find_spec("numba") is None:
        pytest.skip("there is no fused step")
    with pytest.raises(
        AssertionError, match=f"^{broken.__name__} breaks the law {law}: .*{message}"
    ):
        testing.check_prior(partial(broken, **SMALL), rank)


def test_every_law_of_drawn_codes_has_a_planted_fault():
    own = {law.__name__ for law in priors.LAWS if law.__module__ == laws.__name__}
    assert own == {law for law, *_ in (*FAULTS, *PLANTED)} - {"a_stream_is_the_longer_grid"}


def test_noise_is_the_same_for_a_sample_alone_and_in_a_batch():
    alone, together = GumbelNoise(3, 1, 7), GumbelNoise(3, 4, 7)
    for _ in range(200):
        assert torch.equal(alone.next()[0], together.next()[0])


def test_noise_ahead_is_that_of_the_next_positions_and_skipping_goes_on():
    noise, each = GumbelNoise(3, 2, 7), GumbelNoise(3, 2, 7)
    single = torch.stack([each.next() for _ in range(200)])
    assert torch.equal(noise.ahead(5), single[:5])
    noise.skip(60)
    assert torch.equal(noise.ahead(100), single[60:64])  # a block ends here
    noise.skip(100)
    assert torch.equal(noise.next(), single[160])
