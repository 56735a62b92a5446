"""Clips of models that are told what is done: `vqvideo generate --actions`, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.commands.action_syntax import format_actions, parse_actions
from vqvideo.cond import CondSpec
from vqvideo.generator import Generator
from vqvideo.models import get_pretrained_path
from vqvideo.priors.network import NetworkPrior
from vqvideo.recipes.worlds.maze_agent import ACTIONS

SIDE, LENGTH, FPS = 16, 10, 5.0
MAZE = CondSpec(num_actions=6, action_names=ACTIONS)
ALL_SIX = "0 none, 1 turn left, 2 turn right, 3 forward, 4 forward left, 5 forward right"


def build_model(folder, strides=((1, 2, 2), (1, 2, 2)), **cond):
    torch.manual_seed(0)
    nets = {"widths": (8, 12), "num_blocks": (1, 1), "linear_init": False}
    generator = vqvideo.build(
        "maze",
        encoder=nets,
        decoder=nets,
        quantizer={"codebook_size": 16, "code_dim": 4, "init": "data", "warmup_steps": 1},
        prior={"width": 8, "num_layers": 2, **cond},
        sample_shape=(8, SIDE, SIDE),
        strides=strides,
    )
    generator.vqvae.train().loss(torch.rand(2, 3, 8, SIDE, SIDE) * 2 - 1)
    vqvideo.save(generator, folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small untrained model of walks."""
    return build_model(tmp_path_factory.mktemp("models") / "walks")


@pytest.fixture(scope="module")
def vector_action_model(tmp_path_factory):
    """The same, its actions vectors of two numbers."""
    cond = {"cond": {"action_dim": 2}}
    return build_model(tmp_path_factory.mktemp("models") / "vectors", **cond)


@pytest.fixture(scope="module")
def four_frame_model(tmp_path_factory):
    """The same, a code for four frames."""
    return build_model(tmp_path_factory.mktemp("models") / "four", strides=((2, 2, 2), (2, 2, 2)))


@pytest.fixture
def recorded_conds(monkeypatch):
    """What the prior is told of each clip, as it is told it."""
    seen = []
    embed_cond = NetworkPrior.embed_cond

    def noted(self, cond, batch, grid):
        if cond is not None:
            seen.append(cond.actions.tolist())
        return embed_cond(self, cond, batch, grid)

    monkeypatch.setattr(NetworkPrior, "embed_cond", noted)
    return seen


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def video_file():
    """Ten frames that grow brighter, larger than the model's; nobody knows what was done."""
    frames = torch.linspace(-0.9, 0.9, LENGTH)[None, :, None, None].expand(3, -1, 24, 32)
    media.write_video("film.mp4", frames, FPS)
    return "film.mp4"


@pytest.fixture
def recording(video_file):
    """The same with the actions that led into its frames."""
    np.save("film.actions.npy", np.array([0, 1, 2, 3, 4, 5, 0, 1, 2], dtype=np.int8))
    return video_file


def record_episode():
    return json.loads(Path("outputs/clip.json").read_text())


def require_refusal(words, capsys):
    assert main(["generate", *words]) == 1
    return capsys.readouterr().err


def test_a_recorded_episode_is_continued_as_its_actions_say(model, recording, recorded_conds):
    words = ["--model", model, "--prefix", recording, "--prefix-frames", "6", "--seed", "3"]
    assert main(["generate", *words]) == 0
    assert recorded_conds == [[[0, 0, 1, 2, 3, 4, 5, 0, 1, 2]]]
    clip = media.read_video("outputs/clip.mp4")
    assert clip.fps == pytest.approx(FPS)
    x = media.read_video(recording, range(6), size=(SIDE, SIDE)).frames[None]
    led = torch.tensor([[0, 0, 1, 2, 3, 4, 5, 0, 1, 2]])
    expected = vqvideo.load(model).continue_clip(x, 4, actions=led, seed=3)[0]
    assert clip.frames.shape == (3, LENGTH, SIDE, SIDE)
    assert (clip.frames - expected).abs().mean() < 0.1  # as compression leaves it
    assert record_episode()["actions"] == "forward right, none, turn left, turn right"
    assert (
        record_episode()["actions_before"] == "none*2, turn left, turn right, forward, forward left"
    )


def test_actions_given_by_name_and_number_take_the_place_of_those_recorded(
    model, recording, recorded_conds
):
    words = ["--model", model, "--prefix", recording, "--prefix-frames", "6", "--seed", "3"]
    assert main(["generate", *words, "--actions", "forward*2, 1*3"]) == 0
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == 11
    assert record_episode()["actions"] == "forward*2, turn left*3"
    first = Path("outputs/clip.mp4").read_bytes()
    again = ["--actions", record_episode()["actions"], "--overwrite"]
    assert main(["generate", *words, *again]) == 0
    assert Path("outputs/clip.mp4").read_bytes() == first
    assert recorded_conds == [[[0, 0, 1, 2, 3, 4, 3, 3, 1, 1, 1]]] * 2


def test_guidance_lets_what_is_done_decide_more(model, recording, monkeypatch):
    seen, draw = [], Generator.continue_clip

    def noted(self, *given, **options):
        seen.append(options["guidance_scale"])
        return draw(self, *given, **options)

    monkeypatch.setattr(Generator, "continue_clip", noted)
    words = [recording, "--model", model, "--guidance-scale", "2", "--overwrite"]
    assert main(["generate", "--prefix", *words]) == 0
    assert (record_episode()["guidance_scale"], record_episode()["method"]) == (2, "cached")
    assert main(["rollout", *words, "--out", "film.gif"]) == 0
    assert seen == [2, 2]


def test_where_nobody_knows_what_led_into_the_prefix_it_was_action_0(
    model, video_file, recorded_conds
):
    words = [
        "--model",
        model,
        "--prefix",
        video_file,
        "--prefix-frames",
        "6",
        "--actions",
        "forward*4",
    ]
    assert main(["generate", *words]) == 0
    assert recorded_conds == [[[0] * 6 + [3] * 4]]
    assert record_episode()["actions_before"] is None
    assert record_episode()["prefix"]["fit"] == "crop"
    assert record_episode()["prefix"]["size"] == [24, 32]


def test_a_clip_may_end_within_a_code_and_the_last_action_is_repeated(
    four_frame_model, video_file, recorded_conds
):
    words = ["--model", four_frame_model, "--actions", "forward*4, turn left*2"]
    assert main(["generate", *words, "--num-frames", "6"]) == 0
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == 6
    prefix = ["--prefix", video_file, "--prefix-frames", "4", "--overwrite"]
    assert main(["generate", *words, *prefix]) == 0
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == 10
    seen = [3, 3, 3, 3, 1, 1, 1, 1]
    assert recorded_conds == [[seen], [[0] * 4 + seen]]
    assert record_episode()["actions"] == "forward*4, turn left*2"


def test_a_recorded_episode_of_any_length_is_continued_to_its_end(
    four_frame_model, recording, recorded_conds
):
    assert (
        main(
            ["generate", "--model", four_frame_model, "--prefix", recording, "--prefix-frames", "4"]
        )
        == 0
    )
    assert recorded_conds == [[[0, 0, 1, 2, 3, 4, 5, 0, 1, 2, 2, 2]]]
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == LENGTH


def test_few_recorded_actions_are_enough_for_a_short_prefix(model, video_file, recorded_conds):
    np.save("film.actions.npy", np.array([4, 5, 1]))
    words = ["--model", model, "--prefix", video_file, "--prefix-frames", "3", "--actions", "3*2"]
    assert main(["generate", *words]) == 0
    assert recorded_conds == [[[0, 4, 5, 3, 3]]]


def test_several_clips_without_a_prefix_have_the_same_conditions(model, recorded_conds):
    words = ["--model", model, "--actions", "forward*5", "--num-samples", "2", "--out", "x.gif"]
    assert main(["generate", *words]) == 0
    shapes = [media.read_video(name).frames.shape for name in ("x_1.gif", "x_2.gif")]
    assert shapes == [(3, 5, SIDE, SIDE)] * 2
    assert recorded_conds == [[[3] * 5] * 2]


def test_vectors_come_from_a_file(vector_action_model, recorded_conds):
    pushes = np.linspace(-1, 1, 8).reshape(4, 2)
    np.save("pushes.npy", pushes)
    assert main(["generate", "--model", vector_action_model, "--actions", "pushes.npy"]) == 0
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == 4
    assert np.allclose(recorded_conds[0][0], pushes)
    assert np.allclose(record_episode()["actions"], pushes)


def test_the_shipped_model_continues_the_episode_beside_its_weights():
    assert main(["generate", "--num-frames", "10"]) == 0
    assert record_episode()["model"] == "maze"
    assert record_episode()["prefix"]["file"] == str(get_pretrained_path("maze") / "example.mp4")
    recorded = np.load(get_pretrained_path("maze") / "example.actions.npy")[7:9].tolist()
    assert record_episode()["actions"] == format_actions(torch.tensor(recorded), MAZE)


def test_a_model_conditioned_on_actions_without_any_says_how_many_and_which(
    model, video_file, capsys
):
    complaint = require_refusal(["--model", model, "--num-frames", "7"], capsys)
    assert f"--actions, one per generated frame, 7 of them; the actions are {ALL_SIX}" in (
        complaint
    )
    words = ["--model", model, "--prefix", video_file, "--num-frames", "10"]
    assert "generated frame, 2 of them; the actions are" in require_refusal(words, capsys)
    assert "generated frame; the actions are" in require_refusal(["--model", model], capsys)


@pytest.mark.parametrize("word", ["6", "-1", "jump", "forward*x", ""])
def test_an_action_out_of_range_is_refused_with_those_there_are(model, word, capsys):
    complaint = require_refusal(["--model", model, f"--actions=none,{word}"], capsys)
    assert f"the actions are {ALL_SIX}; got {word!r}" in complaint
    assert not Path("outputs").exists()


def test_too_few_or_too_many_actions_are_counted(model, recording, capsys):
    words = ["--model", model, "--prefix", recording, "--prefix-frames", "6", "--num-frames"]
    few = require_refusal([*words, "12"], capsys)
    assert "6 actions are needed, one per generated frame; the recording has 4" in few
    many = require_refusal([*words, "8", "--actions", "forward*3"], capsys)
    assert "2 actions are needed, one per generated frame; got 3" in many
    np.save("film.actions.npy", np.array([4, 5, 1]))
    short = require_refusal([*words, "8", "--actions", "forward*2"], capsys)
    assert "the .actions.npy file of the prefix has actions for 4 of 6 frames" in short


@pytest.mark.parametrize("times", ["0", "1000001", "99999999999999999999"])
def test_no_action_and_more_than_a_million_are_refused_before_they_are_listed(model, times, capsys):
    complaint = require_refusal(["--model", model, "--actions", f"forward*{times}"], capsys)
    assert f"expected 1 to 1,000,000 actions, got {int(times):,}" in complaint


@pytest.mark.parametrize(
    ("length", "complaint"),
    [
        ("-1", "a prefix must have at least 1 frame, got -1"),
        ("0", "a prefix must have at least 1 frame, got 0"),
        ("3000000000", "film.mp4 has 10 frames; the prefix needs 3000000000"),
    ],
)
def test_a_prefix_of_no_length_or_too_long_is_refused(model, video_file, length, complaint, capsys):
    words = [
        "--model",
        model,
        "--prefix",
        video_file,
        "--actions",
        "1",
        f"--prefix-frames={length}",
    ]
    assert complaint in require_refusal(words, capsys)


def test_the_file_that_is_continued_is_never_written_over(model, recording, capsys):
    before = Path(recording).read_bytes()
    words = ["--model", model, "--prefix", recording, "--out", recording, "--overwrite"]
    assert "film.mp4 is the prefix; write to another --out" in require_refusal(words, capsys)
    assert Path(recording).read_bytes() == before


def test_nothing_after_a_prefix_names_it(capsys):
    complaint = require_refusal(["--num-frames", "8"], capsys)
    assert "num_frames is 8 in total, so nothing follows a prefix of 8 frames of" in complaint
    assert "example.mp4" in complaint


def test_a_recording_with_other_actions_is_refused(model, recording, capsys):
    np.save("film.actions.npy", np.arange(LENGTH - 1))
    complaint = require_refusal(["--model", model, "--prefix", recording], capsys)
    assert f"the actions are {ALL_SIX}; got 0 to 8" in complaint


def test_a_condition_that_is_missing_is_named_as_its_option(tmp_path, capsys):
    cond = {"num_actions": 6, "num_classes": 2, "class_names": ["day", "night"]}
    both = build_model(tmp_path / "both", cond=cond)
    words = ["--model", both, "--actions", "0*3"]
    complaint = require_refusal(words, capsys)
    assert "the prior is also conditioned on class: give --class; known: day, night" in complaint
    assert not Path("outputs").exists()
    assert main(["generate", *words, "--class", "night"]) == 0
    assert (record_episode()["class"], record_episode()["actions"]) == ("night", "action 0*3")


def test_an_unconditional_model_takes_no_actions(small_model, capsys):
    complaint = require_refusal(["--model", str(small_model), "--actions", "forward"], capsys)
    assert "is not conditioned on actions; leave out --actions" in complaint


@pytest.mark.parametrize(
    ("values", "kind"), [([[0.0, 1, 2]], "vectors of 3 numbers"), ([1, 2], "integers")]
)
def test_a_file_of_other_vectors_is_refused(vector_action_model, values, kind, capsys):
    np.save("wrong.npy", np.array(values))
    complaint = require_refusal(["--model", vector_action_model, "--actions", "wrong.npy"], capsys)
    expected = "the actions are vectors of 2 numbers, a .npy file [n, a]; the file has"
    assert f"{expected} {kind}" in complaint


def test_vectors_beside_a_recording_are_none_of_a_model_with_numbered_actions(
    model, recording, capsys
):
    np.save("film.actions.npy", np.zeros((9, 2)))
    complaint = require_refusal(["--model", model, "--prefix", recording, "--actions", "1"], capsys)
    assert f"the actions are {ALL_SIX}; the file has vectors of 2 numbers" in complaint


def test_words_are_no_vectors(vector_action_model, capsys):
    complaint = require_refusal(["--model", vector_action_model, "--actions", "forward"], capsys)
    assert "the actions are vectors of 2 numbers, a .npy file [n, a]; got 'forward'" in complaint


def test_formatted_actions_parse_to_the_same():
    numbers = torch.tensor([3, 3, 3, 0, 5, 5, 1])
    assert format_actions(numbers, MAZE) == "forward*3, none, forward right*2, turn left"
    assert parse_actions(format_actions(numbers, MAZE), MAZE).equal(numbers)
    nameless = CondSpec(num_actions=12)
    assert parse_actions("action 11*2,3", nameless).tolist() == [11, 11, 3]
