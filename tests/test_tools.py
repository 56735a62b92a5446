"""Every tool and job end to end on small clips: what a user types and what lies there after."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.cli import COMMANDS, main

# Mean absolute difference of neighbours in 60 held-out recordings (docs/benchmarks.md): of pixels
# across rows and columns, and of frames.
MEAN_PIXEL_DIFFERENCE, MEAN_FRAME_DIFFERENCE = 0.0510, 0.1255
TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_every_tool_is_a_door_to_a_command():
    for tool in TOOLS.glob("*.py"):
        done = subprocess.run(
            [sys.executable, str(tool), "--help"], capture_output=True, text=True, check=True
        )
        assert "usage:" in done.stdout, tool
    assert {"generate", "train-vqvae", "train-prior", "record-maze"} <= set(COMMANDS)


@pytest.mark.slow
def test_the_first_command_makes_a_clip_a_sheet_and_a_record():
    done = subprocess.run(
        [sys.executable, str(TOOLS / "generate_clip.py")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["outputs/clip.mp4", "outputs/clip.png", "outputs/clip.json"]
    clip = media.read_video("outputs/clip.mp4")
    assert clip.frames.shape == (3, 64, 64, 64)
    assert clip.fps == pytest.approx(8.75, abs=0.01)
    record = json.loads(Path("outputs/clip.json").read_text())
    assert record["seed"] == 0
    assert record["method"] == "fused"
    assert record["step"].startswith("fused (numba ")
    assert record["command"] == "generate_clip.py"
    assert set(record["versions"]) == {"vqvideo", "torch", "python"}


@pytest.mark.slow
def test_the_shipped_model_samples_images_and_not_noise():
    """Neighbouring pixels and frames differ within a factor of two as in recorded walks."""
    generator = vqvideo.build("video", pretrained=True)
    x = generator.sample(num_samples=32, seed=0)
    pixels = (x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()).item() / 2
    frames = x.diff(dim=-3).abs().mean().item()
    assert MEAN_PIXEL_DIFFERENCE / 2 < pixels < MEAN_PIXEL_DIFFERENCE * 2
    assert MEAN_FRAME_DIFFERENCE / 2 < frames < MEAN_FRAME_DIFFERENCE * 2


def test_a_clip_is_cropped_to_the_frames_asked_for(small_model):
    assert main(["generate", "--model", str(small_model), "--num-frames", "6", "--fps", "5"]) == 0
    clip = media.read_video("outputs/clip.mp4")
    assert clip.frames.shape[1] == 6
    assert clip.fps == 5


def test_several_samples_are_numbered_and_share_a_sheet(small_model, capsys):
    arguments = ["generate", "--model", str(small_model), "--num-samples", "2", "--out", "x.gif"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.split() == ["x_1.gif", "x_2.gif", "x.png", "x.json"]


def test_a_seed_repeats_to_the_byte(small_model):
    for name in ("a", "b"):
        arguments = ["generate", "--model", str(small_model), "--seed", "5", "--out", f"{name}.mp4"]
        assert main(arguments) == 0
    assert Path("a.mp4").read_bytes() == Path("b.mp4").read_bytes()


def test_a_prefix_is_continued_and_stays_as_it_was(small_model, clips):
    prefix = clips / "03.mp4"
    arguments = ["generate", "--model", str(small_model), "--prefix", str(prefix)]
    assert main([*arguments, "--prefix-frames", "4", "--num-frames", "10"]) == 0
    made = media.read_video("outputs/clip.mp4").frames
    real = media.read_video(prefix, range(4)).frames
    assert made.shape[1] == 10
    assert (made[:, :4] - real).abs().mean() < 0.02  # two codings of the same frames
    source = json.loads(Path("outputs/clip.json").read_text())["prefix"]
    assert source["num_frames"] == 4
    assert source["size"] == [64, 64]


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_prefix_of_another_size_is_made_to_fit(small_model, fit):
    frames = torch.zeros(3, 8, 48, 96)
    media.write_video("wide.mp4", frames, fps=8)
    arguments = ["generate", "--model", str(small_model), "--prefix", "wide.mp4", "--fit", fit]
    assert main([*arguments, "--prefix-frames", "4", "--num-frames", "8"]) == 0
    corner = media.read_video("outputs/clip.mp4", [0]).frames[:, 0, :8].mean()
    assert (corner < -0.9) == (fit == "pad")  # padding is black


@pytest.mark.slow
def test_both_stages_train_from_the_command_line(clips, capsys):
    small = [
        "--set=encoder.widths=[8,8]",
        "--set=encoder.num_blocks=[1,1]",
        "--set=decoder.widths=[8,8]",
        "--set=decoder.num_blocks=[1,1]",
        "--set=quantizer.codebook_size=16",
    ]
    data = ["--data", str(clips), "--batch-size", "2", "--steps", "2", "--precision", "fp32"]
    assert main(["train-vqvae", "--model", "video", "--out", "run1", *data, *small]) == 0
    assert "psnr_db:" in capsys.readouterr().out
    prior = ["--set=width=8", "--set=num_layers=2"]
    assert main(["train-prior", "--vqvae", "run1", "--out", "run2", *data, *prior]) == 0
    assert "nats_per_code:" in capsys.readouterr().out
    again = ["train-prior", "--vqvae", "run1", "--out", "run3", *data, *prior]
    again[again.index("--data") + 1] = "run2"  # its code files
    assert main(again) == 0
    assert main(["generate", "--model", "run2", "--num-frames", "4"]) == 0
    assert media.probe("outputs/clip.mp4").num_frames == 4


@pytest.mark.slow
def test_images_and_audio_train_and_generate_by_the_same_commands(tmp_path):
    draw = torch.Generator().manual_seed(0)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "sounds").mkdir()
    for number in range(4):
        picture = torch.rand(3, 1, 1, generator=draw).expand(3, 64, 64) * 2 - 1
        media.write_image(tmp_path / "pictures" / f"{number}.png", picture)
        sound = torch.sin(torch.arange(16000) * (0.05 + 0.02 * number))[None] * 0.5
        media.write_audio(tmp_path / "sounds" / f"{number}.wav", sound, 16000)
    narrow = ["--set=encoder.width=8", "--set=decoder.width=8", "--set=quantizer.codebook_size=16"]
    steps = ["--batch-size", "2", "--steps", "2", "--precision", "fp32"]
    prior = ["--set=width=8", "--set=num_layers=2"]
    for model, folder, out in (("image", "pictures", "x.png"), ("audio", "sounds", "y.wav")):
        data = ["--data", folder, *steps]
        first, run = f"{model}-first", f"{model}-prior"
        assert main(["train-vqvae", "--model", model, "--out", first, *data, *narrow]) == 0
        assert main(["train-prior", "--vqvae", first, "--out", run, *data, *prior]) == 0
        assert main(["generate", "--model", run, "--out", out]) == 0
    assert media.read_image("x.png").shape == (3, 64, 64)
    assert media.read_audio("y.wav").samples.shape == (1, 16000)


def require_error(arguments, capsys):
    """Run a command that must fail with one line and leave nothing behind."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before
    return captured.err


@pytest.mark.slow
def test_bad_input_gets_one_line_and_costs_nothing(small_model, clips, capsys):
    model = ["generate", "--model", str(small_model)]
    Path("text.mp4").write_text("not a video")
    Path("empty.mp4").touch()
    for arguments, message in [
        (["--prefix", "missing.mp4"], "missing.mp4"),
        (["--prefix", "text.mp4"], "text.mp4"),
        (["--prefix", "empty.mp4"], "empty.mp4"),
        (["--prefix", str(clips / "00.mp4"), "--prefix-frames", "24"], "has 20 frames; the prefix"),
        (["--prefix", str(clips / "00.mp4"), "--prefix-frames", "6"], "pad it to 4 or 8"),
        (["--prefix", str(clips / "00.mp4"), "--num-frames", "8"], "nothing follows a prefix of 8"),
        (["--num-frames", "0"], "num_frames must be at least 1, got 0"),
        (["--num-samples", "0"], "num_samples must be at least 1, got 0"),
        (["--temperature", "-1"], "temperature must be a finite number >= 0, got -1"),
        (["--top-k", "33"], "top_k is 33, but there are 32 codes"),
        (["--device", "toaster"], "device 'toaster' is not available"),
        (["--out", "clip.xyz"], "--out must end in .mp4 or .gif, got 'clip.xyz'"),
        (["--fps", "0"], "fps must be above 0 and at most 240 for a .mp4 file, got 0"),
        (["--out", "x.gif", "--fps", "200"], "at most 50 for a .gif file, got 200"),
        (["--prefix-frames", "4"], "need a --prefix; none is given"),
    ]:
        assert message in require_error([*model, *arguments], capsys), arguments
    assert "did you mean 'video'?" in require_error(["generate", "--model", "vidoe"], capsys)
    assert "no checkpoint folder" in require_error(["generate", "--model", "runs/none"], capsys)


def test_a_size_that_does_not_fit_is_refused_before_anything_is_written(small_model, clips, capsys):
    arguments = ["reconstruct", str(clips / "00.mp4"), "--model", str(small_model)]
    assert "crop or pad it to 48 or 52" in require_error([*arguments, "--size", "50x64"], capsys)
    media.write_video("fast.mp4", torch.zeros(3, 8, 64, 64), fps=60)
    fast = ["generate", "--model", str(small_model), "--prefix", "fast.mp4", "--out", "x.gif"]
    assert "at most 50 for a .gif file, got 60" in require_error(fast, capsys)
    media.write_video("wide.mp4", torch.zeros(3, 8, 48, 96), fps=8)
    prefix = ["generate", "--model", str(small_model), "--prefix", "wide.mp4", "--fit", "refuse"]
    assert "48" in require_error(prefix, capsys)


def test_an_unknown_option_suggests_and_lists(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["generate", "--temperatur", "3"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "did you mean --temperature?" in error
    assert "--top-k" in error.split("Known options:")[1]


def test_a_folder_called_like_a_model_does_not_hide_it(small_model, capsys):
    Path("video").mkdir()
    assert main(["generate", "--out", "x.mp4", "--num-frames", "9"]) == 0
    capsys.readouterr()
    assert "video is no checkpoint: it has no" in require_error(
        ["generate", "--model", "./video"], capsys
    )


def test_existing_outputs_are_kept_by_default(small_model, capsys):
    Path("outputs").mkdir()
    Path("outputs/clip.png").write_text("mine")
    arguments = ["generate", "--model", str(small_model), "--num-frames", "4"]
    assert "outputs/clip.png exists" in require_error(arguments, capsys)
    assert Path("outputs/clip.png").read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0


def test_a_run_is_not_overwritten_by_default(clips, capsys):
    Path("run/model").mkdir(parents=True)
    arguments = ["train-vqvae", "--model", "video", "--data", str(clips), "--out", "run"]
    assert "run already has a run" in require_error([*arguments, "--steps", "1"], capsys)


@pytest.mark.slow
def test_an_exported_model_carries_its_notice_and_its_weights():
    assert main(["export", "--model", "video", "--out", "small"]) == 0
    assert "Freedoom" in Path("small/NOTICE").read_text()
    small, shipped = vqvideo.load("small"), vqvideo.build("video", pretrained=True)
    torch.testing.assert_close(small.state_dict(), shipped.state_dict(), rtol=0, atol=0)


def test_an_option_before_the_command_says_where_it_belongs(capsys):
    with pytest.raises(SystemExit):
        main(["--json", "models"])
    assert "put --json after the command" in capsys.readouterr().err


def test_a_file_in_the_way_of_the_output_is_found_before_any_work(small_model, capsys):
    Path("file").touch()
    arguments = ["generate", "--model", str(small_model), "--out", "file/x.mp4"]
    assert "file is a file, not a folder, so file/x.mp4 cannot" in require_error(arguments, capsys)
