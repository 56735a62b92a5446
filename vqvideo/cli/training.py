"""The commands that train: `train-vqvae`, `train-prior` and `train-joint`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.optimizer import (
    OPTIMIZER_OPTIONS,
    PRIOR_OPTIMIZER,
    VQVAE_OPTIMIZER,
    build_optimizer_config,
    optimizer_options,
)
from vqvideo.cli.options import AddOption, Command, create_progress_bar, flag, get_arguments, option
from vqvideo.cli.plugins import add_plugins_to_help

CONFIG_FIELDS = (
    "steps",
    "batch_size",
    "gradient_accumulation_steps",
    "eval_every",
    "precision",
    "compile",
    "seed",
    "num_workers",
)


def _training_options(optimizer: dict[str, Any]) -> list[AddOption]:
    """Return the options that all training commands share."""
    return [
        shared.DATA,
        option("--out RUN", "folder of the run", required=True),
        option("--steps", "number of training steps", int, required=True),
        option("--batch-size", "batch size per process (default: 8)", default=8),
        option(
            "--gradient-accumulation-steps N", "batches per training step (default: 1)", default=1
        ),
        *optimizer_options(**optimizer),
        option(
            "--eval-every STEPS",
            "steps between evaluations on held-out data (default: 200)",
            default=200,
        ),
        option(
            "--precision",
            "precision of the networks (default: auto)",
            default="auto",
            choices=("auto", "fp32", "bf16", "fp16"),
        ),
        flag("--compile", "compile the networks with torch.compile"),
        shared.SEED,
        option("--num-workers", "data loading processes (default: 0)", default=0),
        shared.CLIP_STRIDE,
        shared.FPS,
        flag("--resume", "resume the run in --out, if there is one"),
        shared.OVERWRITE,
    ]


def _model_options(*, required: bool = True) -> list[AddOption]:
    default = "" if required else "; default: that of --init-from"
    return [
        add_plugins_to_help,
        option("--model", f"model name; see `vqvideo models`{default}", required=required),
        _set_option("an entry of the model's config", "quantizer.codebook_size=512"),
    ]


def _set_option(entry: str, example: str) -> AddOption:
    help_ = f"set {entry}, for example {example}; repeatable"
    return option("--set KEY=VALUE", help_, default=[], action="append")


INIT_FROM = option(
    "--init-from RUN|NAME", "start from the weights of a run, a shipped model, or hf-hub:org/name"
)
CONDITION_ON = option(
    "--condition-on",
    "condition the decoder on the speaker or the class of each file; repeatable",
    default=[],
    action="append",
    choices=("speaker", "class"),
)
CACHE_DIR = option(
    "--cache-dir FOLDER", "cache decoded files in this folder: faster training, more disk space"
)


def _get_training_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a training command, with its `TrainingConfig`, without --set."""
    from vqvideo.training import TrainingConfig

    config = TrainingConfig(
        optimizer=build_optimizer_config(options),
        **{name: getattr(options, name) for name in CONFIG_FIELDS},
    )
    skip = (*CONFIG_FIELDS, *OPTIMIZER_OPTIONS, "set")
    return {**get_arguments(options, skip=skip), "config": config}


def _run_train_vqvae(options: argparse.Namespace) -> Any:
    from vqvideo.commands.train_vqvae import train_vqvae

    return train_vqvae(
        **_get_training_arguments(options),
        overrides=_parse_overrides(options.set),
        progress=create_progress_bar("file"),
    )


TRAIN_VQVAE = Command(
    "Train the first stage on a folder.",
    _run_train_vqvae,
    [
        *_model_options(required=False),
        *_training_options(VQVAE_OPTIMIZER),
        INIT_FROM,
        option(
            "--tokenizer RUN|NAME",
            "train only a decoder, with the frozen encoder and codebook of this model",
        ),
        CONDITION_ON,
        CACHE_DIR,
        shared.MAX_CORRUPT,
    ],
)


def _run_train_joint(options: argparse.Namespace) -> Any:
    from vqvideo.commands.train_joint import train_joint

    return train_joint(
        **_get_training_arguments(options),
        overrides=_parse_overrides(options.set),
        progress=create_progress_bar("file"),
    )


TRAIN_JOINT = Command(
    "Train both stages together.",
    _run_train_joint,
    [
        *_model_options(),
        *_training_options(VQVAE_OPTIMIZER),
        option(
            "--rate-weight W",
            "weight of the prior's NLL in the encoder's loss; 0 detaches it (default: 1, the "
            "bound)",
            default=1.0,
        ),
        CACHE_DIR,
        CONDITION_ON,
    ],
)


def _run_train_prior(options: argparse.Namespace) -> Any:
    from vqvideo.commands.train_prior import train_prior

    prior: Any = _parse_overrides(options.set)
    if options.prior is not None:
        prior["name"] = options.prior
    return train_prior(
        **{**_get_training_arguments(options), "prior": prior or None},
        progress=create_progress_bar("clip"),
        warn=lambda message: print(message, file=sys.stderr),
    )


TRAIN_PRIOR = Command(
    "Train a prior over the codes of a first stage.",
    _run_train_prior,
    [
        add_plugins_to_help,
        option("--vqvae", "a run of train-vqvae, or a shipped model", required=True),
        option("--prior", "prior name; default: that of the model's config"),
        _set_option("an option of the prior", "width=128"),
        *_training_options(PRIOR_OPTIMIZER),
        INIT_FROM,
        option(
            "--num-frames N",
            "frames or audio samples per clip; default: the length of the first stage",
            int,
        ),
    ],
)


def _parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Parse `["a.b=1", "c=2"]` to `{"a": {"b": 1}, "c": 2}`; values are JSON, else text."""
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"--set takes KEY=VALUE, got {setting!r}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        *parents, last = key.split(".")
        node = overrides
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or isinstance(node.get(last), dict):
            raise ValueError(
                f"--set {setting} conflicts with an earlier --set of {key.split('.')[0]}; set the "
                f"name and the options of a part separately: part.name=..., part.option=..."
            )
        node[last] = value
    return overrides
