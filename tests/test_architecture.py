"""Check that imports follow the layers of the package."""

import ast
import graphlib
import re
from pathlib import Path

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
        "device",
        "modes",
        "arguments",
        "distributed",
        "media",
        "hub",
        "streaming",
    ],
    ["quantizers", "nets", "sampling", "data"],
    ["timm_encoder", "incremental"],
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
    "streaming": {"grid", "modes", "arguments"},
    "quantizers": {"registry", "device", "metrics", "arguments", "distributed"},
    "nets": {"registry", "grid", "cond", "streaming"},
    "timm_encoder": {"grid", "nets", "streaming"},
    "sampling": {"cond", "modes", "arguments"},
    "data": {"atomic", "media", "grid", "cond", "arguments"},
    "incremental": {"cond", "nets", "sampling"},
    "priors": {
        *{"registry", "grid", "cond", "device", "modes", "arguments"},
        *{"quantizers", "nets", "sampling", "incremental"},
    },
    "likelihoods": {
        *{"registry", "distributed", "cond", "modes", "arguments"},
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


def test_modules_import_only_allowed_packages():
    wrong = [
        f"{path.relative_to(PACKAGE)} may not import {target}"
        for path in FILES
        for target in list_imported_packages(path)
        if target not in {get_package(path), *get_allowed_imports(get_package(path))}
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle():
    """Also not inside functions or for type checkers. The `__init__` of a package only hands on
    names; those of other packages are lower, as the table says.
    """
    modules = {
        ".".join(("vqvideo", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in FILES
        if path.name != "__init__.py"
    }
    imports: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                imports[name] |= {str(node.module), *names} & modules.keys()
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


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


def test_files_and_functions_are_short():
    long_files = [p for p in FILES if len(p.read_text().splitlines()) > 300]
    assert not long_files, long_files
    long_functions = [
        f"{path}:{node.lineno} {node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and count_code_lines(path, node) > 60
    ]
    assert not long_functions, long_functions


def count_code_lines(path: Path, function: ast.FunctionDef) -> int:
    """Return the number of lines of a function without docstrings, comments and blank lines."""
    lines = path.read_text().splitlines()[function.lineno - 1 : function.end_lineno]
    code = [line for line in lines if line.strip() and not line.strip().startswith("#")]
    documented = (n for n in ast.walk(function) if isinstance(n, ast.FunctionDef | ast.ClassDef))
    docs = [ast.get_docstring(node, clean=False) for node in documented]
    return len(code) - sum(sum(bool(x.strip()) for x in doc.split("\n")) for doc in docs if doc)


def test_the_package_does_not_import_the_benchmarks_of_the_checkout():
    pattern = re.compile(r"^\s*(?:from|import) benchmarks\b", re.MULTILINE)
    assert not [path for path in FILES if pattern.search(path.read_text())]


def test_nothing_below_the_commands_names_a_flag_of_the_command_line():
    """A message names an argument, `overwrite=True`; `vqvideo.cli.write_flags` writes its flag."""
    above = {"commands", "recipes", "cli"}
    for path in FILES:
        flags = re.findall(r"(?<![\w!-])--[a-z][\w-]*", path.read_text())
        assert get_package(path) in above or not flags, f"{path}: {flags}"


def test_recipes_do_not_import_each_other():
    for path in (PACKAGE / "recipes").glob("*/**/*.py"):
        own = path.relative_to(PACKAGE / "recipes").parts[0]
        used = re.findall(r"^ *(?:from|import) vqvideo\.recipes\.(\w+)", path.read_text(), re.M)
        assert set(used) <= {own}, path
