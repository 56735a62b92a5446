"""Damaged at random: 105 files cut off and 105 with one flipped bit, and none is fatal.

For each of them:

- reading ends within `LIMIT` seconds and takes no process down;
- it gives a video, or raises `MediaError` with the name of the file in the message;
- a cut file raises, in every container of the list but MPEG-TS: that may be cut between two
  packets, where nothing shows it, and then gives frames of the whole file at their times;
- a flipped bit may change pixels, or times and number of frames in the tables of the
  container, without any mark. How many such files there are is bounded. Animated PNG, which
  keeps checksums of everything, allows none.

The process that reads is another one, which reads file after file; it is started anew when a
file has ended it.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LIMIT = 20  # seconds for one small file
PER_FORMAT = 15  # cut, and as many with a flipped bit
FORMATS = {
    "mp4": {"options": {"movflags": "+faststart"}},
    "mkv": {},
    "webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "lag-in-frames": "0"}},
    "avi": {"codec": "mpeg4"},
    "gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "ts": {},
    "apng": {"codec": "apng", "pix_fmt": "rgb24"},
}

READER = """
import hashlib, json, sys
import torch
from vqvideo.media import MediaError, probe, read_video

torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    try:
        seconds = probe(line[:-1]).pts_seconds
        frames = read_video(line[:-1]).frames.unbind(1)
        hashes = [hashlib.sha256(frame.numpy().tobytes()).hexdigest() for frame in frames]
        answer = {"seconds": seconds, "frames": hashes}
    except MediaError as error:
        answer = {"refused": str(error)}
    except Exception as error:
        answer = {"fault": repr(error)}
    print(json.dumps(answer), flush=True)
"""


class Reader:
    """A process that reads one file after another and reports on each."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def read(self, path: Path) -> dict[str, Any]:
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        in_time = select.select([self.process.stdout], [], [], LIMIT)[0]
        line = self.process.stdout.readline() if in_time else ""
        if line:
            return json.loads(line)
        if in_time:  # the process has closed the pipe, so it is about to end by itself
            self.process.wait(LIMIT)
        fault = f"process ended with {self.process.returncode}" if in_time else "hangs"
        self.close()
        self._start()
        return {"fault": fault}

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with contextlib.closing(Reader()) as reader:
        yield reader


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(1, len(data))]


def flip_bit(data: bytes, chance: random.Random) -> bytes:
    changed, bit = bytearray(data), chance.randrange(8 * len(data))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="waits for a pipe with select")
def test_what_ends_the_reading_process_is_noticed(
    reader: Reader, tmp_path: Path, monkeypatch
) -> None:
    endless = READER.replace("seconds = probe", "exec(open(line[:-1]).read()); seconds = probe")
    monkeypatch.setitem(globals(), "READER", endless)
    monkeypatch.setitem(globals(), "LIMIT", 1)
    with contextlib.closing(Reader()) as fragile:
        for code, fault in (("os._exit(3)", "ended with 3"), ("while True: pass", "hangs")):
            (tmp_path / "code").write_text(f"import os\n{code}")
            assert fault in fragile.read(tmp_path / "code")["fault"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="waits for a pipe with select")
@pytest.mark.parametrize("name", FORMATS)
def test_no_cut_or_flipped_file_is_fatal_or_cut_short_in_silence(
    name: str, tmp_path: Path, reader: Reader, encode
) -> None:
    path = encode(tmp_path / f"whole.{name}", 12, **FORMATS[name])
    data, whole, chance = path.read_bytes(), reader.read(path), random.Random(name)
    assert len(whole["frames"]) == 12
    outcomes = Counter()
    for number in range(2 * PER_FORMAT):
        damage = (truncate, flip_bit)[number % 2]
        damaged = tmp_path / f"{damage.__name__}{number}.{name}"
        damaged.write_bytes(damage(data, chance))
        answer = reader.read(damaged)
        assert "fault" not in answer, (damaged, answer)
        if "refused" in answer:
            assert damaged.name in answer["refused"]
            outcome = "refused"
        elif answer == whole:
            outcome = "same"
        else:
            outcome = "times" if answer["seconds"] != whole["seconds"] else "pixels"
        outcomes[damage.__name__, outcome] += 1
        if damage is truncate and outcome != "refused":
            assert name == "ts"
            assert set(answer["seconds"]) < set(whole["seconds"])
    if name == "apng":
        assert outcomes["flip_bit", "refused"] == PER_FORMAT
    else:
        assert outcomes["flip_bit", "times"] <= PER_FORMAT / 4
    if name not in ("gif", "apng"):  # a GIF shows every bit
        assert outcomes["flip_bit", "pixels"] <= PER_FORMAT / 2
