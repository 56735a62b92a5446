"""The HTTP server of `vqvideo play`, based on the standard library, for this machine only.

It listens on 127.0.0.1, checks the Host header (against DNS rebinding) and the Origin header
(against cross-site requests). The page is self-contained, so nothing is fetched from elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from socketserver import ThreadingTCPServer
from typing import Any

from vqvideo import media
from vqvideo.demo.rollout import Rollout, get_action_labels
from vqvideo.demo.session import (
    BusyError,
    Session,
    SessionStore,
    TooManySessionsError,
    image_to_base64,
)
from vqvideo.demo.starts import Start
from vqvideo.generator import Generator

MAX_UPLOAD_BYTES = 32 * 2**20
MAX_JSON_BYTES = 1000
DRAIN_FACTOR = 4  # rejected bodies are read to their end up to this multiple of the limit
Routes = Mapping[str, Callable[[], None]]
SessionRoutes = Mapping[str, Callable[[str, Session], None]]
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'"
)


class RequestError(Exception):
    """A request that is answered with an HTTP error status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server(ThreadingTCPServer):
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
        self.page = files("vqvideo.demo").joinpath("page.html").read_bytes()
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

    @property
    def address(self) -> str:
        """URL of the page."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

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
        super().server_close()
        self.is_closing = True
        self.sessions.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, unless a visitor disconnected or the server is closing."""
        if not (self.is_closing or isinstance(sys.exception(), ConnectionError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Handler of one persistent browser connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds until an idle connection is closed
    wbufsize = -1  # buffer the whole response
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a GET request."""
        self._dispatch(
            {"": self._send_page, "model": self._send_model},
            {"": self._send_view, "clip.mp4": self._send_clip},
        )

    def do_POST(self) -> None:
        """Answer a POST request."""
        session_routes = {
            "step": self._step,
            "restart": self._restart,
            "upload": self._handle_upload,
        }
        self._dispatch({"session": self._create_session}, session_routes)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: stderr is for errors."""

    def _dispatch(self, routes: Routes, session_routes: SessionRoutes) -> None:
        """Call the route of `/NAME` or `/session/TOKEN/NAME`, and answer errors."""
        self.path, _, _ = self.path.partition("?")
        self.max_bytes = MAX_UPLOAD_BYTES if self.path.endswith("/upload") else MAX_JSON_BYTES
        try:
            self.bytes_left = self._parse_content_length()
            self._check_origin()
            route = self._resolve_route(routes, session_routes)
            self.body = self._read_body()  # only after the checks above, since it takes memory
            route()
        except (RequestError, BusyError, TooManySessionsError, ValueError, OverflowError) as error:
            self._drain_body()
            self._send_json({"error": str(error)}, getattr(error, "status", 400))

    def _resolve_route(self, routes: Routes, session_routes: SessionRoutes) -> Callable[[], None]:
        """Return the route of the path; raise `RequestError` if there is none."""
        path = self.path.strip("/")
        if path in routes:
            return routes[path]
        name, token, route, *rest = [*path.split("/"), "", ""]
        if name != "session" or route not in session_routes or any(rest):
            raise RequestError(404, f"/{path} does not exist")
        session = self.server.sessions.find(token)
        if session is None:
            raise RequestError(
                404,
                "this session does not exist: it expired, or vqvideo play was restarted",
            )
        return partial(session_routes[route], token, session)

    def _check_origin(self) -> None:
        """Raise `RequestError` unless Host and Origin match this server."""
        port = self.server.server_address[1]
        hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in hosts:
            raise RequestError(403, f"this page is only available at {self.server.address}")
        if origin is not None and origin not in [f"http://{host}" for host in hosts]:
            raise RequestError(403, f"only the page at {self.server.address} may send this request")

    def _parse_content_length(self) -> int:
        """Return the size of the body in bytes."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            self.bytes_left, self.close_connection = 0, True
            raise RequestError(411, "the Content-Length header is missing or invalid")
        return int(length) if len(length) < 20 else sys.maxsize

    def _read_body(self) -> bytes:
        """Read the body; raise `RequestError` if it is too large."""
        if self.bytes_left > self.max_bytes:
            raise RequestError(413, f"too large: the limit is {self.max_bytes:,} bytes")
        size, self.bytes_left = self.bytes_left, 0
        return self.rfile.read(size)

    def _drain_body(self) -> None:
        """Discard a rejected body so that the client reads the answer; disconnect if it is huge."""
        if self.bytes_left > DRAIN_FACTOR * self.max_bytes:
            self.close_connection = True
            return
        while self.bytes_left > 0 and (chunk := self.rfile.read(min(self.bytes_left, 2**16))):
            self.bytes_left -= len(chunk)

    def _parse_json(self) -> dict[str, Any]:
        """Return the body as a JSON object; raise `ValueError` if it is not one."""
        try:
            content = json.loads(self.body or b"{}")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the body is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"the body must be a JSON object, got {type(content).__name__}")
        return content

    def _parse_start(self) -> Start | None:
        """Return the start that the body selects; raise `ValueError` if there is none such."""
        index, starts = self._parse_json().get("start"), self.server.starts
        if index is None:
            return None
        if not isinstance(index, int) or index not in range(len(starts)):
            raise ValueError(f"start must be null or in [0, {len(starts)}), got {index!r}")
        return starts[index]

    def _send_page(self) -> None:
        self._send(self.server.page, "text/html; charset=utf-8")

    def _send_model(self) -> None:
        self._send_json(self.server.describe_model())

    def _create_session(self) -> None:
        token, session = self.server.sessions.open(self._parse_start())
        self._send_json({"session": token, **session.view})

    def _send_view(self, token: str, session: Session) -> None:
        self._send_json({"session": token, **session.view})

    def _step(self, token: str, session: Session) -> None:
        content = self._parse_json()
        session.step(content.get("action", 0), content.get("temperature", 1.0))
        self._send_view(token, session)

    def _restart(self, token: str, session: Session) -> None:
        session.restart(self._parse_start() if "start" in self._parse_json() else session.start)
        self._send_view(token, session)

    def _handle_upload(self, token: str, session: Session) -> None:
        session.upload(self.body)
        self._send_view(token, session)

    def _send_clip(self, token: str, session: Session) -> None:
        self._send(session.encode_clip(), "video/mp4")

    def _send_json(self, content: dict[str, Any], status: int = 200) -> None:
        self._send(json.dumps(content).encode(), "application/json", status)

    def _send(self, content: bytes, content_type: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


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
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
