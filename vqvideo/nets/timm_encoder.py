"""The `timm` encoder: any of timm's image backbones, applied to every frame.

timm is imported when such an encoder is built and at no other time: it takes seconds, and it
fails where torch and torchvision do not match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from vqvideo.grid import check_strides, downsampling
from vqvideo.nets.autoencoder import ENCODERS, Encoder
from vqvideo.nets.blocks import Reach
from vqvideo.nets.conv import patch_conv, pointwise


@ENCODERS.register("timm")
class TimmEncoder(Encoder):
    """Features of a timm backbone for each frame, then patches in time.

    The stage of the backbone whose reduction equals the downsampling of height and width is
    taken; frames meet only in the last layer, which joins as many as a code covers.

    Args:
        rank: 2 (images) or 3 (video).
        channels: of the data.
        z_channels: channels of z_e.
        strides: one tuple per level, one stride per axis; only their product counts here.
        backbone: a name that timm knows. The default normalises each position by itself, so the
            codes of a clip do not depend on its batch.
        pretrained: let timm fetch weights.

    Raises:
        ImportError: timm cannot be imported; the message says what to check.
        ValueError: timm has no such backbone, or it has no stage of the reduction asked for.
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        backbone: str = "convnext_atto",
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        down = downsampling(check_strides(rank, strides))
        if rank == 1 or down[-1] != down[-2]:
            raise ValueError(
                f"the timm encoder is for images and video whose height and width have the same "
                f"downsampling, got rank {rank} and {down}"
            )
        self.rank, self.channels, self.downsampling = rank, channels, down
        self.reach = (Reach(0, 0), None, None) if rank == 3 else None  # each frame by itself
        self.backbone, width = _stage(backbone, channels, down[-1], pretrained)
        join = patch_conv(3, width, z_channels, (down[0], 1, 1)) if rank == 3 else None
        self.join = join or pointwise(2, width, z_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.rank == 2:
            return self.join(self.backbone(x)[0])  # type: ignore[no-any-return]
        features = self.backbone(rearrange(x, "b c t h w -> (b t) c h w"))[0]
        return self.join(  # type: ignore[no-any-return]
            rearrange(features, "(b t) c h w -> b c t h w", t=x.shape[2])
        )


def _stage(name: str, channels: int, reduction: int, pretrained: bool) -> tuple[nn.Module, int]:
    """The backbone up to the stage of that reduction, and the channels that it gives."""
    try:
        import timm
    except Exception as cause:  # a torchvision of another build raises RuntimeError here
        raise ImportError(
            f"timm cannot be imported ({type(cause).__name__}: {cause}); "
            f"check that torch and torchvision belong together"
        ) from cause
    if not timm.is_model(name):
        raise ValueError(f"timm has no backbone {name!r}; timm.list_models() lists them")
    options: dict[str, Any] = {"pretrained": pretrained, "features_only": True}
    plain: Any = timm.create_model(name, features_only=True)
    reductions = plain.feature_info.reduction()
    if reduction not in reductions:
        raise ValueError(
            f"backbone {name!r} has stages of reduction {', '.join(map(str, reductions))}, "
            f"not {reduction}; choose strides that multiply to one of them"
        )
    index = reductions.index(reduction)
    model: Any = timm.create_model(name, in_chans=channels, out_indices=(index,), **options)
    return model, model.feature_info.channels()[0]
