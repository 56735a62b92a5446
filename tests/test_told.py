"""Clips of models that are told what is done: `vqvideo generate --actions`, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.cond import CondSpec
from vqvideo.data.maze_walk import ACTIONS
from vqvideo.generator import Generator
from vqvideo.jobs.told import spelled, worded
from vqvideo.models import shipped
from vqvideo.priors.network import NetworkPrior

SIDE, LENGTH, FPS = 16, 10, 5.0
MAZE = CondSpec(num_actions=6, action_names=ACTIONS)
ALL_SIX = "0 none, 1 turn left, 2 turn right, 3 forward, 4 forward left, 5 forward right"


def built(folder, strides=((1, 2, 2), (1, 2, 2)), **cond):
    torch.manual_seed(0)
    nets = {"widths": (8, 12), "num_blocks": (1, 1), "linear": False}
    generator = vqvideo.build(
        "maze",
        encoder=nets,
        decoder=nets,
        quantizer={"codebook_size": 16, "code_dim": 4, "start": "data", "warmup_steps": 1},
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
    return built(tmp_path_factory.mktemp("models") / "walks")


@pytest.fixture(scope="module")
def of_vectors(tmp_path_factory):
    """The same, its actions vectors of two numbers."""
    cond = {"cond": {"action_dim": 2}}
    return built(tmp_path_factory.mktemp("models") / "vectors", **cond)


@pytest.fixture(scope="module")
def of_four(tmp_path_factory):
    """The same, a code for four frames."""
    return built(tmp_path_factory.mktemp("models") / "four", strides=((2, 2, 2), (2, 2, 2)))


@pytest.fixture
def told(monkeypatch):
    """What the prior is told of each clip, as it is told it."""
    seen = []
    tell = NetworkPrior.tell

    def noted(self, cond, batch, grid):
        if cond is not None:
            seen.append(cond.actions.tolist())
        return tell(self, cond, batch, grid)

    monkeypatch.setattr(NetworkPrior, "tell", noted)
    return seen


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def film():
    """Ten frames that grow brighter, larger than the model's; nobody knows what was done."""
    frames = torch.linspace(-0.9, 0.9, LENGTH)[None, :, None, None].expand(3, -1, 24, 32)
    media.write_video("film.mp4", frames, FPS)
    return "film.mp4"


@pytest.fixture
def recording(film):
    """The same with the actions that led into its frames."""
    np.save("film.actions.npy", np.array([0, 1, 2, 3, 4, 5, 0, 1, 2], dtype=np.int8))
    return film


def record():
    return json.loads(Path("outputs/clip.json").read_text())


def refused(words, capsys):
    assert main(["generate", *words]) == 1
    return capsys.readouterr().err


def test_a_recording_goes_on_as_its_actions_say(model, recording, told):
    words = ["--model", model, "--prefix", recording, "--prefix-frames", "6", "--seed", "3"]
    assert main(["generate", *words]) == 0
    assert told == [[[0, 0, 1, 2, 3, 4, 5, 0, 1, 2]]]
    clip = media.read_video("outputs/clip.mp4")
    assert clip.fps == pytest.approx(FPS)
    x = media.read_video(recording, range(6), size=(SIDE, SIDE)).frames[None]
    led = torch.tensor([[0, 0, 1, 2, 3, 4, 5, 0, 1, 2]])
    expected = vqvideo.load(model).continue_clip(x, 4, actions=led, seed=3)[0]
    assert clip.frames.shape == (3, LENGTH, SIDE, SIDE)
    assert (clip.frames - expected).abs().mean() < 0.1  # as compression leaves it
    assert record()["actions"] == "forward right, none, turn left, turn right"
    assert record()["actions_before"] == "none*2, turn left, turn right, forward, forward left"


def test_actions_given_by_name_and_number_take_the_place_of_those_recorded(model, recording, told):
    words = ["--model", model, "--prefix", recording, "--prefix-frames", "6", "--seed", "3"]
    assert main(["generate", *words, "--actions", "forward*2, 1*3"]) == 0
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == 11
    assert record()["actions"] == "forward*2, turn left*3"
    first = Path("outputs/clip.mp4").read_bytes()
    again = ["--actions", record()["actions"], "--overwrite"]
    assert main(["generate", *words, *again]) == 0
    assert Path("outputs/clip.mp4").read_bytes() == first
    assert told == [[[0, 0, 1, 2, 3, 4, 3, 3, 1, 1, 1]]] * 2


def test_guidance_lets_what_is_done_decide_more(model, recording, monkeypatch):
    seen, draw = [], Generator.continue_clip

    def noted(self, *given, **options):
        seen.append(options["guidance"])
        return draw(self, *given, **options)

    monkeypatch.setattr(Generator, "continue_clip", noted)
    words = [recording, "--model", model, "--guidance", "2", "--overwrite"]
    assert main(["generate", "--prefix", *words]) == 0
    assert (record()["guidance"], record()["method"]) == (2, "cached")
    assert main(["walk", *words, "--out", "film.gif"]) == 0
    assert seen == [2, 2]


def test_where_nobody_knows_what_led_into_the_prefix_it_was_action_0(model, film, told):
    words = ["--model", model, "--prefix", film, "--prefix-frames", "6", "--actions", "forward*4"]
    assert main(["generate", *words]) == 0
    assert told == [[[0] * 6 + [3] * 4]]
    assert record()["actions_before"] is None
    assert record()["prefix"]["fit"] == "crop"
    assert record()["prefix"]["size"] == [24, 32]


def test_a_clip_may_end_within_a_code_and_the_last_action_goes_on_unseen(of_four, film, told):
    words = ["--model", of_four, "--actions", "forward*4, turn left*2"]
    assert main(["generate", *words, "--num-frames", "6"]) == 0
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == 6
    prefix = ["--prefix", film, "--prefix-frames", "4", "--overwrite"]
    assert main(["generate", *words, *prefix]) == 0
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == 10
    seen = [3, 3, 3, 3, 1, 1, 1, 1]
    assert told == [[seen], [[0] * 4 + seen]]
    assert record()["actions"] == "forward*4, turn left*2"


def test_a_recording_of_any_length_goes_on_to_its_end(of_four, recording, told):
    assert (
        main(["generate", "--model", of_four, "--prefix", recording, "--prefix-frames", "4"]) == 0
    )
    assert told == [[[0, 0, 1, 2, 3, 4, 5, 0, 1, 2, 2, 2]]]
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == LENGTH


def test_few_recorded_actions_are_enough_for_a_short_prefix(model, film, told):
    np.save("film.actions.npy", np.array([4, 5, 1]))
    words = ["--model", model, "--prefix", film, "--prefix-frames", "3", "--actions", "3*2"]
    assert main(["generate", *words]) == 0
    assert told == [[[0, 4, 5, 3, 3]]]


def test_several_clips_without_a_prefix_are_told_the_same(model, told):
    words = ["--model", model, "--actions", "forward*5", "--num-samples", "2", "--out", "x.gif"]
    assert main(["generate", *words]) == 0
    shapes = [media.read_video(name).frames.shape for name in ("x_1.gif", "x_2.gif")]
    assert shapes == [(3, 5, SIDE, SIDE)] * 2
    assert told == [[[3] * 5] * 2]


def test_vectors_come_from_a_file(of_vectors, told):
    pushes = np.linspace(-1, 1, 8).reshape(4, 2)
    np.save("pushes.npy", pushes)
    assert main(["generate", "--model", of_vectors, "--actions", "pushes.npy"]) == 0
    assert media.read_video("outputs/clip.mp4").frames.shape[1] == 4
    assert np.allclose(told[0][0], pushes)
    assert np.allclose(record()["actions"], pushes)


def test_the_shipped_model_goes_on_from_the_walk_beside_its_weights():
    assert main(["generate", "--num-frames", "10"]) == 0
    assert record()["model"] == "maze"
    assert record()["prefix"]["file"] == str(shipped("maze") / "example.mp4")
    recorded = np.load(shipped("maze") / "example.actions.npy")[7:9].tolist()
    assert record()["actions"] == worded(torch.tensor(recorded), MAZE)


def test_a_model_that_is_told_actions_and_is_given_none_says_how_many_and_which(
    model, film, capsys
):
    complaint = refused(["--model", model, "--num-frames", "7"], capsys)
    assert (
        f"--actions, one for each frame that is imagined, 7 of them; the actions are {ALL_SIX}"
        in (complaint)
    )
    words = ["--model", model, "--prefix", film, "--num-frames", "10"]
    assert "imagined, 2 of them; the actions are" in refused(words, capsys)
    assert "imagined; the actions are" in refused(["--model", model], capsys)


@pytest.mark.parametrize("word", ["6", "-1", "jump", "forward*x", ""])
def test_an_action_out_of_range_is_refused_with_those_there_are(model, word, capsys):
    complaint = refused(["--model", model, f"--actions=none,{word}"], capsys)
    assert f"the actions are {ALL_SIX}; got {word!r}" in complaint
    assert not Path("outputs").exists()


def test_too_few_or_too_many_actions_are_counted(model, recording, capsys):
    words = ["--model", model, "--prefix", recording, "--prefix-frames", "6", "--num-frames"]
    few = refused([*words, "12"], capsys)
    assert "6 actions are needed, one for each frame that is imagined; the recording has 4" in few
    many = refused([*words, "8", "--actions", "forward*3"], capsys)
    assert "2 actions are needed, one for each frame that is imagined; got 3" in many
    np.save("film.actions.npy", np.array([4, 5, 1]))
    short = refused([*words, "8", "--actions", "forward*2"], capsys)
    assert "the actions beside the prefix lead to 4 of 6 frames" in short


@pytest.mark.parametrize("times", ["0", "1000001", "99999999999999999999"])
def test_no_action_and_more_than_a_million_are_refused_before_they_are_listed(model, times, capsys):
    complaint = refused(["--model", model, "--actions", f"forward*{times}"], capsys)
    assert f"expected 1 to 1,000,000 actions, got {int(times):,}" in complaint


@pytest.mark.parametrize(
    ("length", "complaint"),
    [
        ("-1", "a prefix must be at least 1 long, got -1"),
        ("0", "a prefix must be at least 1 long, got 0"),
        ("3000000000", "film.mp4 has 10 frames; 3000000000 were asked for as the prefix"),
    ],
)
def test_a_prefix_of_no_length_or_too_long_is_refused(model, film, length, complaint, capsys):
    words = ["--model", model, "--prefix", film, "--actions", "1", f"--prefix-frames={length}"]
    assert complaint in refused(words, capsys)


def test_the_file_that_is_continued_is_never_written_over(model, recording, capsys):
    before = Path(recording).read_bytes()
    words = ["--model", model, "--prefix", recording, "--out", recording, "--overwrite"]
    assert "film.mp4 is what is continued; write to another --out" in refused(words, capsys)
    assert Path(recording).read_bytes() == before


def test_nothing_after_a_prefix_names_it(capsys):
    complaint = refused(["--num-frames", "8"], capsys)
    assert "num_frames is 8 in all, so nothing follows a prefix of 8, which is that of" in complaint
    assert "example.mp4" in complaint


def test_a_recording_with_other_actions_is_refused(model, recording, capsys):
    np.save("film.actions.npy", np.arange(LENGTH - 1))
    complaint = refused(["--model", model, "--prefix", recording], capsys)
    assert f"the actions are {ALL_SIX}; got 0 to 8" in complaint


def test_a_model_that_is_told_nothing_takes_no_actions(small_model, capsys):
    complaint = refused(["--model", str(small_model), "--actions", "forward"], capsys)
    assert "is told no actions; leave out --actions" in complaint


@pytest.mark.parametrize(
    ("values", "kind"), [([[0.0, 1, 2]], "vectors of 3 numbers"), ([1, 2], "integers")]
)
def test_a_file_of_other_vectors_is_refused(of_vectors, values, kind, capsys):
    np.save("wrong.npy", np.array(values))
    complaint = refused(["--model", of_vectors, "--actions", "wrong.npy"], capsys)
    expected = "the actions are vectors of 2 numbers, a .npy file [n, a]; the file has"
    assert f"{expected} {kind}" in complaint


def test_vectors_beside_a_recording_are_none_of_a_model_with_numbered_actions(
    model, recording, capsys
):
    np.save("film.actions.npy", np.zeros((9, 2)))
    complaint = refused(["--model", model, "--prefix", recording, "--actions", "1"], capsys)
    assert f"the actions are {ALL_SIX}; the file has vectors of 2 numbers" in complaint


def test_words_are_no_vectors(of_vectors, capsys):
    complaint = refused(["--model", of_vectors, "--actions", "forward"], capsys)
    assert "the actions are vectors of 2 numbers, a .npy file [n, a]; got 'forward'" in complaint


def test_what_is_worded_is_spelled_the_same():
    numbers = torch.tensor([3, 3, 3, 0, 5, 5, 1])
    assert worded(numbers, MAZE) == "forward*3, none, forward right*2, turn left"
    assert spelled(worded(numbers, MAZE), MAZE).equal(numbers)
    nameless = CondSpec(num_actions=12)
    assert spelled("action 11*2,3", nameless).tolist() == [11, 11, 3]
