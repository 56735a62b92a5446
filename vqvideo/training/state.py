"""The training state of a run in one file, from which it resumes exactly.

`state.safetensors` in the run's folder holds the weights and buffers of the model, the state of the
optimizer, the EMA of the weights, the random state of every process and, as JSON in its header, the
number of steps done, the log and the options of the run. The learning rate and the position in the
data follow from these. The file is written under a temporary name and renamed, so that a crash
leaves the previous one intact. It contains no pickle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vqvideo.atomic import replace_file

STATE_NAME = "state.safetensors"
FORMAT_VERSION = 4
HEADER_KEY = "vqvideo_training"


class ResumeError(ValueError):
    """A run cannot be resumed; the message says why and what to do."""


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    model_ema: Mapping[str, Tensor],
    rng_states: list[dict[str, Tensor]],
    run_state: Mapping[str, Any],
) -> None:
    """Write the state of a run atomically; after a crash the previous file is intact.

    Args:
        path: path of the file.
        model: the trained model; all of its parameters and buffers are saved.
        optimizer: the optimizer; its state per parameter and its group options are saved.
        model_ema: `ModelEMA.state_dict()`.
        rng_states: `get_rng_state()` of every process.
        run_state: plain data for the header: step, log, config.
    """
    optimizer_state = optimizer.state_dict()
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    scalars: dict[str, dict[str, Any]] = {}  # some optimizers keep a step count as a number
    for index, values in optimizer_state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    tensors |= {f"average.{index}": value for index, value in model_ema.items()}
    for process, values in enumerate(rng_states):
        tensors |= {f"random.{process}.{name}": value for name, value in values.items()}
    header = {
        "format_version": FORMAT_VERSION,
        "groups": optimizer_state["param_groups"],
        "numbers": scalars,
        **run_state,
    }
    with replace_file(path) as temporary:
        save_file(
            {name: _to_contiguous_cpu(value) for name, value in tensors.items()},
            temporary,
            metadata={HEADER_KEY: json.dumps(header)},
        )


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor], list[dict[str, Tensor]]]:
    """Restore model and optimizer from a file that `save_state` wrote.

    Returns:
        The `run_state`, the EMA of the weights, and the random state of every process.

    Raises:
        ResumeError: the file is missing, damaged or of a different model.
    """
    with wrap_damage(path):
        run_state, tensors = _read(path, with_tensors=True)
        weights = {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
        try:
            model.load_state_dict(weights)
        except RuntimeError as cause:
            raise ResumeError(
                f"{path} is the state of a different model; start over with overwrite=True"
            ) from cause
        optimizer_state: dict[int, dict[str, Any]] = {
            int(index): dict(values) for index, values in run_state.pop("numbers").items()
        }
        model_ema: dict[str, Tensor] = {}
        rng_states: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            index, _, entry = rest.partition(".")
            if group == "optimizer":
                optimizer_state.setdefault(int(index), {})[entry] = value
            elif group == "average":
                model_ema[rest] = value
            elif group == "random":
                rng_states.setdefault(int(index), {})[entry] = value
        groups = run_state.pop("groups")
        optimizer.load_state_dict({"state": optimizer_state, "param_groups": groups})
    return run_state, model_ema, [rng_states[process] for process in sorted(rng_states)]


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a state file.

    Raises:
        ResumeError: the file is missing, damaged or of another format version.
    """
    return _read(path, with_tensors=False)[0]


def _read(path: Path, *, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors of a state file; no tensors unless `with_tensors`."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
            if not isinstance(header, dict):
                raise ValueError("its header is no JSON object")
            names = file.keys() if with_tensors else []
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RecursionError) as cause:
        raise ResumeError(
            f"{path} is not a training state, or it is damaged: {cause!s:.300}"
        ) from cause
    version = header.pop("format_version", None)
    if type(version) is not int or version != FORMAT_VERSION:  # 4.0 == 4
        raise ResumeError(
            f"{path} is a training state of format version {version}; this vqvideo reads version "
            f"{FORMAT_VERSION}. Resume with the vqvideo that wrote it, or start over: "
            f"init_from={path.parent} loads the run's model, overwrite=True replaces its folder"
        )
    return header, tensors


@contextmanager
def wrap_damage(path: Path) -> Iterator[None]:
    """Raise `ResumeError` for whatever an invalid entry of a state file raises in the block."""
    try:
        yield
    except ResumeError:
        raise
    except Exception as cause:  # the type depends on the entry
        raise ResumeError(
            f"{path} is a damaged training state ({type(cause).__name__}: {cause}); start over "
            f"with overwrite=True"
        ) from cause


def get_rng_state() -> dict[str, Tensor]:
    """Return the random state of torch in this process, on the CPU and on its GPU."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: Mapping[str, Tensor]) -> None:
    """Restore the result of `get_rng_state()`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _to_contiguous_cpu(value: Any) -> Tensor:
    """Return a contiguous copy on the CPU."""
    return torch.as_tensor(value).detach().cpu().clone(memory_format=torch.contiguous_format)
