"""Files from outside, damaged and forged at random with fixed seeds: none is fatal.

Every reader of such files runs in a process of its own. For each file

- it answers within `LIMIT` seconds, and the process survives;
- its memory grows by less than `MAX_GROWTH` bytes;
- it gives a result, or raises an exception that docs/security.md names, with a message of
  bounded length that can be printed.

The small media files of `tests/media/test_fuzz.py` are also compared with what they were.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import random
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vqvideo.data.codes import CodeClip, CodeHeader, PackedClip, write_codes
from vqvideo.data.metadata import Item, Segment, write_metadata
from vqvideo.data.packing import pack_codes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="waits for a pipe with select"),
]

LIMIT = 5  # seconds for one file; also the start of a reader's second process is not counted
MAX_GROWTH = 1 << 30  # bytes
MAX_MESSAGE = 5000  # characters
FILES_PER_KIND = 40  # of each container, and of each reader of other files

READERS = {
    "video": "media.read_video(path, size=(32, 48)); media.probe(path)",
    "chunks": "[x.shape for x in media.read_video_chunks(path, frames_per_chunk=4, size=(32, 48))]",
    "image": "media.read_image(path, size=(32, 48)); media.read_image(path)",
    "audio": "media.read_audio(path, sample_rate=8000)",
    "clips": """
data = ClipDataset(path, (4, 32, 48), max_corrupt=1.0)
with contextlib.suppress(media.MediaError):
    [data[index] for index in range(len(data))]
""",
    "metadata": "read_metadata(path, ('.mp4', '.png'))",
    "actions": "read_frame_actions(path, 0, 4)",
    "codes": """
file = CodeFile(path)
for index in range(len(file)):
    with contextlib.suppress(CodeFileError):
        file.get_codes(index)
    with contextlib.suppress(CodeFileError):
        file.get_actions(index) if file.has_actions(index) else None
""",
    "checkpoint": "vqvideo.load(path)",
    "record": "OutputRecord(path, 'decode')",
    "upload": "read_start_frames(path, 'this file', (32, 48), 2)",
}
DOCUMENTED = {
    "video": "MediaError",
    "chunks": "MediaError",
    "image": "MediaError",
    "audio": "MediaError",
    "clips": "MediaError ValueError TooManyCorruptError",
    "metadata": "ValueError",
    "actions": "ValueError",
    "codes": "CodeFileError",
    "checkpoint": "CheckpointError",
    "record": "ValueError",
    "upload": "ValueError",
}

CHILD = """
import contextlib, json, resource, sys
from pathlib import Path
import torch
import vqvideo
from vqvideo import media
from vqvideo.commands.output_record import OutputRecord
from vqvideo.data.actions import read_frame_actions
from vqvideo.data.clips import ClipDataset
from vqvideo.data.codes import CodeFile, CodeFileError
from vqvideo.data.metadata import read_metadata
from vqvideo.recipes.worlds.play.starts import read_start_frames

torch.set_num_threads(1)
name, code = sys.argv[1:]
reader = compile(code, name, "exec")
out, sys.stdout = sys.stdout, sys.stderr
print("ready", file=out, flush=True)
for line in sys.stdin:
    path = Path(json.loads(line))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        exec(reader, {**globals(), "path": path})
        answer = {"type": None}
    except Exception as error:
        answer = {"type": type(error).__name__, "message": str(error)}
    answer["growth"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(json.dumps(answer), file=out, flush=True)
"""


class Reader:
    """A process that reads one file after another; it is started again after it died."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, self.name, READERS[self.name]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def check(self, path: Path) -> str | None:
        """Return the type of the exception or None; fail unless the answer is as documented."""
        self.process.stdin.write(f"{json.dumps(str(path))}\n")
        self.process.stdin.flush()
        in_time = select.select([self.process.stdout], [], [], LIMIT)[0]
        line = self.process.stdout.readline() if in_time else ""
        if not line:
            self.close()
            fault = f"ended with {self.process.returncode}" if in_time else f"took over {LIMIT} s"
            self._start()
            pytest.fail(f"{self.name} {fault}: {path}")
        answer = json.loads(line)
        assert answer["growth"] < MAX_GROWTH, (self.name, path, answer)
        if answer["type"] is not None:
            assert answer["type"] in DOCUMENTED[self.name].split(), (self.name, path, answer)
            assert 0 < len(answer["message"]) < MAX_MESSAGE, (self.name, path, answer)
        return answer["type"]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def start_reader() -> Iterator[Callable[[str], Reader]]:
    """Start the process of a reader, which serves all tests."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(contextlib.closing(Reader(name))))


def flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(1, len(data)) :]


def write_extreme(data: bytearray, chance: random.Random) -> None:
    """Overwrite a field of 1, 2, 4 or 8 bytes with a number at the edge of its range."""
    width = chance.choice((1, 2, 4, 8))
    top = 256**width - 1
    value = chance.choice((0, 1, top, top - 1, top // 2, top // 2 + 1))
    at = chance.randrange(min(len(data), chance.choice((64, 512, len(data)))))
    data[at : at + width] = value.to_bytes(width, chance.choice(("big", "little")))


def repeat_block(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    block = data[start : start + chance.choice((1, 16, 256, 4096))]
    at = chance.randrange(len(data))
    data[at:at] = block * chance.choice((1, 2, 50))


def delete_block(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.choice((1, 4, 64, 1024))]


def write_noise(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    block = chance.randbytes(chance.choice((4, 64, 1024)))
    data[start : start + len(block)] = block


DAMAGES = (
    flip_bits,
    truncate,
    write_extreme,
    write_extreme,
    repeat_block,
    delete_block,
    write_noise,
)


def damage(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        if len(data) > 1:
            chance.choice(DAMAGES)(data, chance)
    return bytes(data)


HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**30, -(10**12), 10**9, 2**63,
    "", "a" * 100_000, "../../x", "C:\\x", "\ud800",
    [], {}, [[]], {"a": {}}, [10**9] * 1000, [1] * 100_000,
)  # fmt: skip


def forge(document: Any, chance: random.Random) -> str:
    """Replace, remove, double or nest one value of a JSON document at random."""
    document = json.loads(json.dumps(document))
    places = list(iter_places(document))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        parent, key = chance.choice(places)
        kind = chance.randrange(6)
        if kind == 0 and isinstance(parent, dict):
            parent.pop(key, None)
            parent[chance.choice(("unknown", "name", "__class__", ""))] = 1
        elif kind == 1 and isinstance(parent, list):
            parent.extend(parent * chance.choice((1, 100)))
        elif not isinstance(parent, list) or key < len(parent):
            parent[key] = chance.choice(HOSTILE_VALUES)
    text = json.dumps(document)
    if chance.random() < 0.05:
        text = text.replace(": ", ": " + "[" * 100_000, 1)
    return text


def iter_places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in list(items):
        yield value, key
        if isinstance(child, dict | list):
            yield from iter_places(child)


VIDEO_KINDS = {
    "mp4": ("libx264", "yuv420p"),
    "mov": ("mpeg4", "yuv420p"),
    "mkv": ("libx264", "yuv420p"),
    "webm": ("libvpx-vp9", "yuv420p"),
    "avi": ("mpeg4", "yuv420p"),
    "ts": ("mpeg2video", "yuv420p"),
    "mpg": ("mpeg1video", "yuv420p"),
    "flv": ("flv", "yuv420p"),
    "wmv": ("wmv2", "yuv420p"),
    "ogv": ("libtheora", "yuv420p"),
    "gif": ("gif", "rgb8"),
    "apng": ("apng", "rgb24"),
}
AUDIO_KINDS = {
    "wav": "pcm_s16le",
    "aiff": "pcm_s16be",
    "au": "pcm_s16be",
    "caf": "pcm_s16be",
    "w64": "pcm_s16le",
    "flac": "flac",
    "mp3": "libmp3lame",
    "ogg": "libvorbis",
    "opus": "libopus",
    "m4a": "aac",
}
IMAGE_KINDS = ("png", "jpg", "webp", "bmp", "tif", "gif", "avif")


def write_video(path: Path, codec: str, pix_fmt: str, num_frames: int = 12) -> bytes:
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg cannot write {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pix_fmt
        for number in range(num_frames):
            pixels = np.full((48, 64, 3), 20 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def write_audio(path: Path, codec: str) -> bytes:
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg cannot write {codec}")
    tone = np.sin(np.arange(9600) / 10)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        resampler = av.AudioResampler(stream.format, "mono", 48_000, stream.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray((tone * 9000).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = 48_000
        for each in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(each))
        container.mux(stream.encode(None))
    return path.read_bytes()


def write_image(path: Path) -> bytes:
    pixels = np.arange(40 * 56 * 3, dtype=np.uint8).reshape(40, 56, 3)
    stream = io.BytesIO()
    kind = {"jpg": "jpeg", "tif": "tiff"}.get(path.suffix[1:], path.suffix[1:])
    try:
        Image.fromarray(pixels).save(stream, kind)
    except (OSError, KeyError, ValueError):
        pytest.skip(f"this build of Pillow cannot write {kind}")
    return stream.getvalue()


def check_damaged(reader: Reader, path: Path, content: bytes, count: int = FILES_PER_KIND) -> None:
    path.write_bytes(content)
    assert reader.check(path) is None, "the file itself must be read"
    chance = random.Random(path.name)
    for _ in range(count):
        path.write_bytes(damage(content, chance))
        reader.check(path)


@pytest.mark.parametrize("kind", VIDEO_KINDS)
def test_damaged_videos_are_read_or_refused_by_name(kind, tmp_path, start_reader):
    content = write_video(tmp_path / f"whole.{kind}", *VIDEO_KINDS[kind])
    check_damaged(start_reader("video"), tmp_path / f"video.{kind}", content)
    check_damaged(start_reader("chunks"), tmp_path / f"chunks.{kind}", content, FILES_PER_KIND // 4)


@pytest.mark.parametrize("kind", AUDIO_KINDS)
def test_damaged_audio_is_read_or_refused_by_name(kind, tmp_path, start_reader):
    content = write_audio(tmp_path / f"whole.{kind}", AUDIO_KINDS[kind])
    check_damaged(start_reader("audio"), tmp_path / f"audio.{kind}", content)


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_damaged_images_are_read_or_refused_by_name(kind, tmp_path, start_reader):
    content = write_image(tmp_path / f"image.{kind}")
    check_damaged(start_reader("image"), tmp_path / f"image.{kind}", content)


def test_a_data_set_of_damaged_files_counts_them(tmp_path, start_reader):
    reader, chance = start_reader("clips"), random.Random(0)
    contents = {}
    for kind in ("mp4", "mkv", "gif"):
        contents[kind] = write_video(tmp_path / f"whole.{kind}", *VIDEO_KINDS[kind])
    for number in range(FILES_PER_KIND // 4):
        folder = tmp_path / str(number)
        folder.mkdir()
        for kind, content in contents.items():
            (folder / f"whole.{kind}").write_bytes(content)
            (folder / f"damaged.{kind}").write_bytes(damage(content, chance))
        assert reader.check(folder) is None


@pytest.mark.parametrize("kind", ["mp4", "png", "gif"])
def test_damaged_uploads_are_answered(kind, tmp_path, start_reader):
    path = tmp_path / f"upload.{kind}"
    content = write_image(path) if kind == "png" else write_video(path, *VIDEO_KINDS[kind])
    check_damaged(start_reader("upload"), path, content, FILES_PER_KIND // 2)


def test_damaged_and_forged_metadata_is_refused_by_line(tmp_path, start_reader):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"\0")
    np.save(tmp_path / "a.actions.npy", np.arange(4))
    segments = (Segment(0.0, 0.5, "x"), Segment(0.5, 1.0, "y"))
    items = [
        Item(tmp_path / "a.mp4", "train", "c", "s", tmp_path / "a.actions.npy", segments),
        Item(tmp_path / "b.mp4", "test", "d", "t"),
    ]
    path = write_metadata(tmp_path, items)
    content = path.read_bytes()
    rows = [json.loads(line) for line in content.splitlines()]
    reader, chance = start_reader("metadata"), random.Random(0)
    assert reader.check(tmp_path) is None
    for number in range(4 * FILES_PER_KIND):
        forged = "\n".join(forge(row, chance) for row in rows).encode(errors="surrogatepass")
        path.write_bytes(forged if number % 2 else damage(content, chance))
        reader.check(tmp_path)


@pytest.mark.parametrize("shape", [(4,), (4, 3)], ids=["ids", "vectors"])
def test_damaged_actions_are_refused_by_name(shape, tmp_path, start_reader):
    path, dtype = tmp_path / "a.actions.npy", "int64" if len(shape) == 1 else "float32"
    np.save(path, np.arange(math.prod(shape), dtype=dtype).reshape(shape))
    reader, content, chance = start_reader("actions"), path.read_bytes(), random.Random(0)
    assert reader.check(path) is None
    for _ in range(FILES_PER_KIND):
        path.write_bytes(damage(content, chance))
        reader.check(path)


def get_header(content: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def join_header(header: str, rest: bytes) -> bytes:
    text = header.encode(errors="surrogatepass")
    return len(text).to_bytes(8, "little") + text + rest


def test_damaged_and_forged_code_files_are_refused_by_name(tmp_path, start_reader):
    path = tmp_path / "codes-a.safetensors"
    header = CodeHeader(codebook_size=8, num_codebooks=1, downsampling=(1, 2, 3), fingerprint="f")
    clips = [
        PackedClip(
            CodeClip(source=f"{name}.mkv", start=0, length=4, grid=(4, 2, 3), rate=8.0),
            pack_codes(torch.arange(24) % 8, header.bits),
            torch.tensor([1, 2, 3, 0]),
        )
        for name in "ab"
    ]
    write_codes(path, header, clips)
    check_damaged(start_reader("codes"), path, path.read_bytes(), 4 * FILES_PER_KIND)
    write_codes(path, header, clips)
    outer, rest = get_header(path.read_bytes())
    reader, chance = start_reader("codes"), random.Random(1)
    for _ in range(2 * FILES_PER_KIND):
        path.write_bytes(join_header(forge(outer, chance), rest))
        reader.check(path)


def test_damaged_and_forged_checkpoints_are_refused_by_name(tmp_path, start_reader, small_model):
    folder, chance = tmp_path / "model", random.Random(0)
    shutil.copytree(small_model, folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    whole = {file: file.read_bytes() for file in (config, weights)}
    document, (outer, rest) = json.loads(whole[config]), get_header(whole[weights])
    reader = start_reader("checkpoint")
    assert reader.check(folder) is None
    for number in range(3 * FILES_PER_KIND):
        if number % 3 == 0:
            config.write_bytes(forge(document, chance).encode(errors="surrogatepass"))
        elif number % 3 == 1:
            weights.write_bytes(join_header(forge(outer, chance), rest))
        else:
            file = chance.choice((config, weights))
            file.write_bytes(damage(whole[file], chance))
        reader.check(folder)
        for file, content in whole.items():
            file.write_bytes(content)


def test_damaged_records_of_outputs_are_refused_or_ignored(tmp_path, start_reader):
    from vqvideo.commands.output_record import OutputRecord

    record = OutputRecord(tmp_path, "decode")
    record.start()
    with record.replace(tmp_path / "a.bin", "r") as temporary:
        temporary.write_bytes(b"a")
    reader, content, chance = start_reader("record"), record.path.read_bytes(), random.Random(0)
    assert reader.check(tmp_path) is None
    rows = [json.loads(line) for line in content.splitlines()]
    for number in range(FILES_PER_KIND):
        forged = "\n".join(forge(row, chance) for row in rows).encode(errors="surrogatepass")
        record.path.write_bytes(forged if number % 2 else damage(content, chance))
        reader.check(tmp_path)
