"""Check that imports follow the layers of the package."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vqvideo"

LAYERS = [
    [
        "version",
        "builtin_parts",
        "atomic",
        "text_files",
        "bounded_build",
        "option_types",
        "identity",
        "isolation",
        "plugins",
        "registry",
        "grid",
        "cond",
        "metrics",
        "spectra",
        "modes",
        "arguments",
        "distributed",
        "media",
        "hub",
    ],
    ["quantizers", "nets", "sampling", "data"],
    ["incremental"],
    ["priors"],
    ["likelihoods"],
    ["vqvae", "entropy", "score", "config_v6"],
    ["generator", "config_versions"],
    ["config", "weights_format"],
    ["presets", "checkpoint", "testing"],
    ["models", "training", "report", "model_card"],
    ["commands"],
    ["recipes"],
    ["cli"],
]
ALLOWED_IMPORTS = {  # packages of the lower layers list their imports
    **{package: set() for package in LAYERS[0]},
    "plugins": {"isolation", "version"},
    "identity": {"plugins"},
    "cond": {"arguments"},
    "registry": {"builtin_parts", "identity", "isolation", "option_types", "plugins", "version"},
    "media": {"atomic"},
    "quantizers": {"registry", "metrics", "arguments", "distributed"},
    "nets": {"registry", "grid", "cond", "spectra"},
    "sampling": {"cond", "modes", "arguments"},
    "data": {"atomic", "media", "grid", "cond", "arguments"},
    "incremental": {"cond", "nets", "sampling"},
    "priors": {
        *{"registry", "grid", "cond", "modes", "arguments"},
        *{"quantizers", "nets", "sampling", "incremental"},
    },
    "likelihoods": {
        *{"registry", "distributed", "cond", "spectra", "modes", "arguments"},
        *{"sampling", "priors"},
    },
}
LAYER_OF = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}
ENTRY_POINTS = {
    "__init__",
    "__main__",
}  # the public API and `python -m` may import everything


def get_package(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def get_allowed_imports(package: str) -> set[str]:
    lower = {other for other, layer in LAYER_OF.items() if layer < LAYER_OF[package]}
    return ALLOWED_IMPORTS.get(package, lower)


def list_imported_packages(path: Path) -> list[str]:
    packages = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path} uses a relative import; import from vqvideo instead")
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "vqvideo":
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vqvideo."):
            names = [node.module.split(".")[1]]
        elif isinstance(node, ast.Import):
            names = [a.name.split(".")[1] for a in node.names if a.name.startswith("vqvideo.")]
        packages += names
    return packages


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if get_package(path) not in ENTRY_POINTS]


def test_every_file_belongs_to_a_package_of_the_table():
    assert {get_package(path) for path in FILES} == set(LAYER_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_only_allowed_packages(path):
    package = get_package(path)
    for target in list_imported_packages(path):
        allowed = target == package or target in get_allowed_imports(package)
        assert allowed, f"{path} may not import {target}"


def test_the_architecture_page_shows_this_table():
    rows = re.findall(
        r"^\| (\d+) \| `(\w+)` \|.*\| (.+) \|$",
        (ROOT / "docs" / "architecture.md").read_text(),
        flags=re.MULTILINE,
    )
    shown = {package: (int(layer), allowed) for layer, package, allowed in rows}
    assert set(shown) == set(LAYER_OF)
    for package, (layer, allowed) in shown.items():
        assert layer == LAYER_OF[package], package
        if package in ALLOWED_IMPORTS:
            listed = set() if allowed == "–" else set(allowed.split(", "))
        else:
            last = int(allowed.removeprefix("layers 0–"))
            listed = {other for other, index in LAYER_OF.items() if index <= last}
        assert listed == get_allowed_imports(package), package


def test_every_file_has_at_most_400_lines():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 400, path
