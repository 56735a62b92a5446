"""The `timm` encoder: an image backbone from timm, applied to every frame."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from vqvideo.grid import check_strides, compute_downsampling
from vqvideo.nets.autoencoder import ENCODERS, Encoder
from vqvideo.nets.conv import CONV, build_pointwise_conv
from vqvideo.nets.patchify import FactorizedBlock, init_linear
from vqvideo.streaming import CausalSequential, StreamingState
from vqvideo.timm_encoder.backbone import build_normalizer, build_timm_backbone


@ENCODERS.register("timm")
class TimmEncoder(Encoder):
    """Features of a timm backbone for each frame, merged in time, then (2+1)D blocks.

    It uses the last stage of the backbone whose reduction equals the downsampling of height and
    width. The backbone processes each frame of a video separately; the features of the frames of
    a code are merged by a linear map, and the blocks use the previous codes. The encoder is causal
    in time.

    Args:
        rank: 2 (images) or 3 (video).
        channels: channels of the data.
        z_channels: channels of z_e.
        strides: one tuple per level, one stride per axis; only their product is used here.
        model: timm's name of a backbone that supports images of any size: convolutional backbones
            do, and ViT and Swin are configured to do so. The default uses layer
            norm, so in training too the output for a clip does not depend on the batch.
        width: channels of the blocks.
        num_blocks: blocks after the backbone; 0 maps its features to z_e by one linear map.
        pretrained: let timm download weights from the Hugging Face Hub. Nothing else uses the
            network.
        weights: file with weights of this timm model, `.safetensors` or `.pth`.
        normalize: normalize the data with the mean and std of each channel that timm's weights of
            this model were trained with; this is harmless without pretrained weights. False
            passes data in [-1, 1] to the backbone.

    Raises:
        ImportError: timm cannot be imported; the message says what to check.
        ValueError: timm has no such model or no weights for it; the model has no stage with the
            required reduction or does not support images of any size; or the file has other
            weights.
        FileNotFoundError: the file does not exist.
        ConnectionError: the weights could not be downloaded.

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
        down = compute_downsampling(check_strides(rank, strides))
        if rank == 1 or down[-1] != down[-2]:
            raise ValueError(
                f"the timm encoder supports images and video whose height and width have the same "
                f"downsampling, got rank {rank} and downsampling {down}"
            )
        self.rank, self.channels, self.downsampling = rank, channels, down
        if rank == 3:  # a backbone may use the whole frame, so there is no context
            self.is_causal, self.chunk_size = True, self.causal_chunk_size
        self.backbone, num_features = build_timm_backbone(
            model, channels, down[-1], pretrained=pretrained, weights=weights
        )
        # Independent of `pretrained` and `weights`: a saved model has neither and must not change.
        self.normalizer = build_normalizer(self.backbone, channels) if normalize else None
        # Some backbones return [n, h, w, c]; `output_fmt` says so.
        self.channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
        merged_channels = width if num_blocks else z_channels
        patch = (down[0], 1, 1) if rank == 3 else (1, 1)
        self.merge = CONV[rank](num_features, merged_channels, patch, stride=patch)
        self.blocks = CausalSequential(*(FactorizedBlock(rank, width) for _ in range(num_blocks)))
        if num_blocks:
            self.blocks.append(build_pointwise_conv(rank, width, z_channels))
            init_linear(CausalSequential(self.merge, *self.blocks))

    def forward(self, x: Tensor, state: StreamingState | None = None) -> Tensor:
        if self.rank == 2:
            return self.blocks(self.merge(self._extract_features(x)))  # type: ignore[no-any-return]
        features = self._extract_features(rearrange(x, "b c t h w -> (b t) c h w"))
        z = self.merge(rearrange(features, "(b t) c h w -> b c t h w", t=x.shape[2]))
        return self.blocks(z, state)  # type: ignore[no-any-return]

    def _extract_features(self, images: Tensor) -> Tensor:
        """Return backbone features `[n, c, h', w']` of images `[n, c, h, w]`."""
        if self.normalizer is not None:
            images = self.normalizer(images)
        features: Tensor = self.backbone(images)[0]
        return features.permute(0, 3, 1, 2) if self.channels_last else features
