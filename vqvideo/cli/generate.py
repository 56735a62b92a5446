"""The commands that run a model on one file: `generate` and `reconstruct`."""

from __future__ import annotations

import argparse
from typing import Any

from vqvideo.cli import shared
from vqvideo.cli.options import Command, create_progress_bar, get_arguments, option


def _run_generate(options: argparse.Namespace) -> Any:
    from vqvideo.commands.conditions import ConditionOptions
    from vqvideo.commands.generate import generate_clip

    labels = ("speaker", "class_name", "actions")
    skip = ("prefix", "prefix_frames", "prefix_seconds", "fit", *labels)
    return generate_clip(
        prefix=_build_prefix(options),
        conditions=ConditionOptions(**{name: getattr(options, name) for name in labels}),
        **get_arguments(options, skip=skip),
        progress=create_progress_bar("code"),
    )


def _build_prefix(options: argparse.Namespace) -> Any:
    from vqvideo.commands.prefix import Prefix

    length = {"num_frames": options.prefix_frames, "seconds": options.prefix_seconds}
    settings = {**length, "fit": options.fit}
    if options.prefix is not None:
        return Prefix(file=options.prefix, **settings)
    if any(value is not None for value in settings.values()):
        raise ValueError(
            "--prefix-frames, --prefix-seconds and --fit need a --prefix; none is given"
        )
    return None


GENERATE = Command(
    "Generate a clip, or continue a real one.",
    _run_generate,
    [
        shared.model_option("maze"),
        option("--out", "output file, for video .mp4 (default outputs/clip.mp4) or .gif"),
        option("--num-samples", "number of samples; several files are numbered", default=1),
        option("--num-frames", "total frames or audio samples, prefix included", int),
        option("--seconds", "total length in seconds, for video and audio", float),
        option("--fps", "frame rate of the file; default: that of the prefix or model", float),
        option("--prefix FILE", "a video or audio file to continue"),
        option("--prefix-frames N", "frames of the prefix to keep (default: 8)", int),
        option(
            "--prefix-seconds S",
            "seconds of an audio prefix to keep, rounded down to whole codes (default: 1)",
            float,
        ),
        option("--speaker ID", "speaker, for models conditioned on it"),
        option("--class NAME", "class, for models conditioned on it", dest="class_name"),
        option(
            "--actions ACTIONS",
            "one action per frame, for example 'forward*6, turn left'; or a .npy file",
        ),
        option(
            "--fit",
            "how to fit a prefix of another size (default: crop)",
            choices=("crop", "pad", "refuse"),
        ),
        shared.TEMPERATURE,
        shared.DECODER_TEMPERATURE,
        option("--top-k K", "sample from the K most probable codes only", int),
        option(
            "--top-p P", "sample from the most probable codes with total probability P only", float
        ),
        shared.GUIDANCE_SCALE,
        shared.SEED,
        option(
            "--method",
            "sampling method; all give the same codes (default: auto)",
            default="auto",
            choices=("auto", "fused", "cached", "full", "fixed_point"),
        ),
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)


def _run_reconstruct(options: argparse.Namespace) -> Any:
    from vqvideo.commands.reconstruct import reconstruct

    files, metrics = reconstruct(**get_arguments(options), progress=create_progress_bar("frame"))
    return {"files": files, **metrics} if options.json else files


RECONSTRUCT = Command(
    "Encode and decode a video, and compare with x264.",
    _run_reconstruct,
    [
        option("file", "a video"),
        shared.model_option("video"),
        shared.out_option("outputs/reconstruction.mp4", "output file, .mp4"),
        shared.SIZE,
        shared.FIT,
        shared.DEVICE,
        shared.OVERWRITE,
    ],
)
