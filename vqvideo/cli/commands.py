"""The options of each command, and the one function it calls.

Functions import what they call only when they run, so that --help and a wrong option are quick.
"""

from __future__ import annotations

import argparse
from typing import Any

import vqvideo
from vqvideo.cli.benchmark import BENCHMARKS
from vqvideo.cli.codes import add_decode, add_encode
from vqvideo.cli.doctor import add_doctor
from vqvideo.cli.evaluate import add_evaluate
from vqvideo.cli.maze import add_record_maze, add_walk
from vqvideo.cli.options import AddOptions, add_device, add_overwrite, progress_bar, size
from vqvideo.cli.phonemes import add_phonemes
from vqvideo.cli.play import add_play
from vqvideo.cli.plugins import add_new_plugin, add_plugins
from vqvideo.cli.push import add_push
from vqvideo.cli.speech import add_convert_speaker
from vqvideo.cli.training import add_train_joint, add_train_prior, add_train_vqvae


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="maze", help="a shipped model or the folder of a run")
    parser.add_argument("--out", help="default outputs/clip.mp4; .gif works too")
    parser.add_argument("--num-samples", type=int, default=1, help="several are numbered")
    parser.add_argument("--num-frames", type=int, help="of the clip in all, the prefix included")
    parser.add_argument("--seconds", type=float, help="the same in seconds, for sound and video")
    parser.add_argument("--fps", type=float, help="of the file; default: the prefix's or model's")
    parser.add_argument("--prefix", metavar="FILE", help="a video, or a sound, to continue")
    parser.add_argument("--prefix-frames", type=int, metavar="N", help="how many; default 8")
    parser.add_argument(
        "--prefix-seconds", type=float, metavar="S", help="of sound, in whole codes; default 1"
    )
    parser.add_argument("--speaker", metavar="ID", help="who speaks, if the model can be told")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="likewise, a class")
    parser.add_argument(
        "--actions", metavar="WORDS", help="of each frame, as 'forward*6, turn left'; or a .npy"
    )
    parser.add_argument(
        "--fit", choices=("crop", "pad", "refuse"), help="a prefix of another size; default crop"
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="0: the most probable code")
    parser.add_argument(
        "--decoder-temperature", type=float, metavar="T", help="of one that draws (default 1)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="only the K most probable codes")
    parser.add_argument("--top-p", type=float, metavar="P", help="only codes that make up P")
    parser.add_argument(
        "--guidance", type=float, metavar="G", help="above 1: what it is told decides more"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--method", choices=("auto", "fused", "cached", "full", "fixed_point"), default="auto"
    )
    add_device(parser)
    add_overwrite(parser)
    parser.set_defaults(run=_generate)


def _generate(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.generate import generate_clip
    from vqvideo.jobs.prefix import Prefix

    prefix = None
    given = {
        "num_frames": options.prefix_frames,
        "seconds": options.prefix_seconds,
        "fit": options.fit,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options.prefix is not None:
        prefix = Prefix(file=options.prefix, **given)
    elif given:
        raise ValueError(
            "--prefix-frames, --prefix-seconds and --fit are about a --prefix; none is given"
        )
    return generate_clip(
        model=options.model,
        out=options.out,
        num_samples=options.num_samples,
        num_frames=options.num_frames,
        seconds=options.seconds,
        fps=options.fps,
        prefix=prefix,
        speaker=options.speaker,
        class_name=options.class_name,
        actions=options.actions,
        decoder_temperature=options.decoder_temperature,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        guidance=options.guidance,
        seed=options.seed,
        method=options.method,
        device=options.device,
        overwrite=options.overwrite,
        progress=progress_bar("code"),
    )


def _add_reconstruct(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a video")
    parser.add_argument("--model", default="video", help="a shipped model or the folder of a run")
    parser.add_argument("--out", default="outputs/reconstruction.mp4")
    parser.add_argument("--size", type=size, metavar="HxW", help="default: the model's own")
    parser.add_argument("--fit", choices=("crop", "pad", "refuse"), default="crop")
    add_device(parser)
    add_overwrite(parser)
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
        progress=progress_bar("frame"),
    )
    return {"files": files, **figures} if options.json else files


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="a shipped model or the folder of a run")
    parser.add_argument("--out", required=True, metavar="FOLDER")
    parser.add_argument("--dtype", choices=("int8", "float16", "float32"), default="int8")
    add_overwrite(parser)
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> Any:
    from vqvideo.jobs.export import export

    folder, size = export(
        model=options.model, out=options.out, dtype=options.dtype, overwrite=options.overwrite
    )
    return {"folder": folder, "megabytes": size / 1e6}


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help="a wildcard, as 'vid*'")
    parser.set_defaults(run=lambda options: vqvideo.list_models(options.pattern))


# A command has options, a group has commands of its own.
COMMANDS: dict[str, tuple[str, AddOptions | dict[str, tuple[str, AddOptions]]]] = {
    "generate": ("Imagine a clip, or continue a real one.", _add_generate),
    "play": ("Walk through what a model imagines, on a page in the browser.", add_play),
    "walk": ("Film a recorded walk beside what a model imagines of it.", add_walk),
    "reconstruct": ("Show what the codes of a video keep, beside x264.", _add_reconstruct),
    "encode": ("Encode a folder into code files.", add_encode),
    "decode": ("Decode code files into media files.", add_decode),
    "convert-speaker": ("Say what one voice says in the voice of another.", add_convert_speaker),
    "train-vqvae": ("Train the first stage on a folder.", add_train_vqvae),
    "train-prior": ("Train a prior over the codes of a first stage.", add_train_prior),
    "train-joint": ("Train both stages at once.", add_train_joint),
    "evaluate": ("Score held-out data: bound, reconstructions, compression.", add_evaluate),
    "phonemes": ("Tell phones from the codes of speech.", add_phonemes),
    "doctor": ("Tell whether the codebook of a model is healthy.", add_doctor),
    "export": ("Copy a model with smaller weights.", _add_export),
    "push": ("Put a model on the Hugging Face hub, with its card.", add_push),
    "record-maze": ("Record walks through a labyrinth, with their actions.", add_record_maze),
    "benchmark": ("Measure the library on this machine.", BENCHMARKS),
    "models": ("List the models that can be built.", _add_models),
    "plugins": ("List the parts that installed packages offer.", add_plugins),
    "new-plugin": ("Write a project that adds a part to vqvideo.", add_new_plugin),
}
