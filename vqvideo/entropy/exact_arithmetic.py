"""Computation of an unmodified network with the same bits on every machine.

Inside `with ExactArithmetic():` every call of a torch function from Python is intercepted.
Functions that only move data, or round each number once, run unchanged. Sums over many terms and
functions such as the sigmoid are replaced by exact implementations (`vqvideo.entropy.functional`
and `vqvideo.entropy.elementary`). All other functions raise `ValueError`, so no inexact operation
goes unnoticed.

The bits are the same on all machines, but not for different implementations of a network: results
agree only if the same functions are called in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vqvideo.entropy import elementary, functional

METADATA_OPS = """
    __get__ __len__ __int__ __index__ __bool__ dim size numel item tolist is_floating_point
    is_contiguous promote_types device _set_grad_enabled
"""
MOVEMENT_OPS = """
    empty full ones zeros tensor new_empty new_full new_ones new_tensor new_zeros empty_like
    full_like ones_like zeros_like clone contiguous detach to double long copy_ fill_ zero_
    __getitem__ __setitem__ cat chunk split stack unbind tensor_split flatten unflatten reshape view
    expand expand_as squeeze unsqueeze transpose movedim permute t flip roll narrow select
    index_select gather where masked_fill tril triu meshgrid pad repeat_interleave
"""
SINGLE_ROUNDING_OPS = """
    add add_ sub sub_ __rsub__ mul mul_ div div_ neg neg_ abs floor round relu relu_ clamp clamp_
    clamp_min maximum minimum max min amax amin floor_divide __floordiv__ remainder
"""
COMPARISON_OPS = (
    "eq ne lt le gt ge logical_and logical_or logical_not any all bitwise_and bitwise_or"
)
PASSTHROUGH_OPS = frozenset(
    f"{METADATA_OPS} {MOVEMENT_OPS} {SINGLE_ROUNDING_OPS} {COMPARISON_OPS}".split()
)


def _lerp(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return start + weight * (end - start)


def _addcmul(x: Tensor, a: Tensor, b: Tensor, value: float = 1) -> Tensor:
    return x + a * b * value


def _arange(*limits: int, **kwargs: Any) -> Tensor:
    if not all(isinstance(limit, int) for limit in limits):
        raise ValueError(f"exact arange requires integers, got {limits}")
    return torch.arange(*limits, **kwargs)


def _embedding(
    index: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    **training: Any,
) -> Tensor:
    if max_norm is not None:
        raise ValueError(f"exact embedding does not support max_norm, got {max_norm}")
    return weight[index]


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if training:
        raise ValueError("exact dropout requires evaluation mode, got training=True; call eval()")
    return x


EXACT_OPS: Mapping[str, Callable[..., Tensor]] = {
    "exp": elementary.exp,
    "sigmoid": elementary.sigmoid,
    "tanh": elementary.tanh,
    "gelu": elementary.gelu,
    "sqrt": elementary.sqrt,
    "cos": elementary.cos,
    "sin": elementary.sin,
    "arange": _arange,
    "linspace": elementary.linspace,
    "logspace": elementary.logspace,
    "matmul": functional.matmul,
    "mm": functional.matmul,
    "bmm": functional.matmul,
    "linear": functional.linear,
    "addmm": functional.addmm,
    "baddbmm": functional.addmm,
    "conv1d": functional.conv,
    "conv2d": functional.conv,
    "conv3d": functional.conv,
    "sum": functional.reduce_sum,
    "softmax": functional.softmax,
    "layer_norm": functional.layer_norm,
    "scaled_dot_product_attention": functional.scaled_dot_product_attention,
    # torch may fuse the two operations of these and round once
    "lerp": _lerp,
    "addcmul": _addcmul,
    # unchanged, except that options which compute more are rejected
    "embedding": _embedding,
    "dropout": _dropout,
}


class ExactArithmetic(TorchFunctionMode):
    """Context manager in which torch gives the same bits on every machine or raises `ValueError`.

    It supports float64 on the CPU, without gradients.

    >>> with ExactArithmetic():
    ...     torch.tensor([0.5], dtype=torch.float64).erf()
    Traceback (most recent call last):
    ValueError: this prior uses torch's 'erf', which has no exact implementation; ...
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        options = dict(kwargs or {})
        if name in PASSTHROUGH_OPS and "alpha" not in options:  # add and sub may fuse the product
            return func(*args, **options)
        exact_op = EXACT_OPS.get(name.removesuffix("_"))
        if exact_op is None:
            suffix = " with alpha" if "alpha" in options else ""
            raise ValueError(
                f"this prior uses torch's {name!r}{suffix}, which has no exact implementation; to "
                f"compress codes use a prior made of: {', '.join(sorted(EXACT_OPS))}, and of "
                f"functions that round each number once"
            )
        # An in-place function, whose name ends in _, writes to its first argument.
        out = options.pop("out", args[0] if name.endswith("_") else None)
        result = exact_op(*args, **options)
        return result if out is None else out.copy_(result)
