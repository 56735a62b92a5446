"""The moving average of the weights: what it is, and that it is what a run measures and keeps."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import vqvideo
from vqvideo.data.clips import ClipDataset
from vqvideo.training import OptimizerConfig, TrainingConfig, train_vqvae
from vqvideo.training.model_ema import ModelEMA
from vqvideo.training.state import STATE_NAME


def move_weights(model, step):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.full_like(parameter, float(step)))


def test_the_average_is_that_of_its_definition_and_forgets_the_beginning():
    model = nn.Linear(2, 3)
    move_weights(model, 0)
    average, expected = ModelEMA(model, 0.8), 0.0
    for step in range(1, 60):
        move_weights(model, step)
        average.update()
        decay = min(0.8, step / (10 + step))
        expected = decay * expected + (1 - decay) * step
        for weights in average.weights:
            torch.testing.assert_close(weights, torch.full_like(weights, expected))
    assert expected > 54, "it lags by a few steps only"


def test_in_its_place_the_average_is_the_weights_and_afterwards_they_are_themselves():
    model = nn.BatchNorm1d(3)
    average = ModelEMA(model, 0.5)
    move_weights(model, 7)
    average.update()
    model(torch.randn(4, 3))
    counted = model.running_mean.clone()
    with average.average_parameters():
        assert model.weight[0] not in (1.0, 7.0)
        assert torch.equal(model.running_mean, counted), "buffers are no part of it"
    assert torch.equal(model.weight, torch.full((3,), 7.0))


def test_without_a_decay_there_is_no_average():
    model = nn.Linear(2, 3)
    average = ModelEMA(model, 0.0)
    before = [parameter.clone() for parameter in model.parameters()]
    average.update()
    with average.average_parameters():
        assert all(map(torch.equal, before, model.parameters()))
    assert average.weights == [] and average.state_dict() == {}


@pytest.mark.slow
def test_a_run_keeps_measures_and_returns_the_average(small_changes, clips, tmp_path):
    torch.manual_seed(0)
    generator = vqvideo.build("video", **small_changes)
    data, held_out = (
        ClipDataset(clips, (16, 64, 64), clip_stride=4, split=split) for split in ("train", "test")
    )
    averaging = OptimizerConfig(learning_rate=3e-3, warmup_steps=2, model_ema_decay=0.9)
    config = TrainingConfig(steps=4, batch_size=2, optimizer=averaging, precision="fp32")
    figures = train_vqvae(generator, data, held_out, tmp_path, config)
    kept, state = (
        load_file(tmp_path / "model" / "model.safetensors"),
        load_file(tmp_path / STATE_NAME),
    )
    averages = {name: value for name, value in state.items() if name.startswith("average.")}
    parameters = dict(generator.vqvae.named_parameters())
    assert len(averages) == len(parameters)
    for number, (name, parameter) in enumerate(parameters.items()):
        assert torch.equal(averages[f"average.{number}"], kept[f"vqvae.{name}"])
        assert torch.equal(parameter, kept[f"vqvae.{name}"])
        assert not torch.equal(parameter, state[f"model.{name}"])
    x = torch.stack([held_out[i]["x"] for i in range(len(held_out))])
    again = generator.vqvae.decode(generator.vqvae.encode(x))
    expected = 10 * torch.log10(4 / (again - x).square().mean())
    assert figures["psnr_db"] == pytest.approx(expected.item(), abs=1e-3)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_that_averages_nothing_is_refused(decay):
    with pytest.raises(ValueError, match=rf"model_ema_decay must lie in \[0, 1\), got {decay}"):
        OptimizerConfig(model_ema_decay=decay)
