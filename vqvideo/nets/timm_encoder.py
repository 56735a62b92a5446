"""The `timm` encoder: any of timm's image backbones, applied to every frame."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from vqvideo.grid import check_strides, downsampling
from vqvideo.nets.autoencoder import ENCODERS, Encoder
from vqvideo.nets.conv import FactorizedBlock, Layers, Past, begin_linear, patch_conv, pointwise
from vqvideo.nets.timm_backbone import as_expected, timm_backbone


@ENCODERS.register("timm")
class TimmEncoder(Encoder):
    """Features of a timm backbone for each frame, joined in time, then (2+1)D blocks.

    The last stage of the backbone whose reduction equals the downsampling of height and width is
    taken. Of video it sees every frame by itself; the features of as many frames as a code covers
    are joined, and the blocks look at the codes before. Nothing looks ahead in time.

    Args:
        rank: 2 (images) or 3 (video).
        channels: of the data.
        z_channels: channels of z_e.
        strides: one tuple per level, one stride per axis; only their product counts here.
        model: a name that timm knows, of a backbone that takes images of any size: convolutional
            ones do, ViT and Swin are told to. The default normalises each position by itself, so in
            training too what it makes of a clip does not depend on the batch.
        width: channels of the blocks.
        num_blocks: blocks after the backbone; 0 joins its features to z_e in one linear map.
        pretrained: let timm fetch weights from the hub. Nothing else touches the network.
        weights: a file with weights of timm's for this model, `.safetensors` or `.pth`.
        normalize: bring data to the mean and the spread of each channel that timm's weights for
            this model were trained with, as timm states them; without them to begin with it does
            no harm. False gives the backbone [-1, 1] as it is.

    Raises:
        ImportError: timm cannot be imported; the message says what to check.
        ValueError: timm has no such model or no weights for it, or it has no stage of the reduction
            asked for, or takes images of some sizes only; or the file holds other weights.
        FileNotFoundError: no such file.
        ConnectionError: the weights could not be fetched.

    >>> import torch
    >>> encoder = TimmEncoder(
    ...     rank=3, channels=3, z_channels=5, strides=((2, 4, 4),), model="test_convnext", width=8
    ... )
    >>> encoder(torch.zeros(1, 3, 4, 32, 64)).shape
    torch.Size([1, 5, 2, 8, 16])
    """

    def __init__(
        self,
        *,
        rank: int,
        channels: int,
        z_channels: int,
        strides: Sequence[Sequence[int]],
        model: str = "convnext_atto",
        width: int = 192,
        num_blocks: int = 2,
        pretrained: bool = False,
        weights: str | None = None,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        down = downsampling(check_strides(rank, strides))
        if rank == 1 or down[-1] != down[-2]:
            raise ValueError(
                f"the timm encoder is for images and video whose height and width have the same "
                f"downsampling, got rank {rank} and {down}"
            )
        self.rank, self.channels, self.downsampling = rank, channels, down
        if rank == 3:  # within a frame a backbone may look anywhere, so no reach is said
            self.causal, self.block = True, self.causal_block
        self.backbone, features = timm_backbone(
            model, channels, down[-1], pretrained=pretrained, weights=weights
        )
        # Not asked of `pretrained` or `weights`: a stored model names neither and sees the same.
        self.as_expected = as_expected(self.backbone, channels) if normalize else None
        # Some give [n, h, w, c]; timm says which.
        self.channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
        joined = width if num_blocks else z_channels
        self.join = patch_conv(rank, features, joined, (down[0], 1, 1) if rank == 3 else (1, 1))
        self.blocks = Layers(*(FactorizedBlock(rank, width) for _ in range(num_blocks)))
        if num_blocks:
            self.blocks.append(pointwise(rank, width, z_channels))
            begin_linear(Layers(self.join, *self.blocks))

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        if self.rank == 2:
            return self.blocks(self.join(self._features(x)))  # type: ignore[no-any-return]
        features = self._features(rearrange(x, "b c t h w -> (b t) c h w"))
        z = self.join(rearrange(features, "(b t) c h w -> b c t h w", t=x.shape[2]))
        return self.blocks(z, past)  # type: ignore[no-any-return]

    def _features(self, images: Tensor) -> Tensor:
        """Those `[n, c, h', w']` of images `[n, c, h, w]`."""
        if self.as_expected is not None:
            images = self.as_expected(images)
        features: Tensor = self.backbone(images)[0]
        return features.permute(0, 3, 1, 2) if self.channels_last else features
