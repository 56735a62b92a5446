"""The commands that train."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from vqvideo.cli.optimizer import FIRST_STAGE, SECOND_STAGE, add_optimizer, optimizer_config
from vqvideo.cli.options import add_max_corrupt, add_overwrite, progress_bar
from vqvideo.cli.plugins import list_in_help


def _add_training(parser: argparse.ArgumentParser, optimizer: dict[str, Any]) -> None:
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="batches that make up one step"
    )
    add_optimizer(parser, **optimizer)
    parser.add_argument("--eval-every", type=int, default=200, metavar="STEPS")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument(
        "--compile", action="store_true", help="compile the networks when they first run"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read data")
    parser.add_argument(
        "--clip-step", type=int, metavar="FRAMES", help="between the starts of two clips"
    )
    parser.add_argument("--fps", type=float, help="of the clips; default: that of each file")
    parser.add_argument(
        "--resume", action="store_true", help="go on where the run was stopped, if it was begun"
    )
    add_overwrite(parser)


def _training_config(options: argparse.Namespace) -> Any:
    from vqvideo.training import TrainingConfig

    return TrainingConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        accumulate=options.accumulate,
        eval_every=options.eval_every,
        optimizer=optimizer_config(options),
        precision=options.precision,
        compile=options.compile,
        seed=options.seed,
        num_workers=options.num_workers,
    )


def _add_model(parser: argparse.ArgumentParser, *, needed: bool = True) -> None:
    list_in_help(parser)
    other = "" if needed else "; default: that of --init-from"
    parser.add_argument(
        "--model", required=needed, help=f"a model's name; see `vqvideo models`{other}"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an entry of the model's config, as quantizer.codebook_size=512; repeatable",
    )


def _add_init_from(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--init-from",
        metavar="RUN|NAME",
        help="start from these weights: a run, a shipped model, or hf-hub:org/name",
    )


def _add_tell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tell",
        action="append",
        choices=("speaker", "class"),
        default=[],
        help="let the decoder know who speaks in a file, or its class; repeatable",
    )


def add_train_vqvae(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo train-vqvae`."""
    _add_model(parser, needed=False)
    _add_training(parser, FIRST_STAGE)
    _add_init_from(parser)
    parser.add_argument(
        "--codes-of",
        metavar="RUN|NAME",
        help="train only a decoder, for the codes of this model, which stay as they are",
    )
    _add_tell(parser)
    parser.add_argument(
        "--cache", metavar="FOLDER", help="keep the files there, decoded: quick, and large"
    )
    add_max_corrupt(parser)
    parser.set_defaults(run=_train_vqvae)


def _train_vqvae(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.train_vqvae import train_vqvae

    return train_vqvae(
        model=options.model,
        data=options.data,
        out=options.out,
        config=_training_config(options),
        changes=_changes(options.set),
        step=options.clip_step,
        fps=options.fps,
        cache=options.cache,
        max_corrupt=options.max_corrupt,
        tell=options.tell,
        codes_of=options.codes_of,
        init_from=options.init_from,
        resume=options.resume,
        overwrite=options.overwrite,
        progress=progress_bar("file"),
    )


def add_train_joint(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo train-joint`."""
    _add_model(parser)
    _add_training(parser, FIRST_STAGE)
    parser.add_argument(
        "--rate-weight",
        type=float,
        default=1.0,
        metavar="W",
        help="of the prior's nats for the encoder; 0 leaves it alone (default: 1, the bound)",
    )
    parser.add_argument(
        "--cache", metavar="FOLDER", help="keep the files there, decoded: quick, and large"
    )
    _add_tell(parser)
    parser.set_defaults(run=_train_joint)


def _train_joint(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.train_joint import train_joint

    return train_joint(
        model=options.model,
        data=options.data,
        out=options.out,
        config=_training_config(options),
        rate_weight=options.rate_weight,
        tell=options.tell,
        changes=_changes(options.set),
        step=options.clip_step,
        fps=options.fps,
        cache=options.cache,
        resume=options.resume,
        overwrite=options.overwrite,
        progress=progress_bar("file"),
    )


def add_train_prior(parser: argparse.ArgumentParser) -> None:
    """Options of `vqvideo train-prior`."""
    list_in_help(parser)
    parser.add_argument("--vqvae", required=True, help="a run of train-vqvae, or a shipped model")
    parser.add_argument("--prior", help="a prior's name; default: what the model's config says")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the prior, as width=128; repeatable",
    )
    _add_training(parser, SECOND_STAGE)
    _add_init_from(parser)
    parser.add_argument(
        "--num-frames",
        type=int,
        metavar="N",
        help="of the clips, or samples of the sound; default: as the first stage was made for",
    )
    parser.set_defaults(run=_train_prior)


def _train_prior(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.train_prior import train_prior

    prior: Any = _changes(options.set)
    if options.prior is not None:
        prior["name"] = options.prior
    return train_prior(
        vqvae=options.vqvae,
        data=options.data,
        out=options.out,
        config=_training_config(options),
        prior=prior or None,
        num_frames=options.num_frames,
        step=options.clip_step,
        fps=options.fps,
        init_from=options.init_from,
        resume=options.resume,
        overwrite=options.overwrite,
        progress=progress_bar("clip"),
        warn=lambda sentence: print(sentence, file=sys.stderr),
    )


def _changes(settings: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1", "c=2"]` as `{"a": {"b": 1}, "c": 2}`; values are JSON, else text."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"--set takes KEY=VALUE, got {setting!r}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        *parents, last = key.split(".")
        place = changes
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or isinstance(place.get(last), dict):
            raise ValueError(
                f"--set {setting} contradicts an earlier --set of {key.split('.')[0]}; set a part "
                f"by its name and options: part.name=..., part.option=..."
            )
        place[last] = value
    return changes
