"""The options of each command, and the function that it calls.

Functions import the commands only when they run, so that --help and usage errors are fast.
"""

from __future__ import annotations

import argparse
from typing import Any

import vqvideo
from vqvideo.cli.codes import add_decode_arguments, add_encode_arguments
from vqvideo.cli.doctor import add_doctor_arguments
from vqvideo.cli.evaluate import add_evaluate_arguments
from vqvideo.cli.maze import add_record_maze_arguments, add_rollout_arguments
from vqvideo.cli.options import (
    AddOptions,
    add_device_option,
    add_overwrite_option,
    create_progress_bar,
    parse_seed,
    parse_size,
)
from vqvideo.cli.phonemes import add_phonemes_arguments
from vqvideo.cli.play import add_play_arguments
from vqvideo.cli.plugins import add_new_plugin_arguments, add_plugins_arguments
from vqvideo.cli.push import add_push_arguments
from vqvideo.cli.speech import add_convert_speaker_arguments
from vqvideo.cli.training import (
    add_train_joint_arguments,
    add_train_prior_arguments,
    add_train_vqvae_arguments,
)


def _add_generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="maze", help="a shipped model or a run folder")
    parser.add_argument(
        "--out", help="output file, for video .mp4 (default outputs/clip.mp4) or .gif"
    )
    parser.add_argument(
        "--num-samples", type=int, default=1, help="number of samples; several files are numbered"
    )
    parser.add_argument(
        "--num-frames", type=int, help="total frames or audio samples, prefix included"
    )
    parser.add_argument(
        "--seconds", type=float, help="total length in seconds, for video and audio"
    )
    parser.add_argument(
        "--fps", type=float, help="frame rate of the file; default: that of the prefix or model"
    )
    parser.add_argument("--prefix", metavar="FILE", help="a video or audio file to continue")
    parser.add_argument(
        "--prefix-frames", type=int, metavar="N", help="frames of the prefix to keep (default: 8)"
    )
    parser.add_argument(
        "--prefix-seconds",
        type=float,
        metavar="S",
        help="seconds of an audio prefix to keep, rounded down to whole codes (default: 1)",
    )
    parser.add_argument("--speaker", metavar="ID", help="speaker, for models conditioned on it")
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="class, for models conditioned on it"
    )
    parser.add_argument(
        "--actions",
        metavar="ACTIONS",
        help="one action per frame, for example 'forward*6, turn left'; or a .npy file",
    )
    parser.add_argument(
        "--fit",
        choices=("crop", "pad", "refuse"),
        help="how to fit a prefix of another size (default: crop)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="temperature of the prior; 0 takes the most probable code (default: 1)",
    )
    parser.add_argument(
        "--decoder-temperature",
        type=float,
        metavar="T",
        help="temperature of an autoregressive decoder (default: 1)",
    )
    parser.add_argument(
        "--top-k", type=int, metavar="K", help="sample from the K most probable codes only"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="sample from the most probable codes with total probability P only",
    )
    parser.add_argument(
        "--guidance-scale",
        type=float,
        metavar="G",
        help="scale of classifier-free guidance; above 1 strengthens the conditions",
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="random seed")
    parser.add_argument(
        "--method",
        choices=("auto", "fused", "cached", "full", "fixed_point"),
        default="auto",
        help="sampling method; all give the same codes (default: auto)",
    )
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_generate)


def _run_generate(options: argparse.Namespace) -> Any:
    from vqvideo.commands.generate import generate_clip
    from vqvideo.commands.prefix import Prefix

    prefix = None
    prefix_options = {
        "num_frames": options.prefix_frames,
        "seconds": options.prefix_seconds,
        "fit": options.fit,
    }
    prefix_options = {name: value for name, value in prefix_options.items() if value is not None}
    if options.prefix is not None:
        prefix = Prefix(file=options.prefix, **prefix_options)
    elif prefix_options:
        raise ValueError(
            "--prefix-frames, --prefix-seconds and --fit need a --prefix; none is given"
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
        guidance_scale=options.guidance_scale,
        seed=options.seed,
        method=options.method,
        device=options.device,
        overwrite=options.overwrite,
        progress=create_progress_bar("code"),
    )


def _add_reconstruct_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a video")
    parser.add_argument("--model", default="video", help="a shipped model or a run folder")
    parser.add_argument(
        "--out",
        default="outputs/reconstruction.mp4",
        help="output file, .mp4 (default: outputs/reconstruction.mp4)",
    )
    parser.add_argument(
        "--size", type=parse_size, metavar="HxW", help="frame size; default: that of the model"
    )
    parser.add_argument(
        "--fit",
        choices=("crop", "pad", "refuse"),
        default="crop",
        help="how to fit frames of another aspect ratio (default: crop)",
    )
    add_device_option(parser)
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_reconstruct)


def _run_reconstruct(options: argparse.Namespace) -> Any:
    from vqvideo.commands.reconstruct import reconstruct

    files, metrics = reconstruct(
        options.file,
        model=options.model,
        out=options.out,
        size=options.size,
        fit=options.fit,
        device=options.device,
        overwrite=options.overwrite,
        progress=create_progress_bar("frame"),
    )
    return {"files": files, **metrics} if options.json else files


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="a shipped model or a run folder")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument(
        "--dtype",
        choices=("int8", "float16", "float32"),
        default="int8",
        help="data type of the stored weights (default: int8)",
    )
    add_overwrite_option(parser)
    parser.set_defaults(run=_run_export)


def _run_export(options: argparse.Namespace) -> Any:
    from vqvideo.commands.export import export

    folder, size = export(
        model=options.model, out=options.out, dtype=options.dtype, overwrite=options.overwrite
    )
    return {"folder": folder, "megabytes": size / 1e6}


def _add_models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern", nargs="?", default="*", help="wildcard pattern, for example 'vid*'"
    )
    parser.set_defaults(run=lambda options: vqvideo.list_models(options.pattern))


# A command maps to its options, a group to its commands.
COMMANDS: dict[str, tuple[str, AddOptions | dict[str, tuple[str, AddOptions]]]] = {
    "generate": ("Generate a clip, or continue a real one.", _add_generate_arguments),
    "play": ("Control the video that a model generates, in the browser.", add_play_arguments),
    "rollout": ("Render a model's rollout next to a recorded episode.", add_rollout_arguments),
    "reconstruct": (
        "Encode and decode a video, and compare with x264.",
        _add_reconstruct_arguments,
    ),
    "encode": ("Encode a folder of media files into code files.", add_encode_arguments),
    "decode": ("Decode code files into media files.", add_decode_arguments),
    "convert-speaker": (
        "Convert speech to another speaker's voice.",
        add_convert_speaker_arguments,
    ),
    "train-vqvae": ("Train the first stage on a folder.", add_train_vqvae_arguments),
    "train-prior": ("Train a prior over the codes of a first stage.", add_train_prior_arguments),
    "train-joint": ("Train both stages together.", add_train_joint_arguments),
    "evaluate": (
        "Score held-out data: bound, reconstruction, compression.",
        add_evaluate_arguments,
    ),
    "phonemes": ("Classify phones from the codes of speech.", add_phonemes_arguments),
    "doctor": ("Check the codebook of a model.", add_doctor_arguments),
    "export": ("Copy a model with smaller weights.", _add_export_arguments),
    "push": ("Upload a model to the Hugging Face hub, with its card.", add_push_arguments),
    "record-maze": ("Record episodes in a maze, with their actions.", add_record_maze_arguments),
    "models": ("List the registered models.", _add_models_arguments),
    "plugins": ("List the parts of installed plugins.", add_plugins_arguments),
    "new-plugin": ("Create a project that adds a part to vqvideo.", add_new_plugin_arguments),
}
