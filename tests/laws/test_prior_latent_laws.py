"""Each law of a prior with latents catches the faults planted for it."""

import pytest
import torch

from vqvideo import testing
from vqvideo.priors import VQVAEPrior
from vqvideo.testing import priors

FEW = {"width": 8, "num_layers": 2}


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

    def told_latents(self, codes, cond):
        """What its bottom prior says of codes, latents for nothing."""
        if cond is not None:
            cond.check(self.cond, len(codes), tuple(codes.shape[1:]))
        return self.bottom.log_prob(codes, self._told(self._quantized(codes).z_q))


class AboveTheSum(WithLatents):
    def log_prob(self, codes, cond=None):
        return self.told_latents(codes, cond) + 0.01


class TrainsByItems(WithLatents):
    def forward(self, codes, cond=None):
        return -self.log_prob(codes)


class LatentsForLittle(WithLatents):
    def log_prob(self, codes, cond=None):
        return self.told_latents(codes, cond) - 0.4


class BoundOfTheBatch(WithLatents):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) - codes.double().mean()


class SeesFiveCodes(WithLatents):
    """More than certain of codes, and consistently so."""

    def __init__(self, *, rank, codebook_size):
        super().__init__(rank=rank, codebook_size=5)
        self.codebook_size = codebook_size

    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) + 20.0 * (self.codebook_size < 5)


class ForgetsATable(WithLatents):
    def __init__(self, **options):
        super().__init__(**options)
        self.table = torch.rand(())

    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) - self.table


class IgnoresWhatItCannotTake(WithLatents):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes)


class RefusesEveryKind(WithLatents):
    def __init__(self, *, rank, codebook_size, cond=None):
        if cond is not None:
            raise ValueError("not yet")
        super().__init__(rank=rank, codebook_size=codebook_size)


class SameNoise(WithLatents):
    def draw_latents(self, batch, grid, cond=None, *, seed=0, **options):
        return super().draw_latents(batch, grid, cond, seed=0, **options)


class AlwaysWarm(WithLatents):
    def draw_latents(self, batch, grid, cond=None, *, seed=0, **options):
        return super().draw_latents(batch, grid, cond, seed=seed)


DRAWN = "codes_are_drawn_given_latents_that_the_seed_decides"
FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    ("log_prob_is_the_sum_over_codes", AboveTheSum, "log_prob of item 0 is"),
    ("probabilities_sum_to_one", SeesFiveCodes, "a lower bound sums to .*, above 1"),
    ("training_minimises_a_scalar", TrainsByItems, r"a scalar, got \[3\]"),
    ("conditions_are_taken_or_refused", RefusesEveryKind, "refuses every kind"),
    ("what_it_cannot_be_told_is_refused", IgnoresWhatItCannotTake, "raises no ValueError"),
    ("a_loaded_prior_is_the_one_that_was_saved", ForgetsATable, "numbers of log_prob otherwise"),
    ("latents_have_a_price", LatentsForLittle, "log_prob counts 0.4.* for latents"),
    ("latents_are_of_the_codes_alone", BoundOfTheBatch, "the bound depends on the"),
    (DRAWN, SameNoise, "every seed draws the same latents"),
    (DRAWN, AlwaysWarm, "at temperature 0 seeds still decide"),
]


@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_a_prior_with_latents_is_caught_by_its_law(law, broken, message):
    found = f"^{broken.__name__} breaks the law {law}: rank 2.*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_prior(broken, 2)


def test_every_law_of_priors_with_latents_has_a_planted_fault():
    assert {law.__name__ for law in priors.LAWS_WITH_LATENTS} == {law for law, *_ in FAULTS}
