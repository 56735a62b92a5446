"""MP4 in a browser: what every browser asks for, and a real one where there is one."""

from __future__ import annotations

import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import av
import pytest
import torch

from vqvideo.media import Audio, write_video

pytestmark = pytest.mark.slow

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PAGE = """
<video muted autoplay src="a.mp4"></video>
<script>
  const video = document.querySelector("video");
  const report = (text) => fetch("/report", {method: "POST", body: text});
  video.onended = () => report(`${video.videoWidth}x${video.videoHeight}, ${video.duration} s`);
  video.onerror = () => report(`failed: ${video.error.message}`);
  if (!video.canPlayType('video/mp4; codecs="avc1.640028, mp4a.40.2"')) report("no H.264");
</script>
"""


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and keeps what a page reports in `server.reports`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(204)
        self.end_headers()
        self.server.reports.put(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        server.reports = queue.Queue()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def write_clip(folder: Path) -> Path:
    frames = torch.linspace(-1, 1, 47).expand(3, 10, 31, 47)
    write_video(folder / "a.mp4", frames, 10, audio=Audio(torch.zeros(1, 16_000), 16_000))
    return folder / "a.mp4"


def test_mp4_is_what_every_browser_asks_for(tmp_path: Path) -> None:
    path = write_clip(tmp_path)
    data = path.read_bytes()
    assert data.index(b"ftyp") < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        coder = video.codec_context
        assert (coder.name, coder.codec_tag, coder.pix_fmt) == ("h264", "avc1", "yuv420p")
        assert coder.profile in ("Constrained Baseline", "Main", "High")
        assert (coder.height, coder.width) == (32, 48)
        assert (audio.codec_context.name, audio.codec_context.codec_tag) == ("aac", "mp4a")


def test_a_key_frame_comes_every_sixteen_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", torch.linspace(-1, 1, 48).expand(3, 40, 32, 48), 10)
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [n for n, p in enumerate(container.demux(video=0)) if p.is_keyframe]
    assert len(keys) > 2
    assert max(b - a for a, b in pairwise(keys)) <= 16


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path")
def test_chromium_plays_it_to_the_end(tmp_path: Path) -> None:
    write_clip(tmp_path)
    (tmp_path / "page.html").write_text(PAGE)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    user = [f"--user-data-dir={tmp_path / 'user'}", "--autoplay-policy=no-user-gesture-required"]
    with serve(tmp_path) as server:
        url = f"http://127.0.0.1:{server.server_port}/page.html"
        browser = subprocess.Popen(
            [BROWSER, *options, *user, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            report = server.reports.get(timeout=30)
        finally:
            browser.terminate()
            browser.wait()
    if report == "no H.264":
        pytest.skip("this Chromium was built without H.264")
    assert report == "48x32, 1 s"
