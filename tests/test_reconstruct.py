"""`vqvideo reconstruct`: what it writes, recomputed from what it read."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.cli import main
from vqvideo.commands.reconstruct import reconstruct, write_x264_baseline


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    """A video of 23 frames, no multiple of the stride, wider than high."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 2, 3, 3, generator=draw) * 1.4 - 0.7
    frames = torch.nn.functional.interpolate(coarse, size=(23, 72, 96), mode="trilinear")[0]
    file = tmp_path_factory.mktemp("walk") / "walk.mkv"
    media.write_lossless(file, frames, 10)
    return file


@pytest.fixture
def reconstruct_result(episode, small_model, tmp_path):
    pytest.importorskip("torchmetrics")
    out = tmp_path / "deep" / "a.mp4"
    files, figures = reconstruct(str(episode), model=str(small_model), out=str(out), size=(48, 64))
    return files, figures, media.read_video(episode, size=(48, 64)).frames


def reconstruct_by_hand(small_model, x):
    vqvae = vqvideo.load(small_model).vqvae
    filled = torch.cat([x, x[:, -1:]], dim=1)
    codes = vqvae.encode(filled[None])
    return codes, vqvae.decode(codes)[0, :, :23]


def ssim_by_loops(x, y):
    """Wang et al. 2004, window by window of 11x11, the frame mirrored at its borders."""
    x, y = (torch.nn.functional.pad(z, (5, 5, 5, 5), mode="reflect") for z in (x, y))
    place = torch.arange(11.0) - 5
    line = torch.exp(-(place**2) / (2 * 1.5**2))
    weights = torch.outer(line, line)
    weights = (weights / weights.sum()).double()
    values = []
    for channel in range(3):
        a, b = x[channel].double(), y[channel].double()
        for top in range(a.shape[0] - 10):
            for left in range(a.shape[1] - 10):
                p, q = (z[top : top + 11, left : left + 11] for z in (a, b))
                mp, mq = (weights * p).sum(), (weights * q).sum()
                vp, vq = (weights * p * p).sum() - mp**2, (weights * q * q).sum() - mq**2
                c = (weights * p * q).sum() - mp * mq
                one, two = (0.01 * 2) ** 2, (0.03 * 2) ** 2
                values.append(
                    (2 * mp * mq + one) * (2 * c + two) / ((mp**2 + mq**2 + one) * (vp + vq + two))
                )
    return torch.stack(values).mean().item()


@pytest.mark.slow
def test_metrics_are_those_of_each_frame_and_its_original(reconstruct_result, small_model):
    files, figures, x = reconstruct_result
    codes, again = reconstruct_by_hand(small_model, x)
    table = json.loads(files[3].read_text())["frames"]
    assert len(table) == figures["num_frames"] == 23
    for t, row in enumerate(table):
        error = (again[:, t] - x[:, t]).square().mean().item()
        assert row["psnr_db"] == pytest.approx(10 * math.log10(4 / error), abs=2e-3)
    assert table[7]["ssim"] == pytest.approx(ssim_by_loops(x[:, 7], again[:, 7]), abs=2e-3)
    mean = sum(row["psnr_db"] for row in table) / 23
    assert figures["psnr_db"] == pytest.approx(mean, abs=0.01)
    assert figures["codes"] == [6, 12, 16]
    assert figures["codes_used"] == codes.unique().numel()
    assert figures["bits_per_second"] == pytest.approx(6 * 12 * 16 * 5 / 2.3, abs=0.1)


def test_the_video_shows_original_reconstruction_and_error_side_by_side(
    reconstruct_result, small_model
):
    files, _, x = reconstruct_result
    _, again = reconstruct_by_hand(small_model, x)
    frames = media.read_video(files[0]).frames
    assert frames.shape == (3, 23, 48, 192)
    for part, expected in zip(frames.split(64, dim=3), (x, again, again - x), strict=True):
        assert (part - expected.clamp(-1, 1)).abs().mean() < 0.05
    assert media.read_image(files[2]).shape[1] > 4 * 48


def test_the_baseline_takes_no_more_bits_than_the_codes_and_one_step_finer_would(
    reconstruct_result, tmp_path
):
    files, figures, x = reconstruct_result
    took = media.probe(files[1]).video_bytes
    assert took * 8 / 2.3 == pytest.approx(figures["x264_bits_per_second"], abs=0.1)
    assert figures["x264_bits_per_second"] <= figures["bits_per_second"]
    finer = tmp_path / "finer.mp4"
    crf = figures["x264_crf"] - 1
    media.write_video(finer, x, 10, crf=crf, keyframe_interval=250)
    assert media.probe(finer).video_bytes * 8 / 2.3 > figures["bits_per_second"]
    shown = media.read_video(files[1]).frames
    error = (shown - x).square().mean(dim=(0, 2, 3))
    mean = (10 * torch.log10(4 / error)).mean().item()
    assert figures["x264_psnr_db"] == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize(("num_bytes", "crf"), [(10, 51), (10**9, 0)])
def test_a_baseline_ends_where_x264_does(episode, tmp_path, num_bytes, crf):
    def frames():
        return media.read_video_chunks(episode, frames_per_chunk=8)

    target = tmp_path / "a.mp4"
    assert write_x264_baseline(target, frames, 10, num_bytes=num_bytes) == crf
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_progress_counts_the_frames_of_both(episode, small_model, tmp_path):
    pytest.importorskip("torchmetrics")
    steps = []
    out = str(tmp_path / "a.mp4")
    reconstruct(
        str(episode), model=str(small_model), out=out, progress=lambda *step: steps.append(step)
    )
    assert steps == [(n, 46) for n in range(1, 47)]


def test_what_cannot_be_done_is_said_before_any_work(episode, small_model, tmp_path, monkeypatch):
    pytest.importorskip("torchmetrics")
    model, file = str(small_model), str(episode)
    with pytest.raises(ValueError, match=r"--out must end in .mp4, got 'a.gif'"):
        reconstruct(file, model=model, out="a.gif")
    with pytest.raises(ValueError, match="width 30 is not divisible by the downsampling 4"):
        reconstruct(file, model=model, out=str(tmp_path / "a.mp4"), size=(32, 30))
    slow = {"name": "autoregressive", "num_features": 4, "prior": {"width": 8, "num_layers": 2}}
    narrow = {"widths": (4, 4), "num_blocks": (1, 1)}
    generator = vqvideo.build("video", likelihood=slow, encoder=narrow, decoder=narrow)
    vqvideo.save(generator, tmp_path / "slow")
    with pytest.raises(ValueError, match=r"^reconstruct .* is autoregressive, one pass per value"):
        reconstruct(file, model=str(tmp_path / "slow"), out=str(tmp_path / "a.mp4"))
    shutil.rmtree(tmp_path / "slow")
    for name in ("a.mp4", "a_x264.mp4", "a.png", "a.json"):
        (tmp_path / name).touch()
        with pytest.raises(FileExistsError, match=f"{name} exists"):
            reconstruct(file, model=model, out=str(tmp_path / "a.mp4"))
        (tmp_path / name).unlink()
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with pytest.raises(ImportError, match=r"pip install 'vqvideo.report.'"):
        reconstruct(file, model=model, out=str(tmp_path / "a.mp4"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_names_its_files_and_gives_metrics_as_json(
    clips, small_model, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("torchmetrics")
    monkeypatch.chdir(tmp_path)
    arguments = ["reconstruct", str(clips / "00.mp4"), "--model", str(small_model)]
    assert main(arguments) == 0
    names = capsys.readouterr().out.split()
    assert names == [
        f"outputs/reconstruction{end}" for end in (".mp4", "_x264.mp4", ".png", ".json")
    ]
    assert all(Path(name).is_file() for name in names)
    assert main([*arguments, "--overwrite", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["num_frames"] == 20
    assert said["files"] == names
