"""The table of the commands, in the order of the help."""

from __future__ import annotations

from vqvideo.cli.codes import DECODE, ENCODE
from vqvideo.cli.evaluate import DOCTOR, EVALUATE
from vqvideo.cli.generate import GENERATE, RECONSTRUCT
from vqvideo.cli.models import EXPORT, MODELS, PUSH
from vqvideo.cli.options import Command
from vqvideo.cli.plugins import NEW_PLUGIN, PLUGINS
from vqvideo.cli.speech import CONVERT_SPEAKER, PHONEMES
from vqvideo.cli.training import TRAIN_JOINT, TRAIN_PRIOR, TRAIN_VQVAE
from vqvideo.cli.worlds import PLAY, RECORD_MAZE, ROLLOUT

COMMANDS: dict[str, Command] = {
    "generate": GENERATE,
    "play": PLAY,
    "rollout": ROLLOUT,
    "reconstruct": RECONSTRUCT,
    "encode": ENCODE,
    "decode": DECODE,
    "convert-speaker": CONVERT_SPEAKER,
    "train-vqvae": TRAIN_VQVAE,
    "train-prior": TRAIN_PRIOR,
    "train-joint": TRAIN_JOINT,
    "evaluate": EVALUATE,
    "phonemes": PHONEMES,
    "doctor": DOCTOR,
    "export": EXPORT,
    "push": PUSH,
    "record-maze": RECORD_MAZE,
    "models": MODELS,
    "plugins": PLUGINS,
    "new-plugin": NEW_PLUGIN,
}
