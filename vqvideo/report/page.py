"""The page of a run: what it was told, what it learnt and what it shows, in one HTML file.

It is made from the files of the run's folder alone, pictures and films put into it, so that it can
be made again later and sent to others as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vqvideo.config import GeneratorConfig, build_likelihood
from vqvideo.likelihoods import density_note
from vqvideo.report.elements import heading, picture, sentence, table, text, whole
from vqvideo.report.machine import setting

PAGE = "report.html"
TIME = ("step", "seconds", "step_seconds")
PICTURES = {  # in the order in which they are shown
    "curves.png": "Figures over the steps",
    "reconstructions.png": "Held-out clips above what their codes keep of them",
    "reconstructions.mp4": "The same, moving",
    "reconstructions.wav": "The same, to be heard: each original before its reconstruction",
    "samples.png": "Samples",
    "samples.mp4": "The same, moving",
    "samples.wav": "The same, to be heard",
    "codebook.png": "The codebook",
}


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
    parts = [table(summary), *_notes(GeneratorConfig.from_dict(model)), *_pictures(run)]
    parts += [heading("Command"), text(command)]
    parts += [heading("Training"), table(_flat(config))]
    parts += [heading("Model"), text(json.dumps(model, indent=2))]
    parts += [heading("Versions and machine"), table(setting("accelerate"))]
    page = run / PAGE
    temporary = page.with_name(f".{PAGE}.tmp")
    temporary.write_text(whole(run.resolve().name, parts), encoding="utf-8")
    temporary.replace(page)
    return page


def _notes(config: GeneratorConfig) -> Iterable[str]:
    note = density_note(build_likelihood(config), config.likelihood.name)
    if note:
        yield sentence(note)


def _pictures(run: Path) -> Iterable[str]:
    for name, title in PICTURES.items():
        if (run / name).is_file():
            yield heading(title)
            yield picture(run / name, title)


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that a run was told, one level deep."""
    flat = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    optimizer = dict(config["optimizer"])
    flat |= {"optimizer": optimizer.pop("name"), **optimizer, **config["about"]}
    return {name.replace("_", " "): value for name, value in flat.items() if value is not None}


def _time(seconds: float) -> str:
    """For people.

    >>> _time(7384.2)
    '2 h 3 min 4 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    named = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number} {unit}" for number, unit in named if number) or "0 s"
