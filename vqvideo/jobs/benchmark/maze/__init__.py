"""The figures of `vqvideo benchmark maze`: a model told what is done, and whether it listens."""
