"""Half precision, compiled networks, other optimizers: the same weights as far as numbers allow."""

import functools

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

import vqvideo
from vqvideo.data.clips import ClipDataset
from vqvideo.quantizers import QUANTIZERS
from vqvideo.training import OptimizerConfig, TrainingConfig, compilation, train_prior, train_vqvae
from vqvideo.training.optimizer import build_optimizer, set_learning_rate
from vqvideo.training.state import get_rng_state, load_state, save_state
from vqvideo.training.trainer import Trainer
from vqvideo.training.vqvae import VQVAETask

pytestmark = pytest.mark.slow

CONFIG = {"steps": 4, "batch_size": 2, "eval_every": 2}


def train_first_stage(small_changes, clips, out, *, resume=False, **options):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **small_changes)
    sets = (
        ClipDataset(clips, (16, 64, 64), clip_stride=4, split=split) for split in ("train", "test")
    )
    config = TrainingConfig(**{**CONFIG, **options})
    return generator, train_vqvae(generator, *sets, out, config, resume=resume)


def compute_difference(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_weights_and_codebook_in_float32(
    precision, small_changes, clips, tmp_path, monkeypatch
):
    seen = []
    quantizer = QUANTIZERS.get("ema")
    quantize = quantizer.quantize

    def noted(self, z_e, mask):
        if self.training:
            seen.append(z_e.dtype)
        return quantize(self, z_e, mask)

    exact, _ = train_first_stage(small_changes, clips, tmp_path / "fp32", precision="fp32")
    monkeypatch.setattr(quantizer, "quantize", noted)
    generator, _ = train_first_stage(small_changes, clips, tmp_path / "half", precision=precision)
    assert seen == [torch.float32] * CONFIG["steps"]
    for value in generator.state_dict().values():
        assert not value.is_floating_point() or value.dtype == torch.float32
    assert 0 < compute_difference(exact, generator) < 0.02


def test_in_float16_a_step_that_overflows_is_left_out_and_the_scale_halved(
    small_changes, clips, tmp_path, monkeypatch
):
    scales, weights = [], []
    move = Trainer._update_weights

    def spoiled(self, step):
        first = next(self.task.model.parameters())
        if step == 2:
            first.grad[0] = float("inf")
        before = first.detach().clone()
        move(self, step)
        scales.append(self.scaler.get_scale())
        weights.append(torch.equal(before, first))

    monkeypatch.setattr(Trainer, "_update_weights", spoiled)
    train_first_stage(small_changes, clips, tmp_path, precision="fp16")
    assert scales == [2.0**16, 2.0**15, 2.0**15, 2.0**15]
    assert weights == [False, True, False, False]


def test_in_float16_gradients_that_overflow_at_any_scale_stop_the_run(
    small_changes, clips, tmp_path, monkeypatch
):
    move = Trainer._update_weights

    def spoiled(self, step):
        next(self.task.model.parameters()).grad[0] = float("nan")
        move(self, step)

    monkeypatch.setattr(Trainer, "_update_weights", spoiled)
    # 2**16 at first, halved by each of the steps that are left out
    with pytest.raises(FloatingPointError, match=r"gradient norm is nan at step 17; the last"):
        train_first_stage(small_changes, clips, tmp_path, precision="fp16", steps=20, eval_every=16)


def test_in_float16_a_run_resumes_with_its_loss_scale(small_changes, clips, tmp_path, monkeypatch):
    options = {"precision": "fp16", "steps": 6}
    whole, _ = train_first_stage(small_changes, clips, tmp_path / "whole", **options)
    after_step, steps = VQVAETask.after_step, []

    def breaking(self):
        after_step(self)
        steps.append(1)
        if len(steps) == 5:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(VQVAETask, "after_step", breaking)
        with pytest.raises(RuntimeError, match="killed"):
            train_first_stage(small_changes, clips, tmp_path / "out", **options)
    again, _ = train_first_stage(small_changes, clips, tmp_path / "out", resume=True, **options)
    assert compute_difference(whole, again) == 0


# torch asks for it itself, where a graph ends, and hides the warning from all but strict filters.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_networks_learn_what_they_learn_as_they_are(
    small_changes, clips, tmp_path, monkeypatch
):
    plain, _ = train_first_stage(small_changes, clips, tmp_path / "plain", precision="fp32")
    quickly = functools.partial(torch.compile, backend="eager")  # captured, but not made anew
    monkeypatch.setattr(compilation.torch, "compile", quickly)
    generator, _ = train_first_stage(
        small_changes, clips, tmp_path / "compiled", precision="fp32", compile=True
    )
    assert compute_difference(plain, generator) < 1e-6
    assert "forward" not in vars(generator.vqvae.quantizer), "the quantizer is itself again"
    one, other = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("plain", "compiled")
    )
    assert one.keys() == other.keys()


def test_muon_trains_both_stages(small_changes, clips, tmp_path):
    muon = OptimizerConfig(name="muon", learning_rate=3e-3, warmup_steps=1)
    generator, figures = train_first_stage(
        small_changes, clips, tmp_path / "one", optimizer=muon, precision="fp32", steps=8
    )
    _, slower = train_first_stage(
        small_changes, clips, tmp_path / "adamw", precision="fp32", steps=8
    )
    assert figures["psnr_db"] > slower["psnr_db"]
    codes = [{"codes": torch.randint(32, (2, 4, 5))} for _ in range(4)]
    generator.sample_shape = (8, 16, 20)
    config = TrainingConfig(**CONFIG, optimizer=muon, precision="fp32")
    assert train_prior(generator, codes, codes, tmp_path / "two", config)["nats_per_code"] > 0


def test_tables_of_vectors_do_not_decay_and_are_updated_by_adamw():
    generator = vqvideo.build(
        "image",
        quantizer={"name": "vector", "codebook_size": 8},
        prior={"name": "transformer", "width": 16, "num_layers": 1, "num_heads": 2},
    )
    optimizer = build_optimizer(generator, OptimizerConfig(name="muon"))
    matrices, tables = optimizer.param_groups
    names = {id(value): name for name, value in generator.named_parameters()}
    found = {names[id(value)] for value in tables["params"]}
    assert "vqvae.quantizer.codebook" in found
    assert all("quantizer" in name or "embed" in name for name in found)
    assert (tables["weight_decay"], tables["use_adamw"]) == (0.0, True)
    assert matrices["weight_decay"] == 0.01
    assert len(matrices["params"]) + len(found) == len(names)


def test_an_unknown_optimizer_is_refused_with_where_the_known_ones_are():
    with pytest.raises(
        ValueError, match=r"unknown optimizer 'adamv'; .* timm.optim.list_optimizers"
    ):
        OptimizerConfig(name="adamv")


@pytest.mark.parametrize("name", ["lamb", "adahessian"])
def test_an_optimizer_that_a_run_cannot_keep_is_refused_before_any_work(name):
    generator = vqvideo.build("image", quantizer={"codebook_size": 8})
    with pytest.raises(
        ValueError,
        match=f"the (state of the )?optimizer '{name}' (cannot be saved|is not supported)",
    ):
        build_optimizer(generator, OptimizerConfig(name=name))


@pytest.mark.parametrize("name", ["adamw", "muon", "adamp", "adabelief", "lion", "adafactor"])
def test_what_an_optimizer_remembers_comes_back_bit_for_bit(name, tmp_path):
    def model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(2, 5, 3), torch.nn.Conv2d(5, 4, 1))

    def steps(network, optimizer, number):
        for _ in range(number):
            x = torch.randn(2, 2, 6, 7, generator=torch.Generator().manual_seed(number))
            network(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    whole, cut, again = model(), model(), model()
    optimizers = [build_optimizer(each, OptimizerConfig(name=name)) for each in (whole, cut, again)]
    steps(whole, optimizers[0], 3)
    steps(cut, optimizers[1], 3)
    save_state(tmp_path / "state", cut, optimizers[1], {}, [get_rng_state()], {"step": 3})
    load_state(tmp_path / "state", again, optimizers[2])
    for network, optimizer in ((whole, optimizers[0]), (again, optimizers[2])):
        steps(network, optimizer, 2)
    assert all(map(torch.equal, whole.parameters(), again.parameters()))


def test_what_a_launcher_sets_for_precision_and_accumulation_comes_on_top_of_nothing(
    small_changes, clips, tmp_path, monkeypatch
):
    plain, _ = train_first_stage(small_changes, clips, tmp_path / "plain", precision="fp32")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    AcceleratorState._reset_state(reset_partial_state=True)
    launched, _ = train_first_stage(small_changes, clips, tmp_path / "launched", precision="fp32")
    assert compute_difference(plain, launched) == 0


def test_the_learning_rate_rises_over_the_warm_up_and_falls_to_a_twentieth():
    weight = torch.zeros(2, 2, requires_grad=True)
    optimizer = torch.optim.AdamW([weight])
    config, rates = OptimizerConfig(learning_rate=2.0, warmup_steps=4), []
    for step in range(1, 101):
        set_learning_rate(optimizer, config, step, 100)
        rates.append(optimizer.param_groups[0]["lr"])
    falls = [2.0 - 1.9 * n / 100 for n in range(100)]
    expected = [falls[n] * (n + 1) / 4 if n < 4 else falls[n] for n in range(100)]
    assert rates == pytest.approx(expected)
    assert rates[-1] == pytest.approx(0.119)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be at least 0, got -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be at least 0, got nan"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
    ],
)
def test_impossible_options_of_the_optimizer_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**options)
