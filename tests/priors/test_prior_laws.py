"""The laws of priors hold for every registered one, and each catches a fault planted for it."""

import importlib
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from vqvideo import testing
from vqvideo.cond import Cond, CondSpec
from vqvideo.nets import causal
from vqvideo.nets.causal import ReceptiveField
from vqvideo.priors import PRIORS, CausalPrior, Prior, default_prior
from vqvideo.sampling import GumbelNoise, Sampling
from vqvideo.sampling.walk import Task
from vqvideo.testing.prior_logits import every_code_in_the_receptive_field_is_seen
from vqvideo.testing.prior_setup import KINDS, with_conditions

RANKS = (1, 2, 3)
BUILT_IN_PRIORS = [
    *((default_prior(rank), rank) for rank in RANKS),
    *(("transformer", rank) for rank in RANKS),
]
SMALL_PRIORS = {"transformer": {"width": 12, "num_layers": 2, "num_heads": 2}}


def small_prior(name):
    return partial(PRIORS.get(name), **SMALL_PRIORS.get(name, {"width": 8, "num_layers": 3}))


def test_every_registered_prior_is_under_test():
    assert {name for name, _ in BUILT_IN_PRIORS} | {"vqvae"} == set(PRIORS.names())


@pytest.mark.parametrize(("name", "rank"), BUILT_IN_PRIORS)
def test_every_registered_prior_keeps_the_laws(name, rank):
    testing.check_prior(small_prior(name), rank)


@pytest.mark.parametrize(("name", "rank"), BUILT_IN_PRIORS)
def test_every_registered_prior_keeps_the_laws_with_several_codes_per_position(name, rank):
    testing.check_prior(small_prior(name), rank, num_codebooks=2)


# -- planted faults: priors -----------------------------------------------------------------


class Wrapped(CausalPrior):
    """A small causal prior of any rank, to be broken in one place."""

    def __init__(self, *, rank, codebook_size, cond=None):
        super().__init__(
            rank=rank,
            codebook_size=codebook_size,
            width=8,
            reaches=(1, 1, 1),
            dilations=(1, 1, 1),
            cond=cond,
        )


class SeesItself(Wrapped):
    def logits(self, codes, cond=None):
        own = self.embedding(codes).mean(dim=-1)[:, None]
        return super().logits(codes, cond) + own


class SeesTheFuture(Wrapped):
    """Normalising over positions, as batch and group norms do, leaks what comes later."""

    def logits(self, codes, cond=None):
        logits = super().logits(codes, cond)
        return logits / logits.flatten(2).std(dim=2).reshape(len(codes), -1, *(1,) * self.rank)


class SeesItselfInTheFirstLayer(Wrapped):
    """A mask of kind B, which lets a position see itself, where kind A belongs."""

    def __init__(self, **options):
        super().__init__(**options)

        def one_to_the_left(layer, given):
            streams, maps = given
            return [streams[0].roll(-1, dims=4), *streams[1:]], maps

        self.net.layers[0].register_forward_pre_hook(one_to_the_left)


class NormOverPositions(nn.LayerNorm):
    def forward(self, x):
        x = nn.functional.group_norm(x.movedim(-1, 1), 1, self.weight, self.bias)
        return x.movedim(1, -1)


class NormalisesOverPositions(Wrapped):
    """A group norm where a norm over the channels of each position belongs."""

    def __init__(self, **options):
        super().__init__(**options)
        self.head.hidden[0] = NormOverPositions(8)


class CroppedToTheLeft(nn.Conv3d):
    """The kernel of V with rows and columns exchanged: all rows, the left half of the columns."""

    def forward(self, padded):
        reach = self.kernel_size[1] - 1
        x = nn.functional.pad(padded, (0, -reach, 0, reach))
        return nn.functional.conv3d(x, self.weight.transpose(-1, -2), self.bias)


class TransposedCrop(Wrapped):
    def __init__(self, **options):
        super().__init__(**options)
        for layer in self.net.layers:
            layer.vertical.__class__ = CroppedToTheLeft


class BlindAbove(Wrapped):
    """Declares two more columns than it sees."""

    def __init__(self, **options):
        super().__init__(**options)
        field = self.receptive_field
        self.receptive_field = field._replace(left=field.left + 2, columns=field.columns + 2)


class NotNormalised(Wrapped):
    def log_prob(self, codes, cond=None):
        return super().log_prob(codes, cond) + 0.01


class LogProbOfAnotherGrid(Wrapped):
    def log_prob(self, codes, cond=None):
        return super().log_prob((codes + 1) % self.codebook_size, cond)


class WrongBias(Wrapped):
    """The classic fault of a cache: something is left out at the start of a row."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        state.net.horizontal.bias *= 0.5
        return state


class SharedState(Wrapped):
    """A cache that belongs to the prior: a second sampler disturbs the first."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        self.rows = getattr(self, "rows", None)
        if self.rows is None or self.rows.shape != state.net.horizontal.history.shape:
            self.rows = state.net.horizontal.history
        state.net.horizontal.history = self.rows
        return state


class ForgetsARowThatEnds(Wrapped):
    """Prefilled up to the end of the first row, it starts anew."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        prefill = state.prefill

        def careless(codes, positions):
            prefill(codes * 0 if positions == grid[-1] else codes, positions)

        state.prefill = careless
        return state


class ForgetsBeyondItsGrid(Wrapped):
    """Where the grid ends it starts anew."""

    def start(self, batch, grid, cond=None):
        state, pushed, push = super().start(batch, grid, cond), [0], None
        push = state.push

        def careless(codes):
            push(codes)
            pushed[0] += 1
            if pushed[0] == math.prod(grid):
                told = state.net.told
                state.net = self.walk(batch, grid, None, None)
                state.net.tell(told, None)

        state.push = careless
        return state


class OwnNoise(Wrapped):
    """Steps exactly, but a state that is asked twice answers differently."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        if batch > 2:
            exact = state.logits
            state.logits = lambda: nn.functional.dropout(exact(), 0.5)
        return state


class ForgetsUnaskedPositions(Wrapped):
    """A cache that is filled only where somebody asks for logits: wrong around known codes."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)
        push = state.net.push

        def careless(embedding):
            state.net.known = max(state.net.known, state.net.column + 1)
            push(embedding)

        state.net.push = careless
        return state


class LeavesATrace(Wrapped):
    def start(self, batch, grid, cond=None):
        with torch.no_grad():
            self.embedding.weight[0, 0] += 1e-3
        return super().start(batch, grid, cond)


class WatchesItsCodes(Wrapped):
    """Sampling leaves a buffer behind."""

    def start(self, batch, grid, cond=None):
        self.register_buffer("last", torch.zeros(batch))
        return super().start(batch, grid, cond)


class CannotBeCopied(Wrapped):
    """A copy gets a table of its own, and the first one's is read no more."""

    def __deepcopy__(self, memo):
        twin = Wrapped(rank=self.rank, codebook_size=self.codebook_size, cond=self.cond)
        return twin.to(self.embedding.weight)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (SeesItself, "depend on the code"),
        (SeesTheFuture, "depend on the code"),
        (SeesItselfInTheFirstLayer, "depend on the code"),
        (NormalisesOverPositions, "depend on the code"),
        (BlindAbove, "its receptive field says otherwise"),
        (NotNormalised, "log_prob of item 0 is"),
        (LogProbOfAnotherGrid, "log_prob of item 0 is"),
        (WrongBias, "stepping differs from the whole"),
        (OwnNoise, "auto and fixed-point sampling differ"),
        (ForgetsUnaskedPositions, "asked at every 3"),
        (SharedState, "stepping differs from the whole"),
        (ForgetsBeyondItsGrid, "beyond its grid, stepping differs"),
        (LeavesATrace, "sampling changed|stepping differs|sampling differ"),
        (WatchesItsCodes, "sampling put last into the state_dict"),
        (CannotBeCopied, "a copy of the prior gives other logits"),
    ],
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_planted_fault_in_a_prior_is_caught(broken, message, rank):
    with pytest.raises(AssertionError, match=message):
        testing.check_prior(broken, rank)


def shift_nothing(axis, monkeypatch):
    """What T or V sees is not moved one frame or row on."""
    moved = causal.add_one_later

    def careless(x, update, axis_):
        x.add_(update) if axis_ == axis else moved(x, update, axis_)

    monkeypatch.setattr(causal, "add_one_later", lambda x, update, axis: careless(x, update, axis))


def shift_twice(axis, monkeypatch):
    """What T or V sees is moved two frames or rows on: the last one is hidden."""
    moved = causal.add_one_later

    def careless(x, update, axis_):
        if axis_ != axis:
            return moved(x, update, axis_)
        steps = max(x.shape[axis] - 2, 0)
        x.narrow(axis, x.shape[axis] - steps, steps).add_(update.narrow(axis, 0, steps))

    monkeypatch.setattr(causal, "add_one_later", lambda x, update, axis: careless(x, update, axis))


@pytest.mark.parametrize(
    ("plant", "rank", "message"),
    [
        (partial(shift_nothing, 3), 2, "depend on the code"),
        (partial(shift_nothing, 3), 3, "depend on the code"),
        (partial(shift_nothing, 2), 3, "depend on the code"),
        (partial(shift_twice, 3), 2, "miss the code"),
        (partial(shift_twice, 2), 3, "miss the code"),
    ],
)
def test_a_planted_fault_in_the_causal_core_is_caught(plant, rank, message, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=message):
        testing.check_prior(Wrapped, rank)


@pytest.mark.parametrize(
    ("broken", "rank", "message"),
    [
        (TransposedCrop, 2, "depend on the code"),
        (TransposedCrop, 3, "depend on the code"),
        (ForgetsARowThatEnds, 2, "after prefill of 4 positions, stepping differs"),
        (ForgetsARowThatEnds, 3, "after prefill of 3 positions, stepping differs"),
    ],
)
def test_a_planted_fault_that_takes_a_row_is_caught(broken, rank, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_prior(broken, rank)


def test_a_leak_of_less_than_rounding_is_still_found_by_gradient():
    class Whispers(Wrapped):
        def logits(self, codes, cond=None):
            logits = super().logits(codes, cond)
            return logits + 1e-30 * self.embedding(codes).movedim(-1, 1)[:, :5]

    with pytest.raises(AssertionError, match="a leak"):
        every_code_in_the_receptive_field_is_seen(Whispers, 2)


# -- planted faults: conditions -------------------------------------------------------------


def retold(cond, **changes):
    """Another condition, changed in what it holds of `changes`."""
    if cond is None:
        return None
    held = {name: value for name, value in vars(cond).items() if value is not None}
    return Cond(**{**held, **{name: changes[name](held[name]) for name in changes if name in held}})


class Retold(Wrapped):
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


class DeafState(Wrapped):
    def start(self, batch, grid, cond=None):
        return super().start(batch, grid, None)


class DeafBeyondItsGrid(Wrapped):
    """What it is told later it takes for nothing."""

    def start(self, batch, grid, cond=None):
        state = super().start(batch, grid, cond)

        tell = state.tell

        def careless(cond, steps):
            tell(retold(cond, actions=torch.zeros_like, local=torch.zeros_like), steps)

        state.tell = careless
        return state


class GuidedByHalf(Wrapped):
    """Told nothing it goes on with what it heard last."""

    def tell(self, cond, batch, grid):
        if cond is None and not self.cond.is_empty:
            cond = getattr(self, "last", None)
        self.last = cond
        return super().tell(cond, batch, grid)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (DeafToSpeakers, "under speaker: speaker does not reach the logits of step 0"),
        (HearsTheFirstItem, "class_id does not reach the logits"),
        (HearsActionsEarly, "actions number 2, of step 1, changes the logits of step 0"),
        (
            HearsActionsLate,
            "actions number 0, of step 0, does not change the logits of its own",
        ),
        (HearsLocalEarly, "under local: local number 1, of step 1, changes the logits of step 0"),
        (HearsEveryOtherAction, "number 1, of step 0, does not change the logits of its own"),
        (DeafState, "under class_id stepping differs"),
        (DeafBeyondItsGrid, "beyond its grid, stepping differs"),
        (GuidedByHalf, "guidance 0 is not sampling without a condition"),
    ],
)
@pytest.mark.parametrize("rank", [1, 3])
def test_a_planted_fault_in_conditions_is_caught(broken, message, rank):
    with pytest.raises(AssertionError, match=message):
        testing.check_prior(broken, rank)


@pytest.mark.parametrize(("name", "rank"), BUILT_IN_PRIORS)
def test_every_registered_prior_is_asked_about_every_kind_of_condition(name, rank):
    assert [kind for kind, _ in with_conditions(small_prior(name), rank)] == list(KINDS)


def test_a_builder_without_conditions_or_that_refuses_some_is_not_asked_about_them():
    def picky(*, rank, codebook_size, cond=None):
        if cond is not None and cond.local_channels:
            raise ValueError("this prior cannot be told local")
        return Wrapped(rank=rank, codebook_size=codebook_size, cond=cond)

    assert [kind for kind, _ in with_conditions(picky, 1)] == list(KINDS)[:4]
    assert not list(with_conditions(Unigram, 1))


# -- planted faults: sampling ---------------------------------------------------------------

streaming = importlib.import_module("vqvideo.sampling.stream")


def ignore_temperature(monkeypatch):
    choose = Sampling.choose
    plain = {"temperature": 1.0}
    monkeypatch.setattr(
        Sampling,
        "choose",
        lambda self, *given: choose(replace(self, **plain) if self.temperature else self, *given),
    )


def keep_one_code_more(monkeypatch):
    chosen = Sampling.filter

    def careless(self, logits):
        more = self.top_k and min(self.top_k + 1, logits.shape[-1])
        return chosen(replace(self, top_k=more), logits)

    monkeypatch.setattr(Sampling, "filter", careless)


def draw_flat_noise(monkeypatch):
    """Uniform noise instead of Gumbel noise."""
    ahead = GumbelNoise.ahead

    def careless(self, most):
        noise = ahead(self, most)
        if self.used == 0:
            self.block = (-(-self.block).exp()).exp()
        return self.block[self.used : self.used + len(noise)]

    monkeypatch.setattr(GumbelNoise, "ahead", careless)


def report_no_log_prob(monkeypatch):
    monkeypatch.setattr(Task, "add_log_prob", lambda self, logits, codes: None)


def report_the_tempered_log_prob(monkeypatch):
    add = Task.add_log_prob

    def careless(self, logits, codes):
        add(self, logits / (self.sampling.temperature or 1), codes)

    monkeypatch.setattr(Task, "add_log_prob", careless)


def forget_the_known_steps(monkeypatch):
    begin = streaming._begin

    def careless(prior, batch, inner, known, number, cond):
        return begin(prior, batch, inner, known if known is None else known * 0, number, cond)

    monkeypatch.setattr(streaming, "_begin", careless)


def draw_the_known_noise_again(monkeypatch):
    class Careless(GumbelNoise):
        def skip(self, positions):
            pass

    monkeypatch.setattr(streaming, "GumbelNoise", Careless)


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (ignore_temperature, "drawn at temperature 0.7 do not have their probabilities"),
        (keep_one_code_more, "drawn with top_k 2, a code is impossible"),
        (draw_flat_noise, "drawn freely do not have their probabilities"),
        (report_no_log_prob, "auto sampling at temperature 1.0 reports a log_prob"),
        (report_the_tempered_log_prob, "auto sampling at temperature 0.7 reports a log_prob"),
        (forget_the_known_steps, "of a stream, of which 2 were known, is not that"),
        (draw_the_known_noise_again, "of a stream, of which 2 were known, is not that"),
    ],
)
@pytest.mark.parametrize("rank", [1, 2])
def test_a_planted_fault_in_sampling_is_caught(plant, message, rank, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=message):
        testing.check_prior(Wrapped, rank)


def test_noise_is_the_same_for_a_sample_alone_and_in_a_batch():
    alone, together = GumbelNoise(3, 1, 7), GumbelNoise(3, 4, 7)
    for _ in range(200):
        assert torch.equal(alone.next()[0], together.next()[0])


def test_noise_ahead_is_that_of_the_next_positions_and_skipping_goes_on():
    noise, each = GumbelNoise(3, 2, 7), GumbelNoise(3, 2, 7)
    single = torch.stack([each.next() for _ in range(200)])
    assert torch.equal(noise.ahead(5), single[:5])
    noise.skip(60)
    assert torch.equal(noise.ahead(100), single[60:64])  # a block ends here
    noise.skip(100)
    assert torch.equal(noise.next(), single[160])


class Unigram(Prior):
    """The least a prior can be: no code depends on another."""

    def __init__(self, *, rank, codebook_size):
        super().__init__()
        self.rank, self.codebook_size, self.cond = rank, codebook_size, CondSpec()
        self.scores = nn.Parameter(torch.zeros(codebook_size))
        self.receptive_field = ReceptiveField(frames=0, rows=0, columns=0, left=0)

    def logits(self, codes, cond=None):
        shape = (1, -1, *(1,) * self.rank)
        return self.scores.view(shape).expand(len(codes), -1, *codes.shape[1:])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_prior_without_embeddings_and_without_a_state_can_keep_the_laws(rank):
    testing.check_prior(Unigram, rank)
