"""Build a model whose config comes from a stranger, with bounded time and memory.

A config of a few bytes can describe a model of any size. So it is first built without memory (on
the device `meta`, where tensors have shapes but no values), and the build stops as soon as it takes
more steps, or a larger tensor, than the stored weights allow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Tensors that a build may create: the timm encoder builds a whole model of up to 2,000, twice.
BASE_TENSORS, TENSORS_PER_STORED = 6000, 4
CREATORS = (
    *("arange", "empty", "eye", "full", "hann_window", "linspace", "ones", "rand", "randint"),
    *("randn", "randperm", "tensor", "zeros"),
)
BASE_ELEMENTS = 1 << 26  # of tensors that are not stored
# Functions that change values only. Without values they have nothing to do, and importing their
# implementation for `meta` takes seconds.
RANDOM_FUNCTIONS = (torch.rand, torch.randn)
VALUE_FUNCTIONS = (  # methods of tensors, and functions of torch.nn.init
    *("add_", "bernoulli_", "clamp_", "copy_", "div_", "erfinv_", "exponential_", "fill_"),
    *("mul_", "normal_", "sub_", "uniform_", "zero_", "constant_", "ones_", "zeros_"),
    *("kaiming_normal_", "kaiming_uniform_", "trunc_normal_", "xavier_normal_", "xavier_uniform_"),
)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class TooLargeError(ValueError):
    """A model is larger than its stored weights."""


class _BuildLimits(TorchFunctionMode):
    """Bounds the number of tensors that are created in this thread, and their size.

    Args:
        max_tensors: number of tensors after which `TooLargeError` is raised.
        max_elements: number of elements of the largest tensor.
        has_values: whether tensors have values; False on the device `meta`.
    """

    def __init__(self, max_tensors: int, max_elements: int, *, has_values: bool) -> None:
        super().__init__()
        self.num_tensors, self.max_tensors, self.max_elements = 0, max_tensors, max_elements
        self.has_values = has_values

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        self.num_tensors += name in CREATORS
        if self.num_tensors > self.max_tensors:
            raise TooLargeError("the config describes a model of more tensors than are stored")
        if not self.has_values:
            if func in RANDOM_FUNCTIONS:
                kwargs.pop("generator", None)
                func = torch.empty
            tensor = args[0] if args else kwargs.get("tensor")  # the latter: torch.nn.init
            if name in VALUE_FUNCTIONS and isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.numel() > self.max_elements:
            raise TooLargeError(
                f"the config describes a model with a tensor of shape {list(result.shape)}, which "
                f"is larger than all stored weights"
            )
        return result


def build_bounded(build: Callable[[], ModuleT], num_tensors: int, num_elements: int) -> ModuleT:
    """Build a model on the device `meta`, within limits that its stored weights set.

    Args:
        build: builds the model from its config.
        num_tensors: number of stored tensors.
        num_elements: number of elements of all stored tensors.

    Returns:
        The model with the names, shapes and dtypes of its tensors, without values. If it has a
        part that cannot be built on `meta`, as some of other packages, it is built with values,
        within the same limits.

    Raises:
        TooLargeError: the model is larger than its stored weights.
        Exception: `build` raises it.
    """
    limits = (BASE_TENSORS + TENSORS_PER_STORED * num_tensors, BASE_ELEMENTS + num_elements)
    try:
        with torch.device("meta"), _BuildLimits(*limits, has_values=False):
            model = build()
    except Exception as cause:
        if not _needs_values(cause):
            raise
        with _BuildLimits(*limits, has_values=True):
            model = build()
    stored = model.state_dict().keys()
    not_stored = sum(x.numel() for name, x in model.named_buffers() if name not in stored)
    if not_stored > limits[1]:
        raise TooLargeError(f"the config describes a model with buffers of {not_stored:,} values")
    return model


def _needs_values(cause: Exception) -> bool:
    """Return whether torch refused an operation because tensors on `meta` have no values."""
    is_torch_error = isinstance(cause, NotImplementedError | RuntimeError | TypeError)
    return is_torch_error and "meta" in str(cause)
