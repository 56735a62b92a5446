"""Options of the commands that train."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from vqvideo.cli.optimizer import (
    PRIOR_OPTIMIZER,
    VQVAE_OPTIMIZER,
    add_optimizer_options,
    build_optimizer_config,
)
from vqvideo.cli.options import (
    add_max_corrupt_option,
    add_overwrite_option,
    create_progress_bar,
    parse_seed,
)
from vqvideo.cli.plugins import add_plugins_to_help


def _add_training_options(parser: argparse.ArgumentParser, optimizer: dict[str, Any]) -> None:
    """Add the options that all training commands share."""
    parser.add_argument("--data", required=True, metavar="FOLDER", help="folder of media files")
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--steps", type=int, required=True, help="number of training steps")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="batch size per process (default: 8)"
    )
    parser.add_argument(
        "--gradient-accumulation-steps",
        type=int,
        default=1,
        metavar="N",
        help="batches per training step (default: 1)",
    )
    add_optimizer_options(parser, **optimizer)
    parser.add_argument(
        "--eval-every",
        type=int,
        default=200,
        metavar="STEPS",
        help="steps between evaluations on held-out data (default: 200)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="precision of the networks (default: auto)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile the networks with torch.compile"
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="random seed")
    parser.add_argument(
        "--num-workers", type=int, default=0, help="data loading processes (default: 0)"
    )
    parser.add_argument(
        "--clip-stride",
        type=int,
        metavar="FRAMES",
        help="frames or audio samples between the starts of two clips; default: adjacent clips",
    )
    parser.add_argument(
        "--fps", type=float, help="frame rate of the clips; default: that of each file"
    )
    parser.add_argument(
        "--resume", action="store_true", help="resume the run in --out, if there is one"
    )
    add_overwrite_option(parser)


def _build_training_config(options: argparse.Namespace) -> Any:
    from vqvideo.training import TrainingConfig

    return TrainingConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        eval_every=options.eval_every,
        optimizer=build_optimizer_config(options),
        precision=options.precision,
        compile=options.compile,
        seed=options.seed,
        num_workers=options.num_workers,
    )


def _add_model_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    add_plugins_to_help(parser)
    default = "" if required else "; default: that of --init-from"
    parser.add_argument(
        "--model", required=required, help=f"model name; see `vqvideo models`{default}"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set an entry of the model's config, for example quantizer.codebook_size=512; "
        "repeatable",
    )


def _add_init_from_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--init-from",
        metavar="RUN|NAME",
        help="start from the weights of a run, a shipped model, or hf-hub:org/name",
    )


def _add_condition_on_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--condition-on",
        action="append",
        choices=("speaker", "class"),
        default=[],
        help="condition the decoder on the speaker or the class of each file; repeatable",
    )


def _add_cache_dir_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache-dir",
        metavar="FOLDER",
        help="cache decoded files in this folder: faster training, more disk space",
    )


def add_train_vqvae_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo train-vqvae`."""
    _add_model_options(parser, required=False)
    _add_training_options(parser, VQVAE_OPTIMIZER)
    _add_init_from_option(parser)
    parser.add_argument(
        "--tokenizer",
        metavar="RUN|NAME",
        help="train only a decoder, with the frozen encoder and codebook of this model",
    )
    _add_condition_on_option(parser)
    _add_cache_dir_option(parser)
    add_max_corrupt_option(parser)
    parser.set_defaults(run=_run_train_vqvae)


def _run_train_vqvae(options: argparse.Namespace) -> Any:
    from vqvideo.commands.train_vqvae import train_vqvae

    return train_vqvae(
        model=options.model,
        data=options.data,
        out=options.out,
        config=_build_training_config(options),
        overrides=_parse_overrides(options.set),
        clip_stride=options.clip_stride,
        fps=options.fps,
        cache_dir=options.cache_dir,
        max_corrupt=options.max_corrupt,
        condition_on=options.condition_on,
        tokenizer=options.tokenizer,
        init_from=options.init_from,
        resume=options.resume,
        overwrite=options.overwrite,
        progress=create_progress_bar("file"),
    )


def add_train_joint_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo train-joint`."""
    _add_model_options(parser)
    _add_training_options(parser, VQVAE_OPTIMIZER)
    parser.add_argument(
        "--rate-weight",
        type=float,
        default=1.0,
        metavar="W",
        help="weight of the prior's NLL in the encoder's loss; 0 detaches it (default: 1, the "
        "bound)",
    )
    _add_cache_dir_option(parser)
    _add_condition_on_option(parser)
    parser.set_defaults(run=_run_train_joint)


def _run_train_joint(options: argparse.Namespace) -> Any:
    from vqvideo.commands.train_joint import train_joint

    return train_joint(
        model=options.model,
        data=options.data,
        out=options.out,
        config=_build_training_config(options),
        rate_weight=options.rate_weight,
        condition_on=options.condition_on,
        overrides=_parse_overrides(options.set),
        clip_stride=options.clip_stride,
        fps=options.fps,
        cache_dir=options.cache_dir,
        resume=options.resume,
        overwrite=options.overwrite,
        progress=create_progress_bar("file"),
    )


def add_train_prior_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vqvideo train-prior`."""
    add_plugins_to_help(parser)
    parser.add_argument("--vqvae", required=True, help="a run of train-vqvae, or a shipped model")
    parser.add_argument("--prior", help="prior name; default: that of the model's config")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set an option of the prior, for example width=128; repeatable",
    )
    _add_training_options(parser, PRIOR_OPTIMIZER)
    _add_init_from_option(parser)
    parser.add_argument(
        "--num-frames",
        type=int,
        metavar="N",
        help="frames or audio samples per clip; default: the length of the first stage",
    )
    parser.set_defaults(run=_run_train_prior)


def _run_train_prior(options: argparse.Namespace) -> Any:
    from vqvideo.commands.train_prior import train_prior

    prior: Any = _parse_overrides(options.set)
    if options.prior is not None:
        prior["name"] = options.prior
    return train_prior(
        vqvae=options.vqvae,
        data=options.data,
        out=options.out,
        config=_build_training_config(options),
        prior=prior or None,
        num_frames=options.num_frames,
        clip_stride=options.clip_stride,
        fps=options.fps,
        init_from=options.init_from,
        resume=options.resume,
        overwrite=options.overwrite,
        progress=create_progress_bar("clip"),
        warn=lambda message: print(message, file=sys.stderr),
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
