"""Create a plugin project with one part, whose tests pass from the start.

The part is copied from this folder, which has one module per kind; the other files of the project
are templates below.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

from vqvideo.atomic import temporary_folder
from vqvideo.models import REGISTRIES
from vqvideo.plugins import API_GROUP, API_VERSION, PART_KINDS

PART_NAMES = {
    "model": "my_model",
    "encoder": "MyEncoder",
    "decoder": "MyDecoder",
    "quantizer": "MyQuantizer",
    "prior": "MyPrior",
    "likelihood": "MyLikelihood",
}
RANKED_KINDS = ("encoder", "decoder", "prior")  # built for a given rank
NAME_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

PYPROJECT_TEMPLATE = """\
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

README_TEMPLATE = """\
# {name}

{a_kind} for vqvideo, in `src/{package}/__init__.py`.

```bash
pip install -e '.[dev]'
pytest              # the laws of every {kind}
vqvideo plugins     # lists it
```

{use}
"""

TEST_TEMPLATE = """\
from vqvideo.testing import check_{kind}

from {package} import {part}


def test_the_{kind}_keeps_all_laws():
    check_{kind}({part})
"""

RANKED_TEST_TEMPLATE = """\
import pytest

from vqvideo.testing import check_{kind}

from {package} import {part}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_{kind}_keeps_all_laws(rank):
    check_{kind}({part}, rank=rank)
"""


def create_plugin(name: str, *, kind: str = "quantizer", out: str | Path | None = None) -> Path:
    """Create a project that adds one part to vqvideo.

    Args:
        name: name of the part and of the project.
        kind: kind of the part: model, encoder, decoder, quantizer, prior or likelihood.
        out: the folder to create; None for one with the name of the project.

    Returns:
        The folder, with pyproject.toml, README.md, src/ and tests/.

    Raises:
        FileExistsError: the folder exists.
        ValueError: the kind is unknown; or the name has invalid characters, or is taken by a part
            or an importable module.
    """
    if kind not in PART_KINDS:
        raise ValueError(f"kind must be one of {', '.join(PART_KINDS)}, got {kind!r}")
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(
            f"a plugin name must consist of lower-case letters a-z, digits and single hyphens, and "
            f"start with a letter, such as my-quantizer; got {name!r}"
        )
    folder = Path(name if out is None else out)
    if folder.exists():  # checked first: an installed project has taken the name
        raise FileExistsError(f"{folder} exists; choose another folder (--out)")
    _check_name_free(name, kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent) as temporary:
        for file, text in _render_files(name, kind).items():
            (temporary / file).parent.mkdir(parents=True, exist_ok=True)
            (temporary / file).write_text(text, encoding="utf-8")
        temporary.rename(folder)
    return folder


def _check_name_free(name: str, kind: str) -> None:
    """Raise `ValueError` if a part, a keyword or an importable module has the name."""
    if name in REGISTRIES[kind].list_names():
        raise ValueError(f"a {kind} named {name!r} already exists; choose another name")
    package = _to_package_name(name)
    if keyword.iskeyword(package) or importlib.util.find_spec(package):
        raise ValueError(
            f"the plugin's module would be {package!r}, which is a Python keyword or an existing "
            f"module; choose another name"
        )


def _to_package_name(name: str) -> str:
    return name.replace("-", "_")


def _render_files(name: str, kind: str) -> dict[str, str]:
    """Return the text of each file of the project."""
    package, part = _to_package_name(name), PART_NAMES[kind]
    fields = {"name": name, "kind": kind, "package": package, "part": part}
    a_kind = f"{'An' if kind == 'encoder' else 'A'} {kind}"
    test = RANKED_TEST_TEMPLATE if kind in RANKED_KINDS else TEST_TEMPLATE
    use = f'`vqvideo.build("image", {kind}="{name}")` builds a model with it.'
    if kind == "model":
        use = f'`vqvideo.build("{name}")` builds it.'
    return {
        "pyproject.toml": PYPROJECT_TEMPLATE.format(
            group=API_GROUP, version=API_VERSION, a_kind=a_kind, **fields
        ),
        "README.md": README_TEMPLATE.format(use=use, a_kind=a_kind, **fields),
        f"src/{package}/__init__.py": Path(__file__).with_name(f"{kind}.py").read_text("utf-8"),
        f"tests/test_{package}.py": test.format(**fields),
    }
