"""Image backbones from timm, truncated after one of their stages, and their weights.

timm is imported only when such a backbone is built: the import takes seconds, and it fails if
torch and torchvision do not match.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

MAX_ERROR_LENGTH = 300  # characters of an error message of timm
PROBE_SHAPE = (4, 6)  # features along height and width; no model has this aspect ratio by default


def build_timm_backbone(
    name: str,
    channels: int,
    reduction: int,
    *,
    pretrained: bool = False,
    weights: str | None = None,
) -> tuple[nn.Module, int]:
    """Build a backbone up to its last stage with the given reduction.

    Args:
        name: timm's name of the model.
        channels: channels of the images. timm adapts weights for three channels to other numbers.
        reduction: pixels per feature along height and width.
        pretrained: let timm download its weights.
        weights: file with the weights of the whole model, `.safetensors` or `.pth`; the classifier
            may be missing. Pickles are loaded with `weights_only=True`.

    Returns:
        A network that returns a list of one tensor, and the number of channels of this tensor.

    Raises:
        ImportError: timm cannot be imported, the message says what to check; or the weights need
            another package.
        ValueError: timm has no such model or no weights for it; the model has no such stage or
            does not support images of any size; the file has other weights; or both `pretrained`
            and `weights` are given.
        FileNotFoundError: the file does not exist.
        ConnectionError: the weights could not be downloaded.
    """
    timm = _import_timm()
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}; timm.list_models() lists them")
    if pretrained and weights is not None:
        raise ValueError(f"pretrained and weights={weights!r} exclude each other; give one of them")
    if pretrained and not timm.is_model_pretrained(name):
        raise ValueError(f"timm has no weights for {name!r}; leave out pretrained")
    options: dict[str, Any] = {"in_chans": channels, "out_indices": (_find_stage(name, reduction),)}
    if weights is not None:
        _check_weights(name, channels, weights)
        overlay = {"file": weights, "custom_load": False}
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    elif pretrained:
        options |= {"pretrained": True}
    try:
        model = _create_model(name, **options)
    except Exception as cause:
        if not pretrained:
            raise
        raise _build_weights_error(name, cause) from cause
    _check_input_sizes(name, model, channels, reduction)
    return model, model.feature_info.channels()[0]


class ImageNormalizer(nn.Module):
    """Normalizes images `[n, c, h, w]` in [-1, 1]: rescales to [0, 1], then applies mean and std.

    The buffers are determined by the model name, so they are not saved in checkpoints;
    `extra_repr` shows them, since codes depend on them.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)
        mean_map, std_map = (torch.tensor(x)[:, None, None] for x in (self.mean, self.std))
        self.register_buffer("scale", 0.5 / std_map, persistent=False)
        self.register_buffer("shift", (0.5 - mean_map) / std_map, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def extra_repr(self) -> str:
        return f"mean={self.mean}, std={self.std}"


def build_normalizer(backbone: nn.Module, channels: int) -> ImageNormalizer:
    """Build the normalizer of a timm backbone; average its statistics if `channels` differs."""
    from timm.data import resolve_model_data_config

    data_config = resolve_model_data_config(backbone)
    mean, std = (
        values if len(values) == channels else (sum(values) / len(values),) * channels
        for values in (data_config["mean"], data_config["std"])
    )
    return ImageNormalizer(mean, std)


def _import_timm() -> Any:
    try:
        import timm
    except Exception as cause:  # a mismatched torchvision raises RuntimeError here
        raise ImportError(
            f"timm cannot be imported ({type(cause).__name__}: {cause}); "
            f"check that the versions of torch and torchvision match"
        ) from cause
    return timm


def _create_model(name: str, **options: Any) -> Any:
    """Create a timm model with `features_only`, for images of any size if it has such an option."""
    create = _import_timm().create_model
    # Which of the two options a model has depends on its age in timm.
    for size_option in ({"dynamic_img_size": True}, {"strict_img_size": False}):
        try:
            return create(name, features_only=True, **size_option, **options)
        except TypeError as cause:
            if next(iter(size_option)) not in str(cause):
                raise
    return create(name, features_only=True, **options)


def _find_stage(name: str, reduction: int) -> int:
    """Return timm's index of the last stage of the backbone with the given reduction."""
    try:
        info = _create_model(name).feature_info
    except ImportError:
        raise
    except Exception as cause:  # the exception type differs between models
        raise ValueError(
            f"timm's {name} does not support features_only ({_shorten_error(cause)}); "
            f"choose another model"
        ) from cause
    reductions: Sequence[int] = info.reduction()
    if reduction not in reductions:
        raise ValueError(
            f"timm's {name} has stages of reduction "
            f"{', '.join(map(str, dict.fromkeys(reductions)))}, not {reduction}; choose strides "
            f"that multiply to one of them"
        )
    stages = dict(
        zip(reductions, info.out_indices, strict=True)
    )  # the last one with each reduction
    return int(stages[reduction])


def _check_input_sizes(name: str, model: Any, channels: int, reduction: int) -> None:
    """Raise `ValueError` if the model does not support images of any size.

    An image is passed through the model, since timm's `fixed_input_size` is too strict for some
    models and too lax for others. Without this check the first batch would fail with a bare
    assertion.
    """
    height, width = (n * reduction for n in PROBE_SHAPE)
    is_channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    model.eval()
    try:
        with torch.no_grad():
            shape = model(torch.zeros(1, channels, height, width))[0].shape
        result = f"{list(shape)} returned"
        is_valid = tuple(shape[1:3] if is_channels_last else shape[2:]) == PROBE_SHAPE
    except Exception as cause:  # the exception type depends on the layer that fails
        result, is_valid = _shorten_error(cause), False
    if not is_valid:
        raise ValueError(
            f"timm's {name} does not support images of any size: a {height}x{width} image must "
            f"give {PROBE_SHAPE[0]}x{PROBE_SHAPE[1]} features ({result}); choose another model, "
            f"such as a ConvNeXt"
        )
    model.train()


def _check_weights(name: str, channels: int, weights: str) -> None:
    """Raise `ValueError` unless the file has exactly the weights of the whole model.

    For a backbone timm silently leaves missing weights at random; it does not if it builds the
    whole model with the number of classes of the file.
    """
    timm = _import_timm()
    from timm.models import load_state_dict

    if not Path(weights).is_file():
        raise FileNotFoundError(f"there is no weights file {weights}")
    classifier = getattr(timm.get_pretrained_cfg(name), "classifier", None) or "none"
    head = f"{classifier if isinstance(classifier, str) else classifier[0]}.weight"
    try:
        state_dict = load_state_dict(weights, weights_only=True)
        num_classes = len(state_dict[head]) if head in state_dict else 0
        overlay = {"state_dict": state_dict, "custom_load": False, "label_offset": 0}
        timm.create_model(
            name,
            pretrained=True,
            in_chans=channels,
            num_classes=num_classes,
            pretrained_cfg_overlay={**overlay, "num_classes": num_classes},
        )
    except Exception as cause:  # a file can be invalid in many ways
        raise ValueError(
            f"{weights} is not a weights file of timm's {name}: {_shorten_error(cause)}"
        ) from cause


def _build_weights_error(name: str, cause: Exception) -> Exception:
    """Return the exception to raise if timm could not load its own weights of a model."""
    if isinstance(cause, ImportError) or "not installed" in str(
        cause
    ):  # timm's error without huggingface_hub
        return ImportError(
            f"a package is missing that the weights of timm's {name} need "
            f"({_shorten_error(cause)}); install it, or pass a weights file as weights=PATH"
        )
    if isinstance(cause, RuntimeError | TypeError | KeyError | AttributeError):
        return ValueError(
            f"timm's {name} cannot be built with timm's pretrained weights "
            f"({_shorten_error(cause)}); leave out pretrained, or pass a weights file as "
            f"weights=PATH"
        )
    return ConnectionError(  # the exception type differs between versions
        f"the weights of timm's {name} could not be downloaded ({_shorten_error(cause)}); without "
        f"network access, pass a weights file as weights=PATH"
    )


def _shorten_error(cause: Exception) -> str:
    return shorten(f"{type(cause).__name__}: {cause}", MAX_ERROR_LENGTH, placeholder=" ...")
