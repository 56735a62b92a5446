"""Which phone each code of a model stands for, as a file: `phones.json`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from vqvideo.checkpoint import PHONES
from vqvideo.jobs.model import places_of
from vqvideo.vqvae import VQVAE


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhoneMap:
    """The most frequent phone of each code in labelled speech (section 4.3).

    Attributes:
        fingerprint: of the model whose codes they are, see `VQVAE.fingerprint`.
        seconds_per_frame: how long a code lasts.
        silence: labels that are no phones but pauses.
        labels: that occur in the training frames, those of silence included, sorted.
        phones: phone `[K]` of each code, learnt from frames without silence: what accuracy is of.
        phones_with_silence: the same learnt from all frames: what a file is transcribed by.
    """

    fingerprint: str
    seconds_per_frame: float
    silence: tuple[str, ...]
    labels: tuple[str, ...]
    phones: tuple[str, ...]
    phones_with_silence: tuple[str, ...]

    def write(self, path: Path) -> None:
        """As JSON."""
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path, vqvae: VQVAE, model: str) -> PhoneMap:
        """The map in a file, which must be of this model, called `model`.

        Raises:
            ValueError: it is no such file, or was learnt from the codes of another model.
        """
        try:
            read: Any = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as cause:  # JSONDecodeError, UnicodeDecodeError
            raise ValueError(f"{path} is not JSON: {cause}") from cause
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(read, dict) or sorted(read) != sorted(names):
            raise ValueError(
                f"{path} must hold exactly {', '.join(names)}, as {_command(model)} writes them"
            )
        if read["fingerprint"] != vqvae.fingerprint():
            raise ValueError(
                f"{path} was learnt from the codes of another model than {model}; "
                f"learn its phones with {_command(model)}"
            )
        lists = ("silence", "labels", "phones", "phones_with_silence")
        for name in lists:
            if not _are_names(read[name]):
                raise ValueError(f"{path}: expected {name!r} to be a list of labels")
        found = cls(**{**read, **{name: tuple(read[name]) for name in lists}})
        size = vqvae.quantizer.codebook_size
        if not len(found.phones) == len(found.phones_with_silence) == size:
            raise ValueError(f"{path}: expected a phone for each of {size} codes")
        return found


def find_map(model: str, given: str | None) -> Path:
    """The file `given`, else the one in the folder of the model or of its run.

    Raises:
        FileNotFoundError: there is none; the message says how to learn one.
    """
    places = [Path(given)] if given is not None else [p / PHONES for p in places_of(model)]
    path = next((place for place in places if place.is_file()), places[0])
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}, which says what phone each code of {model} stands for; "
            f"learn it with {_command(model)} and give it as --map"
        )
    return path


def _command(model: str) -> str:
    return f"vqvideo phonemes --data FOLDER --model {model}"


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)
