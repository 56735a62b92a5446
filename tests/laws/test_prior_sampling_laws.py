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
from vqvideo.sampling import GumbelNoise, SamplingParams
from vqvideo.sampling.loop import SamplingState
from vqvideo.testing import prior_sampling as laws
from vqvideo.testing import priors

SMALL = {"width": 8, "kernel_radii": (1, 1, 1), "dilations": (1, 1, 1)}
streaming = importlib.import_module("vqvideo.sampling.stream")


class NoisyStatePrior(CausalPrior):
    """Steps exactly, but a state that is asked twice answers differently."""

    def init_state(self, batch, grid, cond=None):
        state = super().init_state(batch, grid, cond)
        if batch > 2:
            exact = state.logits
            state.logits = lambda: nn.functional.dropout(exact(), 0.5)
        return state


class WrongFusedStepPrior(CausalPrior):
    def init_state(self, batch, grid, cond=None):
        state = super().init_state(batch, grid, cond)
        build_sampler = state.build_fused_sampler

        def careless():
            sampler = build_sampler()
            sample = sampler.sample
            sampler.sample = lambda noise, params, codes: sample(-noise, params, codes)
            return sampler

        state.build_fused_sampler = careless
        return state


def ignore_temperature(monkeypatch):
    choose = SamplingParams.sample
    plain = {"temperature": 1.0}
    monkeypatch.setattr(
        SamplingParams,
        "sample",
        lambda self, *given: choose(replace(self, **plain) if self.temperature else self, *given),
    )


def keep_one_code_more(monkeypatch):
    chosen = SamplingParams.filter

    def careless(self, logits):
        more = self.top_k and min(self.top_k + 1, logits.shape[-1])
        return chosen(replace(self, top_k=more), logits)

    monkeypatch.setattr(SamplingParams, "filter", careless)


def keep_two_codes_for_one(monkeypatch):
    chosen = SamplingParams.filter

    def careless(self, logits):
        return chosen(replace(self, top_k=2) if self.top_k == 1 else self, logits)

    monkeypatch.setattr(SamplingParams, "filter", careless)


def draw_flat_noise(monkeypatch):
    """Uniform noise instead of Gumbel noise."""
    ahead = GumbelNoise.peek

    def careless(self, most):
        noise = ahead(self, most)
        if self.offset == 0:
            self.chunk = (-(-self.chunk).exp()).exp()
        return self.chunk[self.offset : self.offset + len(noise)]

    monkeypatch.setattr(GumbelNoise, "peek", careless)


def report_no_log_prob(monkeypatch):
    monkeypatch.setattr(SamplingState, "add_log_prob", lambda self, logits, codes: None)


def report_the_tempered_log_prob(monkeypatch):
    add = SamplingState.add_log_prob

    def careless(self, logits, codes):
        add(self, logits / (self.sampling.temperature or 1), codes)

    monkeypatch.setattr(SamplingState, "add_log_prob", careless)


def forget_the_known_steps(monkeypatch):
    begin = streaming._ChunkSampler.init_state

    def careless(self, *given):
        known = self.known if self.known is None else self.known * 0
        return begin(self._replace(known=known), *given)

    monkeypatch.setattr(streaming._ChunkSampler, "init_state", careless)


def draw_the_known_noise_again(monkeypatch):
    class Careless(GumbelNoise):
        def skip(self, positions):
            pass

    monkeypatch.setattr(streaming, "GumbelNoise", Careless)


EXACT_LAW = "codes_are_sampled_with_their_exact_probabilities"
LOG_PROB_LAW = "the_reported_log_prob_is_that_of_the_codes"
SAMPLER_FAULTS = [  # the law, what is planted in sampling itself, what is said
    (EXACT_LAW, ignore_temperature, "at temperature 0.7 do not follow their probabilities"),
    (EXACT_LAW, keep_one_code_more, "sampled with top_k 2 include codes of probability 0"),
    (EXACT_LAW, draw_flat_noise, "sampled freely do not follow their probabilities"),
    (
        "filters_select_the_right_codes",
        keep_two_codes_for_one,
        "auto sampling with {'top_k': 1} does not give the most probable",
    ),
    (LOG_PROB_LAW, report_no_log_prob, "auto sampling at temperature 1.0 reports a log_prob"),
    (
        LOG_PROB_LAW,
        report_the_tempered_log_prob,
        "auto sampling at temperature 0.7 reports a log_prob",
    ),
    (
        "a_stream_matches_the_longer_grid",
        forget_the_known_steps,
        "of which 2 were known, differs from",
    ),
    (
        "a_stream_matches_the_longer_grid",
        draw_the_known_noise_again,
        "of which 2 were known, differs from",
    ),
]
FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    ("all_methods_draw_the_same_codes", NoisyStatePrior, "auto and fixed-point sampling differ"),
    ("a_fused_step_draws_the_same_codes", WrongFusedStepPrior, "fused and cached sampling differ"),
]


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(("law", "plant", "message"), SAMPLER_FAULTS)
def test_a_planted_fault_in_sampling_is_caught_by_its_law(
    law, plant, message, rank, monkeypatch, only
):
    only(law)
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=f"^CausalPrior breaks the law {law}: .*{message}"):
        testing.check_prior(partial(CausalPrior, **SMALL), rank)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_how_a_prior_draws_is_caught_by_its_law(
    law, broken, message, rank, only
):
    only(law)
    if broken is WrongFusedStepPrior and importlib.util.find_spec("numba") is None:
        pytest.skip("there is no fused step")
    with pytest.raises(
        AssertionError, match=f"^{broken.__name__} breaks the law {law}: .*{message}"
    ):
        testing.check_prior(partial(broken, **SMALL), rank)


def test_every_law_of_sampling_has_a_planted_fault():
    own = {law.__name__ for law in priors.LAWS if law.__module__ == laws.__name__}
    assert own == {law for law, *_ in (*FAULTS, *SAMPLER_FAULTS)} - {
        "a_stream_matches_the_longer_grid"
    }


def test_noise_is_the_same_for_a_sample_alone_and_in_a_batch():
    alone, together = GumbelNoise(3, 1, 7), GumbelNoise(3, 4, 7)
    for _ in range(200):
        assert torch.equal(alone.next()[0], together.next()[0])


def test_noise_ahead_is_that_of_the_next_positions_and_skipping_continues():
    noise, each = GumbelNoise(3, 2, 7), GumbelNoise(3, 2, 7)
    single = torch.stack([each.next() for _ in range(200)])
    assert torch.equal(noise.peek(5), single[:5])
    noise.skip(60)
    assert torch.equal(noise.peek(100), single[60:64])  # a block ends here
    noise.skip(100)
    assert torch.equal(noise.next(), single[160])
