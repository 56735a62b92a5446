"""timm's image backbones, each up to one of its stages: what they take, where weights come from.

timm is imported when such a backbone is built and at no other time: it takes seconds, and it
fails where torch and torchvision do not match.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

LONGEST = 300  # characters of what timm says
PROBE = (4, 6)  # features along height and width; no model is made for their proportions


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
        ImportError: timm cannot be imported, the message says what to check; or the weights need
            another package.
        ValueError: timm has no such backbone, or no weights for it, or it has no such stage or
            takes images of some sizes only; the file holds other weights; or both are asked for.
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
        model = _created(name, **options)
    except Exception as cause:
        if not pretrained:
            raise
        raise _without_weights(name, cause) from cause
    _check_any_size(name, model, channels, reduction)
    return model, model.feature_info.channels()[0]


class AsExpected(nn.Module):
    """Images `[n, c, h, w]` in [-1, 1] as weights expect them: from [0, 1], less mean, over std.

    What it holds follows from the model's name, so it is kept out of checkpoints; `extra_repr`
    shows it, for codes depend on it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)
        centre, spread = (torch.tensor(each)[:, None, None] for each in (self.mean, self.std))
        self.register_buffer("scale", 0.5 / spread, persistent=False)
        self.register_buffer("shift", (0.5 - centre) / spread, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def extra_repr(self) -> str:
        return f"mean={self.mean}, std={self.std}"


def as_expected(backbone: nn.Module, channels: int) -> AsExpected:
    """What a backbone of timm's expects; of another number of channels each is their average."""
    from timm.data import resolve_model_data_config

    told = resolve_model_data_config(backbone)
    mean, std = (
        each if len(each) == channels else (sum(each) / len(each),) * channels
        for each in (told["mean"], told["std"])
    )
    return AsExpected(mean, std)


def _imported() -> Any:
    try:
        import timm
    except Exception as cause:  # a torchvision of another build raises RuntimeError here
        raise ImportError(
            f"timm cannot be imported ({type(cause).__name__}: {cause}); "
            f"check that torch and torchvision belong together"
        ) from cause
    return timm


def _created(name: str, **options: Any) -> Any:
    """A model of timm's as its features, told to take images of any size where it can be told."""
    create = _imported().create_model
    for told in ({"dynamic_img_size": True}, {"strict_img_size": False}):  # by age of the model
        try:
            return create(name, features_only=True, **told, **options)
        except TypeError as cause:
            if next(iter(told)) not in str(cause):
                raise
    return create(name, features_only=True, **options)


def _stage_of(name: str, reduction: int) -> int:
    """What timm calls the last of the backbone's stages of that reduction."""
    try:
        info = _created(name).feature_info
    except ImportError:
        raise
    except Exception as cause:  # each model says in its own way that it has none
        raise ValueError(
            f"timm's {name} does not give the features of its stages ({_short(cause)}); "
            f"choose another model"
        ) from cause
    reductions: Sequence[int] = info.reduction()
    if reduction not in reductions:
        raise ValueError(
            f"timm's {name} has stages of reduction "
            f"{', '.join(map(str, dict.fromkeys(reductions)))}, not {reduction}; choose strides "
            f"that multiply to one of them"
        )
    stages = dict(zip(reductions, info.out_indices, strict=True))  # the last of several
    return int(stages[reduction])


def _check_any_size(name: str, model: Any, channels: int, reduction: int) -> None:
    """Raise unless an image of no special size gives as many features as the reduction says.

    Tried, since what timm says of it (`fixed_input_size`) is too strict for some and too lax for
    others; and said here, or it would show as a bare assertion at the first batch.
    """
    height, width = (n * reduction for n in PROBE)
    last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    model.eval()
    try:
        with torch.no_grad():
            shape = model(torch.zeros(1, channels, height, width))[0].shape
        found = f"{list(shape)} come out"
        fits = tuple(shape[1:3] if last else shape[2:]) == PROBE
    except Exception as cause:  # of whatever layer it is that does not fit
        found, fits = _short(cause), False
    if not fits:
        raise ValueError(
            f"timm's {name} does not take images of any size: from {height}x{width} it should make "
            f"{PROBE[0]}x{PROBE[1]} features ({found}); choose another model, such as a ConvNeXt"
        )
    model.train()


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


def _without_weights(name: str, cause: Exception) -> Exception:
    """What to raise where a model that timm has weights for did not get them."""
    if isinstance(cause, ImportError) or "not installed" in str(cause):  # so timm says of the hub's
        return ImportError(
            f"a package is missing that the weights of timm's {name} need ({_short(cause)}); "
            f"install it, or give a file of them as weights=PATH"
        )
    if isinstance(cause, RuntimeError | TypeError | KeyError | AttributeError):
        return ValueError(
            f"timm's {name} cannot be built with the weights that timm names for it "
            f"({_short(cause)}); leave out pretrained, or give a file of them as weights=PATH"
        )
    return ConnectionError(  # the transport's errors differ between versions
        f"the weights of timm's {name} could not be fetched ({_short(cause)}); where there is "
        f"no network, give a file of them as weights=PATH"
    )


def _short(cause: Exception) -> str:
    return shorten(f"{type(cause).__name__}: {cause}", LONGEST, placeholder=" ...")
