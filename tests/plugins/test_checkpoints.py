"""Checkpoints of models with parts of other packages: whose they were, and whose they are now."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

import vqvideo
from vqvideo import plugins
from vqvideo.checkpoint import CheckpointError
from vqvideo.quantizers import QUANTIZERS
from vqvideo.registry import UnknownNameError


@pytest.fixture
def stored(install, lattice, tiny, tmp_path):
    """The folder of a model with a quantizer of the package `lattices`."""
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, lattice)
    vqvideo.save(vqvideo.build("image", quantizer="lattice", **tiny), tmp_path / "run")
    return tmp_path / "run"


def test_a_checkpoint_says_which_package_a_part_is_of(stored):
    header = json.loads((stored / "config.json").read_text())
    assert header["plugins"] == [
        {"kind": "quantizer", "name": "lattice", "package": "lattices", "version": "1.0"}
    ]


def test_a_checkpoint_of_a_plugin_that_is_gone_says_what_to_install(stored, monkeypatch):
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if Path(folder).name != "site"])
    plugins.find_plugins.cache_clear()
    complaint = (
        r"run/config\.json: unknown quantizer 'lattice'; known: ema, .*; quantizer 'lattice' is "
        r"from another package: install lattices \(it was saved with version 1\.0\)$"
    )
    with pytest.raises(CheckpointError, match=complaint) as refused:
        vqvideo.load(stored)
    assert isinstance(refused.value.__cause__, UnknownNameError)


def test_a_checkpoint_with_plugins_turned_off_says_so(stored, monkeypatch):
    monkeypatch.setenv("VQVIDEO_DISABLE_PLUGINS", "1")
    plugins.find_plugins.cache_clear()
    complaint = (
        r"; quantizer 'lattice' was saved with lattices 1\.0: unset VQVIDEO_DISABLE_PLUGINS, which "
        r"disables plugins$"
    )
    with pytest.raises(CheckpointError, match=complaint):
        vqvideo.load(stored)


def test_a_checkpoint_of_a_plugin_whose_newer_version_fails_names_both(stored, tmp_path, install):
    shutil.rmtree(tmp_path / "site")
    sys.modules.pop("lattices")
    install("lattices", {"quantizers": {"lattice": "Grid"}}, "x = 1", version="2.0")
    complaint = (
        r"run/config\.json: quantizer 'lattice' comes from lattices 2\.0 .* AttributeError: .*; "
        r"quantizer 'lattice' was saved with lattices 1\.0, but version 2\.0 is installed$"
    )
    with pytest.raises(CheckpointError, match=complaint):
        vqvideo.load(stored)


def test_a_part_inside_another_is_found_for_the_checkpoint_too(install, tmp_path, lattice, tiny):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, lattice)
    parts = {"name": "product", "num_codebooks": 2, "part": {"name": "lattice"}}
    generator = vqvideo.build("image", quantizer=parts, **tiny)
    vqvideo.save(generator, tmp_path / "run")
    header = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [origin["package"] for origin in header["plugins"]] == ["lattices"]


def test_a_prior_that_is_not_saved_is_not_asked_for(install, tmp_path, tiny):
    code = """
        from vqvideo.priors import PRIORS

        def build(**options):
            return PRIORS.build("pixelcnn", options)
    """
    install("spirals", {"priors": {"spiral": "build"}}, code)
    generator = vqvideo.build("image", **{**tiny, "prior": {**tiny["prior"], "name": "spiral"}})
    for prior, packages in ((generator.prior, ["spirals"]), (None, [])):
        generator.prior = prior
        vqvideo.save(generator, tmp_path / "run", overwrite=True)
        header = json.loads((tmp_path / "run" / "config.json").read_text())
        assert [origin["package"] for origin in header["plugins"]] == packages


def read_header(folder):
    return json.loads((folder / "config.json").read_text())


def test_only_parts_that_plugins_built_are_written_down_whatever_else_has_their_names(
    install, tiny, tmp_path
):
    code = "def build(**options): raise RuntimeError('imported')"
    install("others", {"priors": {"vector": "build"}, "encoders": {"vector": "build"}}, code)
    inner = {"name": "product", "part": {"name": "vector", "code_dim": 4, "codebook_size": 8}}
    generator = vqvideo.build("image", **{**tiny, "quantizer": inner})
    vqvideo.save(generator, tmp_path / "run")
    assert read_header(tmp_path / "run")["plugins"] == []


def test_a_part_that_is_a_class_of_ours_under_a_plugins_name_is_written_down(
    install, tiny, tmp_path
):
    install("mine", {"quantizers": {"mine": "VectorQuantizer"}}, "from vqvideo.quantizers import *")
    vqvideo.save(vqvideo.build("image", **tiny, quantizer="mine"), tmp_path / "run")
    vqvideo.save(vqvideo.load(tmp_path / "run"), tmp_path / "again")  # what was loaded too
    for folder in ("run", "again"):
        (origin,) = read_header(tmp_path / folder)["plugins"]
        assert (origin["name"], origin["package"]) == ("mine", "mine")


def change_codes(lattice):
    """The same weights, and each vector becomes another entry."""
    return lattice.replace("nearest_codes(vectors", "nearest_codes(-vectors")


def remove_package(folder):
    shutil.rmtree(folder / "site")
    sys.modules.pop("lattices", None)
    plugins.find_plugins.cache_clear()


def test_a_part_of_another_package_is_refused_with_what_to_do(stored, install, lattice, tmp_path):
    remove_package(tmp_path)
    install("cubes", {"quantizers": {"lattice": "Lattice"}}, change_codes(lattice), version="2.0")
    complaint = (
        r"run/config\.json: quantizer 'lattice' was saved with lattices 1\.0, but cubes 2\.0 "
        r"provides it here: uninstall cubes and install lattices$"
    )
    with pytest.raises(CheckpointError, match=complaint):
        vqvideo.load(stored)


def test_a_part_of_another_package_is_refused_where_both_are_installed(
    stored, install, lattice, tmp_path
):
    remove_package(tmp_path)
    install("Lattices", {"quantizers": {"lattice": "Lattice"}}, lattice)
    install("cubes", {"quantizers": {"lattice": "Lattice"}}, change_codes(lattice))
    with (
        pytest.warns(
            RuntimeWarning, match="'lattice' of Lattices 1.0 is shadowed: the part of cubes"
        ),
        pytest.raises(CheckpointError, match=r"cubes 1\.0 provides it here: uninstall cubes$"),
    ):
        vqvideo.load(stored)


def test_a_part_inside_another_that_is_of_another_package_is_refused(
    install, lattice, tiny, tmp_path
):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, lattice)
    parts = {"name": "product", "part": "lattice"}
    vqvideo.save(vqvideo.build("image", **tiny, quantizer=parts), tmp_path / "run")
    remove_package(tmp_path)
    install("cubes", {"quantizers": {"lattice": "Lattice"}}, change_codes(lattice))
    with pytest.raises(CheckpointError, match=r"with lattices 1\.0, but cubes 1\.0 provides it"):
        vqvideo.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        ("vqvideo.quantizers", "it is a built-in part here: install a vqvideo without it$"),
        ("notebook", "the module notebook registered it here: do not import that module$"),
    ],
)
def test_a_built_in_or_registered_part_of_the_name_is_refused(
    stored, monkeypatch, module, complaint
):
    lattice = QUANTIZERS.get("lattice")
    remove_package(stored.parent)
    monkeypatch.setitem(QUANTIZERS._builders, "lattice", lattice)
    monkeypatch.setitem(QUANTIZERS._modules, "lattice", module)
    with pytest.raises(CheckpointError, match=rf"was saved with lattices 1\.0, but {complaint}"):
        vqvideo.load(stored)


def test_a_built_in_of_the_name_is_refused_with_plugins_turned_off_too(stored, monkeypatch):
    monkeypatch.setitem(QUANTIZERS._builders, "lattice", QUANTIZERS.get("lattice"))
    monkeypatch.setitem(QUANTIZERS._modules, "lattice", "vqvideo.quantizers")
    monkeypatch.setenv("VQVIDEO_DISABLE_PLUGINS", "1")
    plugins.find_plugins.cache_clear()
    with pytest.raises(
        CheckpointError, match="json: quantizer 'lattice' was saved with lattices 1"
    ):
        vqvideo.load(stored)


def test_another_version_of_the_same_package_is_loaded_with_a_warning(
    stored, install, lattice, tmp_path
):
    remove_package(tmp_path)
    install("Lattices", {"quantizers": {"lattice": "Lattice"}}, lattice, version="2.0")
    with pytest.warns(RuntimeWarning) as warned:
        generator = vqvideo.load(stored)
    assert [str(warning.message) for warning in warned] == [
        f"{stored / 'config.json'}: quantizer 'lattice' was saved with lattices 1.0, "
        f"but version 2.0 is installed"
    ]
    assert warned[0].filename == __file__
    assert generator.vqvae.quantizer.codebook_size == 8


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("AttributeError('x')", "AttributeError: x"),
        ("KeyError('k')", "KeyError: 'k'"),
        ("AssertionError", "AssertionError: "),
        ("OSError('no disk')", "OSError: no disk"),
        ("ValueError('no such size')", "no such size"),
        ("ValueError", "ValueError: "),
    ],
)
def test_whatever_a_builder_raises_is_reported_with_whose_it_is_and_what_was_saved(
    stored, install, tmp_path, error, said
):
    remove_package(tmp_path)
    code = f"def build(**options): raise {error}"
    install("lattices", {"quantizers": {"lattice": "build"}}, code, version="2.0")
    with pytest.raises(CheckpointError) as refused:
        vqvideo.load(stored)
    assert str(refused.value) == (
        f"{stored / 'config.json'}: {said} (while building quantizer 'lattice' of lattices 2.0); "
        f"quantizer 'lattice' was saved with lattices 1.0, but version 2.0 is installed"
    )
    assert isinstance(refused.value.__cause__, eval(error.split("(")[0]))


def test_whoever_presses_control_c_while_a_part_is_built_stops(stored, install, tmp_path):
    remove_package(tmp_path)
    code = "import signal\ndef build(**options): signal.raise_signal(signal.SIGINT)"
    install("lattices", {"quantizers": {"lattice": "build"}}, code)
    with pytest.raises(KeyboardInterrupt):
        vqvideo.load(stored)


def test_a_part_that_the_module_of_its_package_registered_is_the_same(stored, monkeypatch):
    lattice = QUANTIZERS.get("lattice")
    remove_package(stored.parent)  # the metadata of the package: it lies on the path as it is
    monkeypatch.setitem(QUANTIZERS._builders, "lattice", lattice)
    monkeypatch.setitem(QUANTIZERS._modules, "lattice", "lattices.parts")
    assert vqvideo.load(stored).vqvae.quantizer.codebook_size == 8  # and draws no warning


def test_a_part_that_one_plugin_built_for_another_is_of_both(install, lattice, tiny, tmp_path):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, lattice)
    code = """
        from vqvideo.quantizers import QUANTIZERS

        def build():
            return QUANTIZERS.build("lattice", {"num_axes": 2})
    """
    install("squares", {"quantizers": {"corners": "build"}}, code, version="2.0")
    vqvideo.save(vqvideo.build("image", **tiny, quantizer="corners"), tmp_path / "run")
    origins = read_header(tmp_path / "run")["plugins"]
    assert [(each["name"], each["package"], each["version"]) for each in origins] == [
        ("corners", "squares", "2.0"),
        ("lattice", "lattices", "1.0"),
    ]
