"""Each law of priors that codes are compressed under catches the faults planted for it."""

import pytest
import torch
from torch import nn

from vqvideo.cond import CondSpec
from vqvideo.priors import Prior
from vqvideo.testing import check_entropy_coding
from vqvideo.testing import entropy as laws


class UnigramPrior(Prior):
    """The least a prior can be: no state, and no code depends on another."""

    def __init__(self, *, rank, codebook_size, num_codebooks=1):
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec()
        self.num_codebooks = num_codebooks
        self.scores = nn.Parameter(torch.zeros(codebook_size))

    def logits(self, codes, cond=None):
        shape = (1, -1, *(1,) * (codes.ndim - 1))
        return self.scores.view(shape).expand(len(codes), -1, *codes.shape[1:])


class BatchDependentPrior(UnigramPrior):
    def logits(self, codes, cond=None):
        fault = torch.arange(self.codebook_size).double() * len(codes)
        return super().logits(codes) + fault.view(1, -1, *(1,) * (codes.ndim - 1))


class ThreadDependentPrior(UnigramPrior):
    def logits(self, codes, cond=None):
        fault = torch.arange(self.codebook_size).double() * torch.get_num_threads()
        return super().logits(codes) + fault.view(1, -1, *(1,) * (codes.ndim - 1))


class WrongLogProbPrior(UnigramPrior):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) * 1.02


FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    (
        "decoding_restores_the_codes",
        BatchDependentPrior,
        "item 2, encoded in a batch of 3, cannot be decoded alone",
    ),
    (
        "frequencies_are_the_same_everywhere",
        ThreadDependentPrior,
        "rank 2, other threads: 500 of 500 frequencies differ",
    ),
    ("the_size_matches_the_prior", WrongLogProbPrior, "bits, but .* under the prior"),
]


@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_entropy_coding_is_caught_by_its_law(law, broken, message):
    found = f"^{broken.__name__} breaks the law {law}: .*{message}"
    with pytest.raises(AssertionError, match=found):
        check_entropy_coding(broken, 2)


def test_every_law_of_entropy_coding_has_a_planted_fault():
    assert {law.__name__ for law in laws.LAWS} == {law for law, *_ in FAULTS}
