"""The format of `model.safetensors` in a checkpoint: data types, scales, and their checks.

Names, shapes and data types of the stored tensors are compared with the model before any of them is
read. Weights may be stored in float16 or, at a quarter of the size, in int8 with a scale per row;
the quantizer, whose weights determine the codes, and all buffers are stored exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vqvideo.config_versions import CheckpointError, DType

SCALE_SUFFIX = ".int8_scale"
QUANTIZER_PREFIX = "vqvae.quantizer."
FLOAT_DTYPES = ("F16", "BF16", "F32", "F64")  # converted to each other on loading
OTHER_DTYPES = {  # loaded without a conversion
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.complex64: "C64",
}


class StoredTensor(NamedTuple):
    """Shape and data type of a stored tensor, in the words of safetensors ("F32")."""

    shape: tuple[int, ...]
    dtype: str


class Weights(NamedTuple):
    """An open weights file; it can be read even if the file is replaced or deleted."""

    file: Path
    tensors: Any  # safetensors.safe_open


def open_weights(file: Path) -> Weights:
    """Open a weights file; raise `CheckpointError` if it is missing or its header is damaged."""
    if not file.is_file():
        raise CheckpointError(f"{file} cannot be read: it is missing or no regular file")
    with _wrap_read_errors(file):
        return Weights(file, safe_open(file, framework="pt"))


def read_index(weights: Weights) -> dict[str, StoredTensor]:
    """Return the shape and data type of every stored tensor, without its values."""
    index = {}
    with _wrap_read_errors(weights.file):
        for name in weights.tensors.keys():  # noqa: SIM118
            entry = weights.tensors.get_slice(name)
            index[name] = StoredTensor(tuple(entry.get_shape()), entry.get_dtype())
    return index


def read_tensors(weights: Weights) -> dict[str, Tensor]:
    """Return all stored tensors."""
    with _wrap_read_errors(weights.file):
        return {name: weights.tensors.get_tensor(name) for name in weights.tensors.keys()}  # noqa: SIM118


@contextmanager
def _wrap_read_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as cause:
        raise CheckpointError(f"{file} cannot be read: {cause!s:.300}") from cause


def check_index(
    folder: Path, index: Mapping[str, StoredTensor], expected: Mapping[str, Tensor]
) -> None:
    """Check stored tensors against the state dict of the model that the config describes.

    Args:
        folder: the checkpoint, for messages.
        index: see `read_index`.
        expected: the state dict; only names, shapes and data types are used.

    Raises:
        CheckpointError: a tensor is missing, is not part of the model, or has another shape or
            a data type that does not fit.
    """
    rounded = {
        name
        for name, stored in index.items()
        if stored.dtype == "I8" and name in expected and expected[name].is_floating_point()
    }
    _check_names(folder, set(index), set(expected) | {name + SCALE_SUFFIX for name in rounded})
    for name, tensor in expected.items():
        stored = index[name]
        if stored.shape != tuple(tensor.shape):
            raise CheckpointError(
                f"{folder}: {name} has shape {list(stored.shape)}, "
                f"its config builds {list(tensor.shape)}"
            )
        if name in rounded:
            _check_scale(folder, name, stored.shape, index[name + SCALE_SUFFIX])
        elif tensor.is_floating_point():
            if stored.dtype not in FLOAT_DTYPES:
                raise CheckpointError(
                    f"{folder}: {name} is stored as {stored.dtype}; expected "
                    f"{', '.join(FLOAT_DTYPES)}, or I8 with a scale"
                )
        elif stored.dtype != OTHER_DTYPES.get(tensor.dtype):
            raise CheckpointError(
                f"{folder}: {name} is stored as {stored.dtype}; expected "
                f"{OTHER_DTYPES.get(tensor.dtype, tensor.dtype)}"
            )


def _check_names(folder: Path, stored: set[str], expected: set[str]) -> None:
    missing, extra = sorted(expected - stored), sorted(stored - expected)
    if missing or extra:
        raise CheckpointError(
            f"{folder} does not fit its config: "
            f"missing {', '.join(missing[:5]) or 'nothing'}; "
            f"extra {', '.join(extra[:5]) or 'nothing'}"
        )


def _check_scale(folder: Path, name: str, shape: tuple[int, ...], scale: StoredTensor) -> None:
    if len(shape) < 2 or scale.shape != shape[:1] or scale.dtype not in FLOAT_DTYPES:
        raise CheckpointError(
            f"{folder}: {name} is stored as I8 {list(shape)} with a scale of {scale.dtype} "
            f"{list(scale.shape)}; expected two or more axes and a scale F32 [rows]"
        )


def find_not_finite(model: nn.Module, dtype: DType = "float32") -> str | None:
    """Return the name of the first tensor with NaN, or parameter with infinity, when it is stored
    in `dtype`; None if there is none.

    A buffer may hold infinity, as the mask of an attention layer does.
    """
    parameters = {name for name, _ in model.named_parameters()}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() and not tensor.is_complex():
            continue
        if name in parameters:
            is_half = dtype == "float16" and not name.startswith(QUANTIZER_PREFIX)
            is_valid = (tensor.half() if is_half else tensor).isfinite()
        else:
            is_valid = ~tensor.isnan()
        if not bool(is_valid.all()):
            return name
    return None


def collect_tensors(model: nn.Module, dtype: DType) -> dict[str, Tensor]:
    """Return the tensors to store: parameters in `dtype`, the quantizer and all buffers exactly."""
    parameters = {
        name for name, _ in model.named_parameters() if not name.startswith(QUANTIZER_PREFIX)
    }
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensors.update(_quantize_weight(name, tensor, dtype if name in parameters else "float32"))
    return tensors


def _quantize_weight(name: str, tensor: Tensor, dtype: DType) -> dict[str, Tensor]:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point() or dtype == "float32":
        return {name: tensor}
    if dtype == "float16":
        return {name: tensor.half()}
    if tensor.ndim < 2:  # biases and gains are small and sensitive to rounding
        return {name: tensor}
    scale = tensor.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / 127
    rows = scale.reshape(-1, *(1,) * (tensor.ndim - 1))
    return {name: (tensor / rows).round().to(torch.int8), name + SCALE_SUFFIX: scale}


def dequantize_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert int8 weights to float32 (`load_state_dict` converts float16)."""
    restored = {}
    for name, tensor in tensors.items():
        if name + SCALE_SUFFIX in tensors:
            scale = tensors[name + SCALE_SUFFIX].reshape(-1, *(1,) * (tensor.ndim - 1))
            restored[name] = tensor.float() * scale
        elif not name.endswith(SCALE_SUFFIX):
            restored[name] = tensor
    return restored


def count_elements(index: Mapping[str, StoredTensor]) -> int:
    """Return the number of elements of all stored tensors, scales of int8 weights excluded."""
    return sum(
        math.prod(stored.shape) for name, stored in index.items() if not name.endswith(SCALE_SUFFIX)
    )
