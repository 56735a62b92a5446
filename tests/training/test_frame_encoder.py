"""Models whose encoder is a backbone of timm's: trained, streamed, and never ahead of the time."""

import pytest
import timm
import torch
from safetensors.torch import save_file

import vqvideo
from vqvideo.commands.train_vqvae import train_vqvae as fit_a_model
from vqvideo.config import MODELS
from vqvideo.data.clips import ClipDataset
from vqvideo.training import OptimizerConfig, TrainingConfig, train_prior, train_vqvae
from vqvideo.training.state import ResumeError
from vqvideo.training.vqvae import VQVAETask

pytestmark = pytest.mark.slow

TWO_STEPS = TrainingConfig(
    steps=2,
    batch_size=2,
    eval_every=2,
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
    precision="fp32",
)


class StopHereError(Exception):
    pass


@pytest.fixture(scope="module")
def run(clips, small_changes, tmp_path_factory):
    """The folder of a small `video-timm`, and that model before it was trained in it."""
    out = tmp_path_factory.mktemp("runs") / "timm"
    small = {**small_changes, "encoder": {"width": 12, "num_blocks": 1}}
    torch.manual_seed(0)
    before = vqvideo.build("video-timm", **small)
    torch.manual_seed(0)
    generator = vqvideo.build("video-timm", **small)
    sets = (
        ClipDataset(clips, (16, 64, 64), clip_stride=4, split=split) for split in ("train", "test")
    )
    figures = train_vqvae(generator, *sets, out, TWO_STEPS)
    assert figures["psnr_db"] > 5
    return out, before


@pytest.fixture(scope="module")
def vqvae(run):
    return vqvideo.load(run[0]).vqvae


def test_two_steps_move_the_backbone_and_the_blocks_after_it(run, vqvae):
    moved = {
        name.split(".")[0]
        for (name, one), other in zip(
            run[1].vqvae.encoder.named_parameters(), vqvae.encoder.parameters(), strict=True
        )
        if not torch.equal(one, other)
    }
    assert moved == {"backbone", "merge", "blocks"}
    assert vqvae.encoder.blocks[0].time.weight.abs().sum() > 0, "which began as nothing"


def test_the_codes_of_the_first_frames_are_those_of_the_whole_clip(vqvae):
    clip = torch.rand(2, 3, 32, 64, 64) * 2 - 1
    codes = vqvae.encode(clip)
    assert codes.shape == (2, 8, 16, 16)
    assert len(codes.unique()) > 3
    for frames in (4, 12, 28):
        assert torch.equal(vqvae.encode(clip[:, :, :frames]), codes[:, : frames // 4])


def test_earlier_frames_decide_about_later_codes(vqvae):
    clip = torch.rand(1, 3, 12, 64, 64) * 2 - 1
    other = clip.clone()
    other[:, :, :4] = -clip[:, :, :4]
    with torch.no_grad():
        one, another = (vqvae.encoder(x)[:, :, 2] for x in (clip, other))
    assert (one - another).abs().max() > 1e-3 * one.abs().max()


@pytest.mark.parametrize("lengths", [(1,), (3, 11, 5), (24,)])
def test_a_stream_of_frames_gives_the_codes_of_the_whole_clip(vqvae, lengths):
    clip = torch.rand(1, 3, 24, 64, 64) * 2 - 1
    pieces, start = [], 0
    while start < clip.shape[2]:
        length = lengths[len(pieces) % len(lengths)]
        pieces.append(clip[:, :, start : start + length])
        start += length
    streamed = torch.cat(list(vqvae.encode_stream(pieces)), dim=1)
    assert torch.equal(streamed, vqvae.encode(clip))


def test_a_prior_over_its_codes_trains_and_continues_a_clip(run, small_changes, tmp_path):
    generator = vqvideo.build("video-timm", **run[1].config.to_dict())
    generator.vqvae.load_state_dict(vqvideo.load(run[0]).vqvae.state_dict())
    data = [{"codes": codes} for codes in torch.randint(32, (4, 2, 6, 5))]
    generator.sample_shape = (8, 24, 20)
    figures = train_prior(generator, data, data, tmp_path, TWO_STEPS)
    assert figures["nats_per_code"] > 0
    first = torch.rand(1, 3, 4, 32, 32) * 2 - 1
    longer = generator.continue_clip(first, num_frames=4, seed=0)
    assert longer.shape == (1, 3, 8, 32, 32)


def test_the_model_is_video_but_for_its_encoder():
    video, timm = (MODELS.get(name)().to_dict() for name in ("video", "video-timm"))
    assert {name for name in video if video[name] != timm[name]} == {"encoder"}


def test_an_image_model_takes_any_backbone_by_its_name():
    generator = vqvideo.build(
        "image",
        strides=((2, 2), (4, 4)),
        encoder={"name": "timm", "model": "resnet18"},
        decoder={"width": 8, "num_blocks": 1},
        quantizer={"codebook_size": 7},
    )
    assert generator.vqvae.encode(torch.zeros(1, 3, 32, 64)).shape == (1, 4, 8)


def test_a_resumed_run_needs_neither_the_file_nor_the_network_it_started_with(
    clips, tmp_path, monkeypatch
):
    file = tmp_path / "weights.safetensors"
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet").state_dict(), file)
    nets = {"width": 8, "num_blocks": 1}
    encoder = {"name": "timm", "model": "test_resnet", "weights": str(file), **nets}
    quantizer = {"codebook_size": 7, "warmup_steps": 1}
    told = {
        "model": "image",
        "data": str(clips),
        "config": TrainingConfig(steps=4, batch_size=2, eval_every=2, precision="fp32"),
        "overrides": {"encoder": encoder, "decoder": nets, "quantizer": quantizer},
        "clip_stride": 8,
    }
    fit_a_model(out=str(tmp_path / "whole"), **told)
    step, taken = VQVAETask.after_step, []

    def stopping(task):
        taken.append(task)
        if len(taken) == 4:
            raise StopHereError
        step(task)

    monkeypatch.setattr(VQVAETask, "after_step", stopping)
    with pytest.raises(StopHereError):
        fit_a_model(out=str(tmp_path / "out"), **told)
    file.unlink()
    for changed in (tmp_path / "other.safetensors", None):
        other = {**told["overrides"], "encoder": {**encoder, "weights": changed}}
        with pytest.raises(ResumeError, match=r"was started with encoder.weights .*weights.safe"):
            fit_a_model(out=str(tmp_path / "out"), **{**told, "overrides": other}, resume=True)
    fit_a_model(out=str(tmp_path / "out"), **told, resume=True)
    assert len(taken) == 4 + 2, "the first two steps are not taken again"
    whole, again = (vqvideo.load(tmp_path / name) for name in ("whole", "out"))
    assert again.config == whole.config
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
