"""A new plugin: a project of one part, whose tests pass as it is.

The part is copied as it stands in this folder, one file per kind; what else a project needs is
written here.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
from pathlib import Path

from vqvideo.models import REGISTRIES
from vqvideo.plugins import API_GROUP, API_VERSION, KINDS

PARTS = {
    "model": "my_model",
    "encoder": "MyEncoder",
    "decoder": "MyDecoder",
    "quantizer": "MyQuantizer",
    "prior": "MyPrior",
    "likelihood": "MyLikelihood",
}
WITH_RANK = ("encoder", "decoder", "prior")  # built for one rank at a time
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1"
description = "{a_kind} for vqvideo"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["vqvideo"]

[project.optional-dependencies]
dev = ["pytest"]

[project.entry-points."vqvideo.{kind}s"]
{name} = "{package}:{part}"

[project.entry-points."{group}"]
{version} = "{package}"  # the version of vqvideo's plugin interface that this is built for

[tool.hatch.build.targets.wheel]
packages = ["src/{package}"]

[tool.pytest.ini_options]
pythonpath = ["src"]
"""

README = """\
# {name}

{a_kind} for vqvideo, in `src/{package}/__init__.py`.

```bash
pip install -e '.[dev]'
pytest              # the laws that every {kind} keeps
vqvideo plugins     # lists it
```

{use}
"""

TEST = """\
from vqvideo.testing import check_{kind}

from {package} import {part}


def test_the_{kind}_keeps_all_laws():
    check_{kind}({part})
"""

TEST_OF_EVERY_RANK = """\
import pytest

from vqvideo.testing import check_{kind}

from {package} import {part}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_{kind}_keeps_all_laws(rank):
    check_{kind}({part}, rank=rank)
"""


def new_plugin(name: str, *, kind: str = "quantizer", out: str | Path | None = None) -> Path:
    """Write a project that adds one part to vqvideo.

    Args:
        name: of the part and of the project.
        kind: of part: model, encoder, decoder, quantizer, prior or likelihood.
        out: the folder to make; None takes the name.

    Returns:
        The folder: pyproject.toml, README.md, src/ and tests/.

    Raises:
        FileExistsError: the folder exists.
        ValueError: another kind; a name with other characters, or one that a part or an
            importable module has already.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not NAME.fullmatch(name):
        raise ValueError(
            f"a plugin's name is made of lower-case letters a-z, digits and single hyphens, and "
            f"begins with a letter, as my-quantizer; got {name!r}"
        )
    folder = Path(name if out is None else out)
    if folder.exists():  # before the name, which an installed project has taken itself
        raise FileExistsError(f"{folder} exists; choose another folder (--out)")
    _check_free(name, kind)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        for file, text in _files(name, kind).items():
            (temporary / file).parent.mkdir(parents=True, exist_ok=True)
            (temporary / file).write_text(text, encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _check_free(name: str, kind: str) -> None:
    if name in REGISTRIES[kind].names():
        raise ValueError(f"there is a {kind} {name!r} already; choose another name")
    package = _package(name)
    if keyword.iskeyword(package) or importlib.util.find_spec(package):
        raise ValueError(
            f"the plugin's module would be called {package!r}, and Python has another meaning or "
            f"module of that name; choose another name"
        )


def _package(name: str) -> str:
    return name.replace("-", "_")


def _files(name: str, kind: str) -> dict[str, str]:
    """What the project holds: text of each file."""
    package, part = _package(name), PARTS[kind]
    words = {"name": name, "kind": kind, "package": package, "part": part}
    a_kind = f"{'An' if kind == 'encoder' else 'A'} {kind}"
    test = TEST_OF_EVERY_RANK if kind in WITH_RANK else TEST
    use = f'`vqvideo.build("image", {kind}="{name}")` builds a model with it.'
    if kind == "model":
        use = f'`vqvideo.build("{name}")` builds it.'
    return {
        "pyproject.toml": PYPROJECT.format(
            group=API_GROUP, version=API_VERSION, a_kind=a_kind, **words
        ),
        "README.md": README.format(use=use, a_kind=a_kind, **words),
        f"src/{package}/__init__.py": Path(__file__).with_name(f"{kind}.py").read_text("utf-8"),
        f"tests/test_{package}.py": test.format(**words),
    }
