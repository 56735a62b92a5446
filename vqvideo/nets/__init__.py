"""Networks of any rank: convolutions, encoders, decoders and causal networks."""

from vqvideo.nets.autoencoder import DECODERS, ENCODERS, Decoder, Encoder
from vqvideo.nets.patchify import PatchifyDecoder, PatchifyEncoder
from vqvideo.nets.spectral import MelEncoder, SpectralDecoder
from vqvideo.nets.timm_encoder import TimmEncoder

__all__ = [
    "DECODERS",
    "ENCODERS",
    "Decoder",
    "Encoder",
    "MelEncoder",
    "PatchifyDecoder",
    "PatchifyEncoder",
    "SpectralDecoder",
    "TimmEncoder",
]
