"""The options of each command, and the one function it calls.

Functions import what they call only when they run, so that --help and a wrong option are quick.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

import vqvideo

Progress = Callable[[int, int], None]


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="video", help="a shipped model or the folder of a run")
    parser.add_argument("--out", help="default outputs/clip.mp4; .gif works too")
    parser.add_argument("--num-samples", type=int, default=1, help="several are numbered")
    parser.add_argument("--num-frames", type=int, help="of the clip in all, the prefix included")
    parser.add_argument("--fps", type=float, help="of the file; default: the prefix's or model's")
    parser.add_argument("--prefix", metavar="FILE", help="a video to continue")
    parser.add_argument("--prefix-frames", type=int, metavar="N", help="how many; default 8")
    parser.add_argument(
        "--fit", choices=("crop", "pad", "refuse"), help="a prefix of another size; default crop"
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="0: the most probable code")
    parser.add_argument("--top-k", type=int, metavar="K", help="only the K most probable codes")
    parser.add_argument("--top-p", type=float, metavar="P", help="only codes that make up P")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--method", choices=("auto", "cached", "full", "fixed_point"), default="auto"
    )
    _add_device(parser)
    _add_overwrite(parser)
    parser.set_defaults(run=_generate)


def _generate(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.generate import Prefix, generate_clip

    prefix = None
    given = {"num_frames": options.prefix_frames, "fit": options.fit}
    given = {name: value for name, value in given.items() if value is not None}
    if options.prefix is not None:
        prefix = Prefix(file=options.prefix, **given)
    elif given:
        raise ValueError("--prefix-frames and --fit are about a --prefix; there is none")
    return generate_clip(
        model=options.model,
        out=options.out,
        num_samples=options.num_samples,
        num_frames=options.num_frames,
        fps=options.fps,
        prefix=prefix,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        method=options.method,
        device=options.device,
        overwrite=options.overwrite,
        progress=_bar("code"),
    )


def _add_reconstruct(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a video")
    parser.add_argument("--model", default="video", help="a shipped model or the folder of a run")
    parser.add_argument("--out", default="outputs/reconstruction.mp4")
    parser.add_argument("--size", type=_size, metavar="HxW", help="default: the model's own")
    parser.add_argument("--fit", choices=("crop", "pad", "refuse"), default="crop")
    _add_device(parser)
    _add_overwrite(parser)
    parser.set_defaults(run=_reconstruct)


def _reconstruct(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.reconstruct import reconstruct

    files, figures = reconstruct(
        options.file,
        model=options.model,
        out=options.out,
        size=options.size,
        fit=options.fit,
        device=options.device,
        overwrite=options.overwrite,
    )
    return {"files": files, **figures} if options.json else files


def _add_training(parser: argparse.ArgumentParser, batch_size: int) -> None:
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--eval-every", type=int, default=200, metavar="STEPS")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read data")
    parser.add_argument(
        "--clip-step", type=int, metavar="FRAMES", help="between the starts of two clips"
    )
    _add_overwrite(parser)


def _training_config(options: argparse.Namespace) -> Any:
    from vqvideo.training import TrainingConfig

    return TrainingConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        eval_every=options.eval_every,
        precision=options.precision,
        seed=options.seed,
        num_workers=options.num_workers,
    )


def _add_train_vqvae(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="a model's name; see `vqvideo models`")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an entry of the model's config, as quantizer.codebook_size=512; repeatable",
    )
    _add_training(parser, batch_size=8)
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
        overwrite=options.overwrite,
    )


def _add_train_prior(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vqvae", required=True, help="a run of train-vqvae, or a shipped model")
    parser.add_argument("--prior", help="a prior's name; default: what the model's config says")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the prior, as width=128; repeatable",
    )
    _add_training(parser, batch_size=8)
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
        step=options.clip_step,
        overwrite=options.overwrite,
        progress=_bar("clip"),
    )


def _add_record_maze(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FOLDER")
    parser.add_argument("--num-episodes", type=int, default=200)
    parser.add_argument("--num-frames", type=int, default=101, help="of each episode")
    parser.add_argument("--size", type=_size, default=(64, 64), metavar="HxW")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument("--test-fraction", type=float, default=0.1, help="episodes held out")
    _add_overwrite(parser)
    parser.set_defaults(run=_record_maze)


def _record_maze(options: argparse.Namespace) -> Any:
    from vqvideo.data.maze import record_maze

    return record_maze(
        options.out,
        num_episodes=options.num_episodes,
        num_frames=options.num_frames,
        size=options.size,
        seed=options.seed,
        test_fraction=options.test_fraction,
        overwrite=options.overwrite,
        progress=_bar("episode"),
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="a wildcard, as 'vid*'")
    parser.set_defaults(run=lambda options: vqvideo.list_models(options.pattern))


def _add_plugins(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_plugins)


def _plugins(options: argparse.Namespace) -> Any:
    from vqvideo.registry import list_plugins

    rows = [
        {
            "kind": plugin.kind,
            "name": plugin.name,
            "package": plugin.package,
            "version": plugin.version,
            "status": plugin.status,
        }
        for plugin in list_plugins()
    ]
    return rows if options.json else ["  ".join(row.values()) for row in rows]


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "generate": ("Imagine a clip, or continue a real one.", _add_generate),
    "reconstruct": ("Encode and decode a video.", _add_reconstruct),
    "train-vqvae": ("Train the first stage on a folder.", _add_train_vqvae),
    "train-prior": ("Train a prior over the codes of a first stage.", _add_train_prior),
    "record-maze": ("Record walks through a labyrinth, with their actions.", _add_record_maze),
    "models": ("List the models that can be built.", _add_models),
    "plugins": ("List the parts that installed packages offer.", _add_plugins),
}


def _size(text: str) -> tuple[int, int]:
    """`HxW` as two integers."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HxW, as 64x64, got {text!r}") from None
    return height, width


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


def _bar(unit: str) -> Progress:
    """A progress bar on stderr with rate and time left; silent where stderr is no terminal."""
    from tqdm import tqdm

    bars: list[Any] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, unit=unit, disable=None))
        bars[0].update(done - bars[0].n)
        if done >= total:
            bars.pop().close()

    return show
