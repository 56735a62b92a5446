"""Parts of other packages: listed without being imported, one at a time, and none hurts another."""

from __future__ import annotations

import re
import sys

import pytest

import vqvideo
from vqvideo import plugins
from vqvideo.plugins import API_VERSION, Plugin
from vqvideo.registry import Registry, UnknownNameError


def called(name: str) -> Plugin:
    return next(each for each in plugins.found() if each.name == name)


def square(*, side: int) -> tuple[int, int]:
    return side, side


@pytest.fixture
def shapes() -> Registry[tuple[int, int]]:
    parts: Registry[tuple[int, int]] = Registry("prior", tuple)
    parts.register("rectangle")(lambda *, height, width=2: (height, width))
    parts.register("square")(square)
    return parts


def test_a_plugin_is_listed_without_being_imported_and_loads_when_it_is_used(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(*, turns=3): return turns, 1")
    assert shapes.names("s*") == ["spiral", "square"]
    plugin = called("spiral")
    assert (plugin.kind, plugin.package, plugin.version) == ("prior", "spiral", "1.0")
    assert (plugin.status, plugin.error) == ("available", "")
    assert "spiral" not in sys.modules

    assert shapes.build("spiral", {"turns": 5}) == (5, 1)
    assert "spiral" in sys.modules
    assert called("spiral").status == "loaded"


def test_a_plugins_options_are_checked_like_those_of_a_built_in(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(*, turns=3): return turns, 1")
    with pytest.raises(
        ValueError, match=r"prior 'spiral' of spiral 1\.0 has no option 'turn'; did you mean 'turns"
    ):
        shapes.build("spiral", {"turn": 5})


def test_a_plugin_is_found_under_its_own_kind_only(install, shapes):
    install("spiral", {"quantizers": {"spiral": "build"}}, "def build(): return 1, 1")
    assert shapes.names() == ["rectangle", "square"]
    with pytest.raises(UnknownNameError, match="unknown prior 'spiral'"):
        shapes.get("spiral")


def test_an_unknown_name_suggests_a_plugin_that_was_never_imported(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}})
    with pytest.raises(UnknownNameError, match="did you mean 'spiral'"):
        shapes.get("spirale")
    assert "spiral" not in sys.modules


def test_a_plugin_that_fails_to_import_is_named_with_its_cause_and_hurts_no_other(install, shapes):
    install("broken", {"priors": {"cracked": "build"}}, "raise KeyError('no such GPU')")
    install("healthy", {"priors": {"whole": "build"}}, "def build(): return 1, 1")
    assert shapes.names() == ["cracked", "rectangle", "square", "whole"]
    with pytest.raises(ImportError) as failed:
        shapes.build("cracked")
    assert str(failed.value) == (
        "prior 'cracked' comes from broken 1.0 (broken:build), which failed to import: "
        "KeyError: 'no such GPU'"
    )
    assert isinstance(failed.value.__cause__, KeyError)
    plugin = called("cracked")
    assert (plugin.status, plugin.error) == ("failed", "KeyError: 'no such GPU'")

    assert shapes.build("whole") == (1, 1)
    assert shapes.build("square", {"side": 2}) == (2, 2)
    with pytest.raises(UnknownNameError, match=r"; failed, see `vqvideo plugins`: cracked$"):
        shapes.get("nobody")


@pytest.mark.parametrize(
    ("builder", "code", "cause"),
    [
        ("build", "x = 1", "AttributeError: module 'odd' has no attribute 'build'"),
        ("build", "build = 3", "odd:build is not callable"),
        ("build", "def build(:", "SyntaxError"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_a_failed_plugin(
    install, shapes, builder, code, cause
):
    install("odd", {"priors": {"odd": builder}}, code)
    with pytest.raises(ImportError, match="prior 'odd'") as failed:
        shapes.get("odd")
    assert cause in str(failed.value)
    assert called("odd").status == "failed"
    assert cause in called("odd").error


def test_a_built_in_hides_a_plugin_of_its_name_and_says_so_once(install, shapes):
    install("rival", {"priors": {"square": "build"}}, "raise RuntimeError('must not be imported')")
    with pytest.warns(RuntimeWarning) as warned:
        assert shapes.get("square") is square
    assert [str(warning.message) for warning in warned] == [
        f"prior 'square' of rival 1.0 is hidden: {__name__}.square has the same name and is used"
    ]
    assert shapes.get("square") is square  # a second warning would be an error here
    assert shapes.names() == ["rectangle", "square"]
    assert called("square").status == "shadowed"


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")], ids=str)
def test_of_two_packages_with_one_name_the_first_by_name_is_used_whatever_comes_first_on_the_path(
    install, shapes, order
):
    for package in order:
        install(package, {"priors": {"twin": "build"}}, f"def build(): return ({package!r},)")
    with pytest.warns(RuntimeWarning) as warned:
        assert shapes.build("twin") == ("one",)
    assert [str(warning.message) for warning in warned] == [
        "prior 'twin' of two 1.0 is hidden: that of one has the same name and is used"
    ]
    assert shapes.build("twin") == ("one",)  # a second warning would be an error here
    assert "two" not in sys.modules
    assert [(each.package, each.status) for each in plugins.found() if each.name == "twin"] == [
        ("one", "loaded"),
        ("two", "shadowed"),
    ]


@pytest.mark.parametrize(
    ("value", "found"), [("1", False), ("yes", False), ("0", True), ("", True)]
)
def test_discovery_can_be_turned_off(install, shapes, monkeypatch, value, found):
    install("spiral", {"priors": {"spiral": "build"}})
    monkeypatch.setenv("VQVIDEO_DISABLE_PLUGINS", value)
    plugins.found.cache_clear()
    assert bool(plugins.found()) is found
    assert ("spiral" in shapes.names()) is found


# -- what only a look at the metadata is needed for -----------------------------------------

ONE = "def build(): return 1, 1"


@pytest.mark.parametrize(
    ("api", "advice"),
    [
        (["0"], "a newer spiral, or an older vqvideo"),
        (["2"], "a newer vqvideo"),
        (["3", "2"], "a newer vqvideo"),
    ],
    ids=str,
)
def test_a_package_built_for_another_version_is_refused_before_its_code_runs(
    install, shapes, api, advice
):
    install("spiral", {"priors": {"spiral": "build"}}, "raise RuntimeError('imported')", api=api)
    assert shapes.names() == ["rectangle", "square"]
    with pytest.raises(ImportError) as refused:
        shapes.build("spiral")
    reason = (
        f"it is built for version {', '.join(api)} of the plugin interface, this vqvideo "
        f"({vqvideo.__version__}) has version {API_VERSION}: install {advice}"
    )
    assert str(refused.value) == f"prior 'spiral' of spiral 1.0 cannot be used: {reason}"
    assert (called("spiral").status, called("spiral").error) == ("failed", reason)


def test_a_package_built_for_two_versions_is_used_with_either(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, ONE, api=["2", "1"])
    assert shapes.build("spiral") == (1, 1)


def test_a_package_that_names_no_version_is_told_the_line_to_write(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, ONE, api=[])
    line = '1 = "spiral" under [project.entry-points."vqvideo.api"] in its pyproject.toml'
    with pytest.raises(ImportError, match=re.escape(line)):
        shapes.build("spiral")
    assert called("spiral").status == "failed"


def test_a_version_that_is_no_number_is_named(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, ONE, api=["one"])
    with pytest.raises(ImportError, match="built for version 'one', which is no number"):
        shapes.build("spiral")


@pytest.mark.parametrize(
    "value",
    ["", "not a module!!", "spiral", "spiral:", ":build", "spiral.py:build()", "../x:y", "1:2"],
)
def test_a_malformed_entry_point_is_a_failed_plugin_and_hurts_no_other(install, shapes, value):
    text = f"[vqvideo.api]\n1 = spiral\n[vqvideo.priors]\nodd = {value}\nwhole = spiral:build\n"
    install("spiral", text, ONE)
    reason = f"its entry point must be 'module:attribute', got {value!r}"
    assert (called("odd").status, called("odd").error) == ("failed", reason)
    with pytest.raises(ImportError, match=re.escape(f"cannot be used: {reason}")):
        shapes.get("odd")
    assert "spiral" not in sys.modules
    assert shapes.names() == ["rectangle", "square", "whole"]
    assert shapes.build("whole") == (1, 1)


@pytest.mark.parametrize("name", ["two words", "a/b", "a:b", "7up", "café", "-x", "*", "../up"])
def test_a_plugin_with_odd_characters_in_its_name_is_failed_and_hurts_no_other(
    install, shapes, name
):
    text = f"[vqvideo.api]\n1 = spiral\n[vqvideo.priors]\n{name} = spiral:build\n"
    install("spiral", text + "whole = spiral:build\n", ONE)
    assert called(name).status == "failed"
    assert called(name).error.startswith(f"{name!r} is no name for a part: it must begin with")
    with pytest.raises(ImportError, match=r"cannot be used: .* is no name for a part"):
        shapes.get(name)
    assert shapes.names() == ["rectangle", "square", "whole"]
    assert shapes.build("whole") == (1, 1)


def test_a_misspelt_group_is_told_the_groups_there_are(install):
    install("spiral", {"prior": {"spiral": "build"}}, ONE)
    assert (called("spiral").kind, called("spiral").status) == ("?", "failed")
    assert called("spiral").error.startswith("there is no group 'vqvideo.prior'; there are: vqvi")
    assert "vqvideo.priors" in called("spiral").error


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
    plugins.found.cache_clear()
    assert shapes.build("whole") == (1, 1)
    broken = next(each for each in plugins.found() if each.package == "torn-1.0.dist-info")
    assert broken.status == "failed"
    assert broken.error.startswith("its entry points cannot be read: ")


def test_one_that_cannot_be_used_takes_no_name_from_another_package(install, shapes):
    install("a", {"priors": {"twin": "build"}}, "def build(): return 'a', 'a'", api=["2"])
    install("b", {"priors": {"twin": "build"}}, "def build(): return 'b', 'b'")
    assert shapes.build("twin") == ("b", "b")


def test_of_a_package_that_is_twice_on_the_path_the_first_one_counts(
    install, shapes, tmp_path, monkeypatch
):
    install("spiral", {"priors": {"spiral": "build", "old": "build"}}, ONE)
    (tmp_path / "site").rename(tmp_path / "below")
    install("spiral", {"priors": {"spiral": "build"}}, ONE, version="2.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "below")])
    plugins.found.cache_clear()
    own = [each for each in plugins.found() if each.package == "spiral"]
    assert [(each.name, each.version) for each in own] == [("spiral", "2.0")]


# -- what shows when it is loaded or built --------------------------------------------------


@pytest.mark.parametrize("leave", ["import sys; sys.exit()", "raise SystemExit(3)", "exit('no')"])
def test_a_plugin_that_leaves_when_it_is_imported_does_not_end_the_interpreter(
    install, shapes, leave
):
    install("rude", {"priors": {"rude": "build"}}, leave)
    with pytest.raises(ImportError, match="which failed to import: SystemExit"):
        shapes.build("rude")
    assert called("rude").status == "failed"


def test_a_plugin_that_leaves_when_it_is_built_does_not_end_the_interpreter(install, shapes):
    install("rude", {"priors": {"rude": "build"}}, "def build(): raise SystemExit")
    with pytest.raises(RuntimeError, match=r"prior 'rude' of rude 1.0 called sys.exit\(\) when it"):
        shapes.build("rude")


def test_whoever_presses_control_c_while_a_plugin_is_imported_stops(install, shapes):
    install("slow", {"priors": {"slow": "build"}}, "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        shapes.build("slow")


def test_an_error_of_a_plugins_builder_stays_what_it_is_and_says_whose_it_is(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(): raise MemoryError('big')")
    with pytest.raises(MemoryError, match=r"^big\n") as error:
        shapes.build("spiral")
    assert error.value.__notes__ == ["when prior 'spiral' of spiral 1.0 was built"]


def test_a_plugin_that_builds_something_else_is_named_with_what_was_expected_and_came(
    install, shapes
):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(): return {}")
    with pytest.raises(TypeError) as refused:
        shapes.build("spiral")
    assert str(refused.value) == (
        "prior 'spiral' of spiral 1.0 must be a tuple, got a dict from spiral.build"
    )


def test_a_class_of_another_kind_is_refused_before_it_is_built(install, shapes):
    code = "class Build: raise_ = 1\n"
    install("spiral", {"priors": {"spiral": "Build"}}, code)
    with pytest.raises(
        TypeError, match=r"of spiral 1.0 must be a subclass of tuple, or a function"
    ):
        shapes.get("spiral")
    assert called("spiral").status == "failed"
    assert called("spiral").error.endswith("; spiral.Build is neither")


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("def build(*, rank): ...", "must take rank, width, as every prior does; x.build does not"),
        ("def build(rank, width, /): ...", "x.build does not take rank"),
        ("build = type", "cannot be asked for its options: builtins.type has no signature"),
    ],
)
def test_a_builder_that_does_not_take_what_every_one_is_given_is_refused(install, code, complaint):
    sized: Registry[tuple] = Registry("prior", object, needs=("rank", "width"))
    install("x", {"priors": {"x": "build"}}, code)
    with pytest.raises(TypeError, match=complaint):
        sized.get("x")
    assert complaint in called("x").error


def test_a_builder_that_takes_anything_takes_the_sizes_too(install):
    sized: Registry[tuple] = Registry("prior", tuple, needs=("rank", "width"))
    install("x", {"priors": {"x": "build"}}, "def build(**sizes): return tuple(sizes)")
    assert sized.build("x", rank=1, width=2) == ("rank", "width")
