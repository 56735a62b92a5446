"""Where a run begins: the weights of another model, and what is remembered of it.

Weights fit by name and by shape or not at all. All of a first stage is taken over, what its
quantizer counts too, so that training goes on as if it had never been saved.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from vqvideo.checkpoint import MODEL, NOTICE, PHONES
from vqvideo.config import MODELS, GeneratorConfig, build_generator
from vqvideo.formats import offline
from vqvideo.generator import Generator
from vqvideo.jobs.model import model_folder, open_model, places_of
from vqvideo.training.state import FILE

FIRST_STAGE = ("channels", "strides", "encoder", "quantizer", "decoder", "likelihood", "cond")


def goes_on(out: str, resume: bool) -> bool:
    """Whether a run has a state to go on from; then it needs no weights from elsewhere."""
    return resume and (Path(out) / FILE).is_file()


def config_of(model: str | None, init_from: str | None, begun: str | None) -> GeneratorConfig:
    """What is to be trained: a registered model, or else the one whose weights it starts from.

    Args:
        model: a registered name.
        init_from: see `open_model`; asked only where no name is given.
        begun: the folder of a run that is gone on with; its own model says what it trains, where it
            has measured before.

    Raises:
        ValueError: neither is given.
    """
    if model is not None:
        return MODELS.build(model)
    if init_from is None:
        raise ValueError("nothing says what to train: give --model, or weights with --init-from")
    own = Path(begun) / MODEL if begun is not None else None
    config: GeneratorConfig = open_model(
        str(own) if own and own.is_dir() else init_from, "cpu"
    ).config
    return config


def built(config: GeneratorConfig, *, begins: bool) -> Generator:
    """A model to be trained, in evaluation mode.

    A run that goes on has all weights in its state, so nothing is read or fetched from elsewhere
    once more. Its config still says what it was begun with, which must be the same as before.

    Args:
        config: of the model.
        begins: false where a run goes on.
    """
    plan = config if begins else GeneratorConfig.from_dict(offline(config.to_dict()))
    generator = build_generator(plan).eval()
    generator.config = config
    return generator


def start_vqvae(generator: Generator, name: str) -> None:
    """Give the first stage the weights of another model, and the state of its quantizer.

    Args:
        generator: to be trained.
        name: of the other; see `open_model`.

    Raises:
        ValueError: they do not fit; the message names the first that does not.
    """
    other = open_model(name, "cpu")
    _check_same_speakers(other, generator, name)
    differing = _differing(other.config, generator.config, FIRST_STAGE)
    differing += ". Without --model, the model is built as the one it starts from"
    _take_over(other.vqvae, generator.vqvae, name, differing)


def _check_same_speakers(other: Generator, generator: Generator, name: str) -> None:
    """Raise `ValueError` where a number would come to mean somebody else."""
    theirs, ours = other.vqvae.cond, generator.vqvae.cond
    for kind in ("class_names", "speaker_names"):
        known, given = getattr(theirs, kind), getattr(ours, kind)
        if known and given and known != given:
            raise ValueError(
                f"the decoder of {name} has learnt the {kind} {', '.join(known)}, this one is told "
                f"{', '.join(given)}; give data with the same, or --codes-of {name} in place of "
                f"--init-from, which trains a decoder of its own for the same codes"
            )


def start_codes(generator: Generator, name: str) -> None:
    """Give the first stage the encoder and the quantizer of another model, so that both make the
    same codes.

    Args:
        generator: whose decoder is to be trained.
        name: of the other; see `open_model`.

    Raises:
        ValueError: they do not fit; the message names the first that does not.
    """
    other = open_model(name, "cpu")
    differing = _differing(
        other.config, generator.config, ("channels", "strides", "encoder", "quantizer")
    )
    if differing:
        raise ValueError(
            f"the codes of {name} are not those of this model{differing}. Without --model, the "
            f"model is that of {name} but for what --set changes"
        )
    generator.vqvae.encoder.load_state_dict(other.vqvae.encoder.state_dict())
    generator.vqvae.quantizer.load_state_dict(other.vqvae.quantizer.state_dict())


def start_prior(generator: Generator, name: str) -> None:
    """Give the prior the weights of another one, and the names of classes that it knows.

    Args:
        generator: to be trained, its first stage in place.
        name: of a model with a prior over the codes of the same first stage; see `open_model`.

    Raises:
        ValueError: they do not fit, or it has none, or its codes mean something else.
    """
    other = open_model(name, "cpu")
    prior = generator.prior
    assert prior is not None
    if other.prior is None:
        raise ValueError(f"{name} has no prior to start from; leave out --init-from")
    if other.vqvae.fingerprint() != generator.vqvae.fingerprint():
        raise ValueError(
            f"the prior of {name} has learnt the codes of another first stage, with which codes "
            f"mean other things; give --vqvae {name}, or leave out --init-from"
        )
    _take_over(other.prior, prior, name, _differing(other.config, generator.config, ("prior",)))
    known = other.prior.cond
    if known.class_names or known.speaker_names:
        names: dict[str, Any] = {
            "class_names": known.class_names,
            "speaker_names": known.speaker_names,
        }
        prior.cond = replace(prior.cond, **names)
        cond = {**(generator.config.prior.options.get("cond") or {}), **names}
        part = {"name": generator.config.prior.name, "cond": cond}
        generator.config = generator.config.updated(prior=part)


def about_data(data: str, train: Sized, held_out: Sized) -> dict[str, Any]:
    """What `TrainingConfig.about` says of the data; its folder without the way there."""
    return {"data": Path(data).resolve().name, "windows": len(train), "held_out": len(held_out)}


def keep_notices(out: str, sources: Sequence[str | None]) -> None:
    """Put into the run's folder what must be said wherever weights made of others go."""
    files = [model_folder(source) / NOTICE for source in sources if source is not None]
    texts = list(
        dict.fromkeys(file.read_text(encoding="utf-8") for file in files if file.is_file())
    )
    notice = Path(out) / NOTICE
    if texts:
        notice.parent.mkdir(parents=True, exist_ok=True)
        notice.write_text("\n".join(texts), encoding="utf-8")
    else:
        notice.unlink(missing_ok=True)


def keep_phones(out: str, source: str) -> None:
    """Put into the run's folder the phones that codes stand for, where `source` makes the same
    codes and knows them.
    """
    known = [place / PHONES for place in places_of(source) if (place / PHONES).is_file()]
    if known:
        Path(out).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(known[0], Path(out) / PHONES)


def _take_over(other: nn.Module, into: nn.Module, name: str, differing: str) -> None:
    theirs, ours = other.state_dict(), into.state_dict()
    for weight in {**ours, **theirs}:
        shapes = [list(each[weight].shape) if weight in each else None for each in (theirs, ours)]
        if shapes[0] != shapes[1]:
            there, here = ("no such weight" if shape is None else shape for shape in shapes)
            raise ValueError(
                f"the weights of {name} do not fit: {weight} is {there} there and {here} here; "
                f"build this model with the same options{differing}"
            )
    into.load_state_dict(theirs)


def _differing(other: GeneratorConfig, this: GeneratorConfig, entries: Sequence[str]) -> str:
    """The first entry of a config that explains why weights do not fit."""
    theirs, ours = other.to_dict(), this.to_dict()
    for name in entries:
        if theirs[name] != ours[name]:
            return f": its {name} is {theirs[name]}, this one's {ours[name]}"
    return ""
