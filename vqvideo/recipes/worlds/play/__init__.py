"""`vqvideo play`: a local web page for interactive rollouts of a model.

starts.py reads the frames to start from, uploads.py those that a visitor sends, rollout.py
generates frame by frame, session.py keeps the state of each visitor, server.py is the HTTP server,
handler.py answers its requests, and page.html is the page.
"""

from vqvideo.recipes.worlds.play.rollout import Rollout, get_action_labels
from vqvideo.recipes.worlds.play.server import Server, build_server, serve
from vqvideo.recipes.worlds.play.session import SessionStore
from vqvideo.recipes.worlds.play.starts import Start, read_start

__all__ = [
    "Rollout",
    "Server",
    "SessionStore",
    "Start",
    "build_server",
    "get_action_labels",
    "read_start",
    "serve",
]
