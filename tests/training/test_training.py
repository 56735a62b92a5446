"""The two stages learn, leave what they promise, and touch nothing else."""

import json
import math
import re

import pytest
import torch

import vqvideo
from vqvideo.data.clips import ClipDataset
from vqvideo.training import OptimizerConfig, TrainingConfig, train_prior, train_vqvae
from vqvideo.training.joint import JointTask
from vqvideo.training.log import TrainingLogger
from vqvideo.training.prior import PriorTask
from vqvideo.training.vqvae import VQVAETask

pytestmark = pytest.mark.slow


def load_datasets(folder, step=2):
    return (
        ClipDataset(folder, (16, 64, 64), clip_stride=step),
        ClipDataset(folder, (16, 64, 64), split="test", clip_stride=step),
    )


def encode_all(vqvae, data):
    """What `CodeDataset` would give, in memory."""
    x = torch.stack([data[index]["x"] for index in range(len(data))])
    return [{"codes": codes} for codes in vqvae.encode(x)]


@pytest.fixture(scope="module")
def first_stage(clips, small_changes, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "vqvae"
    torch.manual_seed(0)
    generator = vqvideo.build("video", **small_changes)
    config = TrainingConfig(
        steps=40,
        batch_size=4,
        eval_every=20,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=5),
        precision="fp32",
    )
    figures = train_vqvae(generator, *load_datasets(clips), out, config)
    return out, figures, generator


def read_log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_first_stage_learns_and_leaves_log_curves_and_contact_sheets(first_stage):
    out, figures, _ = first_stage
    log = read_log(out)
    assert [row["step"] for row in log] == [20, 40]
    assert log[1]["val_psnr_db"] == figures["psnr_db"] > log[0]["val_psnr_db"] + 1
    assert log[1]["loss"] < log[0]["loss"]
    for picture in ("curves.png", "reconstructions.png"):
        assert (out / picture).stat().st_size > 1000
    assert json.loads((out / "training.json").read_text())["steps"] == 40


def test_the_checkpoint_of_a_run_is_the_model_that_was_trained(first_stage):
    out, _, generator = first_stage
    loaded = vqvideo.load(out / "model")
    assert loaded.prior is None
    torch.testing.assert_close(
        loaded.vqvae.state_dict(), generator.vqvae.state_dict(), rtol=0, atol=0
    )


def test_validation_psnr_is_that_of_the_held_out_clips(first_stage, clips):
    _, figures, generator = first_stage
    data = load_datasets(clips)[1]
    x = torch.stack([data[i]["x"] for i in range(len(data))])
    again = generator.vqvae.decode(generator.vqvae.encode(x))
    expected = 10 * torch.log10(4 / (again - x).square().mean())
    assert figures["psnr_db"] == pytest.approx(expected.item(), abs=1e-3)


def test_the_prior_learns_and_the_first_stage_does_not_change_by_a_bit(
    first_stage, clips, tmp_path
):
    first = vqvideo.load(first_stage[0] / "model")
    generator = vqvideo.load(first_stage[0] / "model")
    torch.manual_seed(0)
    from vqvideo.config import build_generator

    generator.prior = build_generator(generator.config).prior
    codes, held_out = (encode_all(generator.vqvae, data) for data in load_datasets(clips))
    quick = OptimizerConfig(warmup_steps=5)
    config = TrainingConfig(
        steps=20, batch_size=8, eval_every=10, optimizer=quick, precision="fp32"
    )
    figures = train_prior(generator, codes, held_out, tmp_path, config)
    assert read_log(tmp_path)[1]["val_nats_per_code"] < read_log(tmp_path)[0]["val_nats_per_code"]
    assert figures["nats_per_code"] < torch.log(torch.tensor(32.0))
    torch.testing.assert_close(
        generator.vqvae.state_dict(), first.vqvae.state_dict(), rtol=0, atol=0
    )
    assert (tmp_path / "samples.png").is_file()
    assert vqvideo.load(tmp_path / "model").prior is not None


def test_nats_per_code_is_the_mean_over_held_out_codes(first_stage, clips, tmp_path):
    generator = first_stage[2]
    held_out = encode_all(generator.vqvae, load_datasets(clips)[1])
    config = TrainingConfig(steps=1, eval_every=1, precision="fp32")
    figures = train_prior(generator, held_out, held_out, tmp_path, config)
    codes = torch.stack([each["codes"] for each in held_out])
    expected = -generator.prior.log_prob(codes).sum() / codes.numel()
    assert figures["nats_per_code"] == pytest.approx(expected.item(), rel=1e-4)
    share = torch.bincount(codes.flatten()) / codes.numel()
    entropy = -(share[share > 0] * share[share > 0].log()).sum()
    assert figures["unigram_nats"] == pytest.approx(entropy.item(), rel=1e-4)
    assert figures["uniform_nats"] == pytest.approx(math.log(32))


def test_a_prior_no_better_than_guessing_says_so_once_and_what_to_do(
    first_stage, clips, tmp_path, capsys
):
    generator = vqvideo.load(first_stage[0] / "model")
    torch.manual_seed(0)
    from vqvideo.config import build_generator

    generator.prior = build_generator(generator.config).prior
    codes, held_out = (encode_all(generator.vqvae, data) for data in load_datasets(clips))
    still = {
        "optimizer": OptimizerConfig(learning_rate=0.0),
        "batch_size": 8,
        "precision": "fp32",
        "eval_every": 1,
    }
    few = max(1, len(codes) // 8)  # the steps of about one pass
    train_prior(generator, codes, held_out, tmp_path, TrainingConfig(steps=2 * few + 2, **still))
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert re.search(r"after \d+\.\d epochs the NLL of the prior is \d", said)
    assert "no lower than the" in said
    assert "Try another learning rate" in said


def test_before_a_pass_is_over_and_where_it_beats_guessing_a_prior_is_not_blamed(first_stage):
    generator = first_stage[2]
    held_out = [{"codes": torch.zeros(4, 16, 16).long()}] * 2
    task = PriorTask(generator, held_out, held_out)
    worse, better = ({"nats_per_code": nats, "unigram_nats": 2.0} for nats in (2.5, 1.5))
    assert task.collect_warnings(worse, epochs=0.9) == {}
    assert task.collect_warnings(better, epochs=3.0) == {}
    (said,) = task.collect_warnings(worse, epochs=3.0).values()
    assert "2.50 nats per code, no lower than the 2.00" in said


def test_a_loss_that_turns_nan_stops_with_the_step(first_stage, clips, tmp_path):
    generator = vqvideo.load(first_stage[0] / "model")
    with torch.no_grad():
        next(generator.vqvae.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 1;.*learning_rate"):
        train_vqvae(
            generator, *load_datasets(clips), tmp_path, TrainingConfig(steps=3, precision="fp32")
        )


def test_the_same_seed_gives_the_same_weights(clips, small_changes, tmp_path):
    results = []
    for name in ("a", "b"):
        torch.manual_seed(3)
        generator = vqvideo.build("video", **small_changes)
        config = TrainingConfig(steps=3, batch_size=2, precision="fp32", seed=3)
        train_vqvae(generator, *load_datasets(clips), tmp_path / name, config)
        results.append(generator.vqvae.state_dict())
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_a_prior_with_conditions_needs_data_that_has_them(first_stage, clips, tmp_path):
    generator = vqvideo.build(
        "video",
        prior={"width": 8, "num_layers": 2, "cond": {"num_classes": 2}},
        quantizer={"codebook_size": 32},
    )
    codes = [{"codes": torch.zeros(4, 16, 16, dtype=torch.long)}] * 4
    with pytest.raises(ValueError, match="takes class_id, which the data does not have"):
        train_prior(generator, codes, codes, tmp_path, TrainingConfig(steps=1, precision="fp32"))


def test_an_encoder_that_diverges_stops_with_the_step_too(first_stage, clips, tmp_path):
    generator = vqvideo.load(first_stage[0] / "model")
    with torch.no_grad():
        next(generator.vqvae.encoder.parameters()).fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"not finite \(z_e holds .* at step 1; a lower"):
        train_vqvae(
            generator, *load_datasets(clips), tmp_path, TrainingConfig(steps=3, precision="fp32")
        )


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(first_stage, clips, tmp_path):
    generator = vqvideo.load(first_stage[0] / "model")
    calls = []

    def spoil(grad):
        calls.append(1)
        return grad * float("nan") if len(calls) == 2 else grad

    next(generator.vqvae.decoder.parameters()).register_hook(spoil)
    config = TrainingConfig(steps=3, eval_every=1, batch_size=2, precision="fp32")
    with pytest.raises(FloatingPointError, match=r"norm is nan at step 2; the last good model is"):
        train_vqvae(generator, *load_datasets(clips), tmp_path, config)
    kept = vqvideo.load(tmp_path / "model").state_dict()
    assert all(value.isfinite().all() for value in kept.values() if value.is_floating_point())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 1, "batch_size": 0}, "batch_size must be at least 1"),
        ({"steps": 1, "precision": "int8"}, "one of auto, fp32, bf16, fp16, got 'int8'"),
    ],
)
def test_impossible_training_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**options)


def test_bf16_trains_with_the_quantizer_in_float32(clips, small_changes, tmp_path):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **small_changes)
    config = TrainingConfig(steps=2, batch_size=2, precision="bf16")
    train_vqvae(generator, *load_datasets(clips), tmp_path, config)
    assert all(value.dtype != torch.bfloat16 for value in generator.state_dict().values())


def test_a_model_that_measures_nan_is_never_saved(first_stage, clips, tmp_path):
    generator = vqvideo.load(first_stage[0] / "model")
    config = TrainingConfig(
        steps=1,
        eval_every=1,
        batch_size=2,
        optimizer=OptimizerConfig(learning_rate=1e20, warmup_steps=1),
        precision="fp32",
    )
    with pytest.raises(FloatingPointError, match=r"validation .* at step 1; a lower learning_rate"):
        train_vqvae(generator, *load_datasets(clips), tmp_path, config)
    assert not (tmp_path / "model").exists()


def test_a_prior_keeps_the_names_of_its_classes_and_refuses_another_number(
    first_stage, clips, tmp_path
):
    from vqvideo.commands.train_prior import _set_label_names

    prior = {"width": 8, "num_layers": 2, "cond": {"num_classes": 2}}
    generator = vqvideo.build("video", prior=prior, quantizer={"codebook_size": 32})
    _set_label_names(generator, {"class_id": ["jump", "walk"], "speaker": []})
    assert generator.prior.cond.class_names == ("jump", "walk")
    vqvideo.save(generator, tmp_path / "named")
    loaded = vqvideo.load(tmp_path / "named")
    assert loaded.prior.cond.class_names == ("jump", "walk")
    _set_label_names(loaded, {"class_id": ["jump", "walk"]})  # the same again
    with pytest.raises(ValueError, match=r"knows the classes \('jump', 'walk'\), the data has"):
        _set_label_names(loaded, {"class_id": ["run", "walk"]})
    complaint = r"is built for 2 classes, the data has 3: a, b, c; set num_cl"
    with pytest.raises(ValueError, match=complaint):
        _set_label_names(generator, {"class_id": ["a", "b", "c"]})


def build_task(number=60, low=-1.0, high=1.0, codebook_size=8):
    nets = {"widths": (4, 4), "num_blocks": (1, 1)}
    generator = vqvideo.build(
        "video", encoder=nets, decoder=nets, quantizer={"codebook_size": codebook_size}
    )
    frames = torch.linspace(low, high, 16 * 64 * 64 * 3).view(3, 16, 64, 64)
    return VQVAETask(generator, [{"x": frames}] * number, [{"x": frames}] * 2)


HEALTHY = {"usage": 0.9, "perplexity": 6.0}


@pytest.mark.parametrize(
    ("options", "figures", "name", "sentence"),
    [
        ({"low": 0.0}, HEALTHY, "range", r"data lies in \[0, 1\], but models expect \[-1, 1\]"),
        ({"high": 255.0}, HEALTHY, "range", r"data lies in \[-1, 255\]"),
        ({"number": 49}, HEALTHY, "few clips", "49 training clips are few"),
        ({}, {**HEALTHY, "usage": 0.09}, "collapse", "collapses: 1 of 8 entries are used"),
        ({}, {**HEALTHY, "perplexity": 0.3}, "collapse", "the perplexity is 0.3; use a smaller"),
    ],
)
def test_what_goes_wrong_in_the_first_stage_is_said_with_what_to_do(
    options, figures, name, sentence
):
    task = build_task(**options)
    task.histograms = torch.tensor([[80]])
    warnings = task.collect_warnings(figures, epochs=1)
    assert list(warnings) == [name]
    assert re.search(sentence, warnings[name])


def test_nothing_is_said_of_what_is_well_or_cannot_be_judged_yet():
    task = build_task()
    collapsed = {"usage": 0.01, "perplexity": 1.0}
    task.histograms = torch.tensor([[80]])
    assert task.collect_warnings(HEALTHY, epochs=9) == {}
    assert task.collect_warnings(collapsed, epochs=0.9) == {}
    task.histograms = torch.tensor([[79]])
    assert task.collect_warnings(collapsed, epochs=9) == {}
    task.vqvae.train().loss(task.val_x)
    task.evaluate()
    assert task.histograms.sum() == 2 * 4 * 16 * 16


def test_each_thing_that_goes_wrong_is_said_once(tmp_path, capsys):
    log = TrainingLogger(tmp_path / "log.jsonl", 3, is_enabled=True)
    log.warn({"one": "first."})
    log.warn({"one": "first again.", "two": "second."})
    again = TrainingLogger(tmp_path / "log.jsonl", 3, is_enabled=True)
    again.load_state_dict(log.state_dict())
    again.warn({"two": "second again.", "three": "third."})
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert said == ["warning: first.", "warning: second.", "warning: third."]


def test_a_run_that_diverges_names_the_data_it_was_on(first_stage, clips, tmp_path, monkeypatch):
    data, held_out = load_datasets(clips)
    seen, read = [], ClipDataset.__getitem__

    def noted(self, index):
        seen.append(index)
        sample = read(self, index)
        if self is data and len(seen) > 4:
            sample["x"] = sample["x"] * 1e30
        return sample

    generator = vqvideo.load(first_stage[0] / "model")
    config = TrainingConfig(steps=3, batch_size=2, gradient_accumulation_steps=2, precision="fp32")
    monkeypatch.setattr(ClipDataset, "__getitem__", noted)
    with pytest.raises(FloatingPointError, match=r"at step 2; a lower") as stopped:
        train_vqvae(generator, data, [read(held_out, 0)], tmp_path, config)
    step = seen[4:8]
    assert len(step) == 4
    named = ", ".join(f"{data.windows[i].item.path} from {data.windows[i].start}" for i in step)
    assert str(stopped.value).endswith(f"The step trained on {named}"), stopped.value


@pytest.mark.parametrize(("likelihood", "shown"), [("autoregressive", 1), ("categorical", 4)])
def test_contact_sheets_show_one_item_where_each_value_takes_a_pass(likelihood, shown, tmp_path):
    small = {"name": likelihood}
    if likelihood == "autoregressive":
        small |= {"num_features": 4, "prior": {"width": 8, "num_layers": 2}}
    nets = {"width": 8, "num_blocks": 1}
    generator = vqvideo.build(
        "image",
        sample_shape=(8, 8),
        encoder=nets,
        decoder=nets,
        quantizer={"codebook_size": 8, "code_dim": 4},
        prior={"width": 8, "num_layers": 2, "dropout": 0.0},
        likelihood=small,
    )
    generator.vqvae.loss(torch.rand(4, 3, 8, 8) * 2 - 1)  # the codebook starts from data
    generator.eval()
    data = [{"x": x} for x in torch.rand(5, 3, 8, 8) * 2 - 1]
    with torch.no_grad():
        codes = encode_all(generator.vqvae, data)
    tasks = {
        2: VQVAETask(generator, data, data),  # rows: originals and reconstructions
        1: PriorTask(generator, codes, codes),
    }
    joint = JointTask(generator, data, data, rate_weight=1.0)
    for num_rows, task in tasks.items():
        [picture] = task.write_previews(tmp_path).values()
        assert picture.shape == (num_rows * 8, shown * 8, 3)
    sizes = {name: tuple(picture.shape) for name, picture in joint.write_previews(tmp_path).items()}
    assert sizes == {"reconstructions": (16, shown * 8, 3), "samples": (8, shown * 8, 3)}
