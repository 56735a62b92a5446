"""Networks of any rank: convolutions, encoders, decoders and causal networks."""

from vqvideo.nets.autoencoder import DECODERS, ENCODERS, Decoder, Encoder

__all__ = [
    "DECODERS",
    "ENCODERS",
    "Decoder",
    "Encoder",
]
