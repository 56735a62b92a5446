"""Each law of conditions catches the faults planted for it."""

from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.cond import Cond
from vqvideo.priors import CausalPrior
from vqvideo.testing import prior_conditions as laws
from vqvideo.testing import priors
from vqvideo.testing.prior_setup import COND_SPECS, iter_conditioned_priors

SMALL = {"width": 8, "kernel_radii": (1, 1, 1), "dilations": (1, 1, 1)}


def change_cond(cond, **changes):
    """Another condition, changed in what it holds of `changes`."""
    if cond is None:
        return None
    held = {name: value for name, value in vars(cond).items() if value is not None}
    return Cond(**{**held, **{name: changes[name](held[name]) for name in changes if name in held}})


class ChangedCondPrior(CausalPrior):
    """Hears another condition than it was told, in all its forms."""

    def embed_cond(self, cond, batch, grid):
        return super().embed_cond(self.edit_cond(cond), batch, grid)


class SpeakerIgnoringPrior(ChangedCondPrior):
    def edit_cond(self, cond):
        return change_cond(cond, speaker=torch.zeros_like)


class FirstItemPrior(ChangedCondPrior):
    def edit_cond(self, cond):
        return change_cond(cond, class_id=lambda ids: ids[:1].expand(len(ids)))


class EarlyActionsPrior(ChangedCondPrior):
    def edit_cond(self, cond):
        return change_cond(cond, actions=lambda actions: (actions + actions.roll(-2, dims=1)) % 4)


class LateActionsPrior(ChangedCondPrior):
    def edit_cond(self, cond):
        return change_cond(cond, actions=lambda actions: actions.roll(2, dims=1))


class EarlyLocalPrior(ChangedCondPrior):
    def edit_cond(self, cond):
        return change_cond(cond, local=lambda local: local.cumsum(dim=2).flip(2))


class AlternateActionsPrior(ChangedCondPrior):
    def edit_cond(self, cond):
        return change_cond(
            cond, actions=lambda actions: actions[:, ::2].repeat_interleave(2, dim=1)
        )


class HalfGuidancePrior(CausalPrior):
    """Told nothing it goes on with what it heard last."""

    def embed_cond(self, cond, batch, grid):
        if cond is None and not self.cond.is_empty:
            cond = getattr(self, "last", None)
        self.last = cond
        return super().embed_cond(cond, batch, grid)


class AllRefusingPrior(CausalPrior):
    def __init__(self, *, cond=None, **options):
        if cond is not None:
            raise ValueError("not yet")
        super().__init__(**options)


class CondDroppingPrior(CausalPrior):
    def __init__(self, *, cond=None, **options):
        super().__init__(**options)


class CondInOptionsPrior(CausalPrior):
    """Its builder names no option `cond`, and yet it takes one, which it does not hear."""

    def __init__(self, **options):
        super().__init__(**options)

    def embed_cond(self, cond, batch, grid):
        return super().embed_cond(None, batch, grid)

    def logits(self, codes, cond=None):
        if cond is not None:
            cond.check(self.cond, len(codes), tuple(codes.shape[1:]))
        return super().logits(codes)


class CondIgnoringPrior(CausalPrior):
    def logits(self, codes, cond=None):
        return super().logits(codes, None if self.cond.is_empty else cond)


FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    (
        "conditions_are_taken_or_refused",
        AllRefusingPrior,
        r"refuses every kind .* ValueError\('not yet'\)",
    ),
    (
        "conditions_are_taken_or_refused",
        CondDroppingPrior,
        "the cond of a prior built for class_id lists nothing",
    ),
    (
        "unsupported_conditions_are_refused",
        CondIgnoringPrior,
        "a prior built for no condition must raise ValueError when given class_id",
    ),
    (
        "every_condition_reaches_the_logits",
        SpeakerIgnoringPrior,
        "under speaker: speaker does not reach the logits of step 0",
    ),
    (
        "every_condition_reaches_the_logits",
        CondInOptionsPrior,
        "class_id does not reach the logits",
    ),
    (
        "every_condition_reaches_the_logits",
        FirstItemPrior,
        "class_id does not reach the logits",
    ),
    (
        "a_condition_changes_no_earlier_step",
        EarlyActionsPrior,
        r"actions\[2\], of step 1, changes the logits of the earlier step 0",
    ),
    (
        "a_condition_changes_no_earlier_step",
        LateActionsPrior,
        r"actions\[0\], of step 0, does not change the logits of its own",
    ),
    (
        "a_condition_changes_no_earlier_step",
        EarlyLocalPrior,
        r"under local: local\[1\], of step 1, changes the logits of the earlier step 0",
    ),
    (
        "a_condition_changes_no_earlier_step",
        AlternateActionsPrior,
        r"\[1\], of step 0, does not change the logits of its own",
    ),
    (
        "guidance_scale_0_is_unconditional_and_1_is_conditional",
        HalfGuidancePrior,
        "guidance scale 0 does not give an unconditional sample",
    ),
]


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_conditions_is_caught_by_its_law(law, broken, message, rank, only):
    only(law)
    found = f"^{broken.__name__} breaks the law {law}: rank {rank}.*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_prior(partial(broken, **SMALL), rank)


def test_every_law_of_conditions_has_a_planted_fault():
    every = {*priors.LAWS, *priors.LATENT_LAWS}
    own = {law.__name__ for law in every if law.__module__ == laws.__name__}
    assert own == {law for law, *_ in FAULTS}


def test_a_builder_without_conditions_or_that_refuses_some_is_not_asked_about_them():
    def picky(*, rank, codebook_size, cond=None):
        if cond is not None and cond.local_channels:
            raise ValueError("this prior cannot be told local")
        return CausalPrior(rank=rank, codebook_size=codebook_size, cond=cond, **SMALL)

    def silent(*, rank, codebook_size):
        return picky(rank=rank, codebook_size=codebook_size)

    assert [kind for kind, _ in iter_conditioned_priors(picky, 1)] == list(COND_SPECS)[:4]
    assert not list(iter_conditioned_priors(silent, 1))


def test_a_builder_with_options_is_asked_whether_cond_is_one_of_them():
    def taking(**options):
        return CausalPrior(**options, **SMALL)

    def passing_on(**options):
        def silent(*, rank, codebook_size):
            return CausalPrior(rank=rank, codebook_size=codebook_size, **SMALL)

        return silent(**options)

    assert [kind for kind, _ in iter_conditioned_priors(taking, 1)] == list(COND_SPECS)
    assert not list(iter_conditioned_priors(passing_on, 1))
    laws.conditions_are_taken_or_refused(passing_on, 1)
