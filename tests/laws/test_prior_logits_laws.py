"""Each law of a prior's logits catches the faults planted for it."""

from functools import partial

import pytest
import torch
from torch import nn

from vqvideo import testing
from vqvideo.nets import causal
from vqvideo.priors import CausalPrior
from vqvideo.testing import prior_logits as laws
from vqvideo.testing import priors

SMALL = {"width": 8, "kernel_radii": (1, 1, 1), "dilations": (1, 1, 1)}


class NonCausalPrior(CausalPrior):
    def logits(self, codes, cond=None):
        own = self.embedding(codes).mean(dim=-1)[:, None]
        return super().logits(codes, cond) + own


class LookaheadPrior(CausalPrior):
    """Normalising over positions, as batch and group norms do, leaks what comes later."""

    def logits(self, codes, cond=None):
        logits = super().logits(codes, cond)
        return logits / logits.flatten(2).std(dim=2).reshape(len(codes), -1, *(1,) * self.rank)


class NonCausalFirstLayerPrior(CausalPrior):
    """A mask of kind B, which lets a position see itself, where kind A belongs."""

    def __init__(self, **options):
        super().__init__(**options)

        def one_to_the_left(layer, given):
            streams, maps = given
            return [streams[0].roll(-1, dims=4), *streams[1:]], maps

        self.net.layers[0].register_forward_pre_hook(one_to_the_left)


class PositionLayerNorm(nn.LayerNorm):
    def forward(self, x):
        x = nn.functional.group_norm(x.movedim(-1, 1), 1, self.weight, self.bias)
        return x.movedim(1, -1)


class PositionNormPrior(CausalPrior):
    """A group norm where a norm over the channels of each position belongs."""

    def __init__(self, **options):
        super().__init__(**options)
        self.head.hidden[0] = PositionLayerNorm(8)


class LeftCropConv3d(nn.Conv3d):
    """The kernel of V with rows and columns exchanged: all rows, the left half of the columns."""

    def forward(self, padded):
        reach = self.kernel_size[1] - 1
        x = nn.functional.pad(padded, (0, -reach, 0, reach))
        return nn.functional.conv3d(x, self.weight.transpose(-1, -2), self.bias)


class TransposedCropPrior(CausalPrior):
    def __init__(self, **options):
        super().__init__(**options)
        for layer in self.net.layers:
            layer.vertical.__class__ = LeftCropConv3d


class NonCausalInTrainingPrior(CausalPrior):
    def logits(self, codes, cond=None):
        own = nn.functional.one_hot(codes, self.codebook_size).movedim(-1, 1)
        return super().logits(codes, cond) + own * self.training


class NoVerticalContextPrior(CausalPrior):
    """Declares two more columns than it sees."""

    def __init__(self, **options):
        super().__init__(**options)
        field = self.receptive_field
        self.receptive_field = field._replace(left=field.left + 2, columns=field.columns + 2)


class UnnormalizedPrior(CausalPrior):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) + 0.01


class WrongGridLogProbPrior(CausalPrior):
    def log_prob(self, codes, cond=None):
        return super().log_prob((codes + 1) % self.codebook_size, cond)


class SummedLossPrior(CausalPrior):
    def forward(self, codes, cond=None):
        return super().forward(codes, cond) * codes[0].numel()


class HalvedLossPrior(CausalPrior):
    def forward(self, codes, cond=None):
        return super().forward(codes, cond) / (1 + self.training)


class FixedCodebookSizePrior(CausalPrior):
    def __init__(self, *, rank, codebook_size, **options):
        super().__init__(rank=rank, codebook_size=5, **options)


class UnsavedTablePrior(CausalPrior):
    def __init__(self, **options):
        super().__init__(**options)
        self.table = torch.randn(self.codebook_size)

    def logits(self, codes, cond=None):
        return super().logits(codes, cond) + self.table.view(-1, *(1,) * self.rank)

    def init_state(self, batch, grid, cond=None):
        return None


FAULTS = [  # the law, the prior that breaks it and keeps those before it, what is said
    *(
        ("logits_are_strictly_causal", each, "depend on the code")
        for each in (
            NonCausalPrior,
            LookaheadPrior,
            NonCausalFirstLayerPrior,
            PositionNormPrior,
        )
    ),
    (
        "logits_are_strictly_causal",
        NonCausalInTrainingPrior,
        "in training: .* depend on the code",
    ),
    (
        "logits_depend_on_the_whole_receptive_field",
        NoVerticalContextPrior,
        "do not depend on .* this contradicts receptive_field",
    ),
    ("log_prob_is_the_sum_over_codes", UnnormalizedPrior, "log_prob of item 0 is"),
    ("log_prob_is_the_sum_over_codes", WrongGridLogProbPrior, "log_prob of item 0 is"),
    ("training_minimises_a_scalar", SummedLossPrior, "forward gives .* nats per code"),
    ("training_minimises_a_scalar", HalvedLossPrior, "in training: forward gives"),
    ("probabilities_sum_to_one", FixedCodebookSizePrior, "probabilities sum to 0.*, not 1"),
    (
        "a_loaded_prior_is_the_one_that_was_saved",
        UnsavedTablePrior,
        "values of logits: the state_dict",
    ),
]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("law", "broken", "message"), FAULTS)
def test_a_planted_fault_in_logits_is_caught_by_its_law(law, broken, message, rank, only):
    only(law)
    found = f"^{broken.__name__} breaks the law {law}: rank {rank}.*{message}"
    with pytest.raises(AssertionError, match=found):
        testing.check_prior(partial(broken, **SMALL), rank)


def test_every_law_of_logits_has_a_planted_fault():
    every = {*priors.LAWS, *priors.LATENT_LAWS}
    own = {law.__name__ for law in every if law.__module__ == laws.__name__}
    assert own == {law for law, *_ in FAULTS}


def shift_nothing(axis, monkeypatch):
    """What T or V sees is not moved one frame or row on."""
    moved = causal.add_shifted

    def careless(x, update, axis_):
        x.add_(update) if axis_ == axis else moved(x, update, axis_)

    monkeypatch.setattr(causal, "add_shifted", lambda x, update, axis: careless(x, update, axis))


def shift_twice(axis, monkeypatch):
    """What T or V sees is moved two frames or rows on: the last one is hidden."""
    moved = causal.add_shifted

    def careless(x, update, axis_):
        if axis_ != axis:
            return moved(x, update, axis_)
        steps = max(x.shape[axis] - 2, 0)
        x.narrow(axis, x.shape[axis] - steps, steps).add_(update.narrow(axis, 0, steps))

    monkeypatch.setattr(causal, "add_shifted", lambda x, update, axis: careless(x, update, axis))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "rank", "message"),
    [
        (partial(shift_nothing, 3), 2, "depend on the code"),
        (partial(shift_nothing, 3), 3, "depend on the code"),
        (partial(shift_nothing, 2), 3, "depend on the code"),
        (partial(shift_twice, 3), 2, "do not depend on the code"),
        (partial(shift_twice, 2), 3, "do not depend on the code"),
    ],
)
def test_a_planted_fault_in_the_causal_core_is_caught(plant, rank, message, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=message):
        testing.check_prior(partial(CausalPrior, **SMALL), rank)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_crop_with_rows_and_columns_exchanged_is_caught(rank):
    with pytest.raises(AssertionError, match="depend on the code"):
        testing.check_prior(partial(TransposedCropPrior, **SMALL), rank)


def test_a_leak_of_less_than_rounding_is_still_found_by_gradient():
    class Whispers(CausalPrior):
        def logits(self, codes, cond=None):
            logits = super().logits(codes, cond)
            return logits + 1e-30 * self.embedding(codes).movedim(-1, 1)[:, :5]

    with pytest.raises(AssertionError, match="they are not causal"):
        laws.logits_depend_on_the_whole_receptive_field(partial(Whispers, **SMALL), 2)
