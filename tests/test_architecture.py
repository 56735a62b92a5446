"""The floors of the house: who may import whom."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vqvideo"

FLOORS = [
    [
        "version",
        "identity",
        "plugins",
        "registry",
        "grid",
        "cond",
        "metrics",
        "spectra",
        "modes",
        "processes",
        "media",
        "hub",
    ],
    ["quantizers", "nets", "sampling", "data"],
    ["priors"],
    ["likelihoods"],
    ["vqvae", "entropy", "score"],
    ["generator"],
    ["config", "formats"],
    ["presets", "checkpoint", "testing"],
    ["models", "training", "report", "card"],
    ["jobs", "demo"],
    ["cli"],
]
NAMED = {  # rooms of the lower floors name what they may import
    **{room: set() for room in FLOORS[0]},
    "plugins": {"version"},
    "registry": {"identity", "plugins", "version"},
    "quantizers": {"registry", "metrics", "processes"},
    "nets": {"registry", "grid", "cond", "spectra"},
    "sampling": {"cond", "modes"},
    "data": {"media", "grid", "cond"},
    "priors": {"registry", "grid", "cond", "modes", "quantizers", "nets", "sampling"},
    "likelihoods": {"registry", "processes", "cond", "spectra", "modes", "sampling", "priors"},
}
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FACE = {"__init__", "__main__"}  # the public names and `python -m`: they may import everything


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def may_import(room: str) -> set[str]:
    below = {other for other, floor in FLOOR_OF.items() if floor < FLOOR_OF[room]}
    return NAMED.get(room, below)


def imported_rooms(path: Path) -> list[str]:
    rooms = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path} uses a relative import, which hides its room")
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "vqvideo":
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vqvideo."):
            names = [node.module.split(".")[1]]
        elif isinstance(node, ast.Import):
            names = [a.name.split(".")[1] for a in node.names if a.name.startswith("vqvideo.")]
        rooms += names
    return rooms


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if room_of(path) not in FACE]


def test_every_file_stands_in_a_room_of_the_table():
    assert {room_of(path) for path in FILES} == set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_floors_as_the_table_says(path):
    room = room_of(path)
    for target in imported_rooms(path):
        assert target == room or target in may_import(room), f"{path} may not import {target}"


def test_the_page_on_architecture_shows_this_table():
    rows = re.findall(
        r"^\| (\d+) \| `(\w+)` \|.*\| (.+) \|$",
        (ROOT / "docs" / "architecture.md").read_text(),
        flags=re.MULTILINE,
    )
    shown = {room: (int(floor), allowed) for floor, room, allowed in rows}
    assert set(shown) == set(FLOOR_OF)
    for room, (floor, allowed) in shown.items():
        assert floor == FLOOR_OF[room], room
        if room in NAMED:
            listed = set() if allowed == "–" else set(allowed.split(", "))
        else:
            last = int(allowed.removeprefix("floors 0–"))
            listed = {other for other, height in FLOOR_OF.items() if height <= last}
        assert listed == may_import(room), room


def test_no_file_of_the_package_is_long():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 400, path
