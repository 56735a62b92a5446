"""Initialize a run from the weights of other models, and record their origin.

Weights must match by name and by shape. A first stage is copied completely, including the
statistics of its quantizer, so that training continues as if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from vqvideo.atomic import replace_file
from vqvideo.builtin_parts import COMPANION_FILES
from vqvideo.checkpoint import MODEL_DIR, NOTICE_NAME, read_text_file
from vqvideo.commands.model import find_model_folder, list_model_folders, load_model
from vqvideo.config import MODELS, GeneratorConfig, build_generator
from vqvideo.config_versions import disable_pretrained
from vqvideo.generator import Generator
from vqvideo.training.run_folder import clear_run
from vqvideo.training.state import STATE_NAME

VQVAE_KEYS = ("channels", "strides", "encoder", "quantizer", "decoder", "likelihood", "cond")


def is_resuming(out: str, resume: bool) -> bool:
    """Return whether a run resumes from a saved state, and so needs no other weights."""
    return resume and (Path(out) / STATE_NAME).is_file()


def resolve_config(
    model: str | None, init_from: str | None, run_folder: str | None
) -> GeneratorConfig:
    """Return the config to train: of a registered model, else of the model to start from.

    Args:
        model: a registered name.
        init_from: see `load_model`; used only if no name is given.
        run_folder: folder of a run that resumes, or None; its saved model, if it has one, takes
            precedence over `init_from`.

    Raises:
        ValueError: neither a name nor weights are given.
    """
    if model is not None:
        return MODELS.build(model)
    if init_from is None:
        raise ValueError("no model to train: give --model, or weights with --init-from")
    saved = Path(run_folder) / MODEL_DIR if run_folder is not None else None
    config: GeneratorConfig = load_model(
        str(saved) if saved and saved.is_dir() else init_from, "cpu"
    ).config
    return config


def build_for_training(config: GeneratorConfig, *, is_new: bool) -> Generator:
    """Build a model for training, in evaluation mode.

    A run that resumes has all weights in its state, so pretrained weights are not loaded again. Its
    config keeps their source, which must not change when a run resumes.

    Args:
        config: config of the model.
        is_new: False if the run resumes.
    """
    build_config = (
        config if is_new else GeneratorConfig.from_dict(disable_pretrained(config.to_dict()))
    )
    generator = build_generator(build_config).eval()
    generator.config = config
    return generator


def init_vqvae(generator: Generator, name: str) -> None:
    """Load the first stage, including the quantizer's state, from another model.

    Args:
        generator: the model to train.
        name: the other model; see `load_model`.

    Raises:
        ValueError: the weights do not match; the message names the first that does not.
    """
    other = load_model(name, "cpu")
    _check_same_labels(other, generator, name)
    hint = _explain_mismatch(other.config, generator.config, VQVAE_KEYS)
    hint += ". Without --model, the config of the source model is used"
    _load_weights(other.vqvae, generator.vqvae, name, hint)


def _check_same_labels(other: Generator, generator: Generator, name: str) -> None:
    """Raise `ValueError` if both decoders have labels and they differ, so ids would change."""
    source_cond, target_cond = other.vqvae.cond, generator.vqvae.cond
    for kind in ("class_names", "speaker_names"):
        source_names, target_names = getattr(source_cond, kind), getattr(target_cond, kind)
        if source_names and target_names and source_names != target_names:
            raise ValueError(
                f"the decoder of {name} was trained with the {kind} {', '.join(source_names)}, but "
                f"the data has {', '.join(target_names)}; give data with the same names, or use "
                f"--tokenizer {name} in place of --init-from to train a new decoder for its codes"
            )


def load_tokenizer(generator: Generator, name: str) -> None:
    """Load the encoder and the quantizer of another model, so that both produce the same codes.

    Args:
        generator: the model whose decoder is to be trained.
        name: the other model; see `load_model`.

    Raises:
        ValueError: the configs do not match; the message names the first entry that differs.
    """
    other = load_model(name, "cpu")
    mismatch = _explain_mismatch(
        other.config, generator.config, ("channels", "strides", "encoder", "quantizer")
    )
    if mismatch:
        raise ValueError(
            f"the codes of {name} do not match this model{mismatch}. Without --model, the config "
            f"of {name} is used, with the changes of --set"
        )
    generator.vqvae.encoder.load_state_dict(other.vqvae.encoder.state_dict())
    generator.vqvae.quantizer.load_state_dict(other.vqvae.quantizer.state_dict())


def init_prior(generator: Generator, name: str) -> None:
    """Load the weights and label names of another model's prior.

    Args:
        generator: the model to train, with its first stage already loaded.
        name: a model with a prior over the codes of the same first stage; see `load_model`.

    Raises:
        ValueError: the model has no prior, its weights do not match, or it has another first stage.
    """
    other = load_model(name, "cpu")
    prior = generator.prior
    assert prior is not None
    if other.prior is None:
        raise ValueError(f"{name} has no prior to start from; leave out --init-from")
    if other.vqvae.fingerprint() != generator.vqvae.fingerprint():
        raise ValueError(
            f"the prior of {name} was trained on the codes of another first stage, so its codes "
            f"differ; give --vqvae {name}, or leave out --init-from"
        )
    _load_weights(
        other.prior, prior, name, _explain_mismatch(other.config, generator.config, ("prior",))
    )
    source_cond = other.prior.cond
    if source_cond.class_names or source_cond.speaker_names:
        names: dict[str, Any] = {
            "class_names": source_cond.class_names,
            "speaker_names": source_cond.speaker_names,
        }
        prior.cond = replace(prior.cond, **names)
        cond = {**(generator.config.prior.options.get("cond") or {}), **names}
        prior_config = {"name": generator.config.prior.name, "cond": cond}
        generator.config = generator.config.merge(prior=prior_config)


def describe_data(data: str, train: Sized, val: Sized) -> dict[str, Any]:
    """Return the entries of `TrainingConfig.metadata` on the data, with the folder's name only."""
    return {"data": Path(data).resolve().name, "windows": len(train), "num_val_windows": len(val)}


def prepare_run_folder(
    out: str, sources: Sequence[str | None], *, tokenizer: str | None = None, overwrite: bool
) -> None:
    """Write what a new run takes over from other models; remove what `overwrite` allows.

    Args:
        out: folder of the run.
        sources: models whose notices must accompany derived weights.
        tokenizer: a model with the same codes, whose companion files are copied.
        overwrite: remove files in the place of a run's that no run wrote; the files of an earlier
            run are removed once this one has locked the folder.

    Raises:
        FileExistsError: `out` has another notice or companion file, and `overwrite` is false.
    """
    folder = Path(out)
    if overwrite and not (folder / STATE_NAME).exists():
        clear_run(folder)
    files = [find_model_folder(source) / NOTICE_NAME for source in sources if source is not None]
    notices = dict.fromkeys(read_text_file(file) for file in files if file.is_file())
    _replace_file(folder / NOTICE_NAME, "\n".join(notices).encode(), overwrite)
    tokenizer_folders = [] if tokenizer is None else list_model_folders(tokenizer)
    for name in COMPANION_FILES:
        found = [path for each in tokenizer_folders if (path := each / name).is_file()]
        _replace_file(folder / name, found[0].read_bytes() if found else b"", overwrite)


def _replace_file(file: Path, content: bytes, overwrite: bool) -> None:
    """Write a file unless it has this content; remove it if the content is empty."""
    exists = file.exists()
    if exists and overwrite and not content:
        file.unlink(missing_ok=True)
    if not content or (exists and file.read_bytes() == content):
        return
    if exists and not overwrite:
        raise FileExistsError(
            f"{file} exists with other content than this run would write; give another --out, or "
            f"--overwrite to replace it"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(file) as temporary:
        temporary.write_bytes(content)


def _load_weights(source: nn.Module, target: nn.Module, name: str, hint: str) -> None:
    """Copy weights; raise `ValueError` on the first that differs in name or shape."""
    source_weights, target_weights = source.state_dict(), target.state_dict()
    for weight in {**target_weights, **source_weights}:
        shapes = [
            list(weights[weight].shape) if weight in weights else None
            for weights in (source_weights, target_weights)
        ]
        if shapes[0] != shapes[1]:
            source_shape, target_shape = ("missing" if shape is None else shape for shape in shapes)
            raise ValueError(
                f"the weights of {name} do not match: {weight} is {source_shape} there and "
                f"{target_shape} here; build this model with the same options{hint}"
            )
    target.load_state_dict(source_weights)


def _explain_mismatch(other: GeneratorConfig, target: GeneratorConfig, keys: Sequence[str]) -> str:
    """Return the first config entry that explains why weights do not match, for a message."""
    other_config, target_config = other.to_dict(), target.to_dict()
    for name in keys:
        if other_config[name] != target_config[name]:
            return f": its {name} is {other_config[name]}, here it is {target_config[name]}"
    return ""
