"""Evaluation of modules that may be in training mode: by a view, or by switching the mode."""

from __future__ import annotations

import functools
import operator
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")
CONTAINER_TYPES = (list, tuple, dict, OrderedDict)
SHARED_ATTRIBUTES = vars(nn.Module()).keys() - {"_modules"}  # tensors and hooks


def eval_view(module: T) -> T:
    """Return a module in evaluation mode that shares the tensors of `module`, which is not changed.

    Another thread may train or evaluate `module` meanwhile: it sees no switch of the mode. The
    view is a copy of the tree of submodules. Parameters, buffers, hooks and all other attributes
    are those of `module`; only references to its submodules lead to their copies, also in lists,
    tuples, dicts, partials and bound methods. An attribute other than a parameter or a buffer that
    is set on the view is lost with it. Wrappers of methods are left out, and a module compiled by
    `torch.compile` is evaluated uncompiled.

    A module that is in evaluation mode, and anything that is not a module, is returned as it is.

    Raises:
        ValueError: a submodule is a TorchScript module in training mode, whose mode cannot be set
            on a copy.

    >>> dropout = nn.Dropout().train()
    >>> eval_view(dropout).training, dropout.training
    (False, True)
    """
    if not isinstance(module, nn.Module) or not any(sub.training for sub in module.modules()):
        return module
    views: dict[int, nn.Module] = {}
    for sub in module.modules():
        if isinstance(sub, torch.jit.ScriptModule):
            raise ValueError(
                f"{type(sub).__name__} is a TorchScript module in training mode; call eval() on "
                f"the model first"
            )
        views[id(sub)] = view = object.__new__(type(sub))
        vars(view).update(vars(sub), training=False, _compiled_call_impl=None)
    for sub in list(module.modules()):
        if "_orig_mod" in sub._modules:  # the wrapper by `torch.compile`
            views[id(sub)] = views[id(sub._modules["_orig_mod"])]
    for view in views.values():
        attributes = vars(view)
        for name in attributes.keys() - SHARED_ATTRIBUTES:
            attributes[name] = _replace_modules(attributes[name], views)
    return views[id(module)]  # type: ignore[return-value]


def _replace_modules(value: Any, views: dict[int, nn.Module]) -> Any:
    """Return an attribute's value with references to modules replaced by those to their views."""
    if isinstance(value, nn.Module):
        return views.get(id(value), value)
    if isinstance(value, types.MethodType):
        view = _replace_modules(value.__self__, views)
        return value if view is value.__self__ else types.MethodType(value.__func__, view)
    if isinstance(value, functools.partial):
        parts = _replace_modules([value.func, value.args, value.keywords], views)
        return functools.partial(parts[0], *parts[1], **parts[2])
    wrapped = getattr(value, "__wrapped__", None)
    if isinstance(wrapped, types.MethodType):  # such as by `torch.compiler.disable`
        method = _replace_modules(wrapped, views)
        return value if method is wrapped else method
    if type(value) not in CONTAINER_TYPES or not value:
        return value
    is_mapping = isinstance(value, dict)
    old = list(value.values() if is_mapping else value)
    new = [_replace_modules(item, views) for item in old]
    if all(map(operator.is_, new, old)):
        return value
    return type(value)(zip(value, new, strict=True) if is_mapping else new)


@contextmanager
def eval_mode(module: object) -> Iterator[None]:
    """Put a module and its submodules in evaluation mode; ignore anything that is not a module.

    Unlike `module.eval()` followed by `module.train()`, this restores submodules whose mode differs
    from that of the module, such as frozen ones. Other threads that use the module see the switch;
    `eval_view` avoids it.
    """
    submodules = module.modules() if isinstance(module, nn.Module) else ()
    changed = [
        sub for sub in submodules if sub.training
    ]  # reading a flag is faster than setting it
    for sub in changed:
        sub.training = False
    try:
        yield
    finally:
        for sub in changed:
            sub.training = True
