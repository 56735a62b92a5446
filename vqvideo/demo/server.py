"""What answers the page: Python's own HTTP server, on this machine alone.

It listens on 127.0.0.1, answers only those who call it by that name (a page elsewhere could have
its own name point here), and takes orders only from its own page (any page may post to any
address). The page holds all that it shows, so nothing is fetched from anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

from vqvideo import media
from vqvideo.demo.session import BusyError, FullError, Session, Sessions, picture_of
from vqvideo.demo.starts import Start, read_start
from vqvideo.demo.walk import Walk, actions_of
from vqvideo.generator import Generator

MOST_BYTES = 32 * 2**20  # of an upload
MOST_BYTES_OF_JSON = 1000
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'"
)


class RefusedError(Exception):
    """A request that is answered by a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Server(ThreadingTCPServer):
    """Serves one model to some visitors.

    Args:
        generator: a model that `actions_of` has nothing against.
        name: of the model, for the page.
        starts: what a walk may begin with; nothing at all is offered besides.
        port: 0 takes any that is free.

    Raises:
        ValueError: one cannot walk through what this model makes.
        OSError: the port is in use; or it is one of those that need rights.
    """

    allow_reuse_address = sys.platform != "win32"  # there it would share a port that is in use
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, generator: Generator, name: str, starts: Sequence[Start] = (), port: int = 8765
    ) -> None:
        self.generator, self.name, self.starts = generator, name, list(starts)
        self.actions = actions_of(generator)
        Walk(generator).step()  # what is wrong is said at once, and what is compiled is there
        self.sessions, self.is_closing = Sessions(generator), False
        self.page = files("vqvideo.demo").joinpath("page.html").read_bytes()
        if not 0 <= port < 2**16:
            raise ValueError(f"--port must lie in 0..65535, got {port}")
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is in use" if error.errno == errno.EADDRINUSE else "may not be used"
            raise OSError(f"port {port} {why}; choose another with --port, 0 for any") from error

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def about(self) -> dict[str, Any]:
        """What the page is told of the model."""
        _, height, width = self.generator.sample_shape or ()
        return {
            "name": self.name,
            "actions": self.actions,
            "size": [height, width],
            "rate": self.generator.config.rate,
            "stride": self.generator.vqvae.downsampling[0],
            "most_bytes": MOST_BYTES,
            "starts": [
                {"name": start.name, "picture": picture_of(media.to_uint8(start.frames[:, -1]))}
                for start in self.starts
            ],
        }

    def server_close(self) -> None:
        super().server_close()
        self.is_closing = True
        self.sessions.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """To lose a visitor who has gone is no error, nor is it at the end."""
        if not (self.is_closing or isinstance(sys.exception(), ConnectionError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection of a browser, which stays open for many requests."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # of an idle connection
    wbufsize = -1  # an answer goes out in one piece
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(
            {"": self._page, "model": self._about}, {"": self._look, "clip.mp4": self._clip}
        )

    def do_POST(self) -> None:
        of_session = {"step": self._step, "restart": self._restart, "upload": self._upload}
        self._answer({"session": self._open}, of_session)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: stderr is for what goes wrong."""

    def _answer(
        self,
        plain: Mapping[str, Callable[[], None]],
        of_session: Mapping[str, Callable[[str, Session], None]],
    ) -> None:
        """Take `/NAME`, or `/session/WORD/NAME`, to the function of that name."""
        self.body = b""
        try:
            self.body = self._read()  # first, so that a refusal is heard
            self._check_origin()
            path = self.path.split("?")[0].strip("/")
            name, word, inner = [*path.split("/"), "", ""][:3]
            if name in plain and not word:
                return plain[name]()
            if name != "session" or inner not in of_session:
                raise RefusedError(404, f"there is no /{path} here")
            session = self.server.sessions.find(word)
            if session is None:
                raise RefusedError(404, "this walk is over: it was left alone for too long")
            of_session[inner](word, session)
        except RefusedError as error:
            self._send_json({"error": str(error)}, error.status)
        except BusyError as error:
            self._send_json({"error": str(error)}, 409)
        except FullError as error:
            self._send_json({"error": str(error)}, 503)
        except (ValueError, OverflowError) as error:
            self._send_json({"error": str(error)}, 400)

    def _check_origin(self) -> None:
        port = self.server.server_address[1]
        ours = [f"127.0.0.1:{port}", f"localhost:{port}"]
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in ours:
            raise RefusedError(403, f"this page is at {self.server.address} and nowhere else")
        if origin is not None and origin not in [f"http://{host}" for host in ours]:
            raise RefusedError(403, f"only the page at {self.server.address} may ask for this")

    def _read(self) -> bytes:
        """The body; one that is too large is read to its end, so that the answer is heard."""
        length, most = self.headers.get("Content-Length", "0"), MOST_BYTES_OF_JSON
        if self.path.endswith("/upload"):
            most = MOST_BYTES
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise RefusedError(411, "a request must say its Content-Length")
        left = int(length)
        if left <= most:
            return self.rfile.read(left)
        while left > 0 and (piece := self.rfile.read(min(left, 2**16))):
            left -= len(piece)
        raise RefusedError(
            413, f"this is too large: {int(length):,} bytes, and {most:,} are the most"
        )

    def _given(self) -> dict[str, Any]:
        try:
            given = json.loads(self.body or b"{}")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the body is no JSON: {error}") from error
        if not isinstance(given, dict):
            raise ValueError(f"the body must be a JSON object, got {type(given).__name__}")
        return given

    def _start(self) -> Start | None:
        number, starts = self._given().get("start"), self.server.starts
        if number is None:
            return None
        if not isinstance(number, int) or number not in range(len(starts)):
            raise ValueError(f"there are {len(starts)} starts, from 0; got {number!r}")
        return starts[number]

    def _page(self) -> None:
        self._send(self.server.page, "text/html; charset=utf-8")

    def _about(self) -> None:
        self._send_json(self.server.about())

    def _open(self) -> None:
        word, session = self.server.sessions.open(self._start())
        self._send_json({"session": word, **session.seen})

    def _look(self, word: str, session: Session) -> None:
        self._send_json({"session": word, **session.seen})

    def _step(self, word: str, session: Session) -> None:
        given = self._given()
        session.step(given.get("action", 0), given.get("temperature", 1.0))
        self._look(word, session)

    def _restart(self, word: str, session: Session) -> None:
        session.restart(self._start() if "start" in self._given() else session.start)
        self._look(word, session)

    def _upload(self, word: str, session: Session) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "upload"
            file.write_bytes(self.body)
            session.restart(read_start(file, self.server.generator, "this file"))
        self._look(word, session)

    def _clip(self, word: str, session: Session) -> None:
        self._send(session.clip(), "video/mp4")

    def _send_json(self, content: dict[str, Any], status: int = 200) -> None:
        self._send(json.dumps(content).encode(), "application/json", status)

    def _send(self, content: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def serve(server: Server, say: Callable[[str], None], *, browser: bool = True) -> None:
    """Answer until Ctrl-C.

    Args:
        server: closed when this returns.
        say: called with the address once it answers.
        browser: whether to show the page in the default browser.
    """
    with server:
        say(server.address)
        if browser:  # in a thread, since one that runs in the terminal would hold up the server
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
