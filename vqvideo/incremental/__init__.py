"""Step-by-step evaluation of the causal networks, and compiled sampling: all that is for speed."""

from vqvideo.incremental.state import NetworkState

__all__ = ["NetworkState"]
