"""The page of a run: what it was told, what it learnt and what it shows, in one HTML file.

It is made from the files of the run's folder alone, pictures and films put into it, so that it can
be made again later and sent to others as it is.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vqvideo.report.machine import setting

PAGE = "report.html"
TIME = ("step", "seconds", "step_seconds")
PICTURES = {  # in the order in which they are shown
    "curves.png": "Figures over the steps",
    "reconstructions.png": "Held-out clips above what their codes keep of them",
    "reconstructions.mp4": "The same, moving",
    "samples.png": "Samples",
    "samples.mp4": "The same, moving",
    "codebook.png": "The codebook",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff }
h1, h2 { line-height: 1.2; font-weight: 600 }
h2 { margin-top: 2em; border-top: 1px solid #ddd; padding-top: 1em }
img, video { max-width: 100%; image-rendering: pixelated }
table { border-collapse: collapse }
td { padding: .2em 1.5em .2em 0; vertical-align: top }
td + td { font-variant-numeric: tabular-nums }
pre { background: #f5f5f5; padding: 1em; overflow-x: auto; font-size: 14px }
"""


def write_page(run: str | Path, command: str) -> Path:
    """Write `report.html` into the folder of a run that has measured once at least.

    Args:
        run: the folder.
        command: with which it was started, to be shown.

    Returns:
        The page.
    """
    run = Path(run)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    config = json.loads((run / "training.json").read_text())
    model = json.loads((run / "model" / "config.json").read_text())["model"]
    last = rows[-1]
    summary = {
        "steps": f"{last['step']:,} of {config['steps']:,}",
        "time": _time(last["seconds"]),
        **{name.replace("_", " "): value for name, value in last.items() if name not in TIME},
    }
    parts = [f"<h1>{html.escape(run.resolve().name)}</h1>", _table(summary)]
    parts += _pictures(run)
    parts += ["<h2>Command</h2>", _text(command)]
    parts += ["<h2>Training</h2>", _table(_flat(config))]
    parts += ["<h2>Model</h2>", _text(json.dumps(model, indent=2))]
    parts += ["<h2>Versions and machine</h2>", _table(setting("accelerate"))]
    page = run / PAGE
    temporary = page.with_name(f".{PAGE}.tmp")
    temporary.write_text(_whole(run.resolve().name, parts), encoding="utf-8")
    temporary.replace(page)
    return page


def _pictures(run: Path) -> Iterable[str]:
    for name, title in PICTURES.items():
        file = run / name
        if not file.is_file():
            continue
        data = base64.b64encode(file.read_bytes()).decode()
        yield f"<h2>{title}</h2>"
        if file.suffix == ".mp4":
            yield f'<video src="data:video/mp4;base64,{data}" controls loop autoplay muted></video>'
        else:
            yield f'<img src="data:image/png;base64,{data}" alt="{title}">'


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that a run was told, one level deep."""
    flat = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    optimizer = dict(config["optimizer"])
    flat |= {"optimizer": optimizer.pop("name"), **optimizer, **config["about"]}
    return {name.replace("_", " "): value for name, value in flat.items() if value is not None}


def _table(rows: Mapping[str, Any]) -> str:
    cells = (
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(_shown(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


def _time(seconds: float) -> str:
    """For people.

    >>> _time(7384.2)
    '2 h 3 min 4 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    named = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number} {unit}" for number, unit in named if number) or "0 s"


def _whole(title: str, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n{body}\n</html>\n"
    )
