"""A network computed with the same bits on every machine, its code left as it is.

Inside `with ExactArithmetic():` every function of torch that Python calls passes through here.
Those that only move numbers about, or round each number once, run as they are; sums over many
numbers and functions such as the sigmoid are worked out as `vqvideo.entropy.sums` and
`vqvideo.entropy.elementary` say; any other raises `ValueError`, so that nothing inexact passes in
silence.

The bits are the same from machine to machine, not from one way to write a network to another: what
must agree must be computed by the same functions in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vqvideo.entropy import elementary, sums

ABOUT_A_TENSOR = """
    __get__ __len__ __int__ __index__ __bool__ dim size numel item tolist is_floating_point
    is_contiguous promote_types device _set_grad_enabled
"""
MOVED = """
    empty full ones zeros tensor new_empty new_full new_ones new_tensor new_zeros empty_like
    full_like ones_like zeros_like clone contiguous detach to double long copy_ fill_ zero_
    __getitem__ __setitem__ cat chunk split stack unbind tensor_split flatten unflatten reshape view
    expand expand_as squeeze unsqueeze transpose movedim permute t flip roll narrow select
    index_select gather where masked_fill tril triu meshgrid pad repeat_interleave
"""
ROUNDED_ONCE = """
    add add_ sub sub_ __rsub__ mul mul_ div div_ neg neg_ abs floor round relu relu_ clamp clamp_
    clamp_min maximum minimum max min amax amin floor_divide __floordiv__ remainder
"""
COMPARED = "eq ne lt le gt ge logical_and logical_or logical_not any all bitwise_and bitwise_or"
UNCHANGED = frozenset(f"{ABOUT_A_TENSOR} {MOVED} {ROUNDED_ONCE} {COMPARED}".split())


def _lerp(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return start + weight * (end - start)


def _addcmul(added: Tensor, a: Tensor, b: Tensor, value: float = 1) -> Tensor:
    return added + a * b * value


def _arange(*limits: int, **given: Any) -> Tensor:
    if not all(isinstance(limit, int) for limit in limits):
        raise ValueError(f"arange has an exact form for integers, got {limits}")
    return torch.arange(*limits, **given)


def _embedding(
    index: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    **training: Any,
) -> Tensor:
    if max_norm is not None:
        raise ValueError(f"embedding has an exact form without max_norm, got {max_norm}")
    return weight[index]


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if training:
        raise ValueError("dropout is for training; a prior that codes must be in evaluation mode")
    return x


EXACT: Mapping[str, Callable[..., Tensor]] = {
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
    "matmul": sums.product,
    "mm": sums.product,
    "bmm": sums.product,
    "linear": sums.linear,
    "addmm": sums.added_product,
    "baddbmm": sums.added_product,
    "conv1d": sums.convolution,
    "conv2d": sums.convolution,
    "conv3d": sums.convolution,
    "sum": sums.total,
    "softmax": sums.softmax,
    "layer_norm": sums.layer_norm,
    "scaled_dot_product_attention": sums.attention,
    # two operations that torch may round as one
    "lerp": _lerp,
    "addcmul": _addcmul,
    # as they are, without an option that computes more
    "embedding": _embedding,
    "dropout": _dropout,
}


class ExactArithmetic(TorchFunctionMode):
    """A context in which torch gives the same bits on every machine, or raises `ValueError`.

    For float64 on the CPU, without gradients.

    >>> with ExactArithmetic():
    ...     torch.tensor([0.5], dtype=torch.float64).erf()
    Traceback (most recent call last):
    ValueError: this prior uses torch's 'erf', which has no exact form; ...
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        given = dict(kwargs or {})
        if name in UNCHANGED and "alpha" not in given:  # add and sub multiply by it in one go
            return func(*args, **given)
        exact = EXACT.get(name.removesuffix("_"))
        if exact is None:
            how = " with alpha" if "alpha" in given else ""
            raise ValueError(
                f"this prior uses torch's {name!r}{how}, which has no exact form; codes can be "
                f"compressed under a prior made of: {', '.join(sorted(EXACT))}, and of functions "
                f"that round each number once"
            )
        # A name that ends in _ writes into what it is called on, as the argument `out` tells to.
        out = given.pop("out", args[0] if name.endswith("_") else None)
        result = exact(*args, **given)
        return result if out is None else out.copy_(result)
