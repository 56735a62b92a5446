"""Parts of other packages: listed without being imported, one at a time, and none hurts another."""

from __future__ import annotations

import re
import sys
import textwrap

import pytest

import vqvideo
from vqvideo import plugins
from vqvideo.quantizers import QUANTIZERS
from vqvideo.registry import UnknownNameError


def circle(*, radius):
    return radius, radius


def test_a_plugin_is_listed_without_being_imported_and_loads_when_it_is_used(
    install, shapes, find_plugin
):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(*, turns=3): return turns, 1")
    assert shapes.list_names("s*") == ["spiral", "square"]
    plugin = find_plugin("spiral")
    assert (plugin.kind, plugin.package, plugin.version) == ("prior", "spiral", "1.0")
    assert (plugin.status, plugin.error) == ("available", "")
    assert "spiral" not in sys.modules

    assert shapes.build("spiral", {"turns": 5}) == (5, 1)
    assert "spiral" in sys.modules
    assert find_plugin("spiral").status == "loaded"


def test_a_plugins_options_are_checked_like_those_of_a_built_in(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(*, turns=3): return turns, 1")
    with pytest.raises(
        ValueError, match=r"prior 'spiral' of spiral 1\.0 has no option 'turn'; did you mean 'turns"
    ):
        shapes.build("spiral", {"turn": 5})


def test_a_plugin_is_found_under_its_own_kind_only(install, shapes):
    install("spiral", {"quantizers": {"spiral": "build"}}, "def build(): return 1, 1")
    assert shapes.list_names() == ["rectangle", "square"]
    with pytest.raises(UnknownNameError, match="unknown prior 'spiral'"):
        shapes.get("spiral")


def test_an_unknown_name_suggests_a_plugin_that_was_never_imported(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}})
    with pytest.raises(UnknownNameError, match="did you mean 'spiral'"):
        shapes.get("spirale")
    assert "spiral" not in sys.modules


def test_a_plugin_that_fails_to_import_is_named_with_its_cause_and_hurts_no_other(
    install, shapes, find_plugin
):
    install("broken", {"priors": {"cracked": "build"}}, "raise KeyError('no such GPU')")
    install("healthy", {"priors": {"whole": "build"}}, "def build(): return 1, 1")
    assert shapes.list_names() == ["cracked", "rectangle", "square", "whole"]
    with pytest.raises(ImportError) as failed:
        shapes.build("cracked")
    assert str(failed.value) == (
        "prior 'cracked' comes from broken 1.0 (broken:build), which failed to import: "
        "KeyError: 'no such GPU'"
    )
    assert isinstance(failed.value.__cause__, KeyError)
    plugin = find_plugin("cracked")
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
    install, shapes, builder, code, cause, find_plugin
):
    install("odd", {"priors": {"odd": builder}}, code)
    with pytest.raises(ImportError, match="prior 'odd'") as failed:
        shapes.get("odd")
    assert cause in str(failed.value)
    assert find_plugin("odd").status == "failed"
    assert cause in find_plugin("odd").error


def test_a_built_in_hides_a_plugin_of_its_name_and_says_so_once(install, shapes, find_plugin):
    shapes.register("round")(circle)
    install("rival", {"priors": {"round": "build"}}, "raise RuntimeError('must not be imported')")
    with pytest.warns(RuntimeWarning) as warned:
        assert shapes.build("round", {"radius": 2}) == (2, 2)
    assert [str(warning.message) for warning in warned] == [
        f"prior 'round' of rival 1.0 is shadowed: {__name__}.circle has the same name and is used"
    ]
    assert shapes.get("round") is circle  # a second warning would be an error here
    assert shapes.list_names() == ["rectangle", "round", "square"]
    assert find_plugin("round").status == "shadowed"


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")], ids=str)
def test_of_two_packages_with_one_name_the_first_by_name_is_used_whatever_comes_first_on_the_path(
    install, shapes, order
):
    for package in order:
        install(package, {"priors": {"twin": "build"}}, f"def build(): return ({package!r},)")
    with pytest.warns(RuntimeWarning) as warned:
        assert shapes.build("twin") == ("one",)
    assert [str(warning.message) for warning in warned] == [
        "prior 'twin' of two 1.0 is shadowed: the part of one has the same name and is used"
    ]
    assert shapes.build("twin") == ("one",)  # a second warning would be an error here
    assert "two" not in sys.modules
    assert [
        (each.package, each.status) for each in plugins.find_plugins() if each.name == "twin"
    ] == [
        ("one", "loaded"),
        ("two", "shadowed"),
    ]


@pytest.mark.parametrize(
    ("value", "found"), [("1", False), ("yes", False), ("0", True), ("", True)]
)
def test_discovery_can_be_turned_off(install, shapes, monkeypatch, value, found):
    install("spiral", {"priors": {"spiral": "build"}})
    monkeypatch.setenv("VQVIDEO_DISABLE_PLUGINS", value)
    plugins.find_plugins.cache_clear()
    assert bool(plugins.find_plugins()) is found
    assert ("spiral" in shapes.list_names()) is found


@pytest.mark.parametrize(
    ("first", "second"), [("alpha", "Zeta"), ("alpha_2", "alpha-3"), ("Alpha.b", "alpha_c")]
)
def test_packages_are_ordered_by_the_spelling_that_is_the_same_for_all(
    install, shapes, first, second
):
    for package in (second, first):
        module = re.sub(r"\W", "_", package)
        text = f"[vqvideo.api]\n2 = x\n[vqvideo.priors]\ntwin = {module}:build\n"
        install(package, text, module=module)
    assert [each.package for each in plugins.find_plugins()] == [first, second]
    assert [each.status for each in plugins.find_plugins()] == ["available", "shadowed"]


def test_a_package_of_which_an_older_version_lies_below_offers_what_the_newer_one_does(
    install, shapes, tmp_path, monkeypatch
):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(): return 1, 1")
    (tmp_path / "site").rename(tmp_path / "below")
    install("spiral", "", version="2.0")  # which offers nothing any more
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "below")])
    plugins.find_plugins.cache_clear()
    assert plugins.find_plugins() == ()


def test_the_first_of_two_packages_that_fails_names_the_other_and_keeps_the_name(install, shapes):
    install("one", {"priors": {"twin": "build"}}, "raise KeyError('x')")
    install("two", {"priors": {"twin": "build"}}, "def build(): return 2, 2")
    complaint = (
        r"KeyError: 'x'; two provides a part of the same name, which is used if one is not "
        r"installed$"
    )
    with (
        pytest.warns(RuntimeWarning, match="the part of one has the same name"),
        pytest.raises(ImportError, match=complaint),
    ):
        shapes.build("twin")


def test_a_name_of_another_kind_is_unknown_with_the_kind_that_has_it(install, shapes):
    install("nets", {"encoders": {"spiral": "build"}})
    with pytest.raises(UnknownNameError, match=r"^unknown quantizer 'wavenet' \(a prior has that"):
        QUANTIZERS.get("wavenet")
    with pytest.raises(UnknownNameError, match=r"'spiral' \(an encoder has that name\); known: "):
        QUANTIZERS.get("spiral")
    with pytest.raises(UnknownNameError, match=r"^unknown prior 'pixelcnn'; known: "):
        shapes.get("pixelcnn")  # of its own kind, elsewhere


# -- and beside what a decorator registers --------------------------------------------------


def test_a_decorator_under_the_name_of_a_loaded_plugin_is_refused(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(): return 1, 1")
    build = shapes.get("spiral")
    with pytest.raises(ValueError) as refused:
        shapes.register("spiral")(circle)
    assert str(refused.value) == (
        f"prior 'spiral' is already provided by spiral 1.0; {__name__}.circle must choose another "
        f"name"
    )
    assert shapes.register("spiral")(build) is build  # the same object changes nothing
    assert shapes.build("spiral") == (1, 1)


BY_ITSELF = {
    "class": "part = QUANTIZERS.register('mine')(VectorQuantizer)",
    "partial": "part = QUANTIZERS.register('mine')(partial(VectorQuantizer, codebook_size=8))",
    "another": """
        @QUANTIZERS.register('mine')
        def other(): raise RuntimeError('the entry point is what counts')
        part = VectorQuantizer
    """,
}


@pytest.mark.parametrize("how", BY_ITSELF)
def test_a_plugin_that_registers_a_builder_of_ours_is_not_hidden_by_itself(
    install, find_plugin, how
):
    head = "from functools import partial\nfrom vqvideo.quantizers import *\n"
    code = f"{head}from vqvideo.quantizers import QUANTIZERS\n{textwrap.dedent(BY_ITSELF[how])}"
    install("mine", {"quantizers": {"mine": "part"}}, code)
    try:
        for _ in range(2):
            assert type(QUANTIZERS.build("mine")).__name__ == "VectorQuantizer"
        assert (find_plugin("mine").status, find_plugin("mine").error) == ("loaded", "")
        assert QUANTIZERS.get_owner("mine") == ("mine", "1.0")
    finally:
        QUANTIZERS._builders.pop("mine", None)


def test_whose_a_part_is_can_be_asked(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}})
    install("old", {"priors": {"old": "build"}}, api=["0"], version="3.1")
    shapes.register("round")(circle)
    module = __name__.split(".")[0]
    owners = {"spiral": ("spiral", "1.0"), "old": ("old", "3.1"), "round": (module, "")}
    for name, owner in {**owners, "nobody": None}.items():
        assert shapes.get_owner(name) == owner
    assert QUANTIZERS.get_owner("ema") == ("vqvideo", vqvideo.__version__)
