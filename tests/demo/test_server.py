"""What the server answers, asked as a browser asks, and as one should not."""

import base64
import http.client
import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vqvideo import media
from vqvideo.demo import session as demo_session
from vqvideo.demo.server import MOST_BYTES, MOST_BYTES_OF_JSON, Handler


def ask(server, path, given=None, **headers):
    """Status and body, that of JSON parsed."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    body = given if given is None or isinstance(given, bytes) else json.dumps(given)
    try:
        connection.request("GET" if given is None else "POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(content) if is_json else content
    finally:
        connection.close()


@pytest.fixture
def word(server):
    status, seen = ask(server, "/session", {"start": 0})
    assert status == 200
    return seen["session"]


def test_the_page_needs_nothing_from_anywhere(server):
    status, page = ask(server, "/")
    assert status == 200
    assert b"</html>" in page
    assert b"http" not in page.replace(b"http-equiv", b"")


def test_the_page_is_told_what_it_can_do(server, picture):
    _, about = ask(server, "/model")
    assert about["actions"][3] == "forward"
    assert (about["size"], about["rate"], about["stride"]) == ([64, 64], 8.75, 1)
    [start] = about["starts"]
    assert start["name"] == "door.png"
    shown = torch.frombuffer(bytearray(base64.b64decode(start["picture"])), dtype=torch.uint8)
    expected = media.to_uint8(media.read_image(picture, size=(64, 64)))
    assert torch.equal(shown.view(64, 64, 3).movedim(-1, 0), expected)


def test_a_step_brings_the_next_frame_its_codes_and_its_time(server, word):
    _, before = ask(server, f"/session/{word}")
    status, seen = ask(server, f"/session/{word}/step", {"action": 4, "temperature": 0.8})
    assert (status, before["number"], seen["number"]) == (200, 0, 1)
    assert len(seen["frames"]) == 1
    assert seen["frames"] != before["frames"]
    assert [len(seen["codes"]), len(seen["codes"][0])] == [8, 8]
    assert 0 < seen["milliseconds"] < 5000


def test_a_reload_goes_on_where_it_was(server, word):
    for _ in range(3):
        _, seen = ask(server, f"/session/{word}/step", {"action": 3})
    assert ask(server, f"/session/{word}") == (200, seen)


def test_a_restart_takes_the_same_start_or_another(server, word):
    _, before = ask(server, f"/session/{word}")
    ask(server, f"/session/{word}/step", {"action": 3})
    _, again = ask(server, f"/session/{word}/restart", {})
    assert (again["number"], again["frames"]) == (0, before["frames"])
    _, nothing = ask(server, f"/session/{word}/restart", {"start": None})
    assert nothing["frames"] != before["frames"]


def test_an_upload_becomes_the_start(server, word, tmp_path):
    media.write_image(tmp_path / "gray.png", torch.zeros(3, 30, 20))
    data = (tmp_path / "gray.png").read_bytes()
    status, seen = ask(server, f"/session/{word}/upload", data)
    assert status == 200
    assert set(base64.b64decode(seen["frames"][0])) == {128}
    ask(server, f"/session/{word}/step", {"action": 3})
    _, again = ask(server, f"/session/{word}/restart", {})
    assert again["frames"] == seen["frames"]


def test_an_upload_that_is_no_picture_or_too_large_gets_a_sentence_and_the_walk_goes_on(
    server, word
):
    upload = f"/session/{word}/upload"
    for data in (b"no picture", b"", b"\x89PNG\r\n\x1a\n" + bytes(100)):
        status, answer = ask(server, upload, data)
        assert status == 400
        assert "this file cannot be read as a picture or a video" in answer["error"]
    status, answer = ask(server, upload, bytes(MOST_BYTES + 1))
    assert status == 413
    assert "this is too large: 33,554,432 bytes are the most" in answer["error"]
    status, seen = ask(server, f"/session/{word}/step", {"action": 3})
    assert (status, seen["number"]) == (200, 1)


def test_what_was_played_comes_as_an_mp4(server, word, tmp_path):
    for _ in range(4):
        ask(server, f"/session/{word}/step", {"action": 1})
    status, clip = ask(server, f"/session/{word}/clip.mp4")
    assert status == 200
    (tmp_path / "walk.mp4").write_bytes(clip)
    assert media.probe(tmp_path / "walk.mp4").num_frames == 5


@pytest.mark.parametrize(
    ("path", "given", "status", "message"),
    [
        ("step", {"action": 6}, 400, "got 6"),
        ("step", {"action": 3, "temperature": -1}, 400, "temperature must be"),
        ("step", {"action": 3, "temperature": 10**400}, 400, "too large"),
        ("step", [3], 400, "must be a JSON object, got list"),
        ("step", b"{", 400, "no JSON: Expecting"),
        ("step", b"[" * 999, 400, "no JSON"),
        ("step", bytes(1001), 413, "too large"),
        ("restart", {"start": 1}, 400, "there are 1 starts"),
        ("restart", {"start": "door"}, 400, "there are 1 starts"),
        ("fly", {}, 404, "there is no /session/.*/fly here"),
        ("step/extra", {"action": 3}, 404, "there is no /session/.*/step/extra here"),
        ("step//extra", {"action": 3}, 404, "there is no"),
    ],
)
def test_what_makes_no_sense_gets_a_sentence_and_the_walk_goes_on(
    server, word, path, given, status, message
):
    answered, answer = ask(server, f"/session/{word}/{path}", given)
    assert answered == status
    assert re.search(message, answer["error"])
    assert ask(server, f"/session/{word}/step", {"action": 3})[1]["number"] == 1


def test_a_visitor_who_is_not_known_is_told_so(server):
    for order in ("step", "upload"):
        status, answer = ask(server, f"/session/guessed/{order}", bytes(MOST_BYTES_OF_JSON))
        assert status == 404
        assert "this walk is not known: it was left alone for too long, or vq" in answer["error"]
    assert ask(server, "/session//step", {"action": 3})[0] == 404
    assert len(server.sessions) == 0


def test_whoever_calls_it_by_another_name_is_refused(server):
    port = server.server_address[1]
    for host in (f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        assert ask(server, "/", Host=host)[0] == 403, host
        assert ask(server, "/session", {}, Host=host)[0] == 403, host
    assert ask(server, "/", Host=f"localhost:{port}")[0] == 200


def test_another_page_gives_no_orders(server, word):
    port = server.server_address[1]
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}"):
        status, answer = ask(server, f"/session/{word}/step", {"action": 3}, Origin=origin)
        assert status == 403, origin
        assert "only the page at" in answer["error"]
    own = f"http://127.0.0.1:{port}"
    assert ask(server, f"/session/{word}/step", {"action": 3}, Origin=own)[1]["number"] == 1


@pytest.mark.parametrize("length", [4 * MOST_BYTES_OF_JSON + 1, 10**18, "9" * 5000])
def test_a_body_without_end_is_refused_unread_and_the_connection_closed(server, word, length):
    with socket.create_connection(server.server_address, timeout=20) as browser:
        head = f"POST /session/{word}/step HTTP/1.1\r\nHost: 127.0.0.1:{server.server_address[1]}"
        browser.sendall(f"{head}\r\nContent-Length: {length}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: browser.recv(2**16), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in answer
    assert b"too large: 1,000 bytes are the most" in answer


def test_a_body_is_kept_for_nobody_who_may_not_ask(server, word, monkeypatch):
    monkeypatch.setattr(Handler, "_read", None)  # what keeps a body is not called
    for path, headers, status in (
        (f"/session/{word}/upload", {"Origin": "http://evil.example"}, 403),
        (f"/session/{word}/upload", {"Host": "evil.example"}, 403),
        ("/session/guessed/upload", {}, 404),
        ("/fly/upload", {}, 404),
    ):
        assert ask(server, path, bytes(10**6), **headers)[0] == status


def test_uploads_are_read_one_after_the_other_and_one_of_each_visitor(server, word, monkeypatch):
    going_on, begun = threading.Event(), threading.Semaphore(0)

    def read_start(*given):
        begun.release()
        going_on.wait()
        raise ValueError("read at last")

    monkeypatch.setattr(demo_session, "read_start", read_start)
    other = ask(server, "/session", {})[1]["session"]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, server, f"/session/{word}/upload", b"one")
        begun.acquire()
        second = pool.submit(ask, server, f"/session/{other}/upload", b"two")
        assert ask(server, f"/session/{word}/upload", b"three")[0] == 409
        assert not begun.acquire(timeout=0.2)  # the other visitor's waits
        going_on.set()
        assert [answer.result() for answer in (first, second)] == [
            (400, {"error": "read at last"})
        ] * 2


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_a_hundred_requests_at_once_are_answered_or_busy_and_nothing_piles_up(server, word):
    with ThreadPoolExecutor(20) as pool:
        step = f"/session/{word}/step"
        answers = list(pool.map(lambda _: ask(server, step, {"action": 3}), range(100)))
    statuses = [status for status, _ in answers]
    assert set(statuses) <= {200, 409}
    assert ask(server, f"/session/{word}")[1]["number"] == statuses.count(200) > 0


def test_a_closed_tab_costs_nothing_and_says_nothing(server, word, capfd):
    threads = threading.active_count()
    port = server.server_address[1]
    for cut in (b"", b"\r\n{", b'\r\n{"action": 3}  '):
        with socket.create_connection(server.server_address) as browser:
            head = f"POST /session/{word}/step HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            browser.sendall(head.encode() + b"Content-Length: 15\r\n" + cut)
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
    while threading.active_count() > threads:
        pass
    while (status := ask(server, f"/session/{word}/step", {"action": 3})[0]) == 409:
        pass  # the last of them had asked for a frame
    assert status == 200
    assert capfd.readouterr().err == ""


def test_two_visitors_at_once_both_get_on(server):
    words = [ask(server, "/session", {})[1]["session"] for _ in range(2)]

    def walked(word):
        return [ask(server, f"/session/{word}/step", {"action": 3})[0] for _ in range(10)]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(walked, words)) == [[200] * 10] * 2
