"""How the pages are built: `sphinx-build -W docs OUT` (extra `docs`)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from sphinx.application import Sphinx

import vqvideo
from vqvideo.cli import _build_parser

project = "vqvideo"
copyright = "the authors of vqvideo, Apache-2.0"
version = release = vqvideo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"vqvideo {version}"
html_show_sphinx = False
myst_heading_anchors = 3  # links to headings are those that GitHub makes
default_role = "code"  # docstrings set code in single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
python_use_unqualified_type_names = True

os.environ["COLUMNS"] = "88"  # of the help that argparse writes


def commands(parser: argparse.ArgumentParser, level: int = 1) -> Iterator[str]:
    """The help of a command, and of those inside it, as Markdown."""
    if level > 1:
        yield f"\n{'#' * level} {parser.prog}\n\n"
    yield f"```text\n{parser.format_help()}```\n"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from commands(command, level + 1)


def setup(app: Sphinx) -> None:
    """Fill the page of the commands when it is read."""

    def fill(_: Sphinx, page: str, source: list[str]) -> None:
        if page == "reference/cli":
            source[0] += "".join(commands(_build_parser(None)))

    app.connect("source-read", fill)
