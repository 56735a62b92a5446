"""Classifier-free guidance: a condition that says more or less, and training that may drop it."""

from functools import partial

import pytest
import torch

from vqvideo.cond import Cond, CondSpec
from vqvideo.priors import PRIORS, get_default_prior
from vqvideo.sampling import generate
from vqvideo.testing.grids import GRIDS

SPEC = {"num_classes": 3}


def build_conditional_prior(rank, **options):
    torch.manual_seed(rank)
    build = partial(PRIORS.get(get_default_prior(rank)), width=8, num_layers=3)
    prior = build(rank=rank, codebook_size=5, cond={**SPEC, **options}).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return prior


class MixedLogitsPrior(torch.nn.Module):
    """The guided logits written down directly, as a prior that can only recompute."""

    num_codebooks = 1

    def __init__(self, prior, guidance):
        super().__init__()
        self.prior, self.guidance_scale, self.codebook_size = prior, guidance, prior.codebook_size
        self.device, self.rank, self.is_unbounded = prior.device, prior.rank, True
        self.order = prior.order

    @property
    def code_prior(self):
        return self

    def logits(self, codes, cond=None):
        told, free = self.prior.logits(codes, cond), self.prior.logits(codes)
        return self.guidance_scale * told + (1 - self.guidance_scale) * free

    def init_state(self, batch, grid, cond):
        return None


@pytest.mark.slow
@pytest.mark.parametrize("guidance_scale", [0.5, 3.0])
@pytest.mark.parametrize("rank", GRIDS)
def test_guided_codes_are_those_of_the_mixed_logits_by_every_method(rank, guidance_scale):
    prior, cond = build_conditional_prior(rank), Cond(class_id=torch.tensor([0, 2]))
    given = {"batch": 2, "cond": cond, "seed": 3}
    mixed = MixedLogitsPrior(prior, guidance_scale)
    expected = generate(mixed, GRIDS[rank], method="full", **given)
    for method in ("cached", "full", "fixed_point"):
        found = generate(prior, GRIDS[rank], guidance_scale=guidance_scale, method=method, **given)
        assert torch.equal(found, expected), method


@pytest.mark.parametrize("rank", GRIDS)
def test_guidance_of_one_is_the_conditional_prior_and_of_zero_the_unconditional(rank):
    prior, cond = build_conditional_prior(rank), Cond(class_id=torch.tensor([1, 0, 2, 1]))
    told, free = (generate(prior, GRIDS[rank], cond=each, batch=4, seed=1) for each in (cond, None))
    assert not torch.equal(told, free)
    assert torch.equal(
        generate(prior, GRIDS[rank], cond=cond, guidance_scale=1, batch=4, seed=1), told
    )
    assert torch.equal(
        generate(prior, GRIDS[rank], cond=cond, guidance_scale=0, batch=4, seed=1), free
    )


@pytest.mark.parametrize(
    ("cond", "guidance_scale"), [(None, 2.0), (Cond(class_id=torch.tensor([0])), float("nan"))]
)
def test_guidance_without_a_condition_or_a_number_is_refused(cond, guidance_scale):
    message = "guidance_scale must be a finite number and requires a cond"
    with pytest.raises(ValueError, match=message):
        generate(build_conditional_prior(1), (4,), cond=cond, guidance_scale=guidance_scale)


@pytest.mark.parametrize("rank", GRIDS)
def test_in_training_the_condition_of_some_items_is_dropped(rank):
    prior = build_conditional_prior(rank, dropout=0.5)
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
