"""What is said when a law breaks: whose part, which law, what is wrong, where to read on."""

import importlib
import inspect
import pkgutil
import pydoc

import pytest

import vqvideo.testing
from vqvideo.testing.laws import check_laws

MODULES = [
    importlib.import_module(f"vqvideo.testing.{found.name}")
    for found in pkgutil.iter_modules(vqvideo.testing.__path__)
]
LAW_MODULES = [module for module in MODULES if hasattr(module, "REFERENCE")]
REFERENCE = "vqvideo.codes.Codes"


def codes_are_seven(codes):
    """Every code is 7,
    in spite of all.

    Nobody knows why.
    """
    if codes != 7:
        raise AssertionError(f"the code is {codes}")


def test_a_broken_law_names_the_part_the_law_what_is_wrong_and_where_to_read_on():
    with pytest.raises(AssertionError) as raised:
        check_laws([codes_are_seven], "Six", 6)
    assert str(raised.value) == (
        "Six breaks the law codes_are_seven: the code is 6\n"
        "The law: Every code is 7, in spite of all.\n"
        "See: vqvideo.codes.Codes"
    )
    assert raised.traceback[-1].name == "codes_are_seven"  # the line that found it is still shown


def test_an_error_of_the_part_itself_goes_through_with_a_note_on_the_law():
    def codes_can_be_asked_for(part):
        """Whatever is asked."""
        raise KeyError("codes")

    with pytest.raises(KeyError) as raised:
        check_laws([codes_can_be_asked_for], "Silent", 6)
    assert raised.value.__notes__ == [
        "raised by Silent under the law codes_can_be_asked_for\n"
        "The law: Whatever is asked.\nSee: vqvideo.codes.Codes"
    ]


def test_an_assert_of_the_part_itself_that_says_nothing_is_shown():
    def codes_can_be_asked_for(part):
        """Whatever is asked."""
        assert part == 7

    with pytest.raises(AssertionError) as raised:
        check_laws([codes_can_be_asked_for], "Silent", 6)
    said = str(raised.value).split("\n")[0]
    assert said.startswith("Silent breaks the law codes_can_be_asked_for: ")
    assert "part == 7" in said or "6 == 7" in said  # pytest rewrites the assert of a test


def test_laws_are_checked_in_their_order_up_to_the_first_that_breaks():
    seen = []
    laws = [lambda each, n=n: seen.append((n, each)) for n in range(2)]
    with pytest.raises(AssertionError, match=r"^Six breaks the law codes_are_seven"):
        check_laws([*laws, codes_are_seven, lambda each: seen.append("later")], "Six", 6)
    assert seen == [(0, 6), (1, 6)]


@pytest.mark.parametrize("module", LAW_MODULES, ids=lambda module: module.__name__)
def test_what_to_read_on_is_there_and_says_what_is_promised(module):
    promised = pydoc.locate(module.REFERENCE)
    assert promised is not None, f"there is no {module.REFERENCE}"
    assert len(inspect.getdoc(promised) or "") > 100, module.REFERENCE


@pytest.mark.parametrize("module", LAW_MODULES, ids=lambda module: module.__name__)
def test_every_law_says_what_holds(module):
    """All public functions of such a file are laws, but for the checks and what those ask for."""
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if inspect.unwrap(function).__module__ == module.__name__ and not name.startswith("_"):
            assert inspect.getdoc(function), name


def test_what_is_no_model_is_refused_with_what_one_is():
    with pytest.raises(
        AssertionError, match=r"model must be a name or the .* function, got NoneType"
    ):
        vqvideo.testing.check_model(None)
