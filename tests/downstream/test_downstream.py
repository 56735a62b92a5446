"""Real projects that build on vqvideo, installed into an environment of their own.

`furrow` is what a plugin should be. `wreck` breaks in every way a plugin can, `tomorrow` is built
for a later version of the interface; they stand beside it in the same environment and hurt nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import vqvideo
from vqvideo import media
from vqvideo.checkpoint import CheckpointError

pytestmark = pytest.mark.slow

pytest.importorskip("pip")
pytest.importorskip("hatchling")
pytest.importorskip("accelerate")

PROJECTS = ("furrow", "wreck", "tomorrow")
SMALL = (
    "--set",
    "quantizer.name=sign",
    "--set",
    "quantizer.num_bits=5",
    "--set",
    "prior.width=16",
    "--set",
    "encoder.width=8",
)


class Environment:
    """A virtual environment that also sees what the running interpreter has installed."""

    def __init__(self, folder: Path) -> None:
        self.folder, place = folder, folder / "environment"
        venv.create(place, system_site_packages=True, with_pip=False)
        self.python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
        own = self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        seen = [*site.getsitepackages(), str(Path(vqvideo.__file__).parent.parent)]
        lines = [f"import site; site.addsitedir({path!r})\n" for path in seen]
        Path(own, "running.pth").write_text("".join(lines))

    def run(self, *arguments: str | Path) -> str:
        """What a process prints; it must end well."""
        # Without the variables of a pytest worker: other plugins may refuse to run in one.
        outer = {name: x for name, x in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            [self.python, *arguments],
            capture_output=True,
            text=True,
            cwd=self.python.parent,  # not where vqvideo, or a project, could be found by chance
            env={**outer, "VQVIDEO_DISABLE_PLUGINS": "", "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_json(self, script: str) -> object:
        """What the JSON on the last line says that a script prints."""
        return json.loads(self.run("-c", script).splitlines()[-1])


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    folder = tmp_path_factory.mktemp("downstream")
    copies = [folder / name for name in PROJECTS]
    for copy in copies:
        shutil.copytree(Path(__file__).parent / copy.name, copy)
    made = Environment(folder)
    pip = [sys.executable, "-m", "pip", "--python", made.python, "install", "--quiet"]
    apart = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*pip, *apart, *copies], check=True)
    return made


# -- furrow: as it should be ----------------------------------------------------------------


@pytest.fixture(scope="module")
def run(environment, clips, tmp_path_factory) -> Path:
    """A run whose two stages were trained two steps each, by names of plugins alone."""
    folder = tmp_path_factory.mktemp("runs")
    first, both = str(folder / "first"), str(folder / "both")
    training = ["--data", str(clips), "--steps", "2", "--batch-size", "2", "--eval-every", "2"]
    commands = [
        ["train-vqvae", "--model", "furrow", *SMALL, "--out", first, *training],
        ["train-prior", "--vqvae", first, "--prior", "furrow", "--out", both, *training],
    ]
    script = f"from vqvideo.cli import main; print([main(each) for each in {commands!r}])"
    assert environment.run_json(script) == [0, 0]
    return folder / "both"


def test_what_was_trained_is_loaded_in_a_new_process_and_imagines_a_clip(
    environment, run, tmp_path
):
    clip = tmp_path / "clip.mp4"
    environment.run("-m", "vqvideo", "generate", "--model", run, "--out", clip)
    assert media.read_video(clip).frames.shape == (3, 8, 32, 32)


def test_the_checkpoint_names_parts_and_packages_and_no_import_path(run):
    header = json.loads((run / "model" / "config.json").read_text())
    assert header["model"]["prior"] == {"name": "furrow", "width": 16}
    assert header["plugins"] == [
        {"kind": kind, "name": name, "package": "furrow", "version": "0.3"}
        for kind, name in (("encoder", "pool"), ("quantizer", "sign"), ("prior", "furrow"))
    ]
    assert "furrow." not in json.dumps(header)


def test_without_the_package_its_checkpoint_says_what_to_install(run):
    with pytest.raises(CheckpointError) as refused:  # this process does not have it
        vqvideo.load(run)
    assert "unknown quantizer 'sign'" in str(refused.value)
    for part in ("encoder 'pool'", "quantizer 'sign'", "prior 'furrow'"):
        assert (
            f"{part} is from another package: install furrow (it was saved with version 0.3)"
            in str(refused.value)
        )


def test_its_own_tests_pass(environment):
    tests = environment.folder / "furrow" / "tests"
    environment.run("-m", "pytest", "-q", "--rootdir", tests, "-p", "no:cacheprovider", tests)


# -- wreck and tomorrow: as it should not be ------------------------------------------------

LISTING_ERRORS = {
    ("?", "misspelt"): "there is no group 'vqvideo.quantizer'; there are: vqvideo.models, ",
    ("prior", "empty"): "its entry point must be 'module:attribute', got ''",
    ("prior", "malformed"): "its entry point must be 'module:attribute', got 'not a module!!'",
    ("prior", "odd name"): "'odd name' is no valid part name: it must begin with a letter",
    ("quantizer", "later"): "it is built for version 3 of the plugin interface, this vqvideo (",
}
LOADING_ERRORS = {
    ("encoder", "no-dependency"): "ModuleNotFoundError: No module named 'a_package_that_nobody",
    ("encoder", "no-attribute"): "AttributeError: module 'wreck.parts' has no attribute 'Nobody'",
    ("decoder", "no-base"): "must be a subclass of vqvideo.nets.autoencoder.Decoder, or a func",
    ("decoder", "no-sizes"): "must take rank, channels, z_channels, strides, as every decoder",
    ("quantizer", "syntax"): "SyntaxError: ",
    ("prior", "leaves"): "SystemExit: 3",
}
BUILDING_ERRORS = {
    ("model", "no-config"): "TypeError: model 'no-config' of wreck 1.0 must be a vqvideo.config",
    ("likelihood", "talks"): "TypeError: likelihood 'talks' of wreck 1.0 must be a vqvideo.lik",
    ("quantizer", "leaves-later"): "RuntimeError: quantizer 'leaves-later' of wreck 1.0 called",
}
HEALTHY = {("model", "furrow"), ("encoder", "pool"), ("quantizer", "sign"), ("prior", "furrow")}
HIDDEN = {
    ("quantizer", "ema"): "the built-in part has the same name and is used",
    ("quantizer", "sign"): "the part of furrow has the same name and is used",
}


LIST_PLUGINS_SCRIPT = """
import json, sys, vqvideo, warnings
from vqvideo.models import REGISTRIES

def rows(plugins):
    keys = ("kind", "name", "package", "version", "status", "error")
    return [[getattr(plugin, key) for key in keys] for plugin in plugins]

listed, models = rows(vqvideo.list_plugins()), vqvideo.list_models()
imported = sorted({"furrow", "wreck", "tomorrow"} & set(sys.modules))
loaded, said = rows(vqvideo.list_plugins(load=True)), {}
warnings.simplefilter("ignore")  # of those that are hidden
for kind, name, package, _, status, _ in loaded:
    if package != "furrow" and status != "shadowed" and kind != "?":
        try:
            REGISTRIES[kind].build(name)
        except Exception as error:
            said[f"{kind} {name}"] = f"{type(error).__name__}: {error}"
whole = type(vqvideo.build("furrow").vqvae.quantizer).__module__
keys = ("listed", "models", "imported", "loaded", "said", "whole")
print(json.dumps({key: globals()[key] for key in keys}))
"""


@pytest.fixture(scope="module")
def plugin_rows(environment):
    return environment.run_json(LIST_PLUGINS_SCRIPT)


def get_errors(rows, status):
    return {(row[0], row[1]): row[5] for row in rows if row[4] == status}


def require_prefixes(found, expected):
    assert set(found) == set(expected)
    for part, error in expected.items():
        assert found[part].startswith(error), part


def test_all_are_listed_and_none_is_imported(plugin_rows):
    assert plugin_rows["imported"] == []
    assert {"furrow", "slow", "no-config"} < set(plugin_rows["models"])
    rows = plugin_rows["listed"]
    assert {row[2]: row[3] for row in rows} == {"furrow": "0.3", "wreck": "1.0", "tomorrow": "7.0"}
    require_prefixes(get_errors(rows, "failed"), LISTING_ERRORS)
    require_prefixes(get_errors(rows, "shadowed"), HIDDEN)
    assert set(get_errors(rows, "available")) == {
        *HEALTHY,
        *LOADING_ERRORS,
        *BUILDING_ERRORS,
        ("model", "slow"),
    }


def test_loading_all_of_them_reports_which_fail(plugin_rows):
    require_prefixes(
        get_errors(plugin_rows["loaded"], "failed"), {**LISTING_ERRORS, **LOADING_ERRORS}
    )
    require_prefixes(get_errors(plugin_rows["loaded"], "shadowed"), HIDDEN)
    assert set(get_errors(plugin_rows["loaded"], "loaded")) == {
        *HEALTHY,
        *BUILDING_ERRORS,
        ("model", "slow"),
    }


def test_each_that_is_asked_for_says_whose_it_is_and_what_is_wrong(plugin_rows):
    said = {tuple(part.split(" ", 1)): error for part, error in plugin_rows["said"].items()}
    causes = {**LISTING_ERRORS, **LOADING_ERRORS, **BUILDING_ERRORS}
    del causes["?", "misspelt"]  # nobody can ask for it
    assert set(said) == set(causes)
    for (kind, name), cause in causes.items():
        package = "tomorrow 7.0" if name == "later" else "wreck 1.0"
        assert f"{kind} {name!r}" in said[kind, name]
        assert package in said[kind, name]
        assert cause in said[kind, name]


def test_the_other_parts_go_on_as_if_nothing_had_been(plugin_rows):
    assert plugin_rows["whole"] == "furrow.quantizer"
