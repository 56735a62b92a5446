"""Models come from the hub and go there, through the real client and a server of our own.

The client reads its settings when it is imported, so it runs in a process beside, which is told
line by line what to do. Each test has a repository of its own, since the cache lasts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch

import vqvideo
from vqvideo.builtin_parts import COMPANION_FILES
from vqvideo.checkpoint import CARD_NAME, CONFIG_NAME, NOTICE_NAME, WEIGHTS_NAME
from vqvideo.cli import _build_parser, main
from vqvideo.hub import HubName, is_hub_name
from vqvideo.models import WEIGHTS_DIR
from vqvideo.recipes.speech.phone_map import PHONES_NAME

pytestmark = pytest.mark.slow

TINY = {
    "sample_shape": (8, 12),
    "encoder": {"width": 8, "num_blocks": 1},
    "quantizer": {"codebook_size": 7, "code_dim": 3},
    "decoder": {"width": 8, "num_blocks": 1},
    "prior": {"width": 8, "num_layers": 2, "first_kernel_size": 3},
}
TOKEN = "secret"  # of who may read what is private, and write
WORKER_SCRIPT = """
import json, sys
import vqvideo

for line in sys.stdin:
    known = {"vqvideo": vqvideo}
    try:
        exec(json.loads(line), known)
        said = {"out": known.get("out")}
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        said = {"error": str(error), "kinds": kinds, "caused": error.__cause__ is not None}
    print(json.dumps(said), flush=True)
"""


class FakeHub(ThreadingHTTPServer):
    """What the client asks of the hub, for repositories in memory."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), HubRequestHandler)
        self.repos: dict[str, dict] = {}
        self.asked: list[str] = []
        self.cut: dict[str, int] = {}  # bytes of a file after which the line breaks, always
        self.url = f"http://127.0.0.1:{self.server_port}"

    def put(self, repo: str, files: dict[str, bytes], branch: str = "main", **about) -> str:
        """A commit on a branch; returns its hash."""
        place = self.repos.setdefault(repo, {"branches": {}, "commits": {}, **about})
        before = place["commits"].get(place["branches"].get(branch), {})
        commit = hashlib.sha1(repr((repo, branch, len(place["commits"]))).encode()).hexdigest()
        place["commits"][commit] = {**before, **files}
        place["branches"][branch] = commit
        return commit

    def files(self, repo: str, branch: str = "main") -> dict[str, bytes]:
        place = self.repos[repo]
        return place["commits"][place["branches"][branch]]


class HubRequestHandler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_):
        """Say nothing."""

    def send(self, status: int, body: bytes | dict | list = b"", **headers) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str) -> None:
        self.send(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repo(self, name: str) -> dict | None:
        """What this client may see of it; answers otherwise."""
        place = self.server.repos.get(name)
        if place is None or (place.get("private") and not self.has_token()):
            return self.refuse(404, "RepoNotFound")
        if place.get("gated") and not self.has_token():
            return self.refuse(403, "GatedRepo")
        return place

    def find_commit(self, place: dict, revision: str) -> str | None:
        commit = place["branches"].get(revision, revision)
        return commit if commit in place["commits"] else self.refuse(404, "RevisionNotFound")

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {path}")
        api, *parts = path.strip("/").split("/")
        if api == "api":
            self.send_info("/".join(parts[1:3]), parts[3:])
        else:
            org, name, resolve, revision, file = [api, *map(unquote, parts)]
            assert resolve == "resolve"
            self.send_file(f"{org}/{name}", revision, file)

    def send_info(self, repo: str, rest: list[str]) -> None:
        place = self.repo(repo)
        kind, revision = rest if rest else ("revision", "main")
        commit = place and self.find_commit(place, unquote(revision))
        if not commit:
            return
        files = place["commits"][commit]
        if kind == "tree":
            oid = {name: hashlib.sha1(content).hexdigest() for name, content in files.items()}
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": oid[name]}
                for name, content in files.items()
            ]
            return self.send(200, tree)
        siblings = [{"rfilename": name} for name in files]
        private = bool(place.get("private"))
        self.send(200, {"id": repo, "sha": commit, "private": private, "siblings": siblings})

    def send_file(self, repo: str, revision: str, file: str) -> None:
        place = self.repo(repo)
        commit = place and self.find_commit(place, revision)
        if not commit:
            return
        content = place["commits"][commit].get(file)
        if content is None:
            return self.refuse(404, "EntryNotFound")
        known = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        first = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        end = self.server.cut.get(file) if self.command == "GET" else None
        if end is None:
            status = 206 if first else 200
            return self.send(status, content[first:], **known)
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first:end])
        self.close_connection = True

    def do_POST(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"POST {path}")
        said = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.has_token():
            return self.refuse(401, "Unauthorized")
        _, _, kind, *rest = path.split("/")
        if kind == "validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if kind == "repos":
            return self.create_repo(json.loads(said))
        org, name, what, branch = rest
        handlers = {
            "branch": self.create_branch,
            "preupload": self.prepare_upload,
            "commit": self.create_commit,
        }
        handlers[what](f"{org}/{name}", branch, said)

    def create_repo(self, asked: dict) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] == "others":
            return self.refuse(403, "Forbidden")
        if repo in self.server.repos:
            return self.send(409, {"error": "exists", "url": f"{self.server.url}/{repo}"})
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.server.put(repo, {".gitattributes": b""}, private=private)
        self.send(200, {"url": f"{self.server.url}/{repo}"})

    def create_branch(self, repo: str, branch: str, said: bytes) -> None:
        place = self.server.repos[repo]
        if branch in place["branches"]:
            return self.refuse(409, "exists")
        place["branches"][branch] = place["branches"]["main"]
        self.send(200, {})

    def prepare_upload(self, repo: str, branch: str, said: bytes) -> None:
        files = [file["path"] for file in json.loads(said)["files"]]
        how = {"uploadMode": "regular", "shouldIgnore": False}
        self.send(200, {"files": [{"path": file, **how} for file in files]})

    def create_commit(self, repo: str, branch: str, said: bytes) -> None:
        lines = [json.loads(line) for line in said.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        commit = self.server.put(repo, files, branch)
        self.server.repos[repo]["message"] = lines[0]["value"]["summary"]
        url = f"{self.server.url}/{repo}/commit/{commit}"
        self.send(200, {"commitUrl": url, "commitOid": commit})


class WorkerProcess:
    """A process with the client of the hub, and its settings."""

    def __init__(self, cache: Path, url: str, **settings: str):
        self.cache = cache
        off = {f"HF_HUB_DISABLE_{what}": "1" for what in ("XET", "TELEMETRY", "PROGRESS_BARS")}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        settings = {"HF_ENDPOINT": url, "HF_HOME": str(cache), **off, **settings}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER_SCRIPT],
            env={**kept, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run_code(self, code: str):
        """What `out` is after the code, or the error."""
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def send_code(self, code: str):
        said = self.run_code(code)
        assert "error" not in said, said
        return said["out"]

    def error(self, code: str, *kinds: str) -> str:
        said = self.run_code(code)
        assert "error" in said, f"no error: {said}"
        assert set(kinds) <= set(said["kinds"]), said
        assert "\n" not in said["error"], said
        assert said["caused"] or kinds == ("ValueError",), said
        return said["error"]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def fake_hub():
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def worker(fake_hub, tmp_path_factory):
    """Somebody with a network and without a login."""
    process = WorkerProcess(tmp_path_factory.mktemp("fake_hub"), fake_hub.url)
    yield process
    process.close()


@pytest.fixture(scope="module")
def author(fake_hub, tmp_path_factory):
    """Somebody who is logged in."""
    process = WorkerProcess(tmp_path_factory.mktemp("author"), fake_hub.url, HF_TOKEN=TOKEN)
    yield process
    process.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    vqvideo.save(vqvideo.build("image", **TINY), folder)
    return folder


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


SAMPLE = "out = vqvideo.load({!r}).sample(seed=3).flatten()[:20].tolist()"


def run_sample_script(name: object) -> list[float]:
    return vqvideo.load(name).sample(seed=3).flatten()[:20].tolist()


# -- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "repo", "revision"),
    [
        ("hf-hub:org/maze", "org/maze", None),
        ("hf-hub:org/maze@main", "org/maze", "main"),
        ("hf-hub:or-g/ma.ze_2@refs/pr/1", "or-g/ma.ze_2", "refs/pr/1"),
        ("org/maze@v1.0", "org/maze", "v1.0"),
    ],
)
def test_a_name_is_a_repository_and_perhaps_a_revision(name, repo, revision):
    assert HubName.parse(name) == (repo, revision)
    assert HubName.parse(str(HubName.parse(name))) == HubName.parse(name)


@pytest.mark.parametrize(
    "name",
    ["", "maze", "/maze", "org/", "org/maze@", "a/b/c", "org/ma ze", "../maze", "org/maze@a b"],
)
def test_what_is_no_name_is_refused_with_the_form(name):
    with pytest.raises(
        ValueError, match=r"is no valid name of a model on the hub; expected hf-hub:org/name"
    ):
        vqvideo.load(f"hf-hub:{name}")


def test_only_text_that_says_so_is_a_name_on_the_hub(tmp_path):
    assert is_hub_name("hf-hub:org/maze")
    assert not is_hub_name("org/maze")
    assert not is_hub_name(Path("hf-hub:org/maze"))
    with pytest.raises(FileNotFoundError, match="no checkpoint folder hf-hub:org/maze"):
        vqvideo.load(Path("hf-hub:org/maze"))


# -- from a folder --------------------------------------------------------------------------


@pytest.fixture
def forbid_sockets(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a socket")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(f"socket.{name}", forbidden)


def test_a_folder_is_read_without_a_network(folder, tmp_path, forbid_sockets):
    assert vqvideo.load(folder).config.sample_shape == (8, 12)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(folder, target_is_directory=True)
    assert run_sample_script(tmp_path / "run") == run_sample_script(str(folder))
    with pytest.raises(FileNotFoundError, match="no checkpoint folder org/maze"):
        vqvideo.load("org/maze")


def test_a_config_that_asks_for_weights_from_elsewhere_does_not_get_them(
    tmp_path, monkeypatch, forbid_sockets
):
    """`save` never writes that; somebody else may."""
    timm = pytest.importorskip("timm")
    create, asked = timm.create_model, []

    def counted(name, pretrained=False, **options):
        asked.append(pretrained)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", counted)
    encoder = {"name": "timm", "pretrained": False}
    generator = vqvideo.build("image", **{**TINY, "sample_shape": (64, 64), "encoder": encoder})
    vqvideo.save(generator, tmp_path / "run")
    header = json.loads((tmp_path / "run" / CONFIG_NAME).read_text())
    header["model"]["encoder"]["pretrained"] = True
    (tmp_path / "run" / CONFIG_NAME).write_text(json.dumps(header))
    vqvideo.load(tmp_path / "run")
    assert asked
    assert True not in asked


def test_the_folder_of_a_run_is_the_model_in_it_even_between_two_renames(folder, tmp_path):
    run = tmp_path / "run"
    vqvideo.save(vqvideo.load(folder), run / "model")
    assert run_sample_script(run) == run_sample_script(folder)
    (run / "model").rename(run / ".model.old")
    assert run_sample_script(run) == run_sample_script(folder)


# -- from the hub ---------------------------------------------------------------------------


def test_a_model_comes_from_the_hub_as_it_is_in_the_folder(fake_hub, worker, folder):
    others = {"training.pt": b"not asked for", "sub/config.json": b"{}", CARD_NAME: b"# Hello"}
    fake_hub.put("org/plain", {**read_files(folder), **others})
    fake_hub.asked.clear()
    assert worker.send_code(SAMPLE.format("hf-hub:org/plain")) == run_sample_script(folder)
    gets = {line.split("/")[-1] for line in fake_hub.asked if line.startswith("GET /org/")}
    assert gets == {CONFIG_NAME, WEIGHTS_NAME, CARD_NAME}


def test_each_revision_is_a_model_of_its_own(fake_hub, worker, folder, tmp_path):
    torch.manual_seed(1)
    vqvideo.save(vqvideo.build("image", **TINY), tmp_path / "new")
    first = fake_hub.put("org/twice", read_files(folder))
    fake_hub.put("org/twice", read_files(folder), branch="v1")
    fake_hub.put("org/twice", read_files(tmp_path / "new"))
    new, old = run_sample_script(tmp_path / "new"), run_sample_script(folder)
    assert new != old
    assert worker.send_code(SAMPLE.format("hf-hub:org/twice")) == new
    assert worker.send_code(SAMPLE.format("hf-hub:org/twice@main")) == new
    assert worker.send_code(SAMPLE.format("hf-hub:org/twice@v1")) == old
    assert worker.send_code(SAMPLE.format(f"hf-hub:org/twice@{first}")) == old


def test_a_command_takes_a_model_from_the_hub(fake_hub, worker, folder, tmp_path):
    fake_hub.put("org/command", {**read_files(folder), NOTICE_NAME: b"by Ann"})
    arguments = ["export", "--model", "hf-hub:org/command", "--out", str(tmp_path / "out")]
    done = f"from vqvideo.cli import main; out = main({[*arguments, '--json']})"
    worker.process.stdin.write(json.dumps(done) + "\n")
    worker.process.stdin.flush()
    assert "folder" in json.loads(worker.process.stdout.readline())
    assert json.loads(worker.process.stdout.readline()) == {"out": 0}
    assert (tmp_path / "out" / NOTICE_NAME).read_text() == "by Ann"
    assert vqvideo.load(tmp_path / "out").notice == "by Ann"


def test_companion_files_come_with_the_weights_and_go_with_them(fake_hub, worker, folder, tmp_path):
    files = dict.fromkeys((PHONES_NAME, *COMPANION_FILES), b"{}")
    fake_hub.put("org/companions", {**read_files(folder), **files, "other.json": b"{}"})
    find = "from vqvideo.checkpoint import resolve_checkpoint; out = str(resolve_checkpoint({!r}))"
    fetched = Path(worker.send_code(find.format("hf-hub:org/companions")))
    assert {path.name for path in fetched.iterdir()} == {*read_files(folder), *COMPANION_FILES}
    out = tmp_path / "out"
    out.mkdir()
    for name, content in {**read_files(folder), **files}.items():
        (out / name).write_bytes(content)
    vqvideo.save(vqvideo.load(folder), out, overwrite=True)  # they may describe other weights
    assert not {path.name for path in out.iterdir()} & set(COMPANION_FILES)


def test_what_is_not_there_or_not_for_us_is_said_in_one_sentence(fake_hub, worker, folder):
    fake_hub.put("org/there", read_files(folder))
    fake_hub.put("org/secret", read_files(folder), private=True)
    fake_hub.put("org/gated", read_files(folder), gated=True)
    load = "vqvideo.load('hf-hub:org/{}')".format
    missing = worker.error(load("missing"), "OSError", "HubError")
    assert missing.startswith("there is no org/missing on the hub; if it is private, log in with")
    assert worker.error(load("secret"), "OSError").startswith("there is no org/secret on the hub")
    assert worker.error(load("there@v9"), "OSError") == "org/there has no revision 'v9'"
    assert worker.error(load("gated"), "OSError").startswith("org/gated is gated: ask for access")


def test_who_is_logged_in_gets_what_is_private(fake_hub, author, folder):
    fake_hub.put("org/mine", read_files(folder), private=True)
    assert author.send_code(SAMPLE.format("hf-hub:org/mine")) == run_sample_script(folder)


def test_a_repository_without_a_model_is_refused_by_name(fake_hub, worker, folder):
    load = "vqvideo.load('hf-hub:org/{}')".format
    fake_hub.put("org/empty", {CARD_NAME: b"# Soon"})
    said = worker.run_code(load("empty"))
    assert said["error"] == "hf-hub:org/empty holds no model of vqvideo: it has no config.json"
    assert "CheckpointError" in said["kinds"]
    fake_hub.put("org/other", {CONFIG_NAME: b'{"architectures": ["Bert"]}', WEIGHTS_NAME: b"x"})
    said = worker.run_code(load("other"))
    assert said["error"].startswith("hf-hub:org/other: ")
    assert "config.json must hold exactly dtype, format_version" in said["error"]
    fake_hub.put(
        "org/damaged", {**read_files(folder), WEIGHTS_NAME: read_files(folder)[WEIGHTS_NAME][:-9]}
    )
    said = worker.run_code(load("damaged"))
    assert said["error"].startswith("hf-hub:org/damaged: ")
    assert "model.safetensors cannot be read" in said["error"]


@pytest.mark.parametrize("file", ["pytorch_model.bin", "ckpt/best.pt", "model.ckpt"])
def test_pickles_are_never_even_fetched(fake_hub, worker, folder, file):
    repo = f"org/pickle-{Path(file).stem}"
    fake_hub.put(repo, {CONFIG_NAME: read_files(folder)[CONFIG_NAME], file: b"cos\nsystem\n"})
    fake_hub.asked.clear()
    said = worker.run_code(f"vqvideo.load('hf-hub:{repo}')")
    assert said["error"].startswith(f"hf-hub:{repo} holds {file}, a pickle, which can run code")
    assert "CheckpointError" in said["kinds"]
    assert not any(file in line for line in fake_hub.asked)


def test_an_interrupted_download_says_so_and_the_next_one_resumes(fake_hub, worker, folder):
    fake_hub.put("org/broken", read_files(folder))
    fake_hub.cut[WEIGHTS_NAME] = 5000
    patient = "import time; sleep, time.sleep = time.sleep, lambda seconds: None\n"
    try:
        load = "try:\n    vqvideo.load('hf-hub:org/broken')\nfinally:\n    time.sleep = sleep"
        error = worker.error(patient + load, "OSError", "HubError")
    finally:
        fake_hub.cut.clear()
    assert error.startswith("hf-hub:org/broken cannot be fetched: ")
    assert worker.send_code(SAMPLE.format("hf-hub:org/broken")) == run_sample_script(folder)


def test_without_a_network_the_cache_serves_and_what_is_not_in_it_is_named(
    fake_hub, worker, folder
):
    fake_hub.put("org/cached", read_files(folder))
    offline = WorkerProcess(worker.cache, fake_hub.url, HF_HUB_OFFLINE="1", HF_TOKEN=TOKEN)
    cut_off = WorkerProcess(worker.cache, "http://127.0.0.1:9")
    load = SAMPLE.format("hf-hub:org/cached")
    assert worker.send_code(load) == run_sample_script(folder)
    fake_hub.asked.clear()
    assert offline.send_code(load) == run_sample_script(folder)
    error = offline.error("vqvideo.load('hf-hub:org/unseen')", "OSError", "HubError")
    assert error == (
        "hf-hub:org/unseen cannot be fetched: HF_HUB_OFFLINE is set, and the cache does not hold it"
    )
    error = offline.error(push(str(folder), "org/unseen"), "OSError", "HubError")
    assert error == "hf-hub:org/unseen cannot be written to: HF_HUB_OFFLINE is set"
    assert not fake_hub.asked
    assert cut_off.send_code(load) == run_sample_script(folder)
    error = cut_off.error("vqvideo.load('hf-hub:org/unseen')", "OSError", "HubError")
    assert error.endswith("the hub cannot be reached, and the cache does not hold it")
    offline.close()
    cut_off.close()


# -- to the hub -----------------------------------------------------------------------------


def push(model: object, to: str, license: str = "mit", **options) -> str:
    return f"out = vqvideo.push_to_hub({model!r}, {to!r}, license={license!r}, **{options})"


def test_a_folder_goes_to_the_hub_byte_for_byte_and_comes_back(fake_hub, author, folder):
    url = author.send_code(push(str(folder), "org/pushed", "cc-by-4.0", commit_message="Hello"))
    there = fake_hub.files("org/pushed")
    assert (
        url
        == f"{fake_hub.url}/org/pushed/commit/{fake_hub.repos['org/pushed']['branches']['main']}"
    )
    assert fake_hub.repos["org/pushed"]["message"] == "Hello"
    assert set(there) == {".gitattributes", CONFIG_NAME, WEIGHTS_NAME, CARD_NAME}
    assert there[CONFIG_NAME] == (folder / CONFIG_NAME).read_bytes()
    assert there[WEIGHTS_NAME] == (folder / WEIGHTS_NAME).read_bytes()
    card = there[CARD_NAME].decode()
    assert "\nlicense: cc-by-4.0\n" in card.split("---")[1]
    assert "\nlibrary_name: vqvideo\n" in card.split("---")[1]
    assert 'vqvideo.load("hf-hub:org/pushed")' in card
    assert not (folder / CARD_NAME).exists()
    assert author.send_code(SAMPLE.format("hf-hub:org/pushed")) == run_sample_script(folder)


def test_a_card_that_somebody_wrote_goes_as_it_is_with_the_licence(
    fake_hub, author, folder, tmp_path
):
    generator = vqvideo.load(folder)
    generator.notice = "by Ann"
    vqvideo.save(generator, tmp_path / "own")
    (tmp_path / "own" / CARD_NAME).write_text(
        "---\nlanguage: en\n---\n\n# Mine\n\nSlow but *good*.\n"
    )
    author.send_code(push(str(tmp_path / "own"), "org/own", "apache-2.0"))
    card = fake_hub.files("org/own")[CARD_NAME].decode()
    assert card.startswith("---\nlanguage: en\nlicense: apache-2.0\n---\n")
    assert card.endswith("\n# Mine\n\nSlow but *good*.\n")
    assert fake_hub.files("org/own")[NOTICE_NAME] == b"by Ann"


def test_what_ships_takes_its_notice_along_however_it_goes(fake_hub, author):
    notice = (WEIGHTS_DIR / "video" / NOTICE_NAME).read_bytes()
    author.send_code(push("video", "org/by-name"))
    assert fake_hub.files("org/by-name")[NOTICE_NAME] == notice
    assert (
        fake_hub.files("org/by-name")[WEIGHTS_NAME]
        == (WEIGHTS_DIR / "video" / WEIGHTS_NAME).read_bytes()
    )
    assert "`NOTICE` holds the attribution" in fake_hub.files("org/by-name")[CARD_NAME].decode()
    build = "generator = vqvideo.build('video', pretrained=True)\n"
    author.send_code(build + push(0, "org/built").replace("(0,", "(generator,"))
    assert fake_hub.files("org/built")[NOTICE_NAME] == notice
    assert "# built" in fake_hub.files("org/built")[CARD_NAME].decode()


def test_a_model_goes_to_a_branch_of_its_own(fake_hub, author, folder):
    author.send_code(push(str(folder), "org/branched"))
    old = fake_hub.files("org/branched")
    author.send_code(push(str(folder), "org/branched", "apache-2.0", revision="v2"))
    assert fake_hub.files("org/branched") == old
    card = fake_hub.files("org/branched", "v2")[CARD_NAME].decode()
    assert "license: apache-2.0" in card
    assert 'vqvideo.load("hf-hub:org/branched@v2")' in card
    assert author.send_code(SAMPLE.format("hf-hub:org/branched@v2")) == run_sample_script(folder)


def test_what_is_to_be_private_never_lands_where_all_can_see(fake_hub, author, folder):
    author.send_code(push(str(folder), "org/hidden", private=True))
    assert fake_hub.repos["org/hidden"]["private"]
    author.send_code(push(str(folder), "org/hidden", private=True))
    author.send_code(push(str(folder), "org/open"))
    assert not fake_hub.repos["org/open"]["private"]
    before = fake_hub.files("org/open")
    error = author.error(push(str(folder), "org/open", private=True), "ValueError")
    assert error == "org/open exists and is public; choose another name, or leave out private"
    assert fake_hub.files("org/open") == before


def test_a_push_that_cannot_be_is_refused_before_anything_is_sent(fake_hub, author, worker, folder):
    fake_hub.asked.clear()
    error = author.error(push(str(folder), "maze"), "ValueError")
    assert error.startswith(
        "'maze' is no valid name of a model on the hub; expected hf-hub:org/name"
    )
    error = author.error(push(str(folder), "org/x", " "), "ValueError")
    assert error.startswith("license must not be empty; give an identifier")
    assert "no checkpoint folder" in author.run_code(push("no/where", "org/x"))["error"]
    said = worker.run_code(push(str(folder), "org/x"))
    assert said["error"] == (
        "uploading to the hub needs a token: log in with `hf auth login` or set HF_TOKEN"
    )
    assert not fake_hub.asked
    error = author.error(push(str(folder), "others/x"), "OSError", "HubError")
    assert error.startswith("hf-hub:others/x cannot be written to: permission denied")


def test_the_command_passes_on_its_options(monkeypatch, capsys):
    told = {}

    def push_to_hub(model, to, **options):
        told.update(options, model=model, to=to)
        return "https://there"

    monkeypatch.setattr("vqvideo.commands.push.push_to_hub", push_to_hub)
    arguments = ["push", "--model", "runs/maze", "--to", "org/maze", "--license", "mit"]
    assert main([*arguments, "--private", "--revision", "v2"]) == 0
    assert capsys.readouterr().out == "https://there\n"
    assert told == {
        "model": "runs/maze",
        "to": "org/maze",
        "license": "mit",
        "private": True,
        "revision": "v2",
    }


def test_the_page_on_training_shows_commands_that_exist():
    page = (Path(__file__).parent.parent / "docs" / "training.md").read_text()
    section = page.split("\n## Sharing and fine-tuning\n")[1].split("\n## ")[0]
    lines = re.findall(r"^vqvideo (.*)$", section, flags=re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        options, unknown = _build_parser(None).parse_known_args(shlex.split(line))
        assert not unknown, line
        assert options.run
    for name in re.findall(r'"(hf-hub:[^"]*)"', section):
        assert str(HubName.parse(name)) == name
