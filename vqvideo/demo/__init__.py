"""`vqvideo play`: a local web page for interactive rollouts of a model.

starts.py reads the frames to start from, uploads.py those that a visitor sends, rollout.py
generates frame by frame, session.py keeps the state of each visitor, server.py is the HTTP server,
handler.py answers its requests, and page.html is the page.
"""

from vqvideo.demo.rollout import Rollout, get_action_labels
from vqvideo.demo.server import Server, serve
from vqvideo.demo.session import SessionStore
from vqvideo.demo.starts import Start, read_start

__all__ = ["Rollout", "Server", "SessionStore", "Start", "get_action_labels", "read_start", "serve"]
