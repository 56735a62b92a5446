"""The model card, a file `README.md` beside the weights that describes the model and its training.

The card is generated from the config, the header of the weights file and, if the model is in the
folder of a run, `training.json` and `log.jsonl`. It contains names of folders but no paths. The
front matter follows the format of the hub.
"""

from __future__ import annotations

import math
import platform
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vqvideo.atomic import write_text
from vqvideo.checkpoint import (
    CARD_NAME,
    CONFIG_NAME,
    MODEL_DIR,
    NOTICE_NAME,
    WEIGHTS_NAME,
    read_text_file,
)
from vqvideo.config import GeneratorConfig, build_likelihood
from vqvideo.config_v6 import rename_record
from vqvideo.config_versions import CheckpointError, DType, read_header
from vqvideo.grid import compute_downsampling, compute_grid_shape
from vqvideo.hub import HUB_PREFIX, HubName, is_hub_name
from vqvideo.likelihoods import describe_density
from vqvideo.quantizers import QUANTIZERS
from vqvideo.text_files import parse_json, read_text
from vqvideo.version import __version__
from vqvideo.weights_format import count_elements, open_weights, read_index

PAPER_LINK = "[arXiv 1711.00937](https://arxiv.org/abs/1711.00937)"
REPO_PLACEHOLDER = f"{HUB_PREFIX}org/name"  # replaced when the model is pushed
MODALITIES = {1: "audio", 2: "image", 3: "video"}
MAX_LINE_BYTES = 1 << 16  # of the log, which may be long
PART_NAMES = ("encoder", "quantizer", "decoder", "likelihood", "prior")
DTYPE_NOTES = {  # last paragraph of a card
    "float32": "",
    "float16": "The weights are stored in float16; in memory they are float32.\n",
    "int8": "The weights are stored in int8, the rows of each matrix and kernel rounded to 255 "
    "steps; in memory they are float32. The codebook is exact.\n",
}
METRIC_FORMATS = {  # keys of the log: title, number format, unit
    "loss": ("loss (eq. 3, per dimension)", ".4f", ""),
    "psnr_db": ("PSNR", ".2f", "dB"),
    "bits_per_dim": ("negative ELBO under a uniform prior", ".3f", "bits per dimension"),
    "perplexity": ("codebook perplexity", ".1f", "codes"),
    "usage": ("codebook usage", ".1%", ""),
    "nats_per_code": ("NLL of the prior", ".3f", "nats per code"),
    "unigram_nats": ("NLL of a unigram model", ".3f", "nats per code"),
    "uniform_nats": ("NLL of a uniform distribution", ".3f", "nats per code"),
}
USAGE_TEMPLATE = """\
```python
import vqvideo

generator = vqvideo.load("{place}")  # or a folder with these files
{use}
```"""
USES = {  # with a prior, and without: a line of code, what the model does
    True: (
        "new = generator.sample(seed=0)  # [1, c, *axes] in [-1, 1]",
        "encodes and decodes {}, and generates new samples",
    ),
    False: (
        "codes = generator.vqvae.encode(x)  # x: [b, c, *axes] in [-1, 1]",
        "encodes and decodes {}; without a prior it cannot generate new samples",
    ),
}


def write_card(run: str | Path) -> Path:
    """Write the card of a run's model, and the notice of the run, beside the weights.

    An existing card is kept: new weights would have removed it, so it may have been edited.
    """
    folder = Path(run) / MODEL_DIR
    notice = read_notice(folder)
    if notice is not None:
        write_text(folder / NOTICE_NAME, notice)
    write_text(folder / CARD_NAME, read_or_build_card(folder))
    return folder / CARD_NAME


def read_or_build_card(folder: Path) -> str:
    """Return the card beside the weights, which may have been edited, or a new one.

    Raises:
        CheckpointError: the card, or a file that a new one is built from, is invalid.
    """
    file = folder / CARD_NAME
    if file.is_file():
        return read_text_file(file)
    data = collect_card_data(folder)
    try:
        return build_card(data)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as cause:
        raise CheckpointError(
            f"{folder}: no model card can be written from its config.json and the training.json "
            f"and log.jsonl of its run ({type(cause).__name__}: {cause})"
        ) from cause


def read_notice(folder: Path) -> str | None:
    """Return the notice that must accompany the weights of a folder, from there or from its run."""
    files = [parent / NOTICE_NAME for parent in (folder, find_run(folder)) if parent is not None]
    return next((read_text_file(file) for file in files if file.is_file()), None)


def collect_card_data(folder: Path) -> dict[str, Any]:
    """Collect the data of a card from the files of a checkpoint and of its run, if it has one."""
    header = read_header(folder / CONFIG_NAME)
    data = {**header, "name": folder.name, "notice": read_notice(folder) is not None}
    data["num_values"] = count_elements(read_index(open_weights(folder / WEIGHTS_NAME)))
    run = find_run(folder)
    if run is not None:
        data["name"] = run.resolve().name
        data["training"] = _read_record(run / "training.json")
        log = run / "log.jsonl"
        data["measured"] = _read_record(log, last_line=True) if log.is_file() else None
    return data


def _read_record(file: Path, *, last_line: bool = False) -> dict[str, Any] | None:
    """Read `training.json`, or the last line of `log.jsonl`; None if there is no line."""
    try:
        text = _read_last_line(file) if last_line else read_text(file)
        record = rename_record(parse_json(text or "null", allow_nan=True))
    except (ValueError, OSError) as cause:
        raise CheckpointError(f"{file} cannot be read: {cause}") from cause
    if not isinstance(record, dict) and not (last_line and record is None):
        raise CheckpointError(f"{file} must hold JSON objects, got {reprlib.repr(record)}")
    return record


def _read_last_line(file: Path) -> str:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - MAX_LINE_BYTES))
        lines = stream.read().splitlines()
    return lines[-1].decode("utf-8") if lines else ""


def find_run(folder: Path) -> Path | None:
    """Return the folder of the run that a model belongs to, None if there is none."""
    run = folder.parent
    return run if folder.name == MODEL_DIR and (run / "training.json").is_file() else None


def build_card(card_data: Mapping[str, Any]) -> str:
    """Return the text of a card (see `collect_card_data`), with front matter for the hub."""
    from huggingface_hub import ModelCardData

    config = GeneratorConfig.from_dict(card_data["model"])
    metadata = _get_metadata(card_data)
    base_model: Any = metadata.get("init_from") or metadata.get("vqvae")
    front_matter = ModelCardData(
        library_name="vqvideo",
        tags=["vq-vae", MODALITIES[config.rank]],
        base_model=HubName.parse(base_model).repo_id if is_hub_name(base_model) else None,
    )
    sections = [
        f"# {card_data['name']}",
        _format_summary(card_data, config),
        "## Model",
        _format_table(_build_model_rows(card_data, config)),
        *filter(None, [describe_density(build_likelihood(config), config.likelihood.name)]),
        "## Training",
        _format_training(card_data),
        "## Use",
        USAGE_TEMPLATE.format(place=REPO_PLACEHOLDER, use=USES[card_data["has_prior"]][0]),
        _format_limitations(card_data, config),
    ]
    if card_data["notice"]:
        sections.append(
            f"`{NOTICE_NAME}` holds the attribution of the weights; distribute it with them."
        )
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    sections.append(f"Written by vqvideo {__version__} ({versions}).")
    text = f"---\n{front_matter.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"
    return set_dtype_note(text, card_data["dtype"])


def set_license(text: str, license: str) -> str:
    """Return a card with a licence in its front matter, by the hub's identifier: `apache-2.0`."""
    from huggingface_hub import ModelCard

    card = ModelCard(text)
    card.data["license"] = license
    return str(card)


def set_dtype_note(text: str, dtype: DType) -> str:
    """Return a card whose last paragraph is the note on the dtype of the stored weights."""
    for note in filter(None, DTYPE_NOTES.values()):
        text = text.replace(f"\n{note}", "")
    return text + (f"\n{DTYPE_NOTES[dtype]}" if DTYPE_NOTES[dtype] else "")


def _format_summary(card_data: Mapping[str, Any], config: GeneratorConfig) -> str:
    stages = "A VQ-VAE and a prior over its codes" if card_data["has_prior"] else "A VQ-VAE"
    return f"{stages} for {MODALITIES[config.rank]}, as in van den Oord et al. 2017, {PAPER_LINK}."


def _build_model_rows(card_data: Mapping[str, Any], config: GeneratorConfig) -> dict[str, str]:
    quantizer = QUANTIZERS.build(config.quantizer.name, config.quantizer.options)
    strides = compute_downsampling(config.strides)
    grid = compute_grid_shape(config.sample_shape, strides)
    codebooks = f"{quantizer.num_codebooks} x " if quantizer.num_codebooks > 1 else ""
    codes = f"{codebooks}{_format_shape(grid)}, codebook size {quantizer.codebook_size}"
    if config.rate:
        code_rate = math.prod(grid[1:]) * quantizer.num_codebooks * config.rate / strides[0]
        kbps = code_rate * math.log2(quantizer.codebook_size) / 1000
        codes += f"; {code_rate:,.0f} codes/s, {kbps:.2f} kbit/s"
    unit = {1: "Hz", 2: "", 3: "frames per second"}[config.rank]
    rate = f" at {config.rate:g} {unit}" if config.rate else ""
    rows = {
        "data": f"{config.channels} x {_format_shape(config.sample_shape)}{rate}",
        "codes": codes,
    }
    for name in PART_NAMES if card_data["has_prior"] else PART_NAMES[:-1]:
        part = config.to_dict()[name]
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in part.items() if k != "name"}
        options = [f"{key} {value}" for key, value in values.items()]
        rows[name] = ": ".join(text for text in (part["name"], ", ".join(options)) if text)
    rows["weights"] = f"{card_data['num_values']:,} values"
    return rows


def _format_training(card_data: Mapping[str, Any]) -> str:
    training, measured = card_data.get("training"), card_data.get("measured")
    if training is None:
        return "The training data and settings are not recorded."
    metadata = _get_metadata(card_data)
    rows = {
        "data": f"`{metadata['data']}`: {metadata['windows']:,} windows for training, "
        f"{metadata['num_val_windows']:,} for validation"
        if "data" in metadata
        else "not recorded",
        "first stage": _format_source(metadata.get("vqvae")),
        "initialized from": _format_source(metadata.get("init_from")) or "random weights",
        "steps": f"{measured['step'] if measured else 0:,} of {training['steps']:,}",
        "items per step": f"{training['batch_size'] * training['gradient_accumulation_steps']} "
        f"per process",
        "precision": training["precision"],
        "seed": str(training["seed"]),
    }
    table = _format_table({name: value for name, value in rows.items() if value})
    metrics = _format_metrics(measured or {})
    return f"{table}\n\nOn the validation set:\n\n{_format_table(metrics)}" if metrics else table


def _format_metrics(metrics: Mapping[str, float]) -> dict[str, str]:
    rows = {}
    for key, value in metrics.items():
        if key.startswith("val_"):
            name = key.removeprefix("val_")
            title, spec, unit = METRIC_FORMATS.get(name, (name.replace("_", " "), ".4g", ""))
            rows[title] = f"{value:{spec}} {unit}".strip()
    return rows


def _format_limitations(card_data: Mapping[str, Any], config: GeneratorConfig) -> str:
    """Return two sentences on the intended use of the model and its limits."""
    metadata, modality = _get_metadata(card_data), MODALITIES[config.rank]
    domain, evidence = f"{modality} data", "its training data is not recorded"
    if "data" in metadata:
        domain += f" like `{metadata['data']}`"
        evidence = f"it was trained on {metadata['windows']:,} windows and not tested on other data"
    use = USES[card_data["has_prior"]][1].format(domain)
    return f"The model {use}. According to these files, {evidence}."


def _get_metadata(card_data: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = (card_data.get("training") or {}).get("metadata") or {}
    return metadata


def _format_source(source: str | None) -> str | None:
    """Return the name of a model without the path of its folder."""
    if source is None:
        return None
    if is_hub_name(source):
        return f"`{source}`"
    path = Path(source).resolve()
    return f"`{path.parent.name if path.name == MODEL_DIR else path.name}`"


def _format_shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _format_table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])
