"""Names of parts registered in this process: who has one, and what a wrong one is told."""

from __future__ import annotations

import re
import sys

import pytest

import vqvideo
from vqvideo.builtin_parts import MODULES
from vqvideo.config import PartConfig
from vqvideo.registry import Registry, UnknownNameError


def rectangle(*, height: int, width: int = 2) -> tuple[int, int]:
    return height, width


def square(*, side: int) -> tuple[int, int]:
    return side, side


@pytest.fixture
def shapes() -> Registry[tuple[int, int]]:
    parts: Registry[tuple[int, int]] = Registry("prior", tuple)
    parts.register("rectangle")(rectangle)
    parts.register("square")(square)
    return parts


def test_a_registered_part_is_built_by_name_and_stays_what_it_was(shapes):
    assert shapes.register("other")(square) is square
    assert shapes.get("square") is square
    assert shapes.build("rectangle", {"height": 3}) == (3, 2)
    assert shapes.build("rectangle", {"width": 4}, height=3) == (3, 4)


def test_another_object_under_a_taken_name_is_refused_and_both_owners_are_named(shapes):
    with pytest.raises(ValueError, match=r"^prior 'square' is already registered by ") as refused:
        shapes.register("square")(rectangle)
    assert f"registered by {__name__}.square; {__name__}.rectangle must choose another name" in str(
        refused.value
    )
    assert shapes.get("square") is square


def test_a_built_in_name_is_taken_before_its_module_is_imported(shapes, tmp_path, monkeypatch):
    module = "registers_circle"
    (tmp_path / f"{module}.py").write_text(
        "import sys\n"
        "def circle(*, radius: int): return (radius,)\n"
        "sys.modules['registry_of_shapes'].register('circle')(circle)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "registry_of_shapes", shapes)
    monkeypatch.setitem(MODULES, "prior", (module,))
    with pytest.raises(ValueError, match=r"already registered by registers_circle\.circle; "):
        shapes.register("circle")(square)
    assert shapes.build("circle", {"radius": 2}) == (2,)


def test_registering_the_same_object_again_changes_nothing(shapes):
    shapes.register("square")(square)
    assert shapes.list_names() == ["rectangle", "square"]
    assert shapes.get("square") is square


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all(shapes):
    with pytest.raises(UnknownNameError) as unknown:
        shapes.get("sqare")
    assert str(unknown.value) == (
        "unknown prior 'sqare'; did you mean 'square'?; known: rectangle, square"
    )
    with pytest.raises(UnknownNameError, match=r"^unknown prior 'zzz'; known: rectangle, square$"):
        shapes.build("zzz", {"side": 1})


def test_an_unknown_name_in_an_empty_registry_is_refused_as_empty():
    with pytest.raises(UnknownNameError, match="unknown likelihood 'x'; known: none"):
        Registry("likelihood", tuple).get("x")


@pytest.mark.parametrize(
    ("name", "options", "given", "complaint"),
    [
        (
            "rectangle",
            {"height": 1, "widht": 2},
            {},
            "prior 'rectangle' has no option 'widht'; did you mean 'width'?; "
            "it takes: height, width",
        ),
        ("square", {"zzz": 2}, {"side": 1}, "prior 'square' has no option 'zzz'; it takes: none"),
        (
            "rectangle",
            {"height": 1},
            {"height": 2},
            "prior 'rectangle' has no option 'height'; it takes: width",
        ),
        ("rectangle", {"width": 1}, {}, "prior 'rectangle' needs the option 'height'"),
        ("square", None, {}, "prior 'square' needs the option 'side'"),
    ],
)
def test_wrong_options_are_refused_by_name(shapes, name, options, given, complaint):
    with pytest.raises(ValueError) as refused:
        shapes.build(name, options, **given)
    assert str(refused.value) == complaint


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*", ["rectangle", "square"]), ("s*", ["square"]), ("?ectangle", ["rectangle"]), ("z*", [])],
)
def test_names_are_listed_sorted_by_wildcard(shapes, pattern, expected):
    assert shapes.list_names(pattern) == expected


def test_only_known_kinds_have_a_registry():
    with pytest.raises(ValueError, match=r"kind must be one of model, encoder, .*, got 'optimi"):
        Registry("optimizer", tuple)


def test_a_builder_that_takes_anything_is_given_anything():
    shapes = Registry("prior", tuple)

    @shapes.register("open")
    def build(*, side, **rest):
        return side, rest

    assert shapes.build("open", {"side": 1, "colour": "red"}) == (1, {"colour": "red"})
    with pytest.raises(ValueError, match="needs the option 'side'"):
        shapes.build("open", {"colour": "red"})


@pytest.mark.parametrize("name", ["", "two words", "a/b", "a:b", "7up", "café", "-x", "a\nb", "*"])
def test_a_name_with_odd_characters_is_refused_with_those_that_are_allowed(shapes, name):
    allowed = "must begin with a letter a-z or A-Z, followed by letters, digits, '-', '_' and '.'"
    with pytest.raises(
        ValueError, match=f"^{re.escape(repr(name))} is no valid part name: it {allowed}$"
    ):
        shapes.register(name)
    assert shapes.list_names() == ["rectangle", "square"]


def test_a_builder_that_gives_something_else_is_named_with_what_it_gave(shapes):
    @shapes.register("list")
    def build():
        return [1, 2]

    with pytest.raises(TypeError) as refused:
        shapes.build("list")
    assert str(refused.value) == (
        f"prior 'list' must be a tuple, got a list from {build.__module__}.{build.__qualname__}"
    )


def test_a_name_is_looked_up_with_either_dash_and_written_with_one():
    shapes = Registry("prior", tuple)

    @shapes.register("two_sides")
    def build_sides(*, side: int) -> tuple[int, int]:
        return side, side

    assert shapes.list_names() == shapes.list_names("two_*") == ["two-sides"]
    assert shapes.get("two-sides") is shapes.get("two_sides") is build_sides
    assert shapes.build("two_sides", {"side": 3}) == shapes.build("two-sides", {"side": 3})
    assert shapes.has_option("two_sides", "side")
    assert shapes.get_owner("two_sides") == shapes.get_owner("two-sides")
    with pytest.raises(ValueError, match=r"'two-sides' is already registered"):
        shapes.register("two-sides")(lambda: (1, 1))


def test_a_config_writes_one_spelling_of_a_name():
    assert PartConfig.parse("finite_scalar") == PartConfig.parse("finite-scalar")
    generator = vqvideo.build("image", quantizer={"name": "finite_scalar", "levels": (3, 4)})
    assert generator.config.to_dict()["quantizer"]["name"] == "finite-scalar"
    assert vqvideo.build("audio_25hz").config == vqvideo.build("audio-25hz").config
