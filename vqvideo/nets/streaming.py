"""Names that plugins written before there was `vqvideo.streaming` import from here."""

from vqvideo.streaming import Context, StreamingModule, StreamingState, compute_context

__all__ = ["Context", "StreamingModule", "StreamingState", "compute_context"]
