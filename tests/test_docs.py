"""What README and docs/ show is so: blocks run, as written but shorter, or say why they do not.

A block that is not run has a comment `<!-- not run: why -->` on the line before it; lines and pages
that never are stand below, with the reason. Every line of `vqvideo` parses, run or not.
"""

import argparse
import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch

import vqvideo
from vqvideo import media
from vqvideo.cli import _build_parser, main, write_flags

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
NAMES = [str(page.relative_to(ROOT / "docs")) for page in DOCS]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n\n?)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
PAGES_NOT_RUN = {
    "benchmarks.md": "hours, on the data of the figures",
    "data.md": "of archives that are fetched by hand",
    "evaluation.md": "run by tests/test_readme.py",
    "speech.md": "run by tests/test_readme.py",
}
LINES_NOT_RUN = {
    "pip install": "the network",
    "cd ": "of the shell",
    "pytest": "tests of another project",
    "tensorboard": "serves until it is stopped",
    "python tools/benchmark.py": "minutes; tests/benchmarks",
    "vqvideo play": "serves until it is stopped; tests/recipes/play",
    "vqvideo push": "the network; tests/test_hub.py",
    "accelerate launch": "several processes; tests/training",
    "torchrun": "several processes; tests/training",
}
SHORTER = {
    "--steps": "1",
    "--num-episodes": "2",
    "--num-frames": "16",
    "--clip-stride": "40",
    "--batch-size": "4",
    "--num-processes": "1",
}


def split_lines(block):
    """The commands of a block of the shell, whole; what is fed to them is left out."""
    text = re.sub(r"<<'END'.*?^END$", "", block, flags=re.MULTILINE | re.DOTALL)
    text = text.replace("\\\n", " ")
    variables = dict(re.findall(r'^([A-Z]+)="([^"]*)"$', text, re.MULTILINE))
    for line in text.splitlines():
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        line = line.split("  #")[0].strip()
        if line and not re.match(r'[A-Z]+="', line):
            yield line


def parse_arguments(line):
    """What `vqvideo` is told by a command, also where something else starts it; None without."""
    words = shlex.split(line, comments=True)
    for index, word in enumerate(words):
        if word == "vqvideo" and (index == 0 or words[index - 1] == "-m"):
            return words[index + 1 :]
    return None


def shorten(arguments):
    short = list(arguments)
    for option, value in SHORTER.items():
        if option in short:
            short[short.index(option) + 1] = value
    if short[0].startswith("train-") and "--batch-size" not in short:
        short += ["--batch-size", "2"]
    again = short[0].startswith(("train-", "record-"))  # under the name of an earlier line
    return [*short, *(["--overwrite"] if again else [])]


def run_line(line):
    if line.startswith(tuple(LINES_NOT_RUN)):
        return
    arguments = parse_arguments(line)
    assert arguments is not None, f"no test knows how to run this line: {line}"
    assert main(shorten(arguments)) == 0, line


def check_shapes(block, names):
    """`x = ...  # int64 [1, 4]` is true of x; of a list or tuple, each."""
    said = r"^(\w+) = .*#(.*)\[((?:\d+, )*\d+)\]"
    for name, about, sizes in re.findall(said, block, re.MULTILINE):
        values = names[name] if isinstance(names[name], list) else [names[name]]
        for value in values:
            if isinstance(value, torch.Tensor):
                assert list(value.shape) == [int(size) for size in sizes.split(", ")], name
                assert "int64" not in about or value.dtype == torch.int64, name


def save_shipped(name, folder):
    vqvideo.save(vqvideo.build(name, pretrained=True), folder)


def write_noise(folder, number=2, frames=16):
    """Clips of noise, the last of them held out."""
    Path(folder).mkdir(parents=True)
    draw = torch.Generator().manual_seed(0)
    for index in range(number):
        clip = torch.rand(3, frames, 64, 64, generator=draw) * 2 - 1
        media.write_video(f"{folder}/{index}.mp4", clip, fps=8)


def require_modules(*modules):
    for module in modules:
        pytest.importorskip(module)


# What a page takes for granted. Tutorials take nothing: a reader begins there.
SETUP = {
    "files.md": lambda: write_noise("FOLDER"),
    "images.md": lambda: require_modules("vizdoom"),
    "tutorials/long_video.md": lambda: write_noise("FOLDER"),
    "tutorials/many_machines.md": lambda: write_noise("FOLDER"),
    "play.md": lambda: (
        require_modules("vizdoom"),
        main(["record-maze", "--out", "data/maze", "--num-episodes", "1"]),
    ),
    "training.md": lambda: (write_noise("FOLDER"), save_shipped("video", "runs/maze")),
    "tutorials/actions.md": lambda: require_modules("vizdoom"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in PAGES_NOT_RUN])
def test_what_a_page_shows_runs(name, monkeypatch, tmp_path):
    blocks = [
        found for found in BLOCK.finditer((ROOT / "docs" / name).read_text()) if not found["why"]
    ]
    blocks = [found for found in blocks if found["language"] in ("python", "bash")]
    if not blocks:
        return
    monkeypatch.chdir(tmp_path)
    SETUP.get(name, lambda: None)()
    names = {}
    for found in blocks:
        if found["language"] == "python":
            exec(compile(found["text"], name, "exec"), names)
            check_shapes(found["text"], names)
        else:
            for line in split_lines(found["text"]):
                run_line(line)


@pytest.mark.parametrize("name", NAMES)
def test_every_block_of_code_says_its_language(name):
    known = ("python", "bash", "toml", "json", "text", "")
    for found in BLOCK.finditer((ROOT / "docs" / name).read_text()):
        language = found["language"]
        assert language in known or language.startswith("{"), found.group()
        if language == "toml":
            tomllib.loads(found["text"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../README.md", *NAMES])
def test_every_line_of_vqvideo_parses(name):
    page = (ROOT / "docs" / name).read_text()
    for found in BLOCK.finditer(page):
        for line in split_lines(found["text"]) if found["language"] == "bash" else []:
            arguments = parse_arguments(line)
            if arguments is not None:
                unknown = _build_parser(None).parse_known_args(arguments)[1]
                assert not unknown, line


def list_names(path):
    """All that a file of Python defines, members of classes as `Class.member`."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, defined):
            yield node.name
            yield from (
                f"{node.name}.{each.name}" for each in node.body if isinstance(each, defined)
            )


def test_the_code_beside_the_paper_is_there():
    page = (ROOT / "docs" / "paper.md").read_text()
    shown = re.findall(r"^```{literalinclude} (\S+)\n:pyobject: (\S+)$", page, re.MULTILINE)
    assert len(shown) > 15
    for path, name in shown:
        assert name in list_names(ROOT / "docs" / path), f"{path} has no {name}"


def list_messages():
    """Every text of the source, with … where a value is put in."""
    for path in (ROOT / "vqvideo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", None) for part in node.values]
                yield "".join(part if isinstance(part, str) else "…" for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.slow
def test_the_messages_on_the_page_of_failures_are_those_of_the_source():
    page = (ROOT / "docs" / "failures.md").read_text()
    quoted = re.findall(r"^> `([^`]+)`$", page, re.MULTILINE)
    assert len(quoted) > 40
    known = re.sub("[`…]+", "…", "\n".join(map(write_flags, list_messages())))
    gone = [message for message in quoted if message not in known]
    assert not gone, f"no message of the source reads so: {gone}"


def test_every_link_of_the_pages_leads_somewhere():
    for page in DOCS:
        text = re.sub(r"```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
            assert (page.parent / target).exists(), f"{page}: {target}"


def find_parser(words):
    """That of the command which some words begin with; `words` keeps what follows it."""
    parser = _build_parser(None)
    while True:
        kinds = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not kinds or not words:
            return parser
        assert words[0] in kinds[0].choices, f"there is no command {words[0]!r}"
        parser = kinds[0].choices[words.pop(0)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../README.md", *NAMES])
def test_every_option_in_a_sentence_is_one_of_its_command(name):
    text = re.sub(r"^```.*?^```", "", (ROOT / "docs" / name).read_text(), flags=re.M | re.S)
    for span in re.findall(r"`vqvideo ([a-z][^`]*)`", text):
        words = span.split()
        known = find_parser(words)._option_string_actions
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0].rstrip(",;") in known, f"vqvideo {span}: no {word}"
