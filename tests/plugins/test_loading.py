"""What shows of a plugin when it is imported or built."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from vqvideo.cli import main
from vqvideo.isolation import MAX_MESSAGE_LENGTH, run_foreign_code
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
    interrupt = "import signal; signal.raise_signal(signal.SIGINT)"
    install("slow", {"priors": {"slow": "build"}}, f"{interrupt}\ndef build(): return 1, 1")
    with pytest.raises(KeyboardInterrupt):
        shapes.build("slow")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    build = f"def build():\n    {interrupt}"
    install("slower", {"priors": {"slower": "build"}}, build)
    with pytest.raises(KeyboardInterrupt):
        shapes.build("slower")


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


UNSPEAKABLE = """
    class Text(str):
        def __getitem__(self, index): raise RuntimeError
        def split(self): raise RuntimeError
        def __len__(self): raise RuntimeError

    class Unspeakable(Exception):
        def __str__(self): return 1 / 0
        __repr__ = __str__
        def add_note(self, note): raise RuntimeError

    class Subclass(Exception):
        def __str__(self): return Text("words")

    class Exits(Exception):
        def __str__(self): raise SystemExit

    def fail(kind):
        raise {
            "unspeakable": Unspeakable(), "subclass": Subclass(), "exits": Exits(),
            "interrupt": KeyboardInterrupt(), "generator": GeneratorExit(),
            "exit": SystemExit(3), "stop": StopIteration(), "long": ValueError("a" * 10**7),
        }[kind]
"""
KINDS = {  # what is said of an error
    "unspeakable": "Unspeakable: its message cannot be formatted (ZeroDivisionError)",
    "subclass": "Subclass: words",
    "exits": "Exits: its message cannot be formatted (SystemExit)",
    "interrupt": "KeyboardInterrupt",
    "generator": "GeneratorExit",
    "exit": "SystemExit: 3",
    "stop": "StopIteration",
    "long": "ValueError: aaaa",
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_plugin_raises_at_import_is_an_import_error_that_names_it(
    install, shapes, kind, find_plugin
):
    install("odd", {"priors": {"odd": "build"}}, f"{UNSPEAKABLE}\n    fail({kind!r})")
    with pytest.raises(ImportError, match=r"prior 'odd' comes from odd 1\.0") as failed:
        shapes.get("odd")
    assert KINDS[kind] in str(failed.value)
    assert find_plugin("odd").status == "failed"
    assert find_plugin("odd").error.startswith(KINDS[kind])
    assert len(find_plugin("odd").error) < MAX_MESSAGE_LENGTH + 100


@pytest.mark.parametrize("kind", ["interrupt", "generator", "exit"])
def test_what_would_end_the_program_at_a_build_is_an_error_that_names_the_plugin(
    install, shapes, kind
):
    code = f"{UNSPEAKABLE}\n    def build(): fail({kind!r})"
    install("odd", {"priors": {"odd": "build"}}, code)
    with pytest.raises(RuntimeError, match=r"^prior 'odd' of odd 1\.0 (called|raised) "):
        shapes.build("odd")


def test_an_error_of_a_build_that_cannot_be_put_into_words_goes_through(install, shapes):
    code = f"{UNSPEAKABLE}\n    def build(): fail('unspeakable')"
    install("odd", {"priors": {"odd": "build"}}, code)
    with pytest.raises(Exception) as failed:
        shapes.build("odd")
    assert type(failed.value).__name__ == "Unspeakable"


BUILDERS = {
    "signature": "__signature__ = property(lambda self: 1 / 0)",
    "repr": "__repr__ = lambda self: 1 / 0",
    "qualname": "__qualname__ = property(lambda self: 1 / 0)",
    "attributes": "__getattribute__ = lambda self, name: 1 / 0",
    "exit": "__signature__ = property(lambda self: exit(3))",
}


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_builder_that_cannot_be_examined_fails_alone_and_stdout_is_json_only(
    install, find_plugin, kind, capfd
):
    code = f"""
        import os

        print("printed")
        os.write(1, b"written")

        class Builder:
            {BUILDERS[kind].replace("exit(3)", "(_ for _ in ()).throw(SystemExit(3))")}

            def __call__(self, **options):
                os.write(1, b"written")

        build = Builder()
    """
    install("odd", {"quantizers": {"odd": "build"}}, code)
    install("healthy", {"quantizers": {"whole": "build"}}, "def build(): return None")
    assert main(["plugins", "--load", "--json"]) == 0
    out, err = capfd.readouterr()
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["whole"]["status"] == "loaded"
    # Without a signature of its own, a builder has that of its class.
    assert rows["odd"]["status"] == "failed" or kind in ("repr", "qualname")
    assert "written" in err and "printed" in err


def test_threads_that_load_plugins_at_once_leave_stdout_where_it_was(capfd):
    inside = threading.Barrier(3)

    def load(order):
        with run_foreign_code():
            inside.wait()
            os.write(1, b"foreign ")
            if order:
                release[order - 1].wait()
        release[order].set()

    release = [threading.Event() for _ in range(3)]
    threads = [threading.Thread(target=load, args=(order,)) for order in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(1, b"own")
    assert capfd.readouterr() == ("own", "foreign " * 3)


def test_plugins_load_while_stdout_is_closed(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(): return 1, 1")
    saved = os.dup(1)
    try:
        os.close(1)
        assert shapes.build("spiral") == (1, 1)
        with pytest.raises(OSError):
            os.fstat(1)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
