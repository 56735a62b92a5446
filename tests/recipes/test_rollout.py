"""`vqvideo rollout`: a recorded episode next to a model's rollout of the same actions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.priors.network import NetworkPrior
from vqvideo.recipes.worlds.rollout import BORDER, DARK, KEY_SIZE, RED, draw_frames, render_rollout

SIDE, LENGTH = 16, 10


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small untrained model of walks."""
    torch.manual_seed(0)
    nets = {"widths": (8, 12), "num_blocks": (1, 1), "linear_init": False}
    generator = vqvideo.build(
        "maze",
        encoder=nets,
        decoder=nets,
        quantizer={"codebook_size": 16, "code_dim": 4, "init": "data", "warmup_steps": 1},
        prior={"width": 8, "num_layers": 2},
        sample_shape=(8, SIDE, SIDE),
    )
    generator.vqvae.train().loss(torch.rand(2, 3, 8, SIDE, SIDE) * 2 - 1)
    folder = tmp_path_factory.mktemp("models") / "small"
    vqvideo.save(generator, folder)
    return str(folder)


@pytest.fixture
def recording(tmp_path):
    """A recording that grows brighter, and its actions."""
    frames = torch.linspace(-0.9, 0.9, LENGTH)[None, :, None, None].expand(3, -1, SIDE, SIDE)
    path = tmp_path / "episode.mp4"
    media.write_video(path, frames, 8.75)
    np.save(path.with_suffix(".actions.npy"), np.arange(LENGTH - 1, dtype=np.int8) % 6)
    return path


def test_real_frames_stand_left_imagined_ones_right_and_the_given_ones_on_both_sides(
    model, recording, tmp_path, monkeypatch
):
    told, embed_cond = [], NetworkPrior.embed_cond

    def noted(self, cond, batch, grid):
        told.append(cond.actions.tolist())
        return embed_cond(self, cond, batch, grid)

    monkeypatch.setattr(NetworkPrior, "embed_cond", noted)
    out = tmp_path / "deep" / "film.mp4"
    given = ["--model", model, "--out", str(out), "--scale", "2", "--seed", "5"]
    assert main(["rollout", str(recording), *given]) == 0
    assert told == [[[0, 0, 1, 2, 3, 4, 5, 0, 1, 2]]]
    film = media.read_video(out)
    assert film.fps == pytest.approx(8.75, abs=0.01)
    assert film.frames.shape[1] == LENGTH
    top, right = slice(2 * BORDER, 2 * (BORDER + SIDE)), 2 * (SIDE + 2 * BORDER)
    left_side = film.frames[:, :, top, 2 * BORDER : 2 * (BORDER + SIDE)]
    right_side = film.frames[:, :, top, right : right + 2 * SIDE]
    x = media.read_video(recording).frames[None]
    actions = torch.tensor([[0, 0, 1, 2, 3, 4, 5, 0, 1, 2]])
    generator = vqvideo.load(model)
    clip = generator.continue_clip(x[:, :, :6], 4, actions=actions, seed=5)
    for side, expected in ((left_side, x), (right_side, clip)):
        small = torch.nn.functional.avg_pool2d(side.transpose(0, 1), 2).transpose(0, 1)
        assert (small - expected[0]).abs().mean() < 0.06  # as compression leaves it
    assert (clip - x)[:, :, 6:].abs().mean() > 0.2


def test_the_keys_that_are_pressed_are_red_and_a_red_frame_is_around_what_is_imagined():
    actions = ["none"] * 6 + ["turn left", "forward right"]
    clip = torch.zeros(3, 8, SIDE, SIDE)
    film = draw_frames(clip, clip, actions)
    start = (film.shape[3] - 3 * KEY_SIZE - 2 * BORDER) // 2
    red = torch.tensor(RED)

    def pressed(t):
        corners = [film[:, t, SIDE + 3 * BORDER, start + k * (KEY_SIZE + BORDER)] for k in range(3)]
        return [corner.equal(red) for corner in corners]

    assert [pressed(t) for t in (0, 6, 7)] == [
        [False] * 3,
        [True, False, False],
        [False, True, True],
    ]
    corner = film[:, :, 0, -1]
    assert corner[:, 5].eq(DARK).all()
    assert corner[:, 6].equal(red)


def test_a_gif_has_as_many_frames_as_were_asked_for(model, recording, tmp_path, capsys):
    out = tmp_path / "film.gif"
    given = ["--model", model, "--out", str(out), "--num-frames", "8", "--temperature", "0"]
    assert main(["rollout", str(recording), *given]) == 0
    assert capsys.readouterr().out.split() == [str(out)]
    assert media.probe(out).num_frames == 8
    assert main(["rollout", str(recording), *given]) == 1
    assert "give another --out or --overwrite" in capsys.readouterr().err


def test_an_impossible_rollout_is_refused_in_a_sentence(model, recording, tmp_path, capsys):
    bare = tmp_path / "bare.mp4"
    bare.write_bytes(recording.read_bytes())
    strange = tmp_path / "strange.mp4"
    strange.write_bytes(recording.read_bytes())
    np.save(strange.with_suffix(".actions.npy"), np.full(LENGTH - 1, 7))
    short = tmp_path / "short.mp4"
    media.write_video(short, torch.zeros(3, 6, SIDE, SIDE), 8)
    np.save(short.with_suffix(".actions.npy"), np.zeros(5, dtype=np.int64))
    out = ["--out", str(tmp_path / "film.gif")]
    for arguments, reason in (
        ([str(tmp_path / "none.mp4"), *out], "does not exist"),
        ([str(bare), *out], "bare.actions.npy in the same folder"),
        ([str(strange), *out], "must hold actions from 0 to 5, got 0 to 7"),
        ([str(short), *out], "has 6 frames, so nothing follows the first 6"),
        ([str(recording), *out, "--num-frames", "6"], "num_frames must be above 6"),
        ([str(recording), *out, "--num-frames", "11"], "has 10 frames, but 11 were requested"),
        ([str(recording), *out, "--scale", "0"], "scale must be at least 1, got 0"),
        ([str(recording), *out, "--temperature", "-1"], "temperature must be"),
        ([str(recording), "--out", "film.png"], "--out must end in .mp4 or .gif"),
    ):
        assert main(["rollout", *arguments, "--model", model]) == 1
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1
    assert not (tmp_path / "film.gif").exists()


def test_the_recording_is_never_written_over(model, recording, capsys):
    before = recording.read_bytes()
    words = ["rollout", str(recording), "--model", model, "--out", str(recording), "--overwrite"]
    assert main(words) == 1
    assert "is the recording; write to another --out" in capsys.readouterr().err
    assert recording.read_bytes() == before


@pytest.mark.slow
def test_without_a_file_it_rolls_out_the_episode_that_ships_and_says_so_where_none_does(
    model, tmp_path, capsys
):
    out = tmp_path / "film.gif"
    assert main(["rollout", "--num-frames", "8", "--out", str(out)]) == 0
    assert media.probe(out).num_frames == 8
    assert main(["rollout", "--model", model, "--out", str(tmp_path / "other.gif")]) == 1
    assert f"no recording ships with the weights of {model}; give one" in capsys.readouterr().err


def test_six_actions_of_another_world_are_not_those_of_the_maze(recording, tmp_path):
    names = ("jump", "shoot", "duck", "left", "right", "none")
    cond = {"num_actions": 6, "action_names": names}
    nets = {"widths": (8, 12), "num_blocks": (1, 1)}
    prior = {"width": 8, "num_layers": 2, "cond": cond}
    other = vqvideo.build("maze", encoder=nets, decoder=nets, prior=prior)
    vqvideo.save(other, tmp_path / "other")
    with pytest.raises(ValueError, match=r"actions of vqvideo record-maze, .* are jump"):
        render_rollout(str(recording), model=str(tmp_path / "other"), out=str(tmp_path / "f.gif"))
