"""HTML page of a training run: its options, metrics and previews in one self-contained file.

It depends only on the files of the run's folder, so that it can be written again later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vqvideo.atomic import write_text
from vqvideo.config import GeneratorConfig, build_likelihood
from vqvideo.likelihoods import describe_density
from vqvideo.report.elements import (
    render_heading,
    render_media,
    render_page,
    render_paragraph,
    render_preformatted,
    render_table,
)
from vqvideo.report.environment import collect_environment

PAGE_NAME = "report.html"
TIME_KEYS = ("step", "seconds", "step_seconds")
MEDIA_TITLES = {  # in the order of the page
    "curves.png": "Metrics over the steps",
    "reconstructions.png": "Validation clips above their reconstructions",
    "reconstructions.mp4": "The same as video",
    "reconstructions.wav": "The same as audio: each original before its reconstruction",
    "samples.png": "Samples",
    "samples.mp4": "The same as video",
    "samples.wav": "The same as audio",
    "codebook.png": "Codebook",
}


def write_run_page(run: str | Path, command: str) -> Path:
    """Write `report.html` into the folder of a run with at least one evaluation.

    Args:
        run: the run's folder.
        command: the command line of the run, shown on the page.

    Returns:
        The path of the page.
    """
    run = Path(run)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    config = json.loads((run / "training.json").read_text())
    model = json.loads((run / "model" / "config.json").read_text())["model"]
    last = rows[-1]
    summary = {
        "steps": f"{last['step']:,} of {config['steps']:,}",
        "time": _format_duration(last["seconds"]),
        **{name.replace("_", " "): value for name, value in last.items() if name not in TIME_KEYS},
    }
    parts = [
        render_table(summary),
        *_render_notes(GeneratorConfig.from_dict(model)),
        *_render_media_files(run),
    ]
    parts += [render_heading("Command"), render_preformatted(command)]
    parts += [render_heading("Training"), render_table(_flatten_config(config))]
    parts += [render_heading("Model"), render_preformatted(json.dumps(model, indent=2))]
    parts += [
        render_heading("Versions and machine"),
        render_table(collect_environment("accelerate")),
    ]
    page = run / PAGE_NAME
    write_text(page, render_page(run.resolve().name, parts))
    return page


def _render_notes(config: GeneratorConfig) -> Iterable[str]:
    note = describe_density(build_likelihood(config), config.likelihood.name)
    if note:
        yield render_paragraph(note)


def _render_media_files(run: Path) -> Iterable[str]:
    for name, title in MEDIA_TITLES.items():
        if (run / name).is_file():
            yield render_heading(title)
            yield render_media(run / name, title)


def _flatten_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the config of a run to one level."""
    flat = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    optimizer = dict(config["optimizer"])
    flat |= {"optimizer": optimizer.pop("name"), **optimizer, **config["metadata"]}
    return {name.replace("_", " "): value for name, value in flat.items() if value is not None}


def _format_duration(seconds: float) -> str:
    """Format a duration in hours, minutes and seconds.

    >>> _format_duration(7384.2)
    '2 h 3 min 4 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    units = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{count} {unit}" for count, unit in units if count) or "0 s"
