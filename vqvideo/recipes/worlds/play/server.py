"""The HTTP server of `vqvideo play`, based on the standard library, for this machine only.

It listens on 127.0.0.1, checks the Host header (against DNS rebinding) and the Origin header
(against cross-site requests). The page is self-contained, so nothing is fetched from elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from vqvideo import media
from vqvideo.commands.model import find_model_folder, load_model
from vqvideo.generator import Generator
from vqvideo.recipes.worlds.play.handler import MAX_UPLOAD_BYTES, Handler, PlayServer
from vqvideo.recipes.worlds.play.rollout import Rollout, get_action_labels
from vqvideo.recipes.worlds.play.session import SessionStore, image_to_base64
from vqvideo.recipes.worlds.play.starts import Start, read_start


class Server(PlayServer):
    """HTTP server that lets several visitors play with one model.

    Args:
        generator: a model that `get_action_labels` accepts.
        name: name of the model on the page.
        starts: the starts to offer, in addition to none.
        port: the port; 0 for any free one.

    Raises:
        ValueError: the model does not support interactive rollouts, or rejects one of the starts.
        OSError: the port is in use, or needs privileges.
    """

    allow_reuse_address = sys.platform != "win32"  # on Windows it would share a port in use
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, generator: Generator, name: str, starts: Sequence[Start] = (), port: int = 8765
    ) -> None:
        self.generator, self.name, self.starts = generator, name, list(starts)
        self.actions = get_action_labels(generator)
        Rollout(generator).step()  # raise errors and compile before the first request
        for start in self.starts:
            try:
                Rollout(generator, start)
            except ValueError as error:
                raise ValueError(f"this model cannot start from {start.name}: {error}") from error
        self.sessions, self.is_closing = SessionStore(generator), False
        self.page = files("vqvideo.recipes.worlds.play").joinpath("page.html").read_bytes()
        if not 0 <= port < 2**16:
            raise ValueError(f"--port must be in 0..65535, got {port}")
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            reason = "is in use" if error.errno == errno.EADDRINUSE else "needs privileges"
            raise OSError(
                f"port {port} {reason}; choose another with --port, 0 for any free one"
            ) from error

    def describe_model(self) -> dict[str, Any]:
        """Return the description of the model for the page."""
        _, height, width = self.generator.sample_shape or ()
        return {
            "name": self.name,
            "actions": self.actions,
            "size": [height, width],
            "rate": self.generator.config.rate,
            "stride": self.generator.vqvae.downsampling[0],
            "max_bytes": MAX_UPLOAD_BYTES,
            "starts": [
                {"name": start.name, "image": image_to_base64(media.to_uint8(start.frames[:, -1]))}
                for start in self.starts
            ],
        }

    def server_close(self) -> None:
        """Close the server and its sessions."""
        self.is_closing = True
        super().server_close()
        self.sessions.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, unless a visitor disconnected or the server is closing."""
        if not (self.is_closing or isinstance(sys.exception(), ConnectionError)):
            super().handle_error(request, client_address)


def build_server(
    model: str, starts: Sequence[str] | None = None, port: int = 8765, device: str = "auto"
) -> Server:
    """Build the server of a model by name.

    Args:
        model, device: see `load_model`.
        starts: files to start from, see `read_start`; None for the `start_*.png` of the model.
        port: the port; 0 for any free one.

    Raises:
        FileNotFoundError, ValueError: a start cannot be read; or as `load_model` and `Server`.
    """
    generator = load_model(model, device)
    get_action_labels(generator)  # raises for a model that cannot be played, before reading files
    shipped = sorted(find_model_folder(model).glob("start_*.png"))
    return Server(
        generator, model, [read_start(each, generator) for each in starts or shipped], port
    )


def serve(server: Server, on_ready: Callable[[str], None], *, open_browser: bool = True) -> None:
    """Serve until Ctrl-C.

    Args:
        server: the server, closed when this returns.
        on_ready: called with the URL once the server accepts connections.
        open_browser: open the page in the default browser.
    """
    with server:
        on_ready(server.address)
        if open_browser:  # in a thread: a browser in the terminal would block the server
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        # Not in the main thread, where Ctrl-C would close the connection of a request that has
        # just begun.
        loop = threading.Thread(target=server.serve_forever, daemon=True)
        loop.start()
        with contextlib.suppress(KeyboardInterrupt):
            while loop.is_alive():
                loop.join(1)  # without a time, Ctrl-C does not end it on Windows
        server.is_closing = True
        server.shutdown()
