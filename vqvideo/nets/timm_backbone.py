"""timm's image backbones, each up to one of its stages, and where their weights come from.

timm is imported when such a backbone is built and at no other time: it takes seconds, and it
fails where torch and torchvision do not match.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import nn

LONGEST = 300  # characters of what timm says


def timm_backbone(
    name: str,
    channels: int,
    reduction: int,
    *,
    pretrained: bool = False,
    weights: str | None = None,
) -> tuple[nn.Module, int]:
    """A backbone up to its last stage of that reduction, and the channels of what it gives.

    Args:
        name: that timm knows it by.
        channels: of the images. Weights for three are adapted to another number, as timm does it.
        reduction: pixels per feature along height and width.
        pretrained: let timm fetch weights from where it keeps them.
        weights: a file with the weights of all of timm's model, `.safetensors` or `.pth`; its
            classifier is not needed. Of a pickle nothing but tensors is read.

    Returns:
        A network that gives a list of one tensor, and its channels.

    Raises:
        ImportError: timm cannot be imported; the message says what to check.
        ValueError: timm has no such backbone, or no weights for it, or it has no such stage; the
            file holds other weights; or both are asked for.
        FileNotFoundError: no such file.
        ConnectionError: the weights could not be fetched.
    """
    timm = _imported()
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}; timm.list_models() lists them")
    if pretrained and weights is not None:
        raise ValueError(f"pretrained fetches weights and weights={weights!r} names some; give one")
    if pretrained and not timm.is_model_pretrained(name):
        raise ValueError(f"timm has no weights for {name!r}; leave out pretrained")
    options: dict[str, Any] = {"in_chans": channels, "out_indices": (_stage_of(name, reduction),)}
    if weights is not None:
        _check_weights(name, channels, weights)
        overlay = {"file": weights, "custom_load": False}
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    elif pretrained:
        options |= {"pretrained": True}
    try:
        model: Any = timm.create_model(name, features_only=True, **options)
    except Exception as cause:  # of the transport too, whose errors differ between versions
        if not pretrained:
            raise
        raise ConnectionError(
            f"the weights of timm's {name} could not be fetched ({_short(cause)}); where there is "
            f"no network, give a file of them as weights=PATH"
        ) from cause
    return model, model.feature_info.channels()[0]


def _imported() -> Any:
    try:
        import timm
    except Exception as cause:  # a torchvision of another build raises RuntimeError here
        raise ImportError(
            f"timm cannot be imported ({type(cause).__name__}: {cause}); "
            f"check that torch and torchvision belong together"
        ) from cause
    return timm


def _stage_of(name: str, reduction: int) -> int:
    """What timm calls the last of the backbone's stages of that reduction."""
    info = _imported().create_model(name, features_only=True).feature_info
    reductions: Sequence[int] = info.reduction()
    if reduction not in reductions:
        raise ValueError(
            f"timm's {name} has stages of reduction {', '.join(map(str, reductions))}, "
            f"not {reduction}; choose strides that multiply to one of them"
        )
    stages = dict(zip(reductions, info.out_indices, strict=True))  # the last of several
    return int(stages[reduction])


def _check_weights(name: str, channels: int, weights: str) -> None:
    """Raise unless the file holds each weight of all of the model, and no others.

    Where it builds a backbone, timm leaves at random what a file lacks; not so where it builds the
    whole model with as many classes as the file has.
    """
    timm = _imported()
    from timm.models import load_state_dict

    if not Path(weights).is_file():
        raise FileNotFoundError(f"there is no file of weights {weights}")
    found = getattr(timm.get_pretrained_cfg(name), "classifier", None) or "none"
    head = f"{found if isinstance(found, str) else found[0]}.weight"
    try:
        state = load_state_dict(weights, weights_only=True)
        classes = len(state[head]) if head in state else 0
        overlay = {"state_dict": state, "custom_load": False, "label_offset": 0}
        timm.create_model(
            name,
            pretrained=True,
            in_chans=channels,
            num_classes=classes,
            pretrained_cfg_overlay={**overlay, "num_classes": classes},
        )
    except Exception as cause:  # a file can be wrong in many ways
        raise ValueError(f"{weights} holds no weights of timm's {name}: {_short(cause)}") from cause


def _short(cause: Exception) -> str:
    return shorten(f"{type(cause).__name__}: {cause}", LONGEST, placeholder=" ...")
