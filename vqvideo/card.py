"""The card of a model, `README.md` beside its weights: what it is, and what it was trained on.

Every sentence is made of facts: of the config, of the weights' header, and, where the model lies in
the folder of a run, of `training.json` and `log.jsonl`. Names of folders are kept, the way to them
is not. The front matter is what the hub reads.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from vqvideo.checkpoint import CARD, CONFIG, MODEL, NOTICE, SCALE, WEIGHTS
from vqvideo.config import GeneratorConfig, build_likelihood
from vqvideo.formats import DType, upgraded
from vqvideo.grid import downsampling, grid_shape
from vqvideo.hub import PREFIX, HubName, is_hub_name
from vqvideo.likelihoods import density_note
from vqvideo.quantizers import QUANTIZERS
from vqvideo.version import __version__

PAPER = "[arXiv 1711.00937](https://arxiv.org/abs/1711.00937)"
PLACE = f"{PREFIX}org/name"  # stands in a card until it is known
KINDS = {1: "audio", 2: "image", 3: "video"}
PARTS = ("encoder", "quantizer", "decoder", "likelihood", "prior")
STORED = {  # said last
    "float32": "",
    "float16": "The weights are stored in float16; in memory they are float32.\n",
    "int8": "The weights are stored in int8, the rows of each matrix and kernel rounded to 255 "
    "steps; in memory they are float32. The codebook is exact.\n",
}
FIGURES = {  # of the log: what each is called, how it is written, its unit
    "loss": ("loss (eq. 3, per dimension)", ".4f", ""),
    "psnr_db": ("PSNR", ".2f", "dB"),
    "bits_per_dim": ("bound, the prior uniform", ".3f", "bits per dimension"),
    "perplexity": ("perplexity of the codes", ".1f", "codes"),
    "usage": ("entries of the codebook in use", ".1%", ""),
    "nats_per_code": ("prior", ".3f", "nats per code"),
    "unigram_nats": ("guessing from how often each code occurs", ".3f", "nats per code"),
    "uniform_nats": ("guessing blindly", ".3f", "nats per code"),
}
HOW = """\
```python
import vqvideo

generator = vqvideo.load("{place}")  # or a folder that holds these files
{use}
```"""


def write_card(run: str | Path) -> Path:
    """Write the card of a run's model, and the notice that the run keeps, beside its weights.

    A card that is there stays: new weights would have removed it, so somebody may have added to it.
    """
    run = Path(run)
    folder = run / MODEL
    notice = notice_of(folder)
    if notice is not None:
        (folder / NOTICE).write_text(notice, encoding="utf-8")
    (folder / CARD).write_text(card_of(folder), encoding="utf-8")
    return folder / CARD


def card_of(folder: Path) -> str:
    """The card beside weights, where somebody may have written more into it, or else a new one."""
    written = folder / CARD
    return written.read_text(encoding="utf-8") if written.is_file() else card(facts_of(folder))


def notice_of(folder: Path) -> str | None:
    """What must go where the weights of a folder go; the folder of a run keeps it for its model."""
    files = [place / NOTICE for place in (folder, _run_of(folder)) if place is not None]
    return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), None)


def facts_of(folder: Path) -> dict[str, Any]:
    """What the files of a checkpoint say, and those of the run that it lies in."""
    header = upgraded(json.loads((folder / CONFIG).read_text()))
    facts = {**header, "name": folder.name, "notice": notice_of(folder) is not None}
    with safe_open(folder / WEIGHTS, framework="pt") as stored:
        names = [name for name in stored.keys() if not name.endswith(SCALE)]  # noqa: SIM118
        facts["num_values"] = sum(math.prod(stored.get_slice(x).get_shape()) for x in names)
    run = _run_of(folder)
    if run is not None:
        facts["name"] = run.resolve().name
        facts["training"] = json.loads((run / "training.json").read_text())
        log = run / "log.jsonl"
        lines = log.read_text().splitlines() if log.is_file() else []
        facts["measured"] = json.loads(lines[-1]) if lines else None
    return facts


def _run_of(folder: Path) -> Path | None:
    """The folder of the run that left a model there."""
    run = folder.parent
    return run if folder.name == MODEL and (run / "training.json").is_file() else None


def card(facts: Mapping[str, Any]) -> str:
    """The text that facts make (see `facts_of`), with the front matter of the hub."""
    from huggingface_hub import ModelCardData

    config = GeneratorConfig.from_dict(facts["model"])
    about = _about(facts)
    base = about.get("init_from") or about.get("vqvae")
    data = ModelCardData(
        library_name="vqvideo",
        tags=["vq-vae", KINDS[config.rank]],
        base_model=_repo(base),
    )
    parts = [
        f"# {facts['name']}",
        _what(facts, config),
        "## Model",
        _table(_model(facts, config)),
        *filter(None, [density_note(build_likelihood(config), config.likelihood.name)]),
        "## Training",
        _training(facts),
        "## Use",
        HOW.format(place=PLACE, use=_use(facts)),
        _limits(facts, config),
    ]
    if facts["notice"]:
        parts.append(f"`{NOTICE}` says whose work is in the weights; it goes where they go.")
    parts.append(
        f"Written by vqvideo {__version__} (torch {torch.__version__}, "
        f"Python {platform.python_version()})."
    )
    text = f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"
    return with_dtype(text, facts["dtype"])


def with_licence(text: str, licence: str) -> str:
    """The same card, its front matter naming a licence as the hub does: `apache-2.0`."""
    from huggingface_hub import ModelCard

    page = ModelCard(text)
    page.data["license"] = licence
    return str(page)


def with_dtype(text: str, dtype: DType) -> str:
    """The same card, saying of what type the weights are on disk."""
    for said in filter(None, STORED.values()):
        text = text.replace(f"\n{said}", "")
    return text + (f"\n{STORED[dtype]}" if STORED[dtype] else "")


def _what(facts: Mapping[str, Any], config: GeneratorConfig) -> str:
    stages = "A VQ-VAE and a prior over its codes" if facts["has_prior"] else "A VQ-VAE"
    return f"{stages} for {KINDS[config.rank]}, after van den Oord et al. 2017, {PAPER}."


def _model(facts: Mapping[str, Any], config: GeneratorConfig) -> dict[str, str]:
    quantizer = QUANTIZERS.build(config.quantizer.name, config.quantizer.options)
    strides = downsampling(config.strides)
    grid = grid_shape(config.sample_shape, strides)
    each = f"{quantizer.num_codebooks} x " if quantizer.num_codebooks > 1 else ""
    codes = f"{each}{_times(grid)}, each one of {quantizer.codebook_size}"
    if config.rate:
        per_second = math.prod(grid[1:]) * quantizer.num_codebooks * config.rate / strides[0]
        kbps = per_second * math.log2(quantizer.codebook_size) / 1000
        codes += f"; {per_second:,.0f} a second, {kbps:.2f} kbit/s"
    unit = {1: "Hz", 2: "", 3: "frames per second"}[config.rank]
    rate = f" at {config.rate:g} {unit}" if config.rate else ""
    rows = {
        "data": f"{config.channels} x {_times(config.sample_shape)}{rate}",
        "codes": codes,
    }
    for name in PARTS if facts["has_prior"] else PARTS[:-1]:
        part = config.to_dict()[name]
        options = [f"{key} {_shown(value)}" for key, value in part.items() if key != "name"]
        rows[name] = ": ".join(text for text in (part["name"], ", ".join(options)) if text)
    rows["weights"] = f"{facts['num_values']:,} numbers"
    return rows


def _training(facts: Mapping[str, Any]) -> str:
    training, measured = facts.get("training"), facts.get("measured")
    if training is None:
        return "What it was trained on is not recorded here."
    about = _about(facts)
    rows = {
        "data": f"`{about['data']}`: {about['windows']:,} windows, {about['held_out']:,} held out"
        if "data" in about
        else "not recorded",
        "first stage": _name(about.get("vqvae")),
        "started from": _name(about.get("init_from")) or "weights drawn at random",
        "steps": f"{measured['step'] if measured else 0:,} of {training['steps']:,}",
        "items a step": f"{training['batch_size'] * training['accumulate']} in each process",
        "precision": training["precision"],
        "seed": str(training["seed"]),
    }
    table = _table({name: value for name, value in rows.items() if value})
    figures = _figures(measured or {})
    return f"{table}\n\nOn the held-out windows:\n\n{_table(figures)}" if figures else table


def _figures(measured: Mapping[str, float]) -> dict[str, str]:
    figures = {}
    for entry, value in measured.items():
        if entry.startswith("held_out_"):
            name = entry.removeprefix("held_out_")
            title, form, unit = FIGURES.get(name, (name.replace("_", " "), ".4g", ""))
            figures[title] = f"{value:{form}} {unit}".strip()
    return figures


def _use(facts: Mapping[str, Any]) -> str:
    if facts["has_prior"]:
        return "new = generator.sample(seed=0)  # [1, c, *axes] in [-1, 1]"
    return "codes = generator.vqvae.encode(x)  # x: [b, c, *axes] in [-1, 1]"


def _limits(facts: Mapping[str, Any], config: GeneratorConfig) -> str:
    """What it is for and where that ends: two sentences."""
    about, kind = _about(facts), KINDS[config.rank]
    like = f"{kind} like that of `{about['data']}`" if "data" in about else kind
    does = (
        "turns {} into codes and back, and makes more of it"
        if facts["has_prior"]
        else "turns {} into codes and back; without a prior it makes none of its own"
    )
    tried = "it is not recorded what it was trained on"
    if "data" in about:
        tried = f"it was trained on {about['windows']:,} windows of it, and nothing else was tried"
    return f"The model {does.format(like)}. As far as these files say, {tried}."


def _about(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    about: Mapping[str, Any] = (facts.get("training") or {}).get("about") or {}
    return about


def _name(source: str | None) -> str | None:
    """What a model is called, without the way to its folder."""
    if source is None:
        return None
    if is_hub_name(source):
        return f"`{source}`"
    path = Path(source).resolve()
    return f"`{path.parent.name if path.name == MODEL else path.name}`"


def _repo(source: str | None) -> str | None:
    """Of a model on the hub, the repository."""
    return HubName.of(source).repo if source is not None and is_hub_name(source) else None


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])
