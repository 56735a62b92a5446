"""Discovery of plugins: parts of other packages, found by entry points and imported on first use.

A package provides a part by an entry point in the group `vqvideo.<kind>s`, and declares in the
group `vqvideo.api` which version of this interface its parts are built for. In its pyproject.toml:

    [project.entry-points."vqvideo.quantizers"]
    lattice = "my_package.parts:Lattice"

    [project.entry-points."vqvideo.api"]
    2 = "my_package"

An entry of `vqvideo.api` has the version as its name and the package's module as its value; with
two entries the parts work with either version. Reading metadata imports nothing, so a package built
for another version, or without a declared version, is rejected before any of its code runs.
`API_VERSION` is raised when parts written for the previous version would no longer work.

registry.py looks up parts by name, built-in and plugin ones.
"""

from __future__ import annotations

import functools
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, distribution, distributions
from typing import Any, Literal

from vqvideo.isolation import describe_error, run_foreign_code, shorten
from vqvideo.version import __version__

API_VERSION = 2
PART_KINDS = ("model", "encoder", "decoder", "quantizer", "prior", "likelihood")
ENTRY_POINT_GROUPS = {f"vqvideo.{kind}s": kind for kind in PART_KINDS}
API_GROUP = "vqvideo.api"
DISABLE_ENV_VAR = "VQVIDEO_DISABLE_PLUGINS"

_VERSION_PATTERN = re.compile(r"0|[1-9][0-9]*")
_NAME_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_DOTTED_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_ENTRY_POINT_PATTERN = re.compile(  # extras in brackets are allowed and ignored
    rf"{_DOTTED_NAME}\s*:\s*{_DOTTED_NAME}\s*(?:\[.*\])?"
)


@dataclass
class Plugin:
    """One entry point of an installed package: a part that can be built by name.

    Attributes:
        kind: kind of part, one of `PART_KINDS`.
        name: name of the part.
        package: package that provides it.
        version: version of the package.
        entry_point: location of its builder.
        status: "available" (found, not imported yet), "loaded", "failed", or "shadowed" (a
            built-in part or another package has the same name and is used instead).
        error: why it failed, or whose part is used instead.
        is_usable: false if its metadata is invalid or its API version is not supported.
        shadowed_packages: packages with a part of the same name that is not used.
        has_warned: whether the warning about shadowing was already issued.
    """

    kind: str
    name: str
    package: str
    version: str
    entry_point: EntryPoint
    status: Literal["available", "loaded", "failed", "shadowed"] = "available"
    error: str = ""
    is_usable: bool = True
    shadowed_packages: list[str] = field(default_factory=list, repr=False)
    has_warned: bool = field(default=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.package} {self.version}"

    def load(self) -> Callable[..., Any]:
        """Import the plugin and return its builder.

        Raises:
            ImportError: it failed to import; the message names the plugin, its package and the
                cause.
        """
        if not self.is_usable:
            raise ImportError(f"{self} cannot be used: {self.error}")
        with run_foreign_code() as ends_program:
            try:
                builder = self.entry_point.load()
            except BaseException as cause:  # a plugin may raise anything, also SystemExit
                if ends_program(cause):
                    raise
                self.mark_failed(describe_error(cause))
                raise ImportError(
                    f"{self.kind} {self.name!r} comes from {self.package} {self.version} "
                    f"({self.entry_point.value}), which failed to import: "
                    f"{self.error}{self.shadowed_note}"
                ) from cause
        if not callable(builder):
            self.mark_failed(f"{self.entry_point.value} is not callable")
            raise ImportError(f"{self}: {self.error}{self.shadowed_note}")
        self.status, self.error = "loaded", ""
        return builder  # type: ignore[no-any-return]

    @property
    def shadowed_note(self) -> str:
        """End of an error message that names other packages with such a part, "" if none."""
        if not self.shadowed_packages:
            return ""
        return (
            f"; {', '.join(self.shadowed_packages)} provides a part of the same name, which is "
            f"used if {self.package} is not installed"
        )

    def warn_if_shadowed(self) -> None:
        """Warn once that another part of the same name is used."""
        if self.status == "shadowed" and not self.has_warned:
            self.has_warned = True
            warnings.warn(f"{self} is shadowed: {self.error}", RuntimeWarning, stacklevel=4)

    def provides(self, module: str) -> bool:
        """Return whether a module belongs to the plugin's package."""
        return module.split(".")[0] == self.entry_point.module.split(".")[0]

    def mark_failed(self, error: str) -> None:
        """Set the status to "failed" and record the error."""
        self.status, self.error = "failed", shorten(error)


def are_plugins_disabled() -> bool:
    """Return whether `VQVIDEO_DISABLE_PLUGINS` is set to a value other than "" and "0"."""
    return os.environ.get(DISABLE_ENV_VAR, "") not in ("", "0")


@functools.cache
def find_plugins() -> tuple[Plugin, ...]:
    """Find all parts that installed packages provide, once and without importing anything.

    They are sorted by kind, name and canonical package name. If several packages have a part of the
    same name, the first is used, even if it fails, and the others are "shadowed"; parts that are
    not usable are ignored here.
    """
    if are_plugins_disabled():
        return ()
    kinds, seen = [*PART_KINDS, "?"], set[str]()
    plugins = sorted(
        (plugin for dist in distributions() for plugin in _read_plugins(dist, seen)),
        key=lambda item: (kinds.index(item.kind), item.name, canonicalize_name(item.package)),
    )
    used: dict[tuple[str, str], Plugin] = {}
    for plugin in plugins:
        if plugin.is_usable:
            first = used.setdefault((plugin.kind, plugin.name), plugin)
            if first is not plugin:
                plugin.status = "shadowed"
                plugin.error = f"the part of {first.package} has the same name and is used"
                first.shadowed_packages.append(plugin.package)
    return tuple(plugins)


def find_name_error(name: str) -> str:
    """Return an error message if a part's name is invalid, else "".

    >>> find_name_error("lattice-2"), find_name_error("2 lattices")[:31]
    ('', "'2 lattices' is no valid part n")
    """
    if _NAME_PATTERN.fullmatch(name):
        return ""
    return (
        f"{name!r} is no valid part name: it must begin with a letter a-z or A-Z, followed by "
        f"letters, digits, '-', '_' and '.'"
    )


def normalize_part_name(name: str) -> str:
    """Return the canonical form of a part's name, with "-" for "_"; both name the same part.

    >>> normalize_part_name("finite_scalar")
    'finite-scalar'
    """
    return name.replace("_", "-")


def canonicalize_name(package: str) -> str:
    """Return the canonical form of a package's name (PEP 503).

    >>> canonicalize_name("My_Package"), canonicalize_name("my-package")
    ('my-package', 'my-package')
    """
    return re.sub(r"[-_.]+", "-", package).lower()


def _read_plugins(dist: Distribution, seen: set[str]) -> Iterator[Plugin]:
    """Yield the plugins of a distribution; skip a package that an earlier path entry provides."""
    try:
        if "vqvideo." not in (dist.read_text("entry_points.txt") or ""):
            return
        package, version = str(dist.name), str(dist.version)
        entries = [entry for entry in dist.entry_points if entry.group.startswith("vqvideo.")]
        first = distribution(package).locate_file("") == dist.locate_file("")
    except Exception as cause:  # unreadable metadata
        path = str(getattr(dist, "_path", "?"))
        broken = Plugin(
            "?", "?", os.path.basename(path), "?", EntryPoint("?", "?", "?"), is_usable=False
        )
        broken.mark_failed(f"its entry points cannot be read: {describe_error(cause)}")
        yield broken
        return
    if not first or canonicalize_name(package) in seen:
        return
    seen.add(canonicalize_name(package))
    api_versions = [entry.name for entry in entries if entry.group == API_GROUP]
    for entry in entries:
        if entry.group != API_GROUP:
            plugin = Plugin(
                ENTRY_POINT_GROUPS.get(entry.group, "?"),
                normalize_part_name(entry.name),
                package,
                version,
                entry,
            )
            error = _find_entry_error(entry) or _find_api_error(package, entry.module, api_versions)
            if error:
                plugin.is_usable = False
                plugin.mark_failed(error)
            yield plugin


def _find_entry_error(entry: EntryPoint) -> str:
    if entry.group not in ENTRY_POINT_GROUPS:
        return f"there is no group {entry.group!r}; there are: {', '.join(ENTRY_POINT_GROUPS)}"
    if not _ENTRY_POINT_PATTERN.fullmatch(entry.value):
        return f"its entry point must be 'module:attribute', got {entry.value!r}"
    return find_name_error(entry.name)


def _find_api_error(package: str, module: str, api_versions: Sequence[str]) -> str:
    if str(API_VERSION) in api_versions:
        return ""
    if not api_versions:
        return (
            f"its package does not declare which version of the plugin interface it is built for; "
            f'write {API_VERSION} = "{module.split(".")[0]}" under '
            f'[project.entry-points."{API_GROUP}"] in its pyproject.toml'
        )
    wrong = [version for version in api_versions if not _VERSION_PATTERN.fullmatch(version)]
    if wrong:
        return (
            f"its package declares version {wrong[0]!r} of the plugin interface; versions must be "
            f"integers such as 1 or 2"
        )
    newer = [int(version) > API_VERSION for version in api_versions]
    advice = f"a newer {package}, or an older vqvideo"
    if any(newer):
        advice = "a newer vqvideo" if all(newer) else f"another vqvideo, or another {package}"
    return (
        f"it is built for version{'s' * (len(api_versions) > 1)} {' and '.join(api_versions)} of "
        f"the plugin interface, this vqvideo ({__version__}) has version {API_VERSION}: install "
        f"{advice}"
    )
