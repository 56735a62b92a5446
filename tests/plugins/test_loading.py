"""What shows of a plugin when it is imported or built."""

from __future__ import annotations

import pytest

from vqvideo.registry import Registry


@pytest.mark.parametrize("leave", ["import sys; sys.exit()", "raise SystemExit(3)", "exit('no')"])
def test_a_plugin_that_leaves_when_it_is_imported_does_not_end_the_interpreter(
    install, shapes, leave, find_plugin
):
    install("rude", {"priors": {"rude": "build"}}, leave)
    with pytest.raises(ImportError, match="which failed to import: SystemExit"):
        shapes.build("rude")
    assert find_plugin("rude").status == "failed"


def test_a_plugin_that_leaves_when_it_is_built_does_not_end_the_interpreter(
    install, shapes, find_plugin
):
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
    assert error.value.__notes__ == ["while building prior 'spiral' of spiral 1.0"]


def test_a_plugin_that_builds_something_else_is_named_with_what_was_expected_and_came(
    install, shapes
):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(): return {}")
    with pytest.raises(TypeError) as refused:
        shapes.build("spiral")
    assert str(refused.value) == (
        "prior 'spiral' of spiral 1.0 must be a tuple, got a dict from spiral.build"
    )


def test_a_class_of_another_kind_is_refused_before_it_is_built(install, shapes, find_plugin):
    code = "class Build: raise_ = 1\n"
    install("spiral", {"priors": {"spiral": "Build"}}, code)
    with pytest.raises(
        TypeError, match=r"of spiral 1.0 must be a subclass of tuple, or a function"
    ):
        shapes.get("spiral")
    assert find_plugin("spiral").status == "failed"
    assert find_plugin("spiral").error.endswith("; spiral.Build is neither")


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("def build(*, rank): ...", "must take rank, width, as every prior does; x.build does not"),
        ("def build(rank, width, /): ...", "x.build does not take rank"),
        ("build = type", "must have a signature, but builtins.type has none"),
    ],
)
def test_a_builder_that_does_not_take_what_every_one_is_given_is_refused(
    install, code, complaint, find_plugin
):
    sized: Registry[tuple] = Registry("prior", object, required_args=("rank", "width"))
    install("x", {"priors": {"x": "build"}}, code)
    with pytest.raises(TypeError, match=complaint):
        sized.get("x")
    assert complaint in find_plugin("x").error


def test_a_builder_that_takes_anything_takes_the_sizes_too(install):
    sized: Registry[tuple] = Registry("prior", tuple, required_args=("rank", "width"))
    install("x", {"priors": {"x": "build"}}, "def build(**sizes): return tuple(sizes)")
    assert sized.build("x", rank=1, width=2) == ("rank", "width")


def test_what_a_plugin_prints_when_it_is_imported_and_built_does_not_reach_stdout(
    install, shapes, capsys
):
    code = """
        print("hello at import")

        def build():
            print("hello at build")
            return 1, 1
    """
    install("loud", {"priors": {"loud": "build"}}, code)
    shapes.get("loud")
    assert capsys.readouterr() == ("", "hello at import\n")
    shapes.build("loud")
    assert capsys.readouterr() == ("", "hello at build\n")


def test_a_plugin_that_failed_and_was_mended_has_no_error_left(
    install, shapes, find_plugin, tmp_path
):
    install("spiral", {"priors": {"spiral": "build"}}, "1 / 0")
    with pytest.raises(ImportError):
        shapes.get("spiral")
    assert (find_plugin("spiral").status, find_plugin("spiral").error[:12]) == (
        "failed",
        "ZeroDivision",
    )
    # another length, or the import system takes the bytecode of the file of the same second
    (tmp_path / "site" / "spiral.py").write_text("def build(): return 1, 1")
    assert shapes.build("spiral") == (1, 1)
    assert (find_plugin("spiral").status, find_plugin("spiral").error) == ("loaded", "")
