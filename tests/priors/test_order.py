"""Orders other than raster: whole groups of codes are sampled, scored and coded at once."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from vqvideo import testing
from vqvideo.cond import CondSpec
from vqvideo.entropy import PriorCoder
from vqvideo.priors import Prior
from vqvideo.sampling import generate, stream
from vqvideo.testing.entropy import check_entropy_coding

GRIDS = {1: (10,), 2: (4, 5), 3: (2, 3, 4)}


class StridedPrior(Prior):
    """Every third code at once: the logits of a group from the mean of all codes before it."""

    cond = CondSpec()

    def __init__(self, *, rank, codebook_size, num_codebooks=1, num_groups=3):
        super().__init__()
        self.rank, self.codebook_size, self.num_codebooks = rank, codebook_size, num_codebooks
        self.num_groups, self.num_evaluations = num_groups, 0
        self.embedding, self.out = nn.Embedding(codebook_size, 8), nn.Linear(8, codebook_size)

    def order(self, shape, seed=0):
        indices = torch.arange(math.prod(shape))
        return [indices[start :: self.num_groups] for start in range(self.num_groups)]

    def is_visible(self, group_of_code, group):
        return group_of_code < group

    def logits(self, codes, cond=None):
        codes = self._check_codes(codes)
        if cond is not None:
            cond.check(self.cond, len(codes), tuple(codes.shape[1:]))
        self.num_evaluations += 1
        group_of_code = torch.arange(codes[0].numel()) % self.num_groups
        is_visible = self.is_visible(group_of_code, torch.arange(self.num_groups)[:, None])
        embeddings = self.embedding(codes.flatten(1))
        means = is_visible.to(embeddings.dtype) @ embeddings / len(group_of_code)
        logits = self.out(means)[:, group_of_code]
        return logits.movedim(1, 2).reshape(len(codes), self.codebook_size, *codes.shape[1:])


class LeakingPrior(StridedPrior):
    """Codes of a group depend on each other, so they cannot be sampled at once."""

    def is_visible(self, group_of_code, group):
        return group_of_code <= group


def build_prior(rank, **options):
    torch.manual_seed(rank)
    return StridedPrior(rank=rank, codebook_size=5, **options).double().eval()


@pytest.mark.parametrize(("rank", "num_codebooks"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_a_prior_of_groups_keeps_all_laws(rank, num_codebooks):
    testing.check_prior(StridedPrior, rank, num_codebooks=num_codebooks)


@pytest.mark.parametrize(("rank", "num_codebooks"), [(1, 1), (2, 2)])
def test_codes_are_coded_group_by_group(rank, num_codebooks):
    check_entropy_coding(StridedPrior, rank, num_codebooks=num_codebooks)
    prior, evaluations = build_prior(rank, num_codebooks=num_codebooks), []
    shape = (*GRIDS[rank], num_codebooks) if num_codebooks > 1 else GRIDS[rank]
    codes = torch.randint(5, (2, *shape))
    coder = PriorCoder(prior)
    segments = coder.encode(codes, progress=lambda done, total: evaluations.append(done / total))
    assert torch.equal(coder.decode(segments, GRIDS[rank]), codes)
    assert coder.prior.num_evaluations == 2 * 3
    assert evaluations[-1] == 1
    assert len(evaluations) == 3


def test_a_leak_within_a_group_is_caught_by_the_law_of_causality():
    message = "breaks the law logits_are_strictly_causal"
    with pytest.raises(AssertionError, match=message):
        testing.check_prior(LeakingPrior, 2)


@pytest.mark.parametrize("rank", GRIDS)
def test_a_group_takes_one_evaluation_and_a_known_one_none(rank):
    prior, done = build_prior(rank), []
    codes = generate(prior, GRIDS[rank], progress=lambda *given: done.append(given))
    total = codes.numel()
    assert prior.num_evaluations == 3
    assert done[-1] == (total, total)
    assert len(done) == 3
    mask = (torch.arange(total) % 3 != 1).view(GRIDS[rank])  # only the second group is sampled
    again = generate(prior, GRIDS[rank], known=codes, mask=mask)
    assert prior.num_evaluations == 4
    assert torch.equal(again, codes)  # noise belongs to positions, not to evaluations


def test_log_prob_is_the_sum_over_groups():
    prior, reported = build_prior(2), torch.zeros(4, dtype=torch.float64)
    codes = generate(prior, GRIDS[2], batch=4, seed=1, log_prob=reported)
    with torch.no_grad():
        expected, known = torch.zeros(4, dtype=torch.float64), torch.zeros_like(codes)
        for group in prior.order(GRIDS[2]):
            logits = prior.logits(known).flatten(2)[..., group].log_softmax(dim=1)
            known.flatten(1)[:, group] = codes.flatten(1)[:, group]
            expected += logits.gather(1, codes.flatten(1)[:, None, group]).sum(dim=(1, 2))
        torch.testing.assert_close(prior.log_prob(codes), expected)
    torch.testing.assert_close(reported, expected)


def test_groups_need_a_whole_grid():
    prior = build_prior(3)
    with pytest.raises(ValueError, match="samples groups of codes all over its grid, so it does"):
        stream(prior, GRIDS[3][1:])
    for method in ("cached", "fused"):
        with pytest.raises(ValueError, match="StridedPrior has no step-by-step state"):
            generate(prior, GRIDS[3], method=method)


def test_one_group_is_one_evaluation():
    prior = build_prior(2, num_groups=1)
    generate(prior, GRIDS[2], batch=2)
    assert prior.num_evaluations == 1
    testing.check_prior(partial(StridedPrior, num_groups=2), 1)
