"""Laws of priors that no fault in priors/ breaks."""

import importlib.util
from dataclasses import replace

import pytest

from vqvideo import testing
from vqvideo.priors import CausalPrior, VQVAEPrior
from vqvideo.sampling import Sampling

FEW = {"width": 8, "num_layers": 2}


class Small(CausalPrior):
    def __init__(self, *, rank, codebook_size):
        super().__init__(
            rank=rank, codebook_size=codebook_size, width=8, reaches=(1, 1), dilations=(1, 1)
        )


class TrainsBySums(Small):
    def forward(self, codes, cond=None):
        return super().forward(codes, cond) * codes[0].numel()


class AlwaysOfFiveCodes(Small):
    def __init__(self, *, rank, codebook_size):
        super().__init__(rank=rank, codebook_size=5)


class FusesAnotherStep(Small):
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


def check(broken, law, message, rank=1):
    with pytest.raises(AssertionError, match=f"^{broken.__name__} breaks the law {law}: {message}"):
        testing.check_prior(broken, rank)


@pytest.mark.parametrize(
    ("law", "broken", "message"),
    [
        ("training_minimises_a_scalar", TrainsBySums, "rank 1: forward gives .* nats per code"),
        ("probabilities_sum_to_one", AlwaysOfFiveCodes, "rank 1: probabilities sum to 0.*, not 1"),
    ],
)
def test_a_planted_fault_in_a_prior_is_caught_by_its_law(law, broken, message):
    check(broken, law, message)


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="there is no fused step")
def test_a_fused_step_that_draws_other_codes_is_caught():
    check(FusesAnotherStep, "a_fused_step_draws_the_same_codes", "rank 1: fused and cached")


def test_a_filter_that_keeps_two_codes_for_one_is_caught(monkeypatch):
    chosen = Sampling.filter
    monkeypatch.setattr(
        Sampling,
        "filter",
        lambda self, logits: chosen(replace(self, top_k=2) if self.top_k == 1 else self, logits),
    )
    check(Small, "filters_choose_as_they_say", "rank 1: auto sampling with {'top_k': 1} is not")


# -- a prior with latents -------------------------------------------------------------------


class WithLatents(VQVAEPrior):
    def __init__(self, *, rank, codebook_size):
        super().__init__(
            rank=rank,
            codebook_size=codebook_size,
            strides=((1,) * rank,),
            width=8,
            quantizer={"codebook_size": 7, "code_dim": 3},
            bottom=FEW,
            top=FEW,
        )

    def told_latents(self, codes):
        """What its bottom prior says of codes, latents for nothing."""
        return self.bottom.log_prob(codes, self._told(self._quantized(codes).z_q))


class AboveTheSum(WithLatents):
    def log_prob(self, codes, cond=None):
        return self.told_latents(codes) + 0.01


class TrainsByItems(WithLatents):
    def forward(self, codes, cond=None):
        return -self.log_prob(codes)


class LatentsForLittle(WithLatents):
    def log_prob(self, codes, cond=None):
        return self.told_latents(codes) - 0.4


class BoundOfTheBatch(WithLatents):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) - codes.double().mean()


@pytest.mark.parametrize(
    ("law", "broken", "message"),
    [
        ("log_prob_is_the_sum_over_codes", AboveTheSum, "rank 2: log_prob of item 0 is"),
        ("training_minimises_a_scalar", TrainsByItems, r"rank 2: .* a scalar, got \[3\]"),
        ("latents_have_a_price", LatentsForLittle, "rank 2: log_prob counts 0.4.* for latents"),
        ("latents_are_of_the_codes_alone", BoundOfTheBatch, "rank 2: the bound depends on the"),
    ],
)
def test_a_planted_fault_in_a_prior_with_latents_is_caught_by_its_law(law, broken, message):
    check(broken, law, message, rank=2)
