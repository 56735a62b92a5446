"""Both stages at once: the bound is minimised, and the price of codes reaches the encoder."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import vqvideo
from vqvideo.cli import main
from vqvideo.data.clips import ClipDataset
from vqvideo.training import OptimizerConfig, TrainingConfig, train_joint
from vqvideo.training.joint import JointModel, JointTask

pytestmark = pytest.mark.slow

CONFIG = {
    "steps": 4,
    "batch_size": 4,
    "eval_every": 2,
    "optimizer": OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
    "precision": "fp32",
}


@pytest.fixture
def changes(small_changes):
    nets = {**small_changes["encoder"], "linear_init": False}
    prior = {"width": 8, "num_layers": 2, "dropout": 0.0}
    return {**small_changes, "encoder": nets, "decoder": nets, "prior": prior}


def load_datasets(clips):
    return [
        ClipDataset(clips, (16, 64, 64), clip_stride=4, split=split) for split in ("train", "test")
    ]


def build_task(changes, clips, rate_weight=1.0):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **changes).train()
    generator.vqvae.quantizer.auto_update = False
    task = JointTask(generator, *load_datasets(clips), rate_weight)
    batch = {"x": torch.stack([task.data[i]["x"] for i in (0, 5, 9)])}
    for _ in range(2):  # the codebook starts from the first step
        task.before_step([batch])
        task.compute_loss(task.model, batch)
        task.after_step()
    return task, batch


def compute_gradients(loss, parameters):
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [each for each in found if each is not None]


def train(changes, clips, out, *, resume=False, **options):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **changes)
    config = TrainingConfig(**{**CONFIG, **options})
    return train_joint(generator, *load_datasets(clips), out, config, resume=resume)


def test_the_loss_is_the_bound_per_dimension_and_the_terms_of_the_first_stage(changes, clips):
    task, batch = build_task(changes, clips, rate_weight=0.5)
    x, vqvae, prior = batch["x"], task.generator.vqvae, task.generator.prior
    loss, figures = task.compute_loss(task.model, batch)
    z_e = vqvae.encoder(x)
    quantized = vqvae.quantizer(z_e)
    logits = prior.logits(quantized.codes)
    nats = F.cross_entropy(logits, quantized.codes, reduction="sum") / len(x)
    entries, asked = vqvae.quantizer.codebook, -logits.log_softmax(dim=1)
    price = 0.0
    for item in range(len(x)):
        for t in range(4):
            for row in (0, 7, 15):
                for column in range(16):
                    distances = (entries - z_e[item, :, t, row, column]).square().sum(dim=1)
                    unit = distances.min().clamp(min=1e-6)
                    shares = torch.softmax(-distances / unit, dim=0)
                    price += (shares * asked[item, :, t, row, column]).sum()
    found = task.model(x).rate
    rows = task.model._soft_assign(z_e) * asked
    assert rows.sum(dim=1)[:, :, [0, 7, 15]].sum().item() == pytest.approx(price.item(), rel=1e-4)
    assert found.item() == pytest.approx(rows.sum(dim=1).mean().item(), rel=1e-5)
    first = vqvae.loss(x, observe=False).total
    codes_per_item = 4 * 16 * 16
    expected = first + (nats + 0.5 * codes_per_item * found) / x[0].numel()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert figures["nats_per_code"] == pytest.approx(nats.item() / codes_per_item, rel=1e-5)


def test_with_no_weight_the_first_stage_learns_as_if_it_were_alone(changes, clips):
    task, batch = build_task(changes, clips, rate_weight=0.0)
    vqvae = task.generator.vqvae
    joint = compute_gradients(task.compute_loss(task.model, batch)[0], vqvae.parameters())
    alone = compute_gradients(vqvae.loss(batch["x"], observe=False).total, vqvae.parameters())
    for one, other in zip(joint, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_the_weight_decides_what_the_encoder_learns_and_nothing_of_what_the_prior_does(
    changes, clips
):
    found = {}
    for weight in (0.0, 2.0):
        task, batch = build_task(changes, clips, rate_weight=weight)
        loss, _ = task.compute_loss(task.model, batch)
        parts = [*task.generator.vqvae.encoder.parameters(), *task.prior.parameters()]
        number = len(list(task.generator.vqvae.encoder.parameters()))
        both = compute_gradients(loss, parts)
        found[weight] = both[:number], both[number:]
    (first, prior), (pulled, same) = found.values()
    assert any(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(first, pulled, strict=True))
    assert all(map(torch.equal, prior, same))


class AlwaysOne(torch.nn.Module):
    """A prior that expects entry 1 everywhere."""

    def logits(self, codes, cond=None):
        logits = torch.zeros(len(codes), 2, *codes.shape[1:])
        logits[:, 1] = 3.0
        return logits


def test_the_price_moves_z_e_towards_the_entry_that_the_prior_expects(changes):
    generator = vqvideo.build("video", **{**changes, "quantizer": {"codebook_size": 2}}).eval()
    quantizer = generator.vqvae.quantizer
    with torch.no_grad():
        quantizer.codebook.zero_()
        quantizer.codebook[:, 0] = torch.tensor([-1.0, 1.0])
        quantizer.initialized.fill_(True)
    z_e = torch.zeros(1, quantizer.z_channels, 4, 16, 16)
    z_e[:, 0] = -0.3
    z_e.requires_grad_()
    generator.vqvae.compute_z_e = lambda x: z_e
    output = JointModel(generator.vqvae, AlwaysOne())(torch.zeros(1, 3, 16, 64, 64))
    assert output.vqvae.quantized.codes.unique().tolist() == [0]
    (gradient,) = torch.autograd.grad(output.rate, z_e)
    assert (gradient[:, 0] < 0).all(), "a step against it brings z_e nearer to 1"
    assert (gradient[:, 1:] == 0).all()


def test_until_the_codebook_is_initialized_no_rate_loss_reaches_the_encoder(changes, clips):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **changes).train()
    task = JointTask(generator, *load_datasets(clips), 1.0)
    output = task.model(task.vqvae_task.val_x)
    assert output.rate == 0 and output.nll > 0


def test_batches_of_a_step_are_one_large_batch(changes, clips, tmp_path):
    train(changes, clips, tmp_path / "whole")
    train(changes, clips, tmp_path / "cut", batch_size=2, gradient_accumulation_steps=2)
    one, other = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut")
    )
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_an_interrupted_run_ends_with_the_same_weights_and_metrics(
    changes, clips, tmp_path, monkeypatch
):
    whole = train(changes, clips, tmp_path / "whole")
    after_step, steps = JointTask.after_step, []

    def breaking(self):
        after_step(self)
        steps.append(1)
        if len(steps) == 3:
            raise RuntimeError("killed")

    monkeypatch.setattr(JointTask, "after_step", breaking)
    with pytest.raises(RuntimeError, match="killed"):
        train(changes, clips, tmp_path / "out")
    assert train(changes, clips, tmp_path / "out", resume=True) == whole
    one, other = (tmp_path / name / "model" / "model.safetensors" for name in ("whole", "out"))
    assert one.read_bytes() == other.read_bytes()


def test_its_metrics_are_those_of_both_stages_on_held_out_clips(changes, clips, tmp_path):
    figures = train(changes, clips, tmp_path)
    generator = vqvideo.load(tmp_path / "model")
    held_out = load_datasets(clips)[1]
    x = torch.stack([held_out[i]["x"] for i in range(len(held_out))])
    codes = generator.vqvae.encode(x)
    again = generator.vqvae.decode(codes)
    psnr = 10 * torch.log10(4 / (again - x).square().mean())
    nats = -generator.prior.log_prob(codes).sum() / codes.numel()
    share = torch.bincount(codes.flatten()) / codes.numel()
    assert figures["psnr_db"] == pytest.approx(psnr.item(), abs=1e-3)
    assert figures["nats_per_code"] == pytest.approx(nats.item(), rel=1e-4)
    entropy = -(share[share > 0] * share[share > 0].log()).sum()
    assert figures["unigram_nats"] == pytest.approx(entropy.item(), rel=1e-4)
    for picture in ("reconstructions.png", "reconstructions.mp4", "samples.png", "samples.mp4"):
        assert (tmp_path / picture).stat().st_size > 500


def test_the_command_trains_a_model_that_samples(clips, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["train-joint", "--model", "video", "--data", str(clips), "--steps", "2"]
    small = ["encoder.widths=[4,4]", "decoder.widths=[4,4]", "encoder.num_blocks=[1,1]"]
    small += ["decoder.num_blocks=[1,1]", "quantizer.codebook_size=16", "prior.width=8"]
    small += ["prior.num_layers=2", "quantizer.warmup_steps=1"]
    arguments += [f"--set={each}" for each in small] + ["--batch-size", "2", "--out", str(out)]
    assert main([*arguments, "--rate-weight", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nats_per_code"] > 0
    assert vqvideo.load(out / "model").sample().shape == (1, 3, 16, 64, 64)
    assert json.loads((out / "training.json").read_text())["metadata"]["rate_weight"] == 0.5
    assert (out / "report.html").is_file() and (out / "codebook.png").is_file()


@pytest.mark.parametrize(
    ("quantizer", "rate_weight", "message"),
    [
        (
            {"name": "finite-scalar"},
            1.0,
            "assigns z_e to the nearest entry of one codebook; use vector",
        ),
        ({"cosine": True}, 1.0, "assigns z_e to the nearest entry of one codebook"),
        ({"name": "product", "num_codebooks": 2}, 1.0, "nearest entry of one codebook"),
        ({}, -1.0, "rate_weight must be at least 0, got -1.0"),
        ({}, float("nan"), "rate_weight must be at least 0, got nan"),
    ],
)
def test_what_cannot_be_trained_jointly_is_refused(quantizer, rate_weight, message, changes, clips):
    if "name" not in quantizer:
        quantizer = {**changes["quantizer"], **quantizer}
    generator = vqvideo.build("video", **{**changes, "quantizer": quantizer})
    with pytest.raises(ValueError, match=message):
        JointTask(generator, *load_datasets(clips), rate_weight)


def test_a_model_without_a_prior_cannot_be_trained_jointly(changes, clips):
    generator = vqvideo.build("video", **changes)
    generator.prior = None
    with pytest.raises(ValueError, match="has no prior to train; build one with prior=NAME"):
        JointTask(generator, *load_datasets(clips), 1.0)
