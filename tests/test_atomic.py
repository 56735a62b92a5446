"""Files and folders are written whole or not at all, by any number of writers at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import atomic, media
from vqvideo.atomic import TEMPORARY_DIR, lock_folder, replace_file, temporary_folder, write_text
from vqvideo.checkpoint import CHECKPOINT_FILES

TINY = {"sample_shape": (8, 12), "encoder": {"width": 8, "num_blocks": 1}}
TINY |= {"decoder": {"width": 8, "num_blocks": 1}, "quantizer": {"codebook_size": 7}}
TINY |= {"prior": {"width": 8, "num_layers": 1}}
KILLED = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("atomic", sys.argv[1])
atomic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(atomic)
with atomic.replace_file(sys.argv[2]) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kill_a_writer(path: Path) -> None:
    """Let a process die, without a chance to clean up, while it writes a file."""
    command = [sys.executable, "-c", KILLED, atomic.__file__, str(path)]
    assert subprocess.run(command, check=False).returncode == 9
    assert TEMPORARY_DIR in list_names(path.parent)


def run_threads(*functions: Callable[[], object]) -> None:
    errors: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_file_is_replaced_at_the_end_or_stays_as_it_was(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old\n")
    with pytest.raises(KeyboardInterrupt), replace_file(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old\n"
    with replace_file(file) as temporary:
        temporary.write_text("new")
        assert temporary.name == "a.txt"
        assert file.read_text() == "old\n"
    assert file.read_text() == "new"
    assert list_names(tmp_path) == ["a.txt"]


def test_a_name_of_any_length_is_written(tmp_path):
    write_text(tmp_path / ("n" * 255), "x")
    assert list_names(tmp_path) == ["n" * 255]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_of_a_living_one(tmp_path):
    with temporary_folder(tmp_path) as living:
        (living / "mine").write_text("x")
        kill_a_writer(tmp_path / "a.txt")
        assert len(list_names(tmp_path / TEMPORARY_DIR)) == 2
        write_text(tmp_path / "b.txt", "b")
        assert list_names(tmp_path / TEMPORARY_DIR) == [living.name]
        assert (living / "mine").read_text() == "x"
    assert list_names(tmp_path) == ["b.txt"]


def test_without_locks_only_what_is_a_day_old_is_removed(tmp_path, monkeypatch):
    kill_a_writer(tmp_path / "a.txt")
    monkeypatch.setattr(atomic, "_lock", lambda handle, **options: None)
    write_text(tmp_path / "b.txt", "b")
    (left,) = (tmp_path / TEMPORARY_DIR).iterdir()
    day_ago = time.time() - 25 * 3600
    os.utime(left, (day_ago, day_ago))
    write_text(tmp_path / "c.txt", "c")
    assert left.exists()  # the file in it is new
    os.utime(left / "a.txt", (day_ago, day_ago))
    os.utime(left, (day_ago, day_ago))
    write_text(tmp_path / "d.txt", "d")
    assert list_names(tmp_path) == ["b.txt", "c.txt", "d.txt"]


def test_many_threads_that_write_one_file_leave_one_of_theirs_and_nothing_else(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in containers
    file = tmp_path / "a.txt"
    write_text(file, "00000000" * 500)

    def write(index: int) -> None:
        for _ in range(10):
            write_text(file, f"{index:08}" * 500)
            text = file.read_text()
            assert text == text[:8] * 500

    run_threads(*(lambda index=index: write(index) for index in range(6)))
    assert list_names(tmp_path) == ["a.txt"]


def test_a_locked_folder_excludes_other_threads(tmp_path):
    inside = []

    def enter() -> None:
        with lock_folder(tmp_path):
            inside.append(1)
            time.sleep(0.005)
            assert len(inside) == 1
            inside.pop()

    run_threads(*[enter] * 5)


def test_media_files_are_written_in_the_same_way(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    images = [torch.full((3, 6, 8), value) for value in (-1.0, 1.0)]
    file = tmp_path / "a.png"

    def write(image: torch.Tensor) -> None:
        for _ in range(5):
            media.write_image(file, image, overwrite=True)

    kill_a_writer(file)
    run_threads(*(lambda image=image: write(image) for image in images))
    assert any(torch.equal(media.read_image(file), image) for image in images)
    assert list_names(tmp_path) == ["a.png"]


def build(seed: int) -> vqvideo.Generator:
    torch.manual_seed(seed)
    return vqvideo.build("image", **TINY)


def get_loaded(folder: Path, *generators: vqvideo.Generator) -> int:
    """Return the index of the model that the folder holds, whole."""
    loaded = vqvideo.load(folder).state_dict()
    matches = [
        all(torch.equal(loaded[name], tensor) for name, tensor in generator.state_dict().items())
        for generator in generators
    ]
    return matches.index(True)


def test_two_savers_with_one_process_id_leave_one_whole_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    models, folder = [build(0), build(1)], tmp_path / "m"
    vqvideo.save(models[0], folder)

    def save(model: vqvideo.Generator) -> None:
        for _ in range(4):
            vqvideo.save(model, folder, overwrite=True)

    run_threads(*(lambda model=model: save(model) for model in models))
    get_loaded(folder, *models)
    assert list_names(tmp_path) == ["m"]
    vqvideo.save(models[1], folder, overwrite=True)
    assert get_loaded(folder, *models) == 1


def test_of_two_savers_that_may_not_overwrite_one_saves_and_one_is_refused(tmp_path):
    models, refused = [build(0), build(1)], []

    def save(model: vqvideo.Generator) -> None:
        try:
            vqvideo.save(model, tmp_path / "m")
        except FileExistsError:
            refused.append(model)

    run_threads(*(lambda model=model: save(model) for model in models))
    assert len(refused) == 1
    assert models[get_loaded(tmp_path / "m", *models)] is not refused[0]
    assert list_names(tmp_path) == ["m"]


@pytest.mark.slow
def test_a_checkpoint_can_be_loaded_at_any_time_while_it_is_replaced(tmp_path):
    models, folder = [build(0), build(1)], tmp_path / "m"
    vqvideo.save(models[0], folder)
    is_done = threading.Event()

    def save() -> None:
        for index in range(30):
            vqvideo.save(models[index % 2], folder, overwrite=True)
        is_done.set()

    def load() -> None:
        while not is_done.is_set():
            get_loaded(folder, *models)

    run_threads(save, load, load)


# Forks once per file-system step of a save, and dies at that step.
KILL_AT_EACH_STEP = """
import os, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import torch, vqvideo
from test_atomic import build, get_loaded, list_names
folder, models = Path(sys.argv[1]) / "m", [build(0), build(1)]
vqvideo.save(models[0], folder)
step, status = 0, 1
while status:
    if not (child := os.fork()):
        counter = iter(range(10**6))
        def die(event, args):
            if event.startswith(("os.", "open", "shutil.")) and next(counter) == step:
                os._exit(9)
        sys.addaudithook(die)
        vqvideo.save(models[1], folder, overwrite=True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    found = get_loaded(folder, *models)
    vqvideo.save(models[0], folder, overwrite=True)
    assert get_loaded(folder, *models) == 0, step
    assert list_names(folder.parent) == ["m"], (step, list_names(folder.parent))
    assert set(list_names(folder)) == {"config.json", "model.safetensors"}, step
    step += 1
print(step)
"""

# Saves again and again, with the process id of every other process.
SAVE_OFTEN = """
import os, sys
os.getpid = lambda: 1
from pathlib import Path
import vqvideo
from test_atomic import build
model = build(int(sys.argv[2]))
for _ in range(20):
    vqvideo.save(model, Path(sys.argv[1]) / "m", overwrite=True)
"""


def start(script: str, *args: object) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_save_killed_at_any_step_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    process = start(KILL_AT_EACH_STEP, tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0
    assert int(output) > 20  # steps


@pytest.mark.slow
def test_processes_with_one_id_that_save_to_one_folder_leave_one_whole_checkpoint(tmp_path):
    models = [build(0), build(1)]
    vqvideo.save(models[0], tmp_path / "m")
    processes = [start(SAVE_OFTEN, tmp_path, seed) for seed in (0, 1, 0, 1)]
    while any(process.poll() is None for process in processes):
        get_loaded(tmp_path / "m", *models)
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    get_loaded(tmp_path / "m", *models)
    assert list_names(tmp_path) == ["m"]
    assert set(list_names(tmp_path / "m")) <= set(CHECKPOINT_FILES)


def test_no_temporary_name_is_made_of_the_process_id():
    package = Path(vqvideo.__file__).parent
    users = [file.name for file in package.rglob("*.py") if "getpid" in file.read_text()]
    assert users == ["checkpoint.py"]  # which removes what earlier versions left
