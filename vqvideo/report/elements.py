"""What pages are put together from: pieces of HTML, and one file of them all.

Everything that is shown is escaped here, and pictures are put into the page, so that it can be sent
to others as it is.
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


def whole(title: str, parts: Iterable[str]) -> str:
    """A page of that title, which stands above its parts."""
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n{body}\n</html>\n"
    )


def heading(title: str) -> str:
    """Of a section."""
    return f"<h2>{html.escape(title)}</h2>"


def sentence(words: str) -> str:
    """A paragraph.

    >>> sentence("0 < 1")
    '<p>0 &lt; 1</p>'
    """
    return f"<p>{html.escape(words)}</p>"


def text(lines: str) -> str:
    """As it is, line by line."""
    return f"<pre>{html.escape(lines)}</pre>"


def table(rows: Mapping[str, Any], head: Sequence[str] = ()) -> str:
    """A row for each name: the name and its value, or, of a tuple, its values side by side.

    >>> table({"a": (1, 2.0)})
    '<table><tr><td>a</td><td>1</td><td>2</td></tr></table>'
    """
    above = [_row("th", head)] if head else []
    each = (_row("td", [name, *_values(value)]) for name, value in rows.items())
    return f"<table>{''.join([*above, *each])}</table>"


def picture(file: Path, title: str) -> str:
    """A picture (.png), a film (.mp4) or a sound (.wav), its bytes put into the page."""
    data = base64.b64encode(file.read_bytes()).decode()
    if file.suffix == ".mp4":
        return f'<video src="data:video/mp4;base64,{data}" controls loop autoplay muted></video>'
    if file.suffix == ".wav":
        return f'<audio src="data:audio/wav;base64,{data}" controls></audio>'
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(title)}">'


def _row(kind: str, cells: Iterable[Any]) -> str:
    inner = "".join(f"<{kind}>{html.escape(_shown(cell))}</{kind}>" for cell in cells)
    return f"<tr>{inner}</tr>"


def _values(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
