"""Finding frames: little work, few open files, and the right frame in threads and processes."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from vqvideo.media import read_video, video_decoder, write_video


@pytest.fixture(autouse=True)
def close_decoders() -> None:
    video_decoder._clear_idle_decoders()


@pytest.fixture
def decoder_calls(monkeypatch) -> dict[str, int]:
    """How often a decoder jumped and how many frames it delivered."""
    counts = {"_seek": 0, "_decode_next": 0}
    for name in counts:
        original = getattr(video_decoder.VideoDecoder, name)

        def counted(self, *args, name=name, original=original):
            counts[name] += 1
            return original(self, *args)

        monkeypatch.setattr(video_decoder.VideoDecoder, name, counted)
    return counts


def test_clips_that_lie_ahead_are_reached_without_a_jump(
    tmp_path: Path, decoder_calls, encode, read_numbers
) -> None:
    path = encode(tmp_path / "a.mp4", gop=250, options={"x264-params": "scenecut=0"})
    for wanted in ([2, 3], [9], [20, 30]):
        assert read_numbers(read_video(path, wanted).frames) == wanted
    assert decoder_calls["_seek"] == 0
    assert read_numbers(read_video(path, [5]).frames) == [5]
    assert decoder_calls["_seek"] == 1


def test_a_key_frame_on_the_way_is_worth_a_jump_only_when_it_is_far(
    tmp_path: Path, decoder_calls, encode, read_numbers
) -> None:
    path = encode(tmp_path / "a.mp4", gop=10, options={"x264-params": "scenecut=0"})
    assert read_numbers(read_video(path, [8, 9, 10, 11]).frames) == [8, 9, 10, 11]
    assert decoder_calls["_seek"] == 0
    assert read_numbers(read_video(path, [32]).frames) == [32]
    assert decoder_calls["_seek"] == 1
    assert decoder_calls["_decode_next"] < 20


def test_frames_nothing_refers_to_are_left_out_unless_wanted(
    tmp_path: Path, decoder_calls, encode, read_numbers
) -> None:
    how = {"gop": 250, "options": {"bf": "3", "x264-params": "scenecut=0:b-adapt=0:b-pyramid=none"}}
    path = encode(tmp_path / "a.mp4", **how)
    assert read_numbers(read_video(path, [33, 34, 35, 36]).frames) == [33, 34, 35, 36]
    assert decoder_calls["_decode_next"] < 40 / 4 + 8
    assert read_numbers(read_video(path, [37, 30, 31]).frames) == [37, 30, 31]


def test_only_the_files_read_last_stay_open(tmp_path: Path, encode) -> None:
    paths = [encode(tmp_path / f"{n}.mp4", 3) for n in range(video_decoder.MAX_IDLE_DECODERS + 4)]
    for path in paths:
        read_video(path)
    assert [decoder.index.path for decoder in video_decoder._idle_decoders] == paths[
        -video_decoder.MAX_IDLE_DECODERS :
    ]


def test_a_file_with_one_key_frame_is_read_at_several_places(
    tmp_path: Path, decoder_calls, encode, read_numbers
) -> None:
    path = encode(tmp_path / "a.mp4", 240, gop=500, options={"x264-params": "scenecut=0"})
    for wanted in ([2], [100], [200]):
        assert read_numbers(read_video(path, wanted).frames) == wanted
    assert len(video_decoder._idle_decoders) == 3
    before = decoder_calls["_decode_next"]
    for wanted in ([112], [14], [212], [26], [124]):  # beyond what is decoded already
        assert read_numbers(read_video(path, wanted).frames) == wanted
    assert decoder_calls["_decode_next"] - before < 12 * 5 + 10
    assert len(video_decoder._idle_decoders) == 3


def test_a_file_that_changed_is_opened_anew(tmp_path: Path, encode, read_numbers) -> None:
    path = encode(tmp_path / "a.mp4", 30)
    assert read_numbers(read_video(path, [7, 20]).frames) == [7, 20]
    encode(tmp_path / "b.mp4", 35).replace(path)
    assert read_numbers(read_video(path, [34, 8]).frames) == [34, 8]


def test_threads_do_not_share_a_decoder(tmp_path: Path, encode, read_numbers) -> None:
    path = encode(tmp_path / "a.mp4")
    generator = random.Random(0)
    wanted = [sorted(generator.choices(range(40), k=4)) for _ in range(60)]
    with ThreadPoolExecutor(4) as pool:
        read = pool.map(lambda chosen: read_numbers(read_video(path, chosen).frames), wanted)
        assert list(read) == wanted


class Frames(torch.utils.data.Dataset):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 40

    def __getitem__(self, number: int) -> torch.Tensor:
        return read_video(self.path, [number]).frames


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_worker_processes_leave_the_file_of_their_parent_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    noise = torch.rand(3, 40, 96, 128, generator=torch.manual_seed(0)) * 2 - 1
    write_video(path, noise, 10, keyframe_interval=40)
    assert path.stat().st_size > 10 * 32_768  # much more than is read at a time
    expected = read_video(path).frames
    read_video(path, [0])  # stays open over the fork, near its start
    loader = DataLoader(Frames(path), batch_size=None, num_workers=2)
    for number, frame in enumerate(loader):
        assert torch.equal(frame, expected[:, [number]])
        assert torch.equal(read_video(path, [number]).frames, expected[:, [number]])


GROWTH = """
import random, sys
from pathlib import Path
import torch
from vqvideo.media import read_video

folder, backend = Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
paths, long = sorted(folder.glob("short*.mp4")), folder / "long.mp4"
numbers = random.Random(0)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def read_short(times):
    for number in range(times):
        read_video(paths[number % len(paths)], [3, 5], size=(16, 24), backend=backend)

def read_long(times):
    for _ in range(times):
        start = numbers.randrange(284)
        read_video(long, range(start, start + 16), size=(16, 24), backend=backend)

for read, times in ((read_short, 500), (read_long, 300)):
    read(100)  # fills the idle decoders
    before = resident()
    read(times)
    print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_reading_again_and_again_takes_no_more_memory(backend: str, tmp_path: Path, encode) -> None:
    pytest.importorskip(backend.replace("pyav", "av"))
    for number in range(video_decoder.MAX_IDLE_DECODERS + 2):  # so that each read opens its file
        encode(tmp_path / f"short{number}.mp4", 24)
    encode(tmp_path / "long.mp4", 300, size=(72, 96), gop=16)
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path), backend],
        capture_output=True,
        text=True,
        check=True,
    )
    grown = [float(line) for line in done.stdout.split()]
    assert len(grown) == 2
    assert max(grown) < 10, f"MiB after 500 opens, after 300 clips: {grown}"
