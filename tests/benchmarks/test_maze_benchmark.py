"""`python tools/benchmark.py maze`: its figures by a dumber way, and what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from benchmarks.cli import main
from benchmarks.maze import evaluator, inverse_dynamics
from benchmarks.maze.drift import ReferenceStatistics, compute_frame_statistics
from benchmarks.maze.run import MazeBenchmarkConfig, benchmark_maze
from benchmarks.maze.table import format_maze_table

import vqvideo
from vqvideo import media
from vqvideo.cond import Cond
from vqvideo.data.actions import read_frame_actions
from vqvideo.data.metadata import Item, read_metadata, write_metadata
from vqvideo.generator import Generator
from vqvideo.metrics import estimate_mean
from vqvideo.recipes.worlds.maze_agent import ACTIONS
from vqvideo.recipes.worlds.maze_model import repeat_actions

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib")
pytest.importorskip("torchmetrics")

SIDE, LENGTH, WINDOW = 16, 24, 16
TRAIN, TEST = 10, 3


def make_episode(number):
    """A red stripe that turns move to the side, a green one that steps move down; and what was
    done: actions `[LENGTH - 1]`.
    """
    draw = torch.Generator().manual_seed(number)
    actions = torch.randint(len(ACTIONS), (LENGTH - 1,), generator=draw)
    place = torch.randint(4, (2,), generator=draw) * 4
    frames = torch.full((3, LENGTH, SIDE, SIDE), -0.6)
    for t in range(LENGTH):
        if t:
            done = ACTIONS[actions[t - 1]].split()
            place = place + 4 * torch.tensor(
                [("right" in done) - ("left" in done), "forward" in done]
            )
        left, top = (place % SIDE).tolist()
        frames[0, t, :, left : left + 4] = 0.6
        frames[1, t, top : top + 4] = 0.6
    return frames, actions


def record(folder, *, train=TRAIN, test=TEST, first=0):
    """Recordings as `record_maze` leaves them."""
    folder.mkdir()
    items = []
    for index in range(train + test):
        frames, actions = make_episode(first + index)
        path = folder / f"{index:02d}.mp4"
        media.write_video(path, frames, 8.75, crf=4)
        np.save(path.with_suffix(".actions.npy"), actions.numpy().astype(np.int8))
        split = "train" if index < train else "test"
        items.append(Item(path, split, actions=path.with_suffix(".actions.npy")))
    write_metadata(folder, items)
    return str(folder)


def build_model(folder, *, with_prior=True, **changes):
    """A small untrained model of walks, that hears what it is told."""
    torch.manual_seed(0)
    nets = {"widths": (8, 12), "num_blocks": (1, 1), "linear_init": False}
    small = {
        "encoder": nets,
        "decoder": nets,
        "quantizer": {"codebook_size": 16, "code_dim": 4, "init": "data", "warmup_steps": 1},
        "prior": {"width": 8, "num_layers": 2},
        "sample_shape": (WINDOW, SIDE, SIDE),
    }
    generator = vqvideo.build("maze", **{**small, **changes})
    for parameter in generator.prior.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    clips = torch.stack([make_episode(number)[0][:, :WINDOW] for number in range(4)])
    generator.vqvae.train()(clips)
    generator.vqvae.quantizer.update_codebook()
    prior = generator.prior if with_prior else None
    vqvideo.save(Generator(generator.vqvae, prior, generator.config), folder)
    return str(folder)


@pytest.fixture(scope="module")
def recorded_files(tmp_path_factory):
    """A model, recordings, and others."""
    folder = tmp_path_factory.mktemp("maze")
    return {
        "model": build_model(folder / "model"),
        "data": record(folder / "data"),
        "other_map": record(folder / "other", train=2, test=1, first=50),
    }


@pytest.fixture(scope="module")
def results(recorded_files, tmp_path_factory):
    """What a run left: files and figures; and what it told on the way."""
    out, told = tmp_path_factory.mktemp("out") / "deep" / "maze", []
    bench = MazeBenchmarkConfig(**recorded_files, num_frames=23, seed=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverse_dynamics, "NUM_STEPS", 250)
        done = benchmark_maze(bench, out=str(out), progress=lambda *counts: told.append(counts))
    return (*done, told)


@pytest.fixture(scope="module")
def held_out_episodes(recorded_files):
    """Frames `[1, 3, LENGTH, SIDE, SIDE]` and actions `[1, LENGTH]` of each episode measured."""
    found = []
    for index in range(TRAIN, TRAIN + TEST):
        path = f"{recorded_files['data']}/{index:02d}"
        led = read_frame_actions(f"{path}.actions.npy", 0, LENGTH)
        found.append((media.read_video(f"{path}.mp4").frames[None], led[None]))
    return found


@pytest.fixture(scope="module")
def generator(recorded_files):
    return vqvideo.load(recorded_files["model"]).eval()


def compute_psnr(x, y):
    return 10 * math.log10(4 / ((x - y) ** 2).mean().item())


def require_close(figure, values):
    """Whether a figure is the mean of some values, with its interval."""
    expected = estimate_mean(values)
    assert figure["mean"] == pytest.approx(expected.mean, abs=1e-5)
    assert figure["ci95"] == pytest.approx(expected.ci95, abs=1e-4)


def test_predictions_are_measured_k_frames_after_the_sixth(results, held_out_episodes, generator):
    figures = results[1]["measured"]["data"]
    require_close(
        figures["reconstruction"]["psnr_db"],
        [
            compute_psnr(generator.vqvae.decode(generator.vqvae.encode(x)), x)
            for x, _ in held_out_episodes
        ],
    )
    assert [each["frames_ahead"] for each in figures["prediction"]] == [1, 5, 10]
    for each in figures["prediction"]:
        k, who = each["frames_ahead"], {"imagined": [], "unconditional": [], "last_frame": []}
        for index, (x, actions) in enumerate(held_out_episodes):
            # One by one, and no further than this frame: what comes after changes nothing.
            told = actions[:, : 6 + k]
            options = {"seed": 3 + index, "method": "cached"}
            clip = generator.continue_clip(x[:, :, :6], k, actions=told, **options)
            nothing = generator.continue_clip(x[:, :, :6], k, **options)
            real = x[:, :, 5 + k]
            who["imagined"].append(compute_psnr(clip[:, :, -1], real))
            who["unconditional"].append(compute_psnr(nothing[:, :, -1], real))
            who["last_frame"].append(compute_psnr(x[:, :, 5], real))
        for name, values in who.items():
            require_close(each[name]["psnr_db"], values)
        gain = [a - b for a, b in zip(who["imagined"], who["last_frame"], strict=True)]
        require_close(each["gain_over_last_frame"]["psnr_db"], gain)


def test_nll_is_that_of_single_codes_given_true_shuffled_or_no_actions(
    results, held_out_episodes, generator
):
    found = results[1]["measured"]["data"]["nats_per_code"]
    nats = {"right": [], "shuffled": [], "none": []}
    seen = []
    for index, (x, actions) in enumerate(held_out_episodes):
        codes = generator.vqvae.encode(x)[:, :WINDOW]  # the one window that fits in
        seen += codes.flatten().tolist()
        others = held_out_episodes[(index + 1) % TEST][1]
        for name, told in (("right", actions), ("shuffled", others), ("none", None)):
            cond = None if told is None else Cond(actions=told[:, :WINDOW])
            with torch.no_grad():
                probabilities = generator.prior.logits(codes, cond).double().softmax(dim=1)
            chosen = probabilities.gather(1, codes[:, None])
            nats[name].append(-chosen.log().mean().item())
    for name, values in nats.items():
        require_close(found[name], values)
    shares = [seen.count(code) / len(seen) for code in set(seen)]
    assert found["unigram"] == pytest.approx(-sum(p * math.log(p) for p in shares), abs=1e-5)
    assert found["uniform"] == pytest.approx(math.log(16))
    assert found["right_over_unigram"] == pytest.approx(found["right"]["mean"] / found["unigram"])
    for name in ("shuffled", "none"):
        cost = [a - b for a, b in zip(nats[name], nats["right"], strict=True)]
        require_close(found[f"{name}_over_right"], cost)
        error = np.std(cost, ddof=1) / math.sqrt(TEST)
        assert found[f"{name}_over_right"]["standard_error"] == pytest.approx(error, rel=1e-2)
        wins = found[f"{name}_over_right"]["exceeds_three_standard_errors"]
        assert wins == (np.mean(cost) > 3 * error)
    assert nats["right"] != nats["shuffled"]


def test_the_inverse_model_sees_what_was_done_in_recordings_it_has_not_seen(results):
    for name, number in (("data", TEST), ("other", 3)):
        found = results[1]["measured"][name]["actions"]
        assert found["real"]["accuracy"]["mean"] > 0.9
        for source in ("real", "reconstructed", "imagined"):
            cells = np.array(found[source]["confusion"])
            assert cells.sum() == 9 * number  # pairs among ten frames
            right = np.trace(cells) / cells.sum()
            assert found[source]["accuracy"]["mean"] == pytest.approx(right)
            turned = sum(cells[i, j] for i in range(6) for j in range(6) if i % 3 == j % 3)
            assert found[source]["turn_accuracy"]["mean"] == pytest.approx(turned / cells.sum())
        ratio = found["imagined"]["accuracy"]["mean"] / found["real"]["accuracy"]["mean"]
        assert found["imagined_over_real"] == pytest.approx(ratio)


def test_the_confusion_table_has_a_row_for_each_action_that_was_done(results, held_out_episodes):
    rows = np.array(results[1]["measured"]["data"]["actions"]["imagined"]["confusion"]).sum(axis=1)
    done = torch.cat([actions[0, 7:16] for _, actions in held_out_episodes])
    assert rows.tolist() == torch.bincount(done, minlength=6).tolist()


def test_frame_statistics_are_mean_spread_sharpness_and_movement_of_each_colour():
    frames = torch.zeros(1, 3, 2, 2, 2)
    frames[0, 1, 1] = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    frames[0, 2] = 0.5
    expected = [0, 0.5, 0.5, 0, 0.5, 0, 0, 0.5, 0, 0, 0.5, 0]
    assert compute_frame_statistics(frames)[0, 0].tolist() == pytest.approx(expected)


def test_frames_are_far_from_real_ones_where_they_lie_elsewhere_or_are_all_alike():
    real = torch.randn(6, 20, 12) * torch.arange(1, 13) + 3
    reference = ReferenceStatistics.from_statistics(real)
    assert reference.frechet_distance(real) == pytest.approx(0, abs=1e-6)
    assert reference.frechet_distance(real + 2 * reference.std) == pytest.approx(2, rel=1e-4)
    alike = reference.mean.expand(6, 20, 12)
    assert reference.frechet_distance(alike) == pytest.approx(1)
    few, many = (torch.randn(n, 20, 12) * torch.arange(1, 13) + 3 for n in (6, 60))
    errors = [reference.estimate_frechet_distance(some)["standard_error"] for some in (few, many)]
    assert errors[0] > 1.5 * errors[1] > 0


def test_drift_is_measured_beyond_the_end_of_the_recording(results, held_out_episodes):
    drift = results[1]["measured"]["data"]["drift"]
    assert [(part["first"], part["last"]) for part in drift] == [(1, 10), (11, 20), (21, 23)]
    assert [part["real"] is None for part in drift] == [False, False, True]  # 18 frames follow
    rows = (
        compute_frame_statistics(torch.cat([x[:, :, 5:] for x, _ in held_out_episodes]))
        .double()
        .numpy()
    )
    mean, spread = rows.mean(axis=(0, 1)), rows.std(axis=(0, 1))
    later = rows[:, 10:]
    aside, wider = later.mean(axis=(0, 1)) - mean, later.std(axis=(0, 1)) - spread
    expected = math.sqrt(((aside**2 + wider**2) / np.maximum(spread, 1e-3) ** 2).mean())
    assert drift[1]["real"]["mean"] == pytest.approx(expected, rel=1e-4)
    low, high = drift[1]["imagined"]["ci95"]
    assert low < drift[1]["imagined"]["mean"] < high
    assert repeat_actions(held_out_episodes[0][1], 30)[0, LENGTH:].equal(
        held_out_episodes[0][1][0, :6]
    )


def test_several_episodes_at_once_have_the_metrics_of_single_ones(
    recorded_files, generator, monkeypatch
):
    items = [item for item in read_metadata(recorded_files["data"]) if item.split == "test"]
    rows, counts = [], []
    for size in (1, 2):
        monkeypatch.setattr(evaluator, "choose_batch_size", lambda *_, size=size: size)
        judge = inverse_dynamics.InverseDynamicsModel(len(ACTIONS), (SIDE, SIDE))
        done = evaluator.MazeEvaluator(
            generator=generator,
            inverse_model=judge,
            num_frames=10,
            temperature=1.0,
            guidance_scale=2.0,
            seed=0,
        )
        done.evaluate(items, LENGTH)
        rows.append(done.episode_metrics)
        counts.append(done.code_counts)
    assert counts[0].equal(counts[1])
    for one, other in zip(*rows, strict=True):
        assert one.nats_per_code == pytest.approx(other.nats_per_code, rel=1e-5)
        assert one.reconstruction == pytest.approx(other.reconstruction, rel=1e-4)
        for name, predictions in one.prediction.items():
            for this, that in zip(predictions, other.prediction[name], strict=True):
                assert this == pytest.approx(that, rel=1e-4)


def test_the_folder_holds_metrics_and_two_plots(results):
    paths, figures, told = results
    assert [path.name for path in paths] == ["maze.json", "maze.png", "drift.png"]
    stored = json.loads(paths[0].read_text())
    assert stored["codes_per_frame"] == 16
    nats = figures["measured"]["data"]["nats_per_code"]["right"]["mean"]
    assert stored["measured"]["data"]["nats_per_code"]["right"]["mean"] == nats
    for path in paths[1:]:
        assert media.read_image(path).shape[0] == 3
    assert told[TRAIN - 1] == (TRAIN, TRAIN)
    assert told[TRAIN + 249] == (250, 250)
    assert told[-1] == (TEST + 3, TEST + 3)


def test_the_table_has_means_and_half_of_their_intervals(results):
    found = json.loads(json.dumps(results[1]))
    found["measured"]["data"]["reconstruction"]["psnr_db"] = {"mean": 30.0, "ci95": [29.0, 31.0]}
    lines = format_maze_table(found).split("\n")
    assert any(line.startswith("PSNR, reconstruction") and "30.00 ± 1.00" in line for line in lines)
    assert sum(line.startswith("== ") for line in lines) == 2


def test_the_command_prints_tables_or_json(recorded_files, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inverse_dynamics, "NUM_STEPS", 1)
    given = [
        "--model",
        recorded_files["model"],
        "--data",
        recorded_files["data"],
        "--max-episodes",
        "2",
    ]
    given += ["--num-frames", "10", "--temperature", "0"]
    assert main(["maze", *given]) == 0
    printed = capsys.readouterr().out
    assert "2 episodes of 24 frames" in printed
    assert "outputs/maze/drift.png" in printed
    assert main(["maze", *given, "--overwrite", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"]["data"]["num_episodes"] == 2
    assert (found["measured"]["other"], found["temperature"]) == (None, 0)
    assert main(["maze", *given]) == 1
    assert "give another --out or --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"with_prior": False}, "has no prior, so it cannot generate"),
        ({"prior": {"width": 8, "num_layers": 2, "cond": {"num_actions": 4}}}, r"actions \(4 of"),
        ({"prior": {"width": 8, "num_layers": 2, "cond": {}}}, "conditions of .* are: none"),
        ({"strides": ((2, 2, 2), (1, 2, 2))}, "has one code frame for 2 frames; one action"),
    ],
    ids=str,
)
def test_models_not_conditioned_on_actions_of_each_frame_are_refused(
    changes, reason, recorded_files, tmp_path
):
    given = {**recorded_files, "model": build_model(tmp_path / "model", **changes)}
    with pytest.raises(ValueError, match=reason):
        benchmark_maze(MazeBenchmarkConfig(**given), out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_recordings_that_cannot_be_measured_are_refused(recorded_files, tmp_path):
    short = tmp_path / "short"
    short.mkdir()
    media.write_video(short / "a.mp4", torch.zeros(3, 15, SIDE, SIDE), 8)
    np.save(short / "a.actions.npy", np.zeros(14, dtype=np.int8))
    write_metadata(short, [Item(short / "a.mp4", "test", actions=short / "a.actions.npy")])
    strange = tmp_path / "strange"
    record(strange, train=1, test=2)
    np.save(strange / "02.actions.npy", np.full(LENGTH - 1, 6))
    silent = tmp_path / "silent"
    record(silent, train=0, test=2)
    write_metadata(silent, [Item(silent / "00.mp4"), Item(silent / "01.mp4", "test")])
    for folder, reason in (
        (short, r"a\.mp4 has 15 frames, expected at least 16"),
        (strange, r"02\.actions\.npy must hold actions from 0 to 5, got 0 to 6"),
        (silent, r"there are no actions for .*01\.mp4"),
        (
            record(tmp_path / "one", train=1, test=1),
            "has one episode to evaluate; at least two are",
        ),
        (record(tmp_path / "all", train=0, test=2), "none of them for the split 'train'"),
    ):
        with pytest.raises(ValueError, match=reason):
            bench = MazeBenchmarkConfig(model=recorded_files["model"], data=str(folder))
            benchmark_maze(bench, out=str(tmp_path / "out"))
    for changes, reason in (
        ({"max_episodes": 1}, "max_episodes must be at least 2"),
        ({"num_frames": 9}, "num_frames must be at least 10"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number, got nan"),
        ({"temperature": -1}, "temperature must be"),
    ):
        with pytest.raises(ValueError, match=reason):
            MazeBenchmarkConfig(**recorded_files, **changes)
