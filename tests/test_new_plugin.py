"""`vqvideo new-plugin`: a project whose tests pass as it is written."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vqvideo
from vqvideo import plugins
from vqvideo.cli import main
from vqvideo.models import REGISTRIES
from vqvideo.plugins import PART_KINDS

TINY = {
    "sample_shape": (8, 12),
    "encoder": {"width": 8, "num_blocks": 1},
    "decoder": {"width": 8, "num_blocks": 1},
    "prior": {"width": 8, "num_layers": 2, "first_kernel_size": 3},
    "quantizer": {"codebook_size": 16, "code_dim": 4},
}


@pytest.fixture
def install_plugin(tmp_path, monkeypatch):
    """Puts a project on the path with the metadata that its pyproject.toml stands for."""
    monkeypatch.delenv("VQVIDEO_DISABLE_PLUGINS", raising=False)
    modules = []

    def install(project: Path) -> None:
        said = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        about = project / "src" / f"{said['name'].replace('-', '_')}-{said['version']}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {said['name']}\nVersion: {said['version']}\n"
        )
        lines = []
        for group, entries in said["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(project / "src")
        modules.append(said["name"].replace("-", "_"))
        plugins.find_plugins.cache_clear()

    yield install
    plugins.find_plugins.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PART_KINDS)
def test_a_project_of_each_kind_is_found_and_its_own_tests_pass(
    kind, install_plugin, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", f"my-{kind}", "--kind", kind]) == 0
    assert capsys.readouterr().out == f"my-{kind}\n"
    project = tmp_path / f"my-{kind}"
    install_plugin(project)
    plugin = next(each for each in plugins.find_plugins() if each.name == f"my-{kind}")
    assert (plugin.kind, plugin.status, plugin.error) == (kind, "available", "")
    if kind == "model":
        vqvideo.build("my-model")
    else:
        vqvideo.build("image", **{**TINY, kind: f"my-{kind}"})
    assert plugin.status == "loaded"

    (file,) = (project / "tests").iterdir()
    spec = importlib.util.spec_from_file_location("the_tests_of_the_project", file)
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    keeps_all_laws = getattr(tests, f"test_the_{kind}_keeps_all_laws")
    if kind not in ("encoder", "decoder", "prior"):
        keeps_all_laws()
        return
    (every_rank,) = keeps_all_laws.pytestmark
    assert every_rank.args == ("rank", [1, 2, 3])
    for rank in (1, 2, 3):
        keeps_all_laws(rank)


def test_a_project_is_made_where_one_says_and_holds_a_readme(tmp_path, capsys):
    folder = tmp_path / "new" / "place"
    assert main(["new-plugin", "thing", "--kind", "prior", "--out", str(folder)]) == 0
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["README.md", "pyproject.toml", "src/thing/__init__.py", "tests/test_thing.py"]
    readme = (folder / "README.md").read_text()
    assert readme.startswith("# thing\n\nA prior for ")
    assert 'vqvideo.build("image", prior="thing")' in readme
    assert "{" not in readme


@pytest.mark.slow
def test_a_real_pytest_in_the_project_finds_its_tests_without_installing_it(tmp_path):
    main(["new-plugin", "thing", "--kind", "encoder", "--out", str(tmp_path / "thing")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path / "thing", capture_output=True, text=True)
    assert "3 passed" in done.stdout, done.stdout


def test_a_tool_for_style_has_nothing_to_say_of_a_project(tmp_path):
    if shutil.which("ruff") is None:
        pytest.skip("needs ruff")
    for kind in PART_KINDS:
        main(["new-plugin", f"my-{kind}", "--kind", kind, "--out", str(tmp_path / kind)])
        for command in (["check", "--select", "E,F,UP,B"], ["format", "--check"]):
            options = {"cwd": tmp_path / kind, "capture_output": True, "text": True}
            command = ["ruff", *command, "--line-length", "100", "--no-cache", "."]
            done = subprocess.run(command, **options)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name",
    ["", "My-Quantizer", "my_quantizer", "my quantizer", "-x", "x-", "x--y", "7up", "café", "a/b"],
)
def test_a_name_with_odd_characters_is_refused_with_those_that_are_allowed(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", f"--out={tmp_path / 'x'}", "--", name]) == 1
    said = capsys.readouterr().err
    assert "lower-case letters a-z, digits and single hyphens, and start with a letter" in said
    assert said.endswith(f"got {name!r}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "name"), [("quantizer", "ema"), ("model", "video-timm")])
def test_the_name_of_a_built_in_part_is_refused(kind, name, tmp_path, capsys):
    assert name in REGISTRIES[kind].list_names()
    assert main(["new-plugin", name, "--kind", kind, "--out", str(tmp_path / "x")]) == 1
    said = capsys.readouterr().err
    assert said == f"vqvideo: a {kind} named {name!r} already exists; choose another name\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["torch", "json", "vqvideo", "class"])
def test_a_name_that_python_has_a_use_for_is_refused(name, tmp_path, capsys):
    assert main(["new-plugin", name, "--out", str(tmp_path / "x")]) == 1
    assert f"module would be {name!r}, which is a Python keyword or" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_says_that_the_folder_exists_installed_or_not(
    tmp_path, install_plugin, capsys
):
    command = ["new-plugin", "thing", "--out", str(tmp_path / "thing")]
    assert main(command) == 0
    install_plugin(tmp_path / "thing")  # and now the name is taken too
    capsys.readouterr()
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said == f"vqvideo: {tmp_path / 'thing'} exists; choose another folder (--out)\n"


def test_a_project_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    plain = Path.write_text

    def full(path, text, **options):
        if path.parent.name == "tests":
            raise OSError("no space left on device")
        return plain(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    command = ["new-plugin", "thing", "--out", str(tmp_path / "thing")]
    assert main(command) == 1
    assert capsys.readouterr().err == "vqvideo: no space left on device\n"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert main(command) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_the_words_of_a_project_are_english(tmp_path):
    for kind, words in {"encoder": "An encoder", "model": "A model"}.items():
        main(["new-plugin", f"my-{kind}", "--kind", kind, "--out", str(tmp_path / kind)])
        project = tomllib.loads((tmp_path / kind / "pyproject.toml").read_text())["project"]
        assert project["description"] == f"{words} for vqvideo"
        assert f"\n\n{words} for vqvideo, in `src" in (tmp_path / kind / "README.md").read_text()


def test_an_existing_folder_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "notes.txt").write_text("mine")
    assert main(["new-plugin", "thing", "--out", str(tmp_path / "thing")]) == 1
    assert "thing exists; choose another folder (--out)" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["notes.txt"]


def test_another_kind_is_answered_with_those_there_are(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["new-plugin", "thing", "--kind", "optimizer"])
    assert "'model', 'encoder', 'decoder', 'quantizer'" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"kind must be one of model, .*, got 'optimizer'"):
        importlib.import_module("vqvideo.commands.new_plugin").create_plugin(
            "thing", kind="optimizer"
        )
