"""Packages that nobody had to install: a module on the path, and metadata with entry points."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vqvideo import plugins

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
        version, api = about.get("version", "1.0"), about.get("api", ["1"])
        folder = site / f"{package}-{version}.dist-info"
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
        (site / f"{package}.py").write_text(textwrap.dedent(code))
        modules.append(package)
        monkeypatch.syspath_prepend(site)  # also forgets what the import system had listed
        plugins.found.cache_clear()

    plugins.found.cache_clear()
    yield add
    plugins.found.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)
