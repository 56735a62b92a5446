"""Options that several commands share."""

from __future__ import annotations

from pathlib import PurePath

from vqvideo.cli.options import AddOption, flag, option, parse_seed, parse_size

DATA = option("--data FOLDER", "folder of media files", required=True)
SPLIT = option(
    "--split", "split of the data (default: test)", default="test", choices=("train", "test")
)
CLIP_STRIDE = option(
    "--clip-stride FRAMES",
    "frames or audio samples between the starts of two clips; default: adjacent clips",
    int,
)
FPS = option("--fps", "frame rate of the clips; default: that of each file", float)
SIZE = option("--size HxW", "frame size; default: that of the model", parse_size)
FIT = option(
    "--fit",
    "how to fit frames of another aspect ratio (default: crop)",
    default="crop",
    choices=("crop", "pad", "refuse"),
)
TEMPERATURE = option(
    "--temperature",
    "temperature of the prior; 0 takes the most probable code (default: 1)",
    default=1.0,
)
GUIDANCE_SCALE = option(
    "--guidance-scale G",
    "scale of classifier-free guidance; above 1 strengthens the conditions",
    float,
)
DECODER_TEMPERATURE = option(
    "--decoder-temperature T", "temperature of an autoregressive decoder (default: 1)", float
)
SEED = option("--seed", "random seed", parse_seed, default=0)
NUM_PROCESSES = option(
    "--num-processes", "code files processed in parallel (default: 1)", default=1
)
MAX_CORRUPT = option(
    "--max-corrupt FRACTION",
    "largest fraction of unreadable files to skip without an error (default: 0.01)",
    default=0.01,
)
DEVICE = option("--device", "device: auto, cpu, cuda or mps (default: auto)", default="auto")
OVERWRITE = flag("--overwrite", "replace existing files")


def model_option(default: str | None = None) -> AddOption:
    """Return --model, which is required unless it has a default."""
    help_ = "a shipped model or a run folder"
    return option("--model", help_, default=default, required=default is None)


def out_option(default: str, help: str = "output folder") -> AddOption:
    """Return --out with a default, a file or a folder, that its help shows."""
    metavar = "" if PurePath(default).suffix else " FOLDER"
    return option(f"--out{metavar}", f"{help} (default: {default})", default=default)
