"""Classifier-free guidance: a condition that says more or less, and training that may drop it."""

from functools import partial

import pytest
import torch

from vqvideo.cond import Cond, CondSpec
from vqvideo.priors import PRIORS, default_prior
from vqvideo.sampling import generate
from vqvideo.testing.grids import GRIDS

SPEC = {"num_classes": 3}


def told_prior(rank, **options):
    torch.manual_seed(rank)
    build = partial(PRIORS.get(default_prior(rank)), width=8, num_layers=3)
    prior = build(rank=rank, codebook_size=5, cond={**SPEC, **options}).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return prior


class Mixed(torch.nn.Module):
    """The guided logits written down directly, as a prior that can only recompute."""

    num_codebooks = 1

    def __init__(self, prior, guidance):
        super().__init__()
        self.prior, self.guidance, self.codebook_size = prior, guidance, prior.codebook_size
        self.device, self.rank, self.endless = prior.device, prior.rank, True

    @property
    def drawn_from(self):
        return self

    def logits(self, codes, cond=None):
        told, free = self.prior.logits(codes, cond), self.prior.logits(codes)
        return self.guidance * told + (1 - self.guidance) * free

    def start(self, batch, grid, cond):
        return None


@pytest.mark.parametrize("guidance", [0.5, 3.0])
@pytest.mark.parametrize("rank", GRIDS)
def test_guided_codes_are_those_of_the_mixed_logits_by_every_method(rank, guidance):
    prior, cond = told_prior(rank), Cond(class_id=torch.tensor([0, 2]))
    given = {"batch": 2, "cond": cond, "seed": 3}
    expected = generate(Mixed(prior, guidance), GRIDS[rank], method="full", **given)
    for method in ("cached", "full", "fixed_point"):
        found = generate(prior, GRIDS[rank], guidance=guidance, method=method, **given)
        assert torch.equal(found, expected), method


@pytest.mark.parametrize("rank", GRIDS)
def test_guidance_of_one_is_the_conditional_prior_and_of_zero_the_unconditional(rank):
    prior, cond = told_prior(rank), Cond(class_id=torch.tensor([1, 0, 2, 1]))
    told, free = (generate(prior, GRIDS[rank], cond=each, batch=4, seed=1) for each in (cond, None))
    assert not torch.equal(told, free)
    assert torch.equal(generate(prior, GRIDS[rank], cond=cond, guidance=1, batch=4, seed=1), told)
    assert torch.equal(generate(prior, GRIDS[rank], cond=cond, guidance=0, batch=4, seed=1), free)


@pytest.mark.parametrize(
    ("cond", "guidance"), [(None, 2.0), (Cond(class_id=torch.tensor([0])), float("nan"))]
)
def test_guidance_without_a_condition_or_a_number_is_refused(cond, guidance):
    with pytest.raises(ValueError, match="guidance must be a finite number beside a cond"):
        generate(told_prior(1), (4,), cond=cond, guidance=guidance)


@pytest.mark.parametrize("rank", GRIDS)
def test_in_training_some_items_are_told_nothing_and_the_others_all(rank):
    prior = told_prior(rank, dropout=0.5)
    codes, cond = torch.randint(5, (40, *GRIDS[rank])), Cond(class_id=torch.arange(40) % 3)
    told, free = prior.logits(codes, cond), prior.logits(codes)
    prior.cond_embedding.train()  # and nothing else, so that no feature is dropped
    mixed = prior.logits(codes, cond)
    is_told = [torch.equal(a, b) for a, b in zip(mixed, told, strict=True)]
    is_free = [torch.equal(a, b) for a, b in zip(mixed, free, strict=True)]
    assert all(a != b for a, b in zip(is_told, is_free, strict=True))
    assert 8 < sum(is_free) < 32


def test_a_share_that_is_dropped_lies_below_one():
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got 1.0"):
        CondSpec(num_classes=2, dropout=1.0)
