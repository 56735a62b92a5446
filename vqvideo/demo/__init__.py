"""`vqvideo play`: a local web page on which a visitor walks through what a model imagines.

starts.py reads what a walk begins with, walk.py imagines it frame by frame, session.py keeps the
visitors apart, server.py answers their browsers, page.html is what those show.
"""

from vqvideo.demo.server import Server, serve
from vqvideo.demo.session import Sessions
from vqvideo.demo.starts import Start, read_start
from vqvideo.demo.walk import Walk, actions_of

__all__ = ["Server", "Sessions", "Start", "Walk", "actions_of", "read_start", "serve"]
