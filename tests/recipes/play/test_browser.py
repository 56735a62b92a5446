"""The page in a real browser, where there is one: keys that are pressed, what is seen then."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time

import pytest

from vqvideo import media
from vqvideo.recipes.worlds.play.session import Session, SessionStore, TooManySessionsError

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path"),
]

KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}
FRAME_SCRIPT = "document.getElementById('frame').toDataURL()"
MESSAGE_SCRIPT = "document.getElementById('message').textContent"
FRAME_NUMBER_SCRIPT = "+document.getElementById('metrics').textContent.match(/frame (\\d+)/)?.[1]"


class Browser:
    """A headless Chromium, told what to do through a pair of pipes (its DevTools protocol)."""

    def __init__(self, folder):
        from_here, to_browser = os.pipe()
        from_browser, to_here = os.pipe()

        def as_it_expects():
            ends = [os.dup2(end, number) for end, number in ((from_here, 13), (to_here, 14))]
            for end, number in zip(ends, (3, 4), strict=True):
                os.dup2(end, number)

        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            [BROWSER, *options, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=as_it_expects,
            close_fds=False,
        )
        os.close(from_here)
        os.close(to_here)
        self.orders, self.answers = os.fdopen(to_browser, "wb"), os.fdopen(from_browser, "rb")
        self.numbers, self.rest, self.session = itertools.count(1), b"", None
        [target] = [
            each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page"
        ]
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]

    def send(self, method, **parameters):
        order = {"id": next(self.numbers), "method": method, "params": parameters}
        if self.session:
            order["sessionId"] = self.session
        self.orders.write(json.dumps(order).encode() + b"\0")
        self.orders.flush()
        while True:
            while b"\0" not in self.rest:
                self.rest += os.read(self.answers.fileno(), 2**16)
            message, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(message)
            if answer.get("id") == order["id"]:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, expression):
        told = self.send("Runtime.evaluate", expression=expression, awaitPromise=True)
        return told["result"].get("value")

    def wait(self, expression, seconds=20):
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.02)

    def send_key(self, kind, key):
        self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=KEYS[key])

    def tap(self, key):
        self.send_key("rawKeyDown", key)
        self.send_key("keyUp", key)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.orders.close()
        self.answers.close()


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "user")
    yield browser
    browser.close()


@pytest.fixture
def page(browser, server):
    """The browser, the page open in it."""
    browser.send("Page.navigate", url=server.address)
    browser.wait(f"{FRAME_NUMBER_SCRIPT} === 0")
    return browser


def test_keys_act_a_reload_continues_and_a_hundred_presses_do_not_pile_up(page, server, tmp_path):
    pictures = [page.evaluate(FRAME_SCRIPT)]
    page.tap("ArrowUp")
    page.wait(f"{FRAME_NUMBER_SCRIPT} === 1")
    pictures.append(page.evaluate(FRAME_SCRIPT))

    page.send_key("rawKeyDown", "ArrowUp")
    page.send_key("rawKeyDown", "ArrowLeft")
    page.wait(f"{FRAME_NUMBER_SCRIPT} >= 4")
    on = "document.querySelector('#actions .on').textContent"
    assert page.evaluate(on) == "forward left"
    page.send_key("keyUp", "ArrowUp")
    page.send_key("keyUp", "ArrowLeft")
    page.wait("!busy")
    assert page.evaluate("document.querySelector('#actions .on')") is None
    number = page.evaluate(FRAME_NUMBER_SCRIPT)
    pictures.append(page.evaluate(FRAME_SCRIPT))
    assert len(set(pictures)) == 3

    page.send("Page.reload")
    page.wait(f"document.readyState === 'complete' && {FRAME_NUMBER_SCRIPT} === {number}")
    assert page.evaluate(FRAME_SCRIPT) == pictures[-1]
    assert len(server.sessions) == 1

    for _ in range(100):
        page.tap("ArrowRight")
    page.wait("!busy")
    assert number < page.evaluate(FRAME_NUMBER_SCRIPT) <= number + 100
    assert page.evaluate("document.getElementById('message').textContent") == ""

    shot = base64.b64decode(page.send("Page.captureScreenshot")["data"])
    (tmp_path / "page.png").write_bytes(shot)
    assert media.read_image(tmp_path / "page.png").std() > 0.1


def test_buttons_act_while_they_are_down_and_a_start_restarts_the_session(page):
    page.evaluate("document.querySelector('[data-action=\"3\"]').scrollIntoView()")
    corner = "document.querySelector('[data-action=\"3\"]').getBoundingClientRect()"
    place = {axis: page.evaluate(f"{corner}.{axis}") + 5 for axis in "xy"}
    mouse = {"method": "Input.dispatchMouseEvent", "button": "left", "clickCount": 1, **place}
    page.send(**mouse, type="mousePressed")
    page.wait(f"{FRAME_NUMBER_SCRIPT} >= 3")
    page.send(**mouse, type="mouseReleased")
    page.wait("!busy")
    number, warmth = page.evaluate(FRAME_NUMBER_SCRIPT), "document.getElementById('temperature')"
    page.evaluate(f"{warmth}.value = 0; {warmth}.dispatchEvent(new Event('input'))")
    assert page.evaluate("document.getElementById('temperatureValue').textContent") == "0.00"
    page.tap("ArrowUp")
    page.wait(f"{FRAME_NUMBER_SCRIPT} === {number + 1}")
    page.evaluate("document.querySelector('#starts button:last-child').click()")  # nothing
    page.wait(f"{FRAME_NUMBER_SCRIPT} === 0")


def test_what_goes_wrong_is_said_on_the_page_and_the_session_continues(page, server):
    page.evaluate("sendCommand('upload', new Blob(['no image']))")
    assert "cannot be read as an image or a video" in page.evaluate(MESSAGE_SCRIPT)
    page.evaluate("document.querySelector('[data-action=\"3\"]').click()")
    page.wait(f"{FRAME_NUMBER_SCRIPT} === 1")

    server.sessions._sessions.clear()  # as if left alone for too long
    page.tap("ArrowUp")
    page.wait(f"{MESSAGE_SCRIPT}.includes('A new session was started')")
    assert page.evaluate(FRAME_NUMBER_SCRIPT) == 0


def test_the_action_of_a_key_and_the_temperature_of_the_slider_reach_the_server(page, monkeypatch):
    told, step = [], Session.step
    monkeypatch.setattr(Session, "step", lambda *given: (told.append(given[1:]), step(*given))[1])
    warmth = "document.getElementById('temperature')"
    for number, (key, temperature) in enumerate((("ArrowUp", 0.35), ("ArrowLeft", 1.2)), 1):
        page.evaluate(f"{warmth}.value = {temperature}")
        page.tap(key)
        page.wait(f"!busy && {FRAME_NUMBER_SCRIPT} === {number}")
    assert told == [(3, 0.35), (1, 1.2)]


def test_a_page_that_is_copied_with_its_storage_has_a_session_of_its_own(page, server):
    page.tap("ArrowUp")
    page.wait(f"!busy && {FRAME_NUMBER_SCRIPT} === 1")
    metrics = "copy.document.getElementById('metrics')?.textContent"
    page.send("Runtime.evaluate", expression="copy = window.open(location.href)", userGesture=True)
    page.wait(f"/frame \\d/.test({metrics})")
    assert page.evaluate(metrics).startswith("frame 0\n")
    assert len(server.sessions) == 2
    page.evaluate("copy.location.reload()")  # each goes on with its own
    is_again = "copy.performance.getEntriesByType('navigation')[0]?.type === 'reload'"
    page.wait(f"{is_again} && {metrics}?.startsWith('frame 0\\n')")
    page.send("Page.reload")
    page.wait(f"document.readyState === 'complete' && {FRAME_NUMBER_SCRIPT} === 1")
    assert len(server.sessions) == 2


def test_a_start_that_is_chosen_where_no_session_could_be_opened_opens_one(
    browser, server, monkeypatch
):
    with monkeypatch.context() as full:
        full.setattr(
            SessionStore,
            "_evict",
            lambda sessions: (_ for _ in ()).throw(TooManySessionsError("full")),
        )
        browser.send("Page.navigate", url=server.address)
        browser.wait(f"document.readyState === 'complete' && {MESSAGE_SCRIPT} === 'full'")
    browser.evaluate("document.querySelector('#starts button:last-child').click()")
    browser.wait(f"{FRAME_NUMBER_SCRIPT} === 0")
    [session] = server.sessions._sessions.values()
    assert session.start is None
    assert browser.evaluate(MESSAGE_SCRIPT) == ""


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("none", "forward"), [["wait", "0"], ["forward", "1"]]),
        (
            ("forward", "none", "turn right", "turn left", "forward right", "forward left"),
            [
                ["forward left", "5"],
                ["forward", "0"],
                ["forward right", "4"],
                ["turn left", "3"],
                ["wait", "1"],
                ["turn right", "2"],
            ],
        ),
    ],
)
def test_there_is_a_button_for_each_action_and_none_besides(browser, make_server, names, shown):
    with make_server(names) as server:
        browser.send("Page.navigate", url=server.address)
        browser.wait(f"{FRAME_NUMBER_SCRIPT} === 0")
        buttons = "[...document.getElementById('actions').children]"
        pairs = f"{buttons}.map((each) => [each.textContent, each.dataset.action])"
        assert json.loads(browser.evaluate(f"JSON.stringify({pairs})")) == shown
        is_maze = browser.evaluate("document.getElementById('actions').classList.contains('maze')")
        assert is_maze == (len(names) == 6)
