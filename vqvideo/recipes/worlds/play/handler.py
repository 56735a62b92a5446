"""The handler of `vqvideo play` that answers one request after another of a browser.

Every request is answered, in JSON unless it asks for the page or a clip, whatever is raised.

Not here: the server and what it checks at its start (server.py), the rollouts (session.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from vqvideo.recipes.worlds.play.session import (
    BusyError,
    Session,
    SessionStore,
    TooManySessionsError,
)
from vqvideo.recipes.worlds.play.starts import Start

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


class PlayServer(ThreadingTCPServer):
    """Interface of the server that a handler answers for; server.py implements it."""

    sessions: SessionStore
    starts: list[Start]
    page: bytes
    is_closing: bool

    @property
    def address(self) -> str:
        """URL of the page."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def describe_model(self) -> dict[str, Any]:
        """Return the description of the model for the page."""
        raise NotImplementedError


class Handler(BaseHTTPRequestHandler):
    """Handler of one persistent browser connection."""

    server: PlayServer
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # for answers to what is not HTTP
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
        except ConnectionError:
            raise  # nobody is there to answer
        except Exception as error:
            self._send_failure(error)

    def _send_failure(self, error: Exception) -> None:
        """Answer a request that failed through no fault of its content, and print the traceback."""
        self.close_connection = True  # a part of the body may be unread
        if isinstance(error, TimeoutError):
            self._send_json({"error": f"no data came for {self.timeout} s"}, 408)
            return
        self.server.handle_error(self.request, self.client_address)
        message = f"the server failed ({type(error).__name__}), see its terminal; try again"
        self._send_json({"error": message}, 503 if self.server.is_closing else 500)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not HTTP, or of another method than GET and POST."""
        self.close_connection = True
        self._send_json({"error": message or HTTPStatus(code).phrase}, code)

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
