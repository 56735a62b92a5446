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

theirs = pytest.importorskip("vector_quantize_pytorch")
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
    "prior": {"width": 8, "num_layers": 2, "first_kernel": 3},
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
        plugins.found.cache_clear()
        yield
    plugins.found.cache_clear()
    sys.modules.pop("borrowed", None)


@pytest.mark.parametrize("name", SMALL)
def test_each_of_theirs_keeps_all_laws(name):
    check_quantizer(partial(QUANTIZERS.build, name, SMALL[name]))


def test_a_step_leaves_the_codebook_that_theirs_leave_when_they_train_by_themselves():
    torch.manual_seed(0)
    quantizer = QUANTIZERS.build("borrowed-vq", SMALL["borrowed-vq"]).train()
    alone = theirs.VectorQuantize(dim=4, codebook_size=10).train()
    alone.load_state_dict(quantizer.theirs.state_dict())
    for _ in range(3):
        z_e = torch.randn(2, 4, 3, 5)
        codes = quantizer(z_e).codes
        indices = alone(z_e.flatten(2).transpose(1, 2))[1]
        assert torch.equal(codes.flatten(1), indices)
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(quantizer.theirs.state_dict()[name], tensor)


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
