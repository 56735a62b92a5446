"""Plugins through the front door: built, listed, saved and loaded by name."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import plugins
from vqvideo.checkpoint import CheckpointError
from vqvideo.cli import main
from vqvideo.config import MODELS
from vqvideo.quantizers import QUANTIZERS
from vqvideo.registry import UnknownNameError
from vqvideo.testing import check_quantizer


def test_a_plugin_that_also_registers_itself_is_not_hidden_by_itself(install):
    install(
        "both",
        {"quantizers": {"both-ways": "Both"}},
        """
        from vqvideo.quantizers import QUANTIZERS, VectorQuantizer

        @QUANTIZERS.register("both-ways")
        class Both(VectorQuantizer):
            pass
        """,
    )
    try:
        built = [QUANTIZERS.build("both-ways", {"code_dim": 3}) for _ in range(2)]
        assert [type(quantizer).__name__ for quantizer in built] == ["Both", "Both"]
        both = [each for each in plugins.found() if each.name == "both-ways"]
        assert [each.status for each in both] == ["loaded"]
    finally:
        QUANTIZERS._builders.pop("both-ways", None)


LATTICE = """
    import torch
    from torch import Tensor

    from vqvideo.metrics import code_histogram, perplexity
    from vqvideo.quantizers import Quantized, Quantizer, nearest_codes


    class Lattice(Quantizer):
        '''Entries that never move: the corners of a cube.'''

        plain_lookup = True

        def __init__(self, *, num_axes: int = 3) -> None:
            super().__init__()
            self.z_channels, self.codebook_size = num_axes, 2**num_axes
            corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * num_axes)
            self.register_buffer("corners", corners)

        def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
            vectors = z_e.movedim(1, -1)
            codes = nearest_codes(vectors.flatten(0, -2), self.corners).view(vectors.shape[:-1])
            z_q = self.dequantize(codes)
            if mask is None:
                mask = torch.ones_like(codes, dtype=torch.bool)
            errors = (z_e - z_q).square().movedim(1, -1)[mask]
            loss = errors.sum() / max(errors.numel(), 1)
            used = perplexity(code_histogram(codes[mask], self.codebook_size))
            return Quantized(z_q + (z_e - z_e.detach()), codes, loss, loss * 0, used)

        def dequantize(self, codes: Tensor) -> Tensor:
            return self.corners[codes].movedim(-1, 1)
"""

TINY = {
    "sample_shape": (8, 12),
    "encoder": {"width": 8, "num_blocks": 1},
    "decoder": {"width": 8, "num_blocks": 1},
    "prior": {"width": 8, "num_layers": 2, "first_kernel": 3},
}


def test_a_plugin_quantizer_is_built_used_saved_and_loaded_by_its_name(install, tmp_path):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, LATTICE)
    generator = vqvideo.build("image", quantizer="lattice", **TINY)
    assert type(generator.vqvae.quantizer).__module__ == "lattices"
    check_quantizer(partial(QUANTIZERS.build, "lattice"))
    assert generator.prior.codebook_size == 8

    x = torch.rand(2, 3, 8, 12) * 2 - 1
    z_e = generator.vqvae.encoder(x)
    bits = (z_e > 0).long()  # the nearest corner of a cube is where the signs point
    assert torch.equal(generator.vqvae.encode(x), bits[:, 0] * 4 + bits[:, 1] * 2 + bits[:, 2])
    assert generator.sample(num_samples=2).shape == (2, 3, 8, 12)

    vqvideo.save(generator, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["model"]["quantizer"] == {"name": "lattice"}  # the name, no import path
    again = vqvideo.load(tmp_path / "run")
    assert torch.equal(again.vqvae.encode(x), generator.vqvae.encode(x))
    assert torch.equal(again.sample(seed=3), generator.sample(seed=3))


@pytest.fixture
def stored(install, tmp_path):
    """The folder of a model with a quantizer of the package `lattices`."""
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, LATTICE)
    vqvideo.save(vqvideo.build("image", quantizer="lattice", **TINY), tmp_path / "run")
    return tmp_path / "run"


def test_a_checkpoint_says_which_package_a_part_is_of(stored):
    header = json.loads((stored / "config.json").read_text())
    assert header["plugins"] == [
        {"kind": "quantizer", "name": "lattice", "package": "lattices", "version": "1.0"}
    ]


def test_a_checkpoint_of_a_plugin_that_is_gone_says_what_to_install(stored, monkeypatch):
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if Path(folder).name != "site"])
    plugins.found.cache_clear()
    complaint = (
        r"run/config\.json: unknown quantizer 'lattice'; known: ema, .*; quantizer 'lattice' is of "
        r"another package: install lattices \(it was saved with version 1\.0\)$"
    )
    with pytest.raises(CheckpointError, match=complaint) as refused:
        vqvideo.load(stored)
    assert isinstance(refused.value.__cause__, UnknownNameError)


def test_a_checkpoint_with_plugins_turned_off_says_so(stored, monkeypatch):
    monkeypatch.setenv("VQVIDEO_DISABLE_PLUGINS", "1")
    plugins.found.cache_clear()
    complaint = r"; plugins are turned off by VQVIDEO_DISABLE_PLUGINS; .* install lattices "
    with pytest.raises(CheckpointError, match=complaint):
        vqvideo.load(stored)


def test_a_checkpoint_of_a_plugin_whose_newer_version_fails_names_both(stored, tmp_path, install):
    shutil.rmtree(tmp_path / "site")
    sys.modules.pop("lattices")
    install("lattices", {"quantizers": {"lattice": "Grid"}}, "x = 1", version="2.0")
    complaint = (
        r"run/config\.json: quantizer 'lattice' comes from lattices 2\.0 .* AttributeError: .*; "
        r"quantizer 'lattice' was saved with lattices 1\.0, here is 2\.0$"
    )
    with pytest.raises(CheckpointError, match=complaint):
        vqvideo.load(stored)


def test_a_part_inside_another_is_found_for_the_checkpoint_too(install, tmp_path):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, LATTICE)
    parts = {"name": "product", "num_codebooks": 2, "part": {"name": "lattice"}}
    generator = vqvideo.build("image", quantizer=parts, **TINY)
    vqvideo.save(generator, tmp_path / "run")
    header = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [origin["package"] for origin in header["plugins"]] == ["lattices"]


def test_a_prior_that_is_not_saved_is_not_asked_for(install, tmp_path):
    code = """
        from vqvideo.priors import PRIORS

        def build(**options):
            return PRIORS.build("pixelcnn", options)
    """
    install("spirals", {"priors": {"spiral": "build"}}, code)
    generator = vqvideo.build("image", **{**TINY, "prior": {**TINY["prior"], "name": "spiral"}})
    for prior, packages in ((generator.prior, ["spirals"]), (None, [])):
        generator.prior = prior
        vqvideo.save(generator, tmp_path / "run", overwrite=True)
        header = json.loads((tmp_path / "run" / "config.json").read_text())
        assert [origin["package"] for origin in header["plugins"]] == packages


def test_a_plugin_model_is_listed_and_built_like_a_built_in(install):
    code = """
        from vqvideo.presets import image

        def thumbnail():
            return image().updated(sample_shape=(4, 8), encoder={"width": 8}, decoder={"width": 8})
    """
    install("thumbnails", {"models": {"thumbnail": "thumbnail"}}, code)
    assert "thumbnail" in vqvideo.list_models("thumb*")
    assert "thumbnails" not in sys.modules
    assert vqvideo.build("thumbnail").sample_shape == (4, 8)
    assert "thumbnail" not in MODELS._builders


def test_a_plugin_named_like_a_built_in_quantizer_does_not_change_what_is_built(install):
    install("rival", {"quantizers": {"ema": "Lattice"}}, LATTICE)
    with pytest.warns(RuntimeWarning, match="quantizer 'ema' of rival 1.0 is hidden: the built-in"):
        generator = vqvideo.build("image", **TINY)
    assert type(generator.vqvae.quantizer).__module__ == "vqvideo.quantizers.ema"


def test_looking_at_plugins_draws_no_warning_of_its_own(install):
    install("rival", {"quantizers": {"ema": "Lattice"}}, "raise RuntimeError('imported')")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listed = {each.package: each for each in vqvideo.list_plugins()}["rival"]
        assert (listed.name, listed.status) == ("ema", "shadowed")
        assert listed.error == "the built-in one has the same name and is used"
    assert "rival" not in sys.modules


def test_a_plugin_model_that_is_no_config_is_named(install):
    install("thumbnails", {"models": {"thumbnail": "thumbnail"}}, "def thumbnail(): return {}")
    complaint = r"model 'thumbnail' of thumbnails 1\.0 must be a .*GeneratorConfig, got a dict from"
    with pytest.raises(TypeError, match=complaint):
        vqvideo.build("thumbnail")


@pytest.mark.parametrize("kind", ["encoder", "decoder", "likelihood", "prior", "quantizer"])
def test_a_class_of_another_kind_is_refused_in_every_kind(install, kind):
    install("odd", {f"{kind}s": {"odd": "Odd"}}, "class Odd: ...")
    base = f"{kind[0].upper()}{kind[1:]}"
    with pytest.raises(
        TypeError, match=rf"{kind} 'odd' of odd 1\.0 must be a subclass of .*{base}"
    ):
        vqvideo.build("image", **{**TINY, kind: "odd"})


def test_loading_all_plugins_tells_which_fail_and_hurts_no_other(install):
    install("whole", {"quantizers": {"lattice": "Lattice"}}, LATTICE)
    install("torn", {"encoders": {"torn": "Encoder"}}, "import a_package_that_nobody_has")
    for load, status in ((False, ["available"] * 2), (True, ["failed", "loaded"])):
        listed = [each for each in vqvideo.list_plugins(load=load) if each.package != "vqvideo"]
        own = [each for each in listed if each.package in ("whole", "torn")]
        assert [each.status for each in own] == status
    assert own[0].error == "ModuleNotFoundError: No module named 'a_package_that_nobody_has'"


def test_the_command_shows_a_table_of_plugins(install, capsys):
    install("whole", {"quantizers": {"lattice": "Lattice"}}, LATTICE)
    install("torn", {"encoders": {"torn-encoder": "Encoder"}}, "1 / 0")
    assert main(["plugins", "--load"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kind", "name", "package", "version", "status", "error"]
    torn, whole = (
        next(line for line in lines if package in line.split()) for package in ("torn", "whole")
    )
    assert torn.endswith("torn     1.0      failed  ZeroDivisionError: division by zero")
    assert whole.split() == ["quantizer", "lattice", "whole", "1.0", "loaded"]
    assert lines[0].index("status") == torn.index("failed") == whole.index("loaded")


def test_the_command_says_why_there_are_no_plugins(install, capsys, monkeypatch):
    monkeypatch.setenv("VQVIDEO_DISABLE_PLUGINS", "1")
    assert main(["plugins"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "no plugins: VQVIDEO_DISABLE_PLUGINS is set\n")
    assert main(["plugins", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("command", ["train-vqvae", "train-prior", "train-joint"])
def test_help_of_commands_that_take_names_of_parts_lists_those_of_plugins(install, capsys, command):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, "raise RuntimeError('imported')")
    install("old", {"quantizers": {"old": "Lattice"}}, api=["0"])
    with pytest.raises(SystemExit):
        main([command, "--help"])
    help_ = " ".join(capsys.readouterr().out.split())
    assert "From installed packages: " in help_
    assert "quantizer 'lattice' of lattices 1.0" in help_
    assert "'old'" not in help_


def test_a_command_that_fails_in_a_plugin_says_whose_it_is(install, capsys, tmp_path):
    install("odd", {"models": {"odd": "odd"}}, "def odd(): raise ValueError('no such size')")
    arguments = ["train-vqvae", "--model", "odd", "--data", str(tmp_path), "--steps", "1"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert said == "vqvideo: no such size (when model 'odd' of odd 1.0 was built)\n"
