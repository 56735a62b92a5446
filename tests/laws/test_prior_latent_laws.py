"""Each law of a prior with latents catches the faults planted for it."""

import pytest
import torch

from vqvideo import testing
from vqvideo.priors import VQVAEPrior
from vqvideo.testing import evaluation, priors

SMALL = {"width": 8, "num_layers": 2}


class SmallLatentPrior(VQVAEPrior):
    def __init__(self, *, rank, codebook_size):
        super().__init__(
            rank=rank,
            codebook_size=codebook_size,
            strides=((1,) * rank,),
            width=8,
            quantizer={"codebook_size": 7, "code_dim": 3},
            bottom=SMALL,
            top=SMALL,
        )

    def told_latents(self, codes, cond):
        """What its bottom prior says of codes, latents for nothing."""
        if cond is not None:
            cond.check(self.cond, len(codes), tuple(codes.shape[1:]))
        return self.bottom.log_prob(codes, self._build_cond(self._quantize(codes).z_q))


class HighLogProbPrior(SmallLatentPrior):
    def log_prob(self, codes, cond=None):
        return self.told_latents(codes, cond) + 0.01


class ItemMeanLossPrior(SmallLatentPrior):
    def forward(self, codes, cond=None):
        return -self.log_prob(codes)


class CheapLatentsPrior(SmallLatentPrior):
    def log_prob(self, codes, cond=None):
        return self.told_latents(codes, cond) - 0.4


class BatchDependentPrior(SmallLatentPrior):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) - codes.double().mean()


class FixedCodebookSizePrior(SmallLatentPrior):
    """More than certain of codes, and consistently so."""

    def __init__(self, *, rank, codebook_size):
        super().__init__(rank=rank, codebook_size=5)
        self.codebook_size = codebook_size

    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) + 20.0 * (self.codebook_size < 5)


class UnsavedTablePrior(SmallLatentPrior):
    def __init__(self, **options):
        super().__init__(**options)
        self.table = torch.rand(())

    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) - self.table


class CondIgnoringPrior(SmallLatentPrior):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes)


class AllRefusingPrior(SmallLatentPrior):
    def __init__(self, *, rank, codebook_size, cond=None):
        if cond is not None:
            raise ValueError("not yet")
        super().__init__(rank=rank, codebook_size=codebook_size)


class ConstantSeedPrior(SmallLatentPrior):
    def sample_latents(self, batch, grid, cond=None, *, seed=0, **options):
        return super().sample_latents(batch, grid, cond, seed=0, **options)


class ConstantTemperaturePrior(SmallLatentPrior):
    def sample_latents(self, batch, grid, cond=None, *, seed=0, **options):
        return super().sample_latents(batch, grid, cond, seed=seed)


LATENT_LAW = "codes_are_sampled_given_seeded_latents"
FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    ("log_prob_is_the_sum_over_codes", HighLogProbPrior, "log_prob of item 0 is"),
    ("probabilities_sum_to_one", FixedCodebookSizePrior, "the lower bounds sum to .*, above 1"),
    ("training_minimises_a_scalar", ItemMeanLossPrior, r"a scalar, got \[3\]"),
    ("conditions_are_taken_or_refused", AllRefusingPrior, "refuses every kind"),
    ("unsupported_conditions_are_refused", CondIgnoringPrior, "must raise ValueError"),
    (
        "a_loaded_prior_is_the_one_that_was_saved",
        UnsavedTablePrior,
        "values of log_prob: the state_dict",
    ),
    ("log_prob_includes_the_latent_term", CheapLatentsPrior, "log_prob counts 0.4.* for latents"),
    ("the_bound_does_not_depend_on_the_batch", BatchDependentPrior, "the bound depends on the"),
    (LATENT_LAW, ConstantSeedPrior, "every seed gives the same latents"),
    (LATENT_LAW, ConstantTemperaturePrior, "latents depend on the seed at temperature 0"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_a_prior_with_latents_is_caught_by_its_law(law, broken, message):
    found = f"^{broken.__name__} breaks the law {law}: rank 2.*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_prior(broken, 2)


def test_every_law_of_priors_with_latents_has_a_planted_fault():
    own = {law.__name__ for law in priors.LATENT_LAWS if law.__module__ != evaluation.__name__}
    assert own == {law for law, *_ in FAULTS}
