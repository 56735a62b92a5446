"""The figures of `vqvideo benchmark speech`: reconstructions, conversions, and who judges them."""
