"""All that a run needs to go on as if it had never stopped, in one file.

`state.safetensors` in the run's folder holds the weights and buffers of the model, what the
optimizer remembers, the average of the weights, the random state of every process, and, as JSON in
its header, the steps done, the log, and what the run was asked for: learning rate and place in the
data follow from these. It is written under another name and renamed, so a crash at any moment
leaves the last one whole. No pickle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vqvideo.checkpoint import flush

FILE = "state.safetensors"
FORMAT_VERSION = 3
HEADER = "vqvideo_training"


class ResumeError(ValueError):
    """A run that cannot go on as asked; the message says why and what to do."""


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor],
    randomness: list[dict[str, Tensor]],
    said: Mapping[str, Any],
) -> None:
    """Write the state of a run; a crash midway leaves the one before.

    Args:
        path: of the file.
        model: whose parameters are optimized, all buffers included.
        optimizer: what it remembers of each parameter, and the options of its groups.
        average: `WeightAverage.state()`.
        randomness: `random_state()` of every process.
        said: plain data to keep beside: step, log, config.
    """
    remembered = optimizer.state_dict()
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    numbers: dict[str, dict[str, Any]] = {}  # some optimizers count their steps so
    for number, values in remembered["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                numbers.setdefault(str(number), {})[name] = value
    tensors |= {f"average.{number}": value for number, value in average.items()}
    for process, values in enumerate(randomness):
        tensors |= {f"random.{process}.{name}": value for name, value in values.items()}
    header = {
        "format_version": FORMAT_VERSION,
        "groups": remembered["param_groups"],
        "numbers": numbers,
        **said,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(
            {name: _plain(value) for name, value in tensors.items()},
            temporary,
            metadata={HEADER: json.dumps(header)},
        )
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor], list[dict[str, Tensor]]]:
    """Restore model and optimizer from a file that `save_state` wrote.

    Returns:
        What was said beside, the average of the weights, and the random state of every process.

    Raises:
        ResumeError: no such file, a damaged one, or that of another model.
    """
    said, tensors = read_state(path)
    weights = {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as cause:
        raise ResumeError(
            f"{path} is the state of another model; start anew with --overwrite"
        ) from cause
    remembered: dict[int, dict[str, Any]] = {
        int(number): dict(values) for number, values in said.pop("numbers").items()
    }
    average: dict[str, Tensor] = {}
    randomness: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        number, _, entry = rest.partition(".")
        if kind == "optimizer":
            remembered.setdefault(int(number), {})[entry] = value
        elif kind == "average":
            average[rest] = value
        elif kind == "random":
            randomness.setdefault(int(number), {})[entry] = value
    optimizer.load_state_dict({"state": remembered, "param_groups": said.pop("groups")})
    return said, average, [randomness[process] for process in sorted(randomness)]


def read_header(path: Path) -> dict[str, Any]:
    """What was said beside the tensors; raises `ResumeError` as `read_state` does."""
    return _read(path, with_tensors=False)[0]


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a file; raises `ResumeError` where it is none."""
    return _read(path, with_tensors=True)


def _read(path: Path, *, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            said = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            names = file.keys() if with_tensors else []
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as cause:
        raise ResumeError(f"{path} is no state of a run, or a damaged one: {cause}") from cause
    version = said.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise ResumeError(
            f"{path} is the state of a run in format version {version}; this vqvideo goes on from "
            f"{FORMAT_VERSION}. Go on with the version that wrote it, or start anew: --init-from "
            f"takes the run's model, --overwrite its folder"
        )
    return said, tensors


def random_state() -> dict[str, Tensor]:
    """Of torch in this process, on the CPU and on its GPU."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Go on from `random_state()`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _plain(value: Any) -> Tensor:
    """A tensor of its own on the CPU, laid out in the usual way."""
    return torch.as_tensor(value).detach().cpu().clone(memory_format=torch.contiguous_format)
