"""The laws of priors hold for every registered one, those of plugins too; faults are planted in the
files beside this one, one for each file of laws.
"""

from functools import partial

import pytest
import torch
from torch import nn

from vqvideo import testing
from vqvideo.cond import CondSpec
from vqvideo.nets.causal import ReceptiveField
from vqvideo.priors import PRIORS, Prior, get_default_prior
from vqvideo.testing import (
    evaluation,
    prior_conditions,
    prior_latents,
    prior_logits,
    prior_sampling,
    prior_states,
    prior_streams,
    priors,
)
from vqvideo.testing.prior_setup import COND_SPECS, iter_conditioned_priors

RANKS = (1, 2, 3)
BUILT_IN_PRIORS = [
    *((get_default_prior(rank), rank) for rank in RANKS),
    *(("transformer", rank) for rank in RANKS),
]
PRIORS_CHECKED_ELSEWHERE = {"vqvae"}  # with latents: priors/test_vqvae_prior.py
SMALL_PRIORS = {"transformer": {"width": 12, "num_layers": 2, "num_heads": 2}}
PLUGIN_PRIORS = sorted(
    plugin.name for plugin in PRIORS.list_plugins() if plugin.status in ("available", "loaded")
)


def build_small_prior(name):
    small = {} if name in PLUGIN_PRIORS else {"width": 8, "num_layers": 3}
    return partial(PRIORS.get(name), **SMALL_PRIORS.get(name, small))


def test_every_registered_prior_is_under_test():
    built_in = {name for name, _ in BUILT_IN_PRIORS} | PRIORS_CHECKED_ELSEWHERE
    assert built_in == set(PRIORS.list_names()) - set(PLUGIN_PRIORS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rank"), BUILT_IN_PRIORS)
def test_every_registered_prior_keeps_the_laws(name, rank):
    testing.check_prior(build_small_prior(name), rank)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rank"), BUILT_IN_PRIORS)
def test_every_registered_prior_keeps_the_laws_with_several_codes_per_position(name, rank):
    testing.check_prior(build_small_prior(name), rank, num_codebooks=2)


def check_plugin(name):
    """On every rank that it is for."""
    refused = []
    for rank in RANKS:
        try:
            build_small_prior(name)(rank=rank, codebook_size=5)
        except (TypeError, ValueError) as error:
            refused.append(f"{error}")
        else:
            testing.check_prior(build_small_prior(name), rank)
    assert len(refused) < len(RANKS), (
        f"say in SMALL_PRIORS with which options {name!r} is built: {'; '.join(refused)}"
    )


def test_every_prior_of_an_installed_plugin_keeps_the_laws():
    for name in PLUGIN_PRIORS:
        check_plugin(name)


def test_a_plugin_that_needs_options_is_named_with_what_it_says(monkeypatch):
    def needy(*, rank, codebook_size, depth):
        raise AssertionError("is not built")

    monkeypatch.setitem(PRIORS._builders, "needy", needy)
    monkeypatch.setitem(SMALL_PRIORS, "needy", {})
    with pytest.raises(AssertionError, match=r"with which options 'needy' is built: .*'depth'"):
        check_plugin("needy")


@pytest.mark.parametrize(("name", "rank"), BUILT_IN_PRIORS)
def test_every_registered_prior_is_asked_about_every_kind_of_condition(name, rank):
    assert [kind for kind, _ in iter_conditioned_priors(build_small_prior(name), rank)] == list(
        COND_SPECS
    )


class UnigramPrior(Prior):
    """The least a prior can be: no code depends on another."""

    def __init__(self, *, rank, codebook_size):
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec()
        self.scores = nn.Parameter(torch.zeros(codebook_size))
        self.receptive_field = ReceptiveField(frames=0, rows=0, columns=0, left=0)

    def logits(self, codes, cond=None):
        if cond is not None:
            cond.check(self.cond, len(codes), tuple(codes.shape[1:]))
        shape = (1, -1, *(1,) * self.rank)
        return self.scores.view(shape).expand(len(codes), -1, *codes.shape[1:])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_prior_without_embeddings_and_without_a_state_can_keep_the_laws(rank):
    testing.check_prior(UnigramPrior, rank)


def test_every_law_is_of_a_file_that_has_its_planted_faults():
    files = (
        evaluation,
        prior_conditions,
        prior_latents,
        prior_logits,
        prior_sampling,
        prior_states,
        prior_streams,
    )
    of = {law.__module__ for law in (*priors.LAWS, *priors.LATENT_LAWS)}
    assert of == {file.__name__ for file in files}


def test_what_is_no_prior_is_refused_with_the_base_class():
    with pytest.raises(AssertionError, match=r"^Linear is not a priors\.Prior; derive it from vqv"):
        testing.check_prior(lambda **sizes: nn.Linear(2, 2), 2)


def test_a_rank_that_no_grid_has_is_refused():
    with pytest.raises(ValueError, match="on grids of rank 1, 2 or 3, got rank 7"):
        testing.check_prior(UnigramPrior, 7)


def test_an_error_of_the_builder_goes_through_with_a_note():
    def broken(*, rank, codebook_size):
        return rank / (codebook_size - 5)

    with pytest.raises(ZeroDivisionError) as raised:
        testing.check_prior(broken, 2)
    assert raised.value.__notes__ == [
        "raised by broken, called with rank=2, codebook_size=5 to build a priors.Prior and check "
        "its laws"
    ]
