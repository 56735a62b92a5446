"""Networks of any rank: convolutions, encoders, decoders and causal networks."""

from vqvideo.nets.autoencoder import DECODERS, ENCODERS, Decoder, Encoder
from vqvideo.nets.patchify import PatchifyDecoder, PatchifyEncoder

__all__ = [
    "DECODERS",
    "ENCODERS",
    "Decoder",
    "Encoder",
    "PatchifyDecoder",
    "PatchifyEncoder",
]
