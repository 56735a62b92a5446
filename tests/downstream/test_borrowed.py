"""The quantizers of vector-quantize-pytorch as plugins: an existing ecosystem plugs in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import plugins
from vqvideo.quantizers import QUANTIZERS
from vqvideo.testing import check_quantizer

pytestmark = pytest.mark.slow

vector_quantize_pytorch = pytest.importorskip("vector_quantize_pytorch")
pytest.importorskip("pip")
pytest.importorskip("hatchling")

SMALL = {
    "borrowed-vq": {"codebook_size": 10, "code_dim": 4},
    "borrowed-residual": {"codebook_size": 7, "code_dim": 4, "num_codebooks": 2},
    "borrowed-fsq": {"levels": (3, 5, 3)},
}
TINY = {
    "sample_shape": (8, 12),
    "encoder": {"width": 8, "num_blocks": 1},
    "decoder": {"width": 8, "num_blocks": 1},
    "prior": {"width": 8, "num_layers": 2, "first_kernel_size": 3},
}


@pytest.fixture(scope="module", autouse=True)
def borrowed(tmp_path_factory):
    """The project, installed beside everything else for as long as these tests run."""
    folder = tmp_path_factory.mktemp("borrowed")
    project = shutil.copytree(Path(__file__).parent / "borrowed", folder / "project")
    apart = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder / "site"]
    subprocess.run([*install, *apart, project], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VQVIDEO_DISABLE_PLUGINS", raising=False)
        patch.syspath_prepend(folder / "site")
        plugins.find_plugins.cache_clear()
        yield
    plugins.find_plugins.cache_clear()
    sys.modules.pop("borrowed", None)


@pytest.mark.parametrize("name", SMALL)
def test_each_of_theirs_keeps_all_laws(name):
    check_quantizer(partial(QUANTIZERS.build, name, SMALL[name]))


REFERENCE_BUILDERS = {
    "borrowed-vq": lambda **options: vector_quantize_pytorch.VectorQuantize(
        dim=4, codebook_size=10, **options
    ),
    "borrowed-residual": lambda **options: vector_quantize_pytorch.ResidualVQ(
        dim=4, codebook_size=7, num_quantizers=2, **options
    ),
}
OPTIONS = [{}, {"decay": 0.5}, {"eps": 0.1}, {"threshold_ema_dead_code": 2}]
CASES = [(name, options) for name in REFERENCE_BUILDERS for options in OPTIONS]
CASES += [("borrowed-vq", {"use_cosine_sim": True})]


def train_three_steps(name, options):
    """The state of ours, and of theirs trained by itself from the same beginning."""
    torch.manual_seed(0)
    quantizer = QUANTIZERS.build(name, {**SMALL[name], **options}).train()
    alone = REFERENCE_BUILDERS[name](**options).train()
    alone.load_state_dict(quantizer.module.state_dict())
    for seed in range(3):
        z_e = torch.randn(2, 4, 3, 5)
        torch.manual_seed(seed)  # dead codes are replaced at random
        codes = quantizer(z_e).codes
        torch.manual_seed(seed)
        indices = alone(z_e.flatten(2).transpose(1, 2))[1]
        assert torch.equal(codes.reshape(indices.shape), indices)
    return quantizer.module.state_dict(), alone.state_dict()


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_step_leaves_the_codebook_that_theirs_leave_when_they_train_by_themselves(name, options):
    ours, alone = train_three_steps(name, options)
    for entry, tensor in alone.items():
        torch.testing.assert_close(ours[entry], tensor)
    plain = train_three_steps(name, {})[0]
    moved_otherwise = any(not torch.equal(ours[entry], plain[entry]) for entry in plain)
    assert moved_otherwise == bool(options)  # no option does nothing


@pytest.mark.parametrize(
    "option",
    [
        "learnable_codebook",
        "ema_update",
        "commitment_weight",
        "rotation_trick",
        "kmeans_init",
        "heads",
        "codebook_dim",
    ],
)
def test_an_option_of_theirs_that_would_do_nothing_is_refused_with_those_there_are(option):
    for name in REFERENCE_BUILDERS:
        with pytest.raises(ValueError) as refused:
            QUANTIZERS.build(name, {option: 2})
        assert f"has no option {option!r}" in str(refused.value)
        taken = "decay, eps, " + "use_cosine_sim, " * (name == "borrowed-vq")
        assert str(refused.value).endswith(f"{taken}threshold_ema_dead_code")


# Not `threshold_ema_dead_code`: what it draws from torch's random numbers keeps no law of steps.
LAWFUL_CASES = [each for each in CASES if each[1] and "threshold_ema_dead_code" not in each[1]]


@pytest.mark.parametrize(("name", "options"), LAWFUL_CASES, ids=str)
def test_each_option_keeps_all_laws(name, options):
    check_quantizer(partial(QUANTIZERS.build, name, {**SMALL[name], **options}))


@pytest.mark.parametrize("name", SMALL)
def test_each_of_theirs_trains_in_a_model_and_comes_back_from_a_checkpoint(name, tmp_path):
    torch.manual_seed(0)
    changes = {**TINY, "quantizer": {"name": name, **SMALL[name]}}
    generator = vqvideo.build("image", **changes).train()
    x = torch.rand(2, 3, 8, 12) * 2 - 1
    generator.vqvae.loss(x).total.backward()
    vqvideo.save(generator.eval(), tmp_path / "run")
    again = vqvideo.load(tmp_path / "run")
    assert torch.equal(again.vqvae.encode(x), generator.vqvae.encode(x))
    assert torch.equal(again.sample(seed=1), generator.sample(seed=1))
