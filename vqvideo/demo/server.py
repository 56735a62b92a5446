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
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from socketserver import ThreadingTCPServer
from typing import Any

from vqvideo import media
from vqvideo.demo.session import BusyError, FullError, Session, Sessions, picture_of
from vqvideo.demo.starts import Start
from vqvideo.demo.walk import Walk, actions_of
from vqvideo.generator import Generator

MOST_BYTES = 32 * 2**20  # of an upload
MOST_BYTES_OF_JSON = 1000
PATIENCE = 4  # a body is read to its end, to be refused, up to so many times what it may hold
Plain = Mapping[str, Callable[[], None]]
OfSession = Mapping[str, Callable[[str, Session], None]]
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
        ValueError: one cannot walk through what this model makes, or not from one of the starts.
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
        for start in self.starts:
            try:
                Walk(generator, start)
            except ValueError as error:
                raise ValueError(f"{start.name} is no start for this model: {error}") from error
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

    def _answer(self, plain: Plain, of_session: OfSession) -> None:
        """Take `/NAME`, or `/session/WORD/NAME`, to the function of that name."""
        self.path, _, _ = self.path.partition("?")
        self.most = MOST_BYTES if self.path.endswith("/upload") else MOST_BYTES_OF_JSON
        try:
            self.left = self._length()
            self._check_origin()
            answer = self._find(plain, of_session)
            self.body = self._read()  # of nobody else: it takes memory
            answer()
        except (RefusedError, BusyError, FullError, ValueError, OverflowError) as error:
            self._read_past()
            self._send_json({"error": str(error)}, getattr(error, "status", 400))

    def _find(self, plain: Plain, of_session: OfSession) -> Callable[[], None]:
        path = self.path.strip("/")
        if path in plain:
            return plain[path]
        name, word, inner, *more = [*path.split("/"), "", ""]
        if name != "session" or inner not in of_session or any(more):
            raise RefusedError(404, f"there is no /{path} here")
        session = self.server.sessions.find(word)
        if session is None:
            raise RefusedError(
                404,
                "this walk is not known: it was left alone for too long, or vqvideo play was begun "
                "anew",
            )
        return partial(of_session[inner], word, session)

    def _check_origin(self) -> None:
        port = self.server.server_address[1]
        ours = [f"127.0.0.1:{port}", f"localhost:{port}"]
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in ours:
            raise RefusedError(403, f"this page is at {self.server.address} and nowhere else")
        if origin is not None and origin not in [f"http://{host}" for host in ours]:
            raise RefusedError(403, f"only the page at {self.server.address} may ask for this")

    def _length(self) -> int:
        """Of the body, in bytes."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            self.left, self.close_connection = 0, True
            raise RefusedError(411, "a request must say its Content-Length")
        return int(length) if len(length) < 20 else sys.maxsize

    def _read(self) -> bytes:
        if self.left > self.most:
            raise RefusedError(413, f"this is too large: {self.most:,} bytes are the most")
        left, self.left = self.left, 0
        return self.rfile.read(left)

    def _read_past(self) -> None:
        """The rest of a body that nobody wants, so that the refusal is heard; or hang up."""
        if self.left > PATIENCE * self.most:
            self.close_connection = True
            return
        while self.left > 0 and (piece := self.rfile.read(min(self.left, 2**16))):
            self.left -= len(piece)

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
        session.upload(self.body)
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
