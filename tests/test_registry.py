"""Names of parts: who has one, what a wrong one is told, and plugins nobody had to install."""

from __future__ import annotations

import json
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import registry
from vqvideo.checkpoint import CheckpointError
from vqvideo.config import MODELS
from vqvideo.quantizers import QUANTIZERS
from vqvideo.registry import Plugin, Registry, UnknownNameError, list_plugins
from vqvideo.testing import check_quantizer

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a throw-away distribution on the path: a module, and metadata with entry points.

    `install("square", {"quantizers": {"mine": "build"}}, code)` is a package `square` 1.0 whose
    module `square` holds `code` and offers the quantizer `mine`, built by `square.build`.
    """
    monkeypatch.delenv("VQVIDEO_DISABLE_PLUGINS", raising=False)
    site = tmp_path / "site"
    modules: list[str] = []

    def add(package: str, entries: dict[str, dict[str, str]], code: str = "") -> None:
        about = site / f"{package}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = []
        for group, parts in entries.items():
            lines += [f"[vqvideo.{group}]"]
            lines += [f"{name} = {package}:{builder}" for name, builder in parts.items()]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
        (site / f"{package}.py").write_text(textwrap.dedent(code))
        modules.append(package)
        monkeypatch.syspath_prepend(site)  # also forgets what the import system had listed
        registry._scan.cache_clear()

    registry._scan.cache_clear()
    yield add
    registry._scan.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


def plugin_called(name: str) -> Plugin:
    return next(plugin for plugin in list_plugins() if plugin.name == name)


def rectangle(*, height: int, width: int = 2) -> tuple[int, int]:
    return height, width


def square(*, side: int) -> tuple[int, int]:
    return side, side


@pytest.fixture
def shapes() -> Registry[tuple[int, int]]:
    parts: Registry[tuple[int, int]] = Registry("prior")
    parts.register("rectangle")(rectangle)
    parts.register("square")(square)
    return parts


# -- in this process ------------------------------------------------------------------------


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


def test_registering_the_same_object_again_changes_nothing(shapes):
    shapes.register("square")(square)
    assert shapes.names() == ["rectangle", "square"]
    assert shapes.get("square") is square


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all(shapes):
    with pytest.raises(UnknownNameError) as unknown:
        shapes.get("sqare")
    assert str(unknown.value) == (
        "unknown prior 'sqare'; did you mean 'square'?; known: rectangle, square"
    )
    with pytest.raises(UnknownNameError, match=r"^unknown prior 'zzz'; known: rectangle, square$"):
        shapes.build("zzz", {"side": 1})


def test_an_unknown_name_in_an_empty_registry_is_told_that_there_is_none():
    with pytest.raises(UnknownNameError, match="unknown likelihood 'x'; known: none"):
        Registry("likelihood").get("x")


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
    assert shapes.names(pattern) == expected


def test_only_known_kinds_have_a_registry():
    with pytest.raises(ValueError, match=r"kind must be one of model, encoder, .*, got 'optimi"):
        Registry("optimizer")


# -- plugins --------------------------------------------------------------------------------


def test_a_plugin_is_listed_without_being_imported_and_loads_when_it_is_used(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(*, turns=3): return turns, 1")
    assert shapes.names("s*") == ["spiral", "square"]
    plugin = plugin_called("spiral")
    assert (plugin.kind, plugin.package, plugin.version) == ("prior", "spiral", "1.0")
    assert (plugin.status, plugin.error) == ("available", "")
    assert "spiral" not in sys.modules

    assert shapes.build("spiral", {"turns": 5}) == (5, 1)
    assert "spiral" in sys.modules
    assert plugin_called("spiral").status == "loaded"


def test_a_plugins_options_are_checked_like_those_of_a_built_in(install, shapes):
    install("spiral", {"priors": {"spiral": "build"}}, "def build(*, turns=3): return turns, 1")
    with pytest.raises(
        ValueError, match="prior 'spiral' has no option 'turn'; did you mean 'turns"
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
    plugin = plugin_called("cracked")
    assert (plugin.status, plugin.error) == ("failed", "KeyError: 'no such GPU'")

    assert shapes.build("whole") == (1, 1)
    assert shapes.build("square", {"side": 2}) == (2, 2)
    with pytest.raises(UnknownNameError, match=r"; failed to import: cracked$"):
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
    assert plugin_called("odd").status == "failed"
    assert cause in plugin_called("odd").error


def test_a_built_in_hides_a_plugin_of_its_name_and_says_so_once(install, shapes):
    install("rival", {"priors": {"square": "build"}}, "raise RuntimeError('must not be imported')")
    with pytest.warns(RuntimeWarning) as warned:
        assert shapes.get("square") is square
    assert [str(warning.message) for warning in warned] == [
        "prior 'square' of rival 1.0 is hidden: the built-in one has the same name and is used"
    ]
    assert shapes.get("square") is square  # a second warning would be an error here
    assert shapes.names() == ["rectangle", "square"]
    assert plugin_called("square").status == "shadowed"


def test_of_two_plugins_with_one_name_the_first_is_used_and_the_other_is_named(install, shapes):
    for package in ("one", "two"):
        install(package, {"priors": {"twin": "build"}}, f"def build(): return {package!r}")
    with pytest.warns(RuntimeWarning, match="prior 'twin' of .* is hidden: that of ") as warned:
        winner = shapes.build("twin")
    assert len(warned) == 1
    loser = {"one": "two", "two": "one"}[winner]
    assert f"of {loser} 1.0 is hidden: that of {winner} has" in str(warned[0].message)
    assert loser not in sys.modules
    assert [p.status for p in list_plugins() if p.package == loser] == ["shadowed"]


def test_a_plugin_that_also_registers_itself_is_not_hidden_by_itself(install):
    install(
        "both",
        {"quantizers": {"both-ways": "Both"}},
        """
        from vqvideo.quantizers import QUANTIZERS, VectorQuantizer

        @QUANTIZERS.register("both-ways")
        class Both(VectorQuantizer):
            pass
        """,
    )
    try:
        built = [QUANTIZERS.build("both-ways", {"code_dim": 3}) for _ in range(2)]
        assert [type(quantizer).__name__ for quantizer in built] == ["Both", "Both"]
        assert plugin_called("both-ways").status == "loaded"
    finally:
        QUANTIZERS._builders.pop("both-ways", None)


@pytest.mark.parametrize(
    ("value", "found"), [("1", False), ("yes", False), ("0", True), ("", True)]
)
def test_discovery_can_be_turned_off(install, shapes, monkeypatch, value, found):
    install("spiral", {"priors": {"spiral": "build"}})
    monkeypatch.setenv("VQVIDEO_DISABLE_PLUGINS", value)
    registry._scan.cache_clear()
    assert bool(list_plugins()) is found
    assert ("spiral" in shapes.names()) is found


# -- through the front door -----------------------------------------------------------------

LATTICE = """
    import torch
    from torch import Tensor

    from vqvideo.metrics import code_histogram, perplexity
    from vqvideo.quantizers import Quantized, Quantizer, nearest_codes


    class Lattice(Quantizer):
        '''Entries that never move: the corners of a cube.'''

        plain_lookup = True

        def __init__(self, *, num_axes: int = 3) -> None:
            super().__init__()
            self.z_channels, self.codebook_size = num_axes, 2**num_axes
            corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * num_axes)
            self.register_buffer("corners", corners)

        def quantize(self, z_e: Tensor, mask: Tensor | None) -> Quantized:
            vectors = z_e.movedim(1, -1)
            codes = nearest_codes(vectors.flatten(0, -2), self.corners).view(vectors.shape[:-1])
            z_q = self.dequantize(codes)
            if mask is None:
                mask = torch.ones_like(codes, dtype=torch.bool)
            errors = (z_e - z_q).square().movedim(1, -1)[mask]
            loss = errors.sum() / max(errors.numel(), 1)
            used = perplexity(code_histogram(codes[mask], self.codebook_size))
            return Quantized(z_q + (z_e - z_e.detach()), codes, loss, loss * 0, used)

        def dequantize(self, codes: Tensor) -> Tensor:
            return self.corners[codes].movedim(-1, 1)
"""

TINY = {
    "sample_shape": (8, 12),
    "encoder": {"width": 8, "num_blocks": 1},
    "decoder": {"width": 8, "num_blocks": 1},
    "prior": {"width": 8, "num_layers": 2, "first_kernel": 3},
}


def test_a_plugin_quantizer_is_built_used_saved_and_loaded_by_its_name(install, tmp_path):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, LATTICE)
    generator = vqvideo.build("image", quantizer="lattice", **TINY)
    assert type(generator.vqvae.quantizer).__module__ == "lattices"
    check_quantizer(partial(QUANTIZERS.build, "lattice"))
    assert generator.prior.codebook_size == 8

    x = torch.rand(2, 3, 8, 12) * 2 - 1
    z_e = generator.vqvae.encoder(x)
    bits = (z_e > 0).long()  # the nearest corner of a cube is where the signs point
    assert torch.equal(generator.vqvae.encode(x), bits[:, 0] * 4 + bits[:, 1] * 2 + bits[:, 2])
    assert generator.sample(num_samples=2).shape == (2, 3, 8, 12)

    vqvideo.save(generator, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["model"]["quantizer"] == {"name": "lattice"}  # the name, no import path
    again = vqvideo.load(tmp_path / "run")
    assert torch.equal(again.vqvae.encode(x), generator.vqvae.encode(x))
    assert torch.equal(again.sample(seed=3), generator.sample(seed=3))


def test_a_checkpoint_of_a_plugin_that_is_gone_names_what_is_missing(
    install, tmp_path, monkeypatch
):
    install("lattices", {"quantizers": {"lattice": "Lattice"}}, LATTICE)
    vqvideo.save(vqvideo.build("image", quantizer="lattice", **TINY), tmp_path / "run")
    monkeypatch.setenv("VQVIDEO_DISABLE_PLUGINS", "1")
    registry._scan.cache_clear()
    complaint = r"run/config\.json: unknown quantizer 'lattice'; known: ema, "
    with pytest.raises(CheckpointError, match=complaint) as refused:
        vqvideo.load(tmp_path / "run")
    assert isinstance(refused.value.__cause__, UnknownNameError)


def test_a_plugin_model_is_listed_and_built_like_a_built_in(install):
    code = """
        from vqvideo.presets import image

        def thumbnail():
            return image().updated(sample_shape=(4, 8), encoder={"width": 8}, decoder={"width": 8})
    """
    install("thumbnails", {"models": {"thumbnail": "thumbnail"}}, code)
    assert "thumbnail" in vqvideo.list_models("thumb*")
    assert "thumbnails" not in sys.modules
    assert vqvideo.build("thumbnail").sample_shape == (4, 8)
    assert "thumbnail" not in MODELS._builders


def test_a_plugin_named_like_a_built_in_quantizer_does_not_change_what_is_built(install):
    install("rival", {"quantizers": {"ema": "Lattice"}}, LATTICE)
    with pytest.warns(RuntimeWarning, match="quantizer 'ema' of rival 1.0 is hidden: the built-in"):
        generator = vqvideo.build("image", **TINY)
    assert type(generator.vqvae.quantizer).__module__ == "vqvideo.quantizers.ema"


def test_looking_at_plugins_draws_no_warning_of_its_own(install):
    install("rival", {"quantizers": {"ema": "Lattice"}}, "raise RuntimeError('imported')")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plugin_called("ema").package == "rival"
    assert "rival" not in sys.modules


def test_a_builder_that_takes_anything_is_given_anything():
    shapes = Registry("prior")

    @shapes.register("open")
    def build(*, side, **rest):
        return side, rest

    assert shapes.build("open", {"side": 1, "colour": "red"}) == (1, {"colour": "red"})
    with pytest.raises(ValueError, match="needs the option 'side'"):
        shapes.build("open", {"colour": "red"})
