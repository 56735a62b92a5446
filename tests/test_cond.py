"""Conditions: what a model may be told, and what it says to anything else."""

from __future__ import annotations

import pytest
import torch

from vqvideo.cond import Cond, CondSpec

SIZES = (
    "num_classes",
    "num_speakers",
    "num_actions",
    "action_dim",
    "actions_per_code",
    "local_channels",
)
BATCH, GRID = 2, (3, 4, 5)
ACTIONS = torch.arange(12).view(2, 6) % 4  # two data frames for each of the three code frames


def make_full_cond() -> Cond:
    return Cond(
        class_id=torch.tensor([1, 6]),
        speaker=torch.tensor([0, 2]),
        actions=ACTIONS,
        local=torch.arange(2 * 2 * 60.0).view(2, 2, *GRID),
    )


FULL_SPEC = CondSpec(
    num_classes=7, num_speakers=3, num_actions=4, actions_per_code=2, local_channels=2
)


# -- what a model was built to be told ------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [-1, 2.5, "3", None])
def test_a_size_is_a_whole_number_from_zero_on(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be an integer >= 0, got {value!r}"):
        CondSpec(**{name: value})


def test_actions_are_either_discrete_or_continuous():
    with pytest.raises(ValueError, match=r"discrete \(num_actions\) or continuous \(action_dim\)"):
        CondSpec(num_actions=3, action_dim=2)


def test_a_code_frame_owns_at_least_one_action():
    with pytest.raises(ValueError, match="actions_per_code must be at least 1, got 0"):
        CondSpec(actions_per_code=0)


def test_a_spec_comes_from_itself_from_nothing_or_from_plain_data():
    spec = CondSpec(num_classes=7, action_dim=2)
    assert CondSpec.from_config(spec) is spec
    assert CondSpec.from_config(None) == CondSpec.from_config({}) == CondSpec()
    assert CondSpec.from_config({"num_classes": 7, "action_dim": 2}) == spec


def test_a_size_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(
        ValueError,
        match=rf"no entry 'classes'; it has: {', '.join(SIZES)}, dropout, class_names, spea",
    ):
        CondSpec.from_config({"classes": 3})


@pytest.mark.parametrize(
    ("sizes", "takes_actions"),
    [
        ({"num_classes": 1}, False),
        ({"num_speakers": 1}, False),
        ({"local_channels": 1}, False),
        ({"num_actions": 1}, True),
        ({"action_dim": 1}, True),
    ],
)
def test_a_spec_with_any_condition_is_not_empty(sizes, takes_actions):
    assert CondSpec().is_empty
    assert CondSpec(actions_per_code=4).is_empty
    assert not CondSpec(**sizes).is_empty
    assert CondSpec(**sizes).has_actions is takes_actions


# -- the values -----------------------------------------------------------------------------


def test_what_fits_is_accepted():
    continuous, spec = Cond(actions=torch.randn(2, 6, 3)), {"action_dim": 3, "actions_per_code": 2}
    local = Cond(local=torch.randn(2, 3, 11))
    assert make_full_cond().check(FULL_SPEC, BATCH, GRID) is None
    assert Cond().check(CondSpec(), BATCH, GRID) is None
    assert continuous.check(CondSpec(**spec), BATCH, GRID) is None
    assert local.check(CondSpec(local_channels=3), BATCH, (11,)) is None


@pytest.mark.parametrize(
    ("sizes", "values", "complaint"),
    [
        (
            {"num_classes": 7},
            {},
            r"this model needs class_id of shape \[2\]; none were given",
        ),
        (
            {"num_speakers": 3},
            {},
            r"this model needs speaker of shape \[2\]; none were given",
        ),
        (
            {"num_actions": 4, "actions_per_code": 2},
            {},
            r"this model needs actions of shape \[2, 6\]; none were given",
        ),
        (
            {"action_dim": 3},
            {},
            r"this model needs actions of shape \[2, 3, 3\]; none were given",
        ),
        (
            {"local_channels": 2},
            {},
            r"this model needs local of shape \[2, 2, 3, 4, 5\]; none were given",
        ),
        ({}, {"class_id": torch.zeros(2).long()}, "this model was not built to take class_id"),
        ({}, {"speaker": torch.zeros(2).long()}, "this model was not built to take speaker"),
        ({}, {"actions": torch.zeros(2, 3).long()}, "this model was not built to take actions"),
        ({}, {"local": torch.zeros(2, 1, 3, 4, 5)}, "this model was not built to take local"),
        (
            {"num_classes": 7},
            {"class_id": torch.zeros(3).long()},
            r"class_id must have shape \[2\], got \[3\]",
        ),
        (
            {"num_speakers": 7},
            {"speaker": torch.zeros(2, 1).long()},
            r"speaker must have shape \[2\], got \[2, 1\]",
        ),
        (
            {"num_actions": 4, "actions_per_code": 2},
            {"actions": torch.zeros(2, 3).long()},
            "6 actions are needed, 2 for each of 3 codes .* got 3, 3 too few",
        ),
        (
            {"action_dim": 3},
            {"actions": torch.zeros(2, 3)},
            r"actions must have shape \[2, 3, 3\], got \[2, 3\]",
        ),
        (
            {"local_channels": 2},
            {"local": torch.zeros(2, 2, 4, 3, 5)},
            r"local must have shape \[2, 2, 3, 4, 5\], got \[2, 2, 4, 3, 5\]",
        ),
        (
            {"num_classes": 7},
            {"class_id": torch.tensor([0, 7])},
            r"class_id must be integers in \[0, 7\), got torch.int64 values from 0 to 7",
        ),
        (
            {"num_speakers": 3},
            {"speaker": torch.tensor([-1, 2])},
            r"speaker must be integers in \[0, 3\), got torch.int64 values from -1 to 2",
        ),
        (
            {"num_actions": 4},
            {"actions": torch.tensor([[0, 1, 2], [3, 4, 0]])},
            r"actions must be integers in \[0, 4\), got torch.int64 values from 0 to 4",
        ),
        (
            {"num_classes": 7},
            {"class_id": torch.tensor([0.0, 1.5])},
            r"class_id must be integers in \[0, 7\), got torch.float32 values from 0.0 to 1.5",
        ),
        (
            {"num_classes": 7},
            {"class_id": torch.tensor([0, 1], dtype=torch.uint16)},
            r"class_id must be integers, got torch.uint16; convert them with .long\(\)",
        ),
        (
            {"num_speakers": 3},
            {"speaker": torch.tensor([0, 1], dtype=torch.complex64)},
            "speaker must be integers, got torch.complex64",
        ),
        (
            {"num_classes": 7},
            {"class_id": torch.tensor([0, 1.5]).to(torch.float8_e4m3fn)},
            r"class_id must be integers in \[0, 7\), got torch.float8_e4m3fn values from 0.0",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(sizes, values, complaint):
    with pytest.raises(ValueError, match=complaint):
        Cond(**values).check(CondSpec(**sizes), BATCH, GRID)


def test_to_moves_every_condition():
    moved = make_full_cond().to("meta")
    values = (moved.class_id, moved.speaker, moved.actions, moved.local)
    assert [value.device.type for value in values] == ["meta"] * 4
    untold = Cond(speaker=torch.tensor([4, 5])).to("meta")
    assert (untold.class_id, untold.actions, untold.local) == (None, None, None)


def test_to_keeps_the_values():
    same = make_full_cond().to("cpu")
    for name in ("class_id", "speaker", "actions", "local"):
        assert torch.equal(getattr(same, name), getattr(make_full_cond(), name)), name


@pytest.mark.parametrize("name", ["a, b", "3*2", "0", "", " up", "up "])
def test_an_actions_name_can_stand_in_a_list(name):
    with pytest.raises(ValueError, match="an action's name must begin with a letter"):
        CondSpec(num_actions=2, action_names=("left", name))
    with pytest.raises(ValueError, match="be unique, got 'left'"):
        CondSpec(num_actions=2, action_names=("left", "left"))
    assert CondSpec(num_actions=1, action_names=("turn left",)).action_labels == ("turn left",)
