"""Plugins through the front door: built, listed, saved and loaded by name."""

from __future__ import annotations

import json
import sys
import warnings
from functools import partial

import pytest
import torch

import vqvideo
from vqvideo import plugins
from vqvideo.cli import main
from vqvideo.config import MODELS
from vqvideo.quantizers import QUANTIZERS
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
        both = [each for each in plugins.find_plugins() if each.name == "both-ways"]
        assert [each.status for each in both] == ["loaded"]
    finally:
        QUANTIZERS._builders.pop("both-ways", None)


def test_a_plugin_quantizer_is_built_used_saved_and_loaded_by_its_name(
    install, tmp_path, lattice, tiny
):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, lattice)
    generator = vqvideo.build("image", quantizer="lattice", **tiny)
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


def test_a_plugin_model_is_listed_and_built_like_a_built_in(install):
    code = """
        from vqvideo.presets import image

        def thumbnail():
            return image().merge(sample_shape=(4, 8), encoder={"width": 8}, decoder={"width": 8})
    """
    install("thumbnails", {"models": {"thumbnail": "thumbnail"}}, code)
    assert "thumbnail" in vqvideo.list_models("thumb*")
    assert "thumbnails" not in sys.modules
    assert vqvideo.build("thumbnail").sample_shape == (4, 8)
    assert "thumbnail" not in MODELS._builders


def test_a_plugin_named_like_a_built_in_quantizer_does_not_change_what_is_built(
    install, lattice, tiny
):
    install("rival", {"quantizers": {"ema": "Lattice"}}, lattice)
    with pytest.warns(
        RuntimeWarning, match="quantizer 'ema' of rival 1.0 is shadowed: the built-in"
    ):
        generator = vqvideo.build("image", **tiny)
    assert type(generator.vqvae.quantizer).__module__ == "vqvideo.quantizers.codebook"


def test_looking_at_plugins_draws_no_warning_of_its_own(install):
    install("rival", {"quantizers": {"ema": "Lattice"}}, "raise RuntimeError('imported')")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listed = {each.package: each for each in vqvideo.list_plugins()}["rival"]
        assert (listed.name, listed.status) == ("ema", "shadowed")
        assert listed.error == "the built-in part has the same name and is used"
    assert "rival" not in sys.modules


def test_a_plugin_model_that_is_no_config_is_named(install):
    install("thumbnails", {"models": {"thumbnail": "thumbnail"}}, "def thumbnail(): return {}")
    complaint = r"model 'thumbnail' of thumbnails 1\.0 must be a .*GeneratorConfig, got a dict from"
    with pytest.raises(TypeError, match=complaint):
        vqvideo.build("thumbnail")


@pytest.mark.parametrize("kind", ["encoder", "decoder", "likelihood", "prior", "quantizer"])
def test_a_class_of_another_kind_is_refused_in_every_kind(install, kind, tiny):
    install("odd", {f"{kind}s": {"odd": "Odd"}}, "class Odd: ...")
    base = f"{kind[0].upper()}{kind[1:]}"
    with pytest.raises(
        TypeError, match=rf"{kind} 'odd' of odd 1\.0 must be a subclass of .*{base}"
    ):
        vqvideo.build("image", **{**tiny, kind: "odd"})


def test_loading_all_plugins_reports_which_fail_and_hurts_no_other(install, lattice):
    install("whole", {"quantizers": {"lattice": "Lattice"}}, lattice)
    install("torn", {"encoders": {"torn": "Encoder"}}, "import a_package_that_nobody_has")
    for load, status in ((False, ["available"] * 2), (True, ["failed", "loaded"])):
        listed = [each for each in vqvideo.list_plugins(load=load) if each.package != "vqvideo"]
        own = [each for each in listed if each.package in ("whole", "torn")]
        assert [each.status for each in own] == status
    assert own[0].error == "ModuleNotFoundError: No module named 'a_package_that_nobody_has'"


def test_the_command_shows_a_table_of_plugins(install, capsys, lattice):
    install("whole", {"quantizers": {"lattice": "Lattice"}}, lattice)
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
    assert said == "vqvideo: no such size (while building model 'odd' of odd 1.0)\n"


def test_help_does_not_list_a_plugin_that_a_built_in_hides(install, capsys):
    install("rival", {"quantizers": {"ema": "Lattice", "lattice": "Lattice"}}, "1 / 0")
    with pytest.raises(SystemExit):
        main(["train-vqvae", "--help"])
    help_ = " ".join(capsys.readouterr().out.split())
    assert "From installed packages: quantizer 'lattice' of rival 1.0." in help_
    assert "'ema' of" not in help_


def test_loading_all_plugins_leaves_those_alone_that_are_hidden_or_failed(install):
    install("rival", {"quantizers": {"ema": "Lattice"}}, "raise RuntimeError('imported')")
    install("old", {"quantizers": {"old": "Lattice"}}, "raise RuntimeError('imported')", api=["0"])
    listed = {each.package: each for each in vqvideo.list_plugins(load=True)}
    assert listed["rival"].status == "shadowed"
    assert listed["rival"].error == "the built-in part has the same name and is used"
    assert listed["old"].error.startswith("it is built for version 0 ")
    assert not {"rival", "old"} & set(sys.modules)


@pytest.mark.parametrize("composite", ["product", "residual"])
def test_a_part_inside_another_is_named_shortly_or_with_its_options(install, lattice, composite):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, lattice)
    short, long = (
        QUANTIZERS.build(composite, {"part": part}) for part in ("lattice", {"name": "lattice"})
    )
    for quantizer in (short, long):
        assert [type(part).__name__ for part in quantizer.parts] == ["Lattice", "Lattice"]
