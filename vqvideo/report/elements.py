"""HTML elements of the report pages.

All text is escaped here, and media are embedded, so that a page is a single, self-contained file.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff }
h1, h2 { line-height: 1.2; font-weight: 600 }
h2 { margin-top: 2em; border-top: 1px solid #ddd; padding-top: 1em }
img, video { max-width: 100%; image-rendering: pixelated }
table { border-collapse: collapse }
th, td { padding: .2em 1.5em .2em 0; vertical-align: top; text-align: left }
th { font-weight: 600 }
td + td { font-variant-numeric: tabular-nums }
pre { background: #f5f5f5; padding: 1em; overflow-x: auto; font-size: 14px }
"""


def render_page(title: str, sections: Iterable[str]) -> str:
    """Render a page of a title and sections."""
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *sections])
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n{body}\n</html>\n"
    )


def render_heading(title: str) -> str:
    """Render the heading of a section."""
    return f"<h2>{html.escape(title)}</h2>"


def render_paragraph(text: str) -> str:
    """Render a paragraph.

    >>> render_paragraph("0 < 1")
    '<p>0 &lt; 1</p>'
    """
    return f"<p>{html.escape(text)}</p>"


def render_preformatted(text: str) -> str:
    """Render preformatted text."""
    return f"<pre>{html.escape(text)}</pre>"


def render_table(rows: Mapping[str, Any], head: Sequence[str] = ()) -> str:
    """Render a table with a row per name: the name and its value, or the values of a tuple.

    >>> render_table({"a": (1, 2.0)})
    '<table><tr><td>a</td><td>1</td><td>2</td></tr></table>'
    """
    header = [_render_row("th", head)] if head else []
    body = (_render_row("td", [name, *_to_tuple(value)]) for name, value in rows.items())
    return f"<table>{''.join([*header, *body])}</table>"


def render_media(path: Path, title: str) -> str:
    """Render an image (.png), a video (.mp4) or audio (.wav), embedded into the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    if path.suffix == ".mp4":
        return f'<video src="data:video/mp4;base64,{data}" controls loop autoplay muted></video>'
    if path.suffix == ".wav":
        return f'<audio src="data:audio/wav;base64,{data}" controls></audio>'
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(title)}">'


def _render_row(kind: str, cells: Iterable[Any]) -> str:
    content = "".join(f"<{kind}>{html.escape(_format_cell(cell))}</{kind}>" for cell in cells)
    return f"<tr>{content}</tr>"


def _to_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _format_cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
