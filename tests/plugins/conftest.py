"""Packages that nobody had to install: a module on the path, and metadata with entry points."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vqvideo import plugins
from vqvideo.plugins import Plugin
from vqvideo.registry import Registry

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a throw-away distribution on the path.

    `install("square", {"quantizers": {"mine": "build"}}, code)` is a package `square` 1.0, built
    for API version 1, whose module `square` holds `code` and offers the quantizer `mine`, built
    by `square.build`. Its entry points may also be given as the text of their file.
    """
    monkeypatch.delenv("VQVIDEO_DISABLE_PLUGINS", raising=False)
    site = tmp_path / "site"
    modules: list[str] = []

    def add(
        package: str, entries: dict[str, dict[str, str]] | str, code: str = "", **about
    ) -> None:
        version, api = about.get("version", "1.0"), about.get("api", ["2"])
        module = about.get("module", package)
        folder = site / f"{re.sub('[-.]', '_', package)}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        if not isinstance(entries, str):
            lines = ["[vqvideo.api]", *(f"{number} = {package}" for number in api)]
            for group, parts in entries.items():
                lines += [f"[vqvideo.{group}]"]
                lines += [f"{name} = {package}:{builder}" for name, builder in parts.items()]
            entries = "\n".join(lines) + "\n"
        (folder / "entry_points.txt").write_text(entries)
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        modules.append(module)
        monkeypatch.syspath_prepend(site)  # also forgets what the import system had listed
        plugins.find_plugins.cache_clear()

    plugins.find_plugins.cache_clear()
    yield add
    plugins.find_plugins.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def find_plugin() -> Callable[[str], Plugin]:
    """Finds a plugin by its name."""
    return lambda name: next(each for each in plugins.find_plugins() if each.name == name)


@pytest.fixture
def shapes() -> Registry[tuple[int, int]]:
    """A registry with two parts of its own."""
    parts: Registry[tuple[int, int]] = Registry("prior", tuple)
    parts.register("rectangle")(lambda *, height, width=2: (height, width))
    parts.register("square")(lambda *, side: (side, side))
    return parts


@pytest.fixture
def tiny() -> dict[str, object]:
    """Changes that make the model `image` quick."""
    return {
        "sample_shape": (8, 12),
        "encoder": {"width": 8, "num_blocks": 1},
        "decoder": {"width": 8, "num_blocks": 1},
        "prior": {"width": 8, "num_layers": 2, "first_kernel_size": 3},
    }


@pytest.fixture
def lattice() -> str:
    """The code of a quantizer, `Lattice`."""
    return LATTICE


LATTICE = """
    import torch
    from torch import Tensor

    from vqvideo.metrics import code_histogram, perplexity
    from vqvideo.quantizers import Quantized, Quantizer, nearest_codes


    class Lattice(Quantizer):
        '''Entries that never move: the corners of a cube.'''

        is_nearest_neighbor = True

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
