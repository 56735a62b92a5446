"""What a look at the metadata is enough for: refused before any code of the package runs."""

from __future__ import annotations

import re
import sys

import pytest

import vqvideo
from vqvideo import plugins
from vqvideo.plugins import API_VERSION

ONE = "def build(): return 1, 1"


@pytest.mark.parametrize(
    ("api", "advice"),
    [
        (["0"], "a newer spiral, or an older vqvideo"),
        (["3"], "a newer vqvideo"),
        (["4", "3"], "a newer vqvideo"),
        (["1", "3"], "another vqvideo, or another spiral"),
    ],
    ids=str,
)
def test_a_package_built_for_another_version_is_refused_before_its_code_runs(
    install, shapes, api, advice, find_plugin
):
    install("spiral", {"priors": {"spiral": "build"}}, "raise RuntimeError('imported')", api=api)
    assert shapes.list_names() == ["rectangle", "square"]
    with pytest.raises(ImportError) as refused:
        shapes.build("spiral")
    reason = (
        f"it is built for version{'s' * (len(api) > 1)} {' and '.join(api)} of the plugin "
        f"interface, this vqvideo "
        f"({vqvideo.__version__}) has version {API_VERSION}: install {advice}"
    )
    assert str(refused.value) == f"prior 'spiral' of spiral 1.0 cannot be used: {reason}"
    assert (find_plugin("spiral").status, find_plugin("spiral").error) == ("failed", reason)


def test_a_package_built_for_two_versions_is_used_with_either(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, ONE, api=["3", "2"])
    assert shapes.build("spiral") == (1, 1)


def test_a_package_that_names_no_version_is_refused_with_the_line_to_write(
    install, shapes, find_plugin
):
    install("spiral", {"priors": {"spiral": "build"}}, ONE, api=[])
    line = '2 = "spiral" under [project.entry-points."vqvideo.api"] in its pyproject.toml'
    with pytest.raises(ImportError, match=re.escape(line)):
        shapes.build("spiral")
    assert find_plugin("spiral").status == "failed"


@pytest.mark.parametrize("version", ["one", "01", "1.0", "-1", "٢", "²"])
def test_a_version_that_is_none_is_named_with_how_they_are_written(install, shapes, version):
    install("spiral", {"priors": {"spiral": "build"}}, ONE, api=[version])
    complaint = (
        f"declares version {version!r} of the plugin interface; versions must be integers such as"
    )
    with pytest.raises(ImportError, match=re.escape(complaint)):
        shapes.build("spiral")


@pytest.mark.parametrize(
    "value",
    ["", "not a module!!", "spiral", "spiral:", ":build", "spiral.py:build()", "../x:y", "1:2"],
)
def test_a_malformed_entry_point_is_a_failed_plugin_and_hurts_no_other(
    install, shapes, value, find_plugin
):
    text = f"[vqvideo.api]\n2 = spiral\n[vqvideo.priors]\nodd = {value}\nwhole = spiral:build\n"
    install("spiral", text, ONE)
    reason = f"its entry point must be 'module:attribute', got {value!r}"
    assert (find_plugin("odd").status, find_plugin("odd").error) == ("failed", reason)
    with pytest.raises(ImportError, match=re.escape(f"cannot be used: {reason}")):
        shapes.get("odd")
    assert "spiral" not in sys.modules
    assert shapes.list_names() == ["rectangle", "square", "whole"]
    assert shapes.build("whole") == (1, 1)


@pytest.mark.parametrize("name", ["two words", "a/b", "a:b", "7up", "café", "-x", "*", "../up"])
def test_a_plugin_with_odd_characters_in_its_name_is_failed_and_hurts_no_other(
    install, shapes, name, find_plugin
):
    text = f"[vqvideo.api]\n2 = spiral\n[vqvideo.priors]\n{name} = spiral:build\n"
    install("spiral", text + "whole = spiral:build\n", ONE)
    assert find_plugin(name).status == "failed"
    assert find_plugin(name).error.startswith(f"{name!r} is no valid part name: it must begin with")
    with pytest.raises(ImportError, match=r"cannot be used: .* is no valid part name"):
        shapes.get(name)
    assert shapes.list_names() == ["rectangle", "square", "whole"]
    assert shapes.build("whole") == (1, 1)


def test_a_misspelt_group_is_refused_with_the_groups_there_are(install, find_plugin):
    install("spiral", {"prior": {"spiral": "build"}}, ONE)
    assert (find_plugin("spiral").kind, find_plugin("spiral").status) == ("?", "failed")
    assert find_plugin("spiral").error.startswith(
        "there is no group 'vqvideo.prior'; there are: vqvi"
    )
    assert "vqvideo.priors" in find_plugin("spiral").error


@pytest.mark.parametrize(
    "text", ["[vqvideo.priors]\nno equals sign\n", "[vqvideo.priors]\nx = y:\udcff"]
)
def test_entry_points_that_cannot_be_read_are_listed_as_failed_and_hurt_no_other(
    install, shapes, tmp_path, text
):
    install("healthy", {"priors": {"whole": "build"}}, ONE)
    install("torn", "")
    file = tmp_path / "site" / "torn-1.0.dist-info" / "entry_points.txt"
    file.write_bytes(text.encode(errors="surrogateescape"))
    plugins.find_plugins.cache_clear()
    assert shapes.build("whole") == (1, 1)
    broken = next(each for each in plugins.find_plugins() if each.package == "torn-1.0.dist-info")
    assert broken.status == "failed"
    assert broken.error.startswith("its entry points cannot be read: ")


def test_one_that_cannot_be_used_takes_no_name_from_another_package(install, shapes):
    install("a", {"priors": {"twin": "build"}}, "def build(): return 'a', 'a'", api=["3"])
    install("b", {"priors": {"twin": "build"}}, "def build(): return 'b', 'b'")
    assert shapes.build("twin") == ("b", "b")


def test_of_a_package_that_is_twice_on_the_path_the_first_one_counts(
    install, shapes, tmp_path, monkeypatch
):
    install("spiral", {"priors": {"spiral": "build", "old": "build"}}, ONE)
    (tmp_path / "site").rename(tmp_path / "below")
    install("spiral", {"priors": {"spiral": "build"}}, ONE, version="2.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "below")])
    plugins.find_plugins.cache_clear()
    own = [each for each in plugins.find_plugins() if each.package == "spiral"]
    assert [(each.name, each.version) for each in own] == [("spiral", "2.0")]


def test_one_that_cannot_be_used_says_so_though_a_built_in_has_its_name(
    install, shapes, find_plugin
):
    install("rival", {"priors": {"square": "build"}}, ONE, api=["3"])
    assert shapes.build("square", {"side": 2}) == (2, 2)  # and nobody is warned of it
    assert find_plugin("square").status == "failed"
    assert find_plugin("square").error.startswith("it is built for version 3 ")
