"""The map from the codes of a model to phones, and its file `phones.json`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from vqvideo.atomic import write_text
from vqvideo.commands.model import list_model_folders
from vqvideo.text_files import read_json
from vqvideo.vqvae import VQVAE

PHONES_NAME = "phones.json"  # a companion file of a model, see vqvideo.builtin_parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhoneMap:
    """The most frequent phone of each code in labelled speech (section 4.3).

    Attributes:
        fingerprint: fingerprint of the model, see `VQVAE.fingerprint`.
        seconds_per_frame: duration of a code.
        silence: labels of pauses rather than phones.
        labels: sorted labels of the training frames, silence included.
        phones: phone of each code, K entries, learnt from frames without silence; used for the
            accuracy.
        phones_with_silence: phone of each code, K entries, learnt from all frames; used to
            transcribe files.
    """

    fingerprint: str
    seconds_per_frame: float
    silence: tuple[str, ...]
    labels: tuple[str, ...]
    phones: tuple[str, ...]
    phones_with_silence: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Write the map as JSON."""
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)
        write_text(path, text + "\n")

    @classmethod
    def read(cls, path: Path, vqvae: VQVAE, model: str) -> PhoneMap:
        """Read the map of a model.

        Args:
            path: the file.
            vqvae: the model that the map must belong to.
            model: name of the model for error messages.

        Raises:
            ValueError: the file is not a phone map, or was learnt from the codes of another model.
        """
        try:
            content: Any = read_json(path)
        except ValueError as cause:  # also UnicodeDecodeError
            raise ValueError(f"{path} is not JSON: {cause}") from cause
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(content, dict) or sorted(content) != sorted(names):
            raise ValueError(
                f"{path} must have exactly the keys {', '.join(names)}, as written by "
                f"{_format_command(model)}"
            )
        if content["fingerprint"] != vqvae.fingerprint():
            raise ValueError(
                f"{path} was learnt from the codes of another model than {model}; "
                f"learn a phone map with {_format_command(model)}"
            )
        lists = ("silence", "labels", "phones", "phones_with_silence")
        for name in lists:
            if not _is_label_list(content[name]):
                raise ValueError(f"{path}: expected {name!r} to be a list of labels")
        phone_map = cls(**{**content, **{name: tuple(content[name]) for name in lists}})
        codebook_size = vqvae.quantizer.codebook_size
        if not len(phone_map.phones) == len(phone_map.phones_with_silence) == codebook_size:
            raise ValueError(f"{path}: expected a phone for each of {codebook_size} codes")
        return phone_map


def find_phone_map(model: str, phone_map: str | None) -> Path:
    """Return the path of a phone map: `phone_map`, else the one in the folder of the model or run.

    Raises:
        FileNotFoundError: there is no such file; the message says how to learn a map.
    """
    candidates = (
        [Path(phone_map)]
        if phone_map is not None
        else [folder / PHONES_NAME for folder in list_model_folders(model)]
    )
    path = next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}, the map from the codes of {model} to phones; learn it with "
            f"{_format_command(model)} and give it as --phone-map"
        )
    return path


def _format_command(model: str) -> str:
    return f"vqvideo phonemes --data FOLDER --model {model}"


def _is_label_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)
