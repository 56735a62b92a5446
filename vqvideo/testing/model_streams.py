"""Laws of models whose data is encoded and decoded in chunks."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from vqvideo.testing.grids import assert_equal_values
from vqvideo.testing.model_setup import ModelCase

REFERENCE = "vqvideo.Generator"


def streams_match_the_whole(case: ModelCase) -> None:
    """`encode_stream` and `decode_stream` return bitwise the same as `encode` and `decode`,
    however data and codes are split into chunks. (Only for networks that support chunks.)
    """
    vqvae = copy.deepcopy(case.generator.vqvae)
    cond = case.generator.select_decoder_cond(case.cond)
    vqvae.encoder.chunk_size = vqvae.decoder.chunk_size = 1  # so that states carry context
    codes = vqvae.encode(case.x)
    if vqvae.encoder.is_chunkable:
        for length in (1, vqvae.downsampling[0] + 1):
            streamed = torch.cat(list(vqvae.encode_stream(case.x.split(length, dim=2))), dim=1)
            assert_equal_values(
                "codes", streamed, codes, f"data is split into chunks of {length} steps"
            )
    if vqvae.decoder.is_chunkable:
        for length in (1, 2):
            chunks: Iterator[Tensor] = vqvae.decode_stream(codes.split(length, dim=1), cond)
            streamed, full = torch.cat(list(chunks), dim=2), vqvae.decode(codes, cond)
            assert_equal_values(
                "data", streamed, full, f"codes are split into chunks of {length} steps"
            )


def codes_of_a_prefix_are_those_of_the_prefix_alone(case: ModelCase) -> None:
    """The codes of the first steps of data are bitwise those of these steps alone, and the
    quantizer gets chunks of one shape. (Only for encoders that are causal.)
    """
    vqvae, shapes = case.generator.vqvae, set[torch.Size]()
    if not vqvae.encoder.is_causal:
        return
    stride, num_codes = vqvae.downsampling[0], vqvae.encoder.chunk_size + 2
    x = torch.cat([case.x] * (-(-num_codes * stride // case.x.shape[2])), dim=2)
    x = x[:, :, : num_codes * stride]
    handle = vqvae.quantizer.register_forward_pre_hook(lambda part, args: shapes.add(args[0].shape))
    try:
        codes = vqvae.encode(x)
        for length in (1, num_codes - 1):
            prefix = vqvae.encode(x[:, :, : length * stride])
            where = f"the data ends after {length} of {num_codes} codes"
            assert_equal_values("codes", prefix, codes[:, :length], where)
    finally:
        handle.remove()
    assert len(shapes) == 1, (
        f"the quantizer gets chunks of {len(shapes)} shapes, {sorted(map(tuple, shapes))}; its "
        f"matrix products round differently with the number of vectors"
    )
