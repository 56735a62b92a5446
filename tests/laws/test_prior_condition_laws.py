"""Each law of conditions catches the faults planted for it."""

from functools import partial

import pytest
import torch

from vqvideo import testing
from vqvideo.cond import Cond
from vqvideo.priors import CausalPrior
from vqvideo.testing import prior_conditions as laws
from vqvideo.testing import priors
from vqvideo.testing.prior_setup import KINDS, with_conditions

SMALL = {"width": 8, "reaches": (1, 1, 1), "dilations": (1, 1, 1)}


def retold(cond, **changes):
    """Another condition, changed in what it holds of `changes`."""
    if cond is None:
        return None
    held = {name: value for name, value in vars(cond).items() if value is not None}
    return Cond(**{**held, **{name: changes[name](held[name]) for name in changes if name in held}})


class Retold(CausalPrior):
    """Hears another condition than it was told, in all its forms."""

    def tell(self, cond, batch, grid):
        return super().tell(self.heard(cond), batch, grid)


class DeafToSpeakers(Retold):
    def heard(self, cond):
        return retold(cond, speaker=torch.zeros_like)


class HearsTheFirstItem(Retold):
    def heard(self, cond):
        return retold(cond, class_id=lambda ids: ids[:1].expand(len(ids)))


class HearsActionsEarly(Retold):
    def heard(self, cond):
        return retold(cond, actions=lambda actions: (actions + actions.roll(-2, dims=1)) % 4)


class HearsActionsLate(Retold):
    def heard(self, cond):
        return retold(cond, actions=lambda actions: actions.roll(2, dims=1))


class HearsLocalEarly(Retold):
    def heard(self, cond):
        return retold(cond, local=lambda local: local.cumsum(dim=2).flip(2))


class HearsEveryOtherAction(Retold):
    def heard(self, cond):
        return retold(cond, actions=lambda actions: actions[:, ::2].repeat_interleave(2, dim=1))


class GuidedByHalf(CausalPrior):
    """Told nothing it goes on with what it heard last."""

    def tell(self, cond, batch, grid):
        if cond is None and not self.cond.is_empty:
            cond = getattr(self, "last", None)
        self.last = cond
        return super().tell(cond, batch, grid)


class RefusesEveryKind(CausalPrior):
    def __init__(self, *, cond=None, **options):
        if cond is not None:
            raise ValueError("not yet")
        super().__init__(**options)


class DropsWhatItIsBuiltFor(CausalPrior):
    def __init__(self, *, cond=None, **options):
        super().__init__(**options)


class TakesItAmongOptions(CausalPrior):
    """Its builder names no option `cond`, and yet it takes one, which it does not hear."""

    def __init__(self, **options):
        super().__init__(**options)

    def tell(self, cond, batch, grid):
        return super().tell(None, batch, grid)

    def logits(self, codes, cond=None):
        if cond is not None:
            cond.check(self.cond, len(codes), tuple(codes.shape[1:]))
        return super().logits(codes)


class IgnoresWhatItCannotTake(CausalPrior):
    def logits(self, codes, cond=None):
        return super().logits(codes, None if self.cond.is_empty else cond)


FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    (
        "conditions_are_taken_or_refused",
        RefusesEveryKind,
        r"refuses every kind .* ValueError\('not yet'\)",
    ),
    (
        "conditions_are_taken_or_refused",
        DropsWhatItIsBuiltFor,
        "built to be told class_id, it says that it takes nothing",
    ),
    (
        "what_it_cannot_be_told_is_refused",
        IgnoresWhatItCannotTake,
        "built to be told nothing, it is told class_id .* raises no ValueError",
    ),
    (
        "every_condition_reaches_the_logits",
        DeafToSpeakers,
        "under speaker: speaker does not reach the logits of step 0",
    ),
    (
        "every_condition_reaches_the_logits",
        TakesItAmongOptions,
        "class_id does not reach the logits",
    ),
    (
        "every_condition_reaches_the_logits",
        HearsTheFirstItem,
        "class_id does not reach the logits",
    ),
    (
        "what_is_told_of_a_step_changes_none_before",
        HearsActionsEarly,
        "actions number 2, of step 1, changes the logits of step 0",
    ),
    (
        "what_is_told_of_a_step_changes_none_before",
        HearsActionsLate,
        "actions number 0, of step 0, does not change the logits of its own",
    ),
    (
        "what_is_told_of_a_step_changes_none_before",
        HearsLocalEarly,
        "under local: local number 1, of step 1, changes the logits of step 0",
    ),
    (
        "what_is_told_of_a_step_changes_none_before",
        HearsEveryOtherAction,
        "number 1, of step 0, does not change the logits of its own",
    ),
    (
        "guidance_goes_from_no_condition_to_the_condition",
        GuidedByHalf,
        "guidance 0 is not sampling without a condition",
    ),
]


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_conditions_is_caught_by_its_law(law, broken, message, rank):
    found = f"^{broken.__name__} breaks the law {law}: rank {rank}.*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_prior(partial(broken, **SMALL), rank)


def test_every_law_of_conditions_has_a_planted_fault():
    every = {*priors.LAWS, *priors.LAWS_WITH_LATENTS}
    own = {law.__name__ for law in every if law.__module__ == laws.__name__}
    assert own == {law for law, *_ in FAULTS}


def test_a_builder_without_conditions_or_that_refuses_some_is_not_asked_about_them():
    def picky(*, rank, codebook_size, cond=None):
        if cond is not None and cond.local_channels:
            raise ValueError("this prior cannot be told local")
        return CausalPrior(rank=rank, codebook_size=codebook_size, cond=cond, **SMALL)

    def silent(*, rank, codebook_size):
        return picky(rank=rank, codebook_size=codebook_size)

    assert [kind for kind, _ in with_conditions(picky, 1)] == list(KINDS)[:4]
    assert not list(with_conditions(silent, 1))


def test_a_builder_with_options_is_asked_whether_cond_is_one_of_them():
    def taking(**options):
        return CausalPrior(**options, **SMALL)

    def passing_on(**options):
        def silent(*, rank, codebook_size):
            return CausalPrior(rank=rank, codebook_size=codebook_size, **SMALL)

        return silent(**options)

    assert [kind for kind, _ in with_conditions(taking, 1)] == list(KINDS)
    assert not list(with_conditions(passing_on, 1))
    laws.conditions_are_taken_or_refused(passing_on, 1)
