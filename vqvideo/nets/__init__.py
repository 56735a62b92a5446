"""Networks of any rank: convolutions, encoders, decoders and the causal core."""
