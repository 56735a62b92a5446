"""Every block of the README runs, as written but shorter, and what it says is so."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vqvideo import media
from vqvideo.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHORTER = {"--num-episodes": "4", "--steps": "1"}
OVER = {command: ["--overwrite"] for command in ("convert-speaker", "phonemes")}


def find_code_blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_python_blocks_run_one_after_the_other(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in find_code_blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["clip"].shape == (1, 3, 16, 64, 64)
    assert names["codes"].shape == (1, 4, 16, 16)
    assert names["longer"].shape == (1, 3, 16, 64, 64)


@pytest.mark.slow
def test_what_the_page_on_speech_shows_runs(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    pitch = torch.sin(torch.arange(34000) * 0.05)[None] * 0.3
    media.write_audio("IN.wav", pitch, 16000)
    for folder, speakers in (("data/an4", ("mblb", "fbbh")), ("data/an4-unseen", ("fejs",))):
        Path(folder).mkdir(parents=True)
        rows = []
        for number in range(4):
            row = {"file": f"{number}.flac", "split": "train" if number < 2 else "test"}
            row |= {"speaker": speakers[number % len(speakers)], "segments": [[0.1, 2, "AA"]]}
            media.write_audio(Path(folder, row["file"]), pitch * (1 - number / 10), 16000)
            rows.append(json.dumps(row) + "\n")
        Path(folder, "metadata.jsonl").write_text("".join(rows))
    page = (ROOT / "docs" / "speech.md").read_text()
    for block in find_code_blocks("bash", page):
        for line in block.splitlines():
            arguments = shlex.split(line)[1:]
            for option, value in SHORTER.items():
                if option in arguments:
                    arguments[arguments.index(option) + 1] = value
            assert main([*arguments, *OVER.get(arguments[0], [])]) == 0, line
    names = {}
    for block in find_code_blocks("python", page):
        exec(compile(block, "speech.md", "exec"), names)
    assert names["audio"].shape == (1, 1, 16000)
    assert media.read_audio("outputs/on.wav").samples.shape == (1, 64000)


@pytest.mark.slow
def test_the_shell_blocks_run_one_after_the_other(monkeypatch, tmp_path):
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in find_code_blocks("bash") for line in block.splitlines()]
    ran = 0
    for line in lines:
        program, *arguments = shlex.split(line)
        if program != "vqvideo":
            known = ("pip install", "pytest", "python tools/")
            assert line.startswith(known), f"no test runs this line: {line}"
            continue
        for option, value in SHORTER.items():
            if option in arguments:
                arguments[arguments.index(option) + 1] = value
        assert main(arguments) == 0, line
        ran += 1
    assert ran == 4
    assert media.probe("outputs/mine.mp4").num_frames == 16


def test_every_link_to_a_file_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_import_is_quick_and_brings_in_nothing_that_is_slow():
    code = (
        "import sys, vqvideo; vqvideo.build, vqvideo.load; "
        "slow = ('timm', 'torchvision', 'decord', 'accelerate', 'matplotlib', 'vizdoom'); "
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_import_takes_at_most_a_third_of_a_second_more_than_torch():
    code = (
        "import time, torch; start = time.perf_counter(); "
        "import vqvideo; vqvideo.build; print(time.perf_counter() - start)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.3, seconds


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(tmp_path):
    """Built without the network, unpacked elsewhere, run with nothing of this folder in sight."""
    pytest.importorskip("hatchling")
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", "outputs", "runs", "__pycache__")
    )
    build = "from hatchling.build import build_wheel; print(build_wheel('..'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True
    )
    wheel = tmp_path / done.stdout.split()[-1]
    installed = tmp_path / "installed"
    shutil.unpack_archive(wheel, installed, format="zip")
    assert (installed / "vqvideo" / "recipes" / "worlds" / "play" / "page.html").is_file()
    (tmp_path / "away").mkdir()
    code = f"import sys; sys.path.insert(0, {str(installed)!r}); from vqvideo.cli import main; "
    code += f"import vqvideo; assert vqvideo.__file__.startswith({str(installed)!r}); "
    code += "raise SystemExit(main(['generate', '--num-frames', '9']))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path / "away", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "away" / "outputs" / "clip.mp4").is_file()
