"""What installed packages offer: found by their metadata, imported only when asked for.

A package offers a part by an entry point of the group `vqvideo.<kind>s`, and says in the group
`vqvideo.api` which version of this interface its parts are built for. In its pyproject.toml:

    [project.entry-points."vqvideo.quantizers"]
    lattice = "my_package.parts:Lattice"

    [project.entry-points."vqvideo.api"]
    1 = "my_package"

A line of `vqvideo.api` has the version as its name and the package's module as its value; with two
lines the parts work with either version. Nothing is imported to read this, so a package built for
another version is refused before any of its code runs, and so is one that says nothing. The
version, `API_VERSION`, is raised when a part written for the last one would no longer work.

Not here: the parts by name, ours and theirs (registry.py).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, distribution, distributions
from typing import Any, Literal

from vqvideo.version import __version__

API_VERSION = 1
KINDS = ("model", "encoder", "decoder", "quantizer", "prior", "likelihood")
GROUPS = {f"vqvideo.{kind}s": kind for kind in KINDS}
API_GROUP = "vqvideo.api"
DISABLE = "VQVIDEO_DISABLE_PLUGINS"

_NUMBER = re.compile(r"0|[1-9][0-9]*")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_WORD = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_VALUE = re.compile(rf"{_WORD}\s*:\s*{_WORD}\s*(?:\[.*\])?")  # extras are allowed, and mean nothing


@dataclass
class Plugin:
    """One entry point of an installed package: a part that can be built by name.

    Attributes:
        kind: of part, one of `KINDS`.
        name: of the part.
        package: that offers it.
        version: of the package.
        entry_point: where its builder is.
        status: "available" (found, not imported yet), "loaded", "failed", or "shadowed" (a
            built-in part or another package has the same name and is used instead).
        error: why it failed, or whose part is used instead.
        usable: false where the metadata alone says that it cannot work.
        rivals: packages whose part of that name is not used, because this one is.
    """

    kind: str
    name: str
    package: str
    version: str
    entry_point: EntryPoint
    status: Literal["available", "loaded", "failed", "shadowed"] = "available"
    error: str = ""
    usable: bool = True
    rivals: list[str] = field(default_factory=list, repr=False)
    warned: bool = field(default=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.package} {self.version}"

    def load(self) -> Callable[..., Any]:
        """Import the plugin; `ImportError` names the plugin, its package and the cause."""
        if not self.usable:
            raise ImportError(f"{self} cannot be used: {self.error}")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
                builder = self.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as cause:  # whatever a stranger's module raises, sys.exit too
            self.fail(f"{type(cause).__name__}: {cause}")
            raise ImportError(
                f"{self.kind} {self.name!r} comes from {self.package} {self.version} "
                f"({self.entry_point.value}), which failed to import: {self.error}{self.others}"
            ) from cause
        if not callable(builder):
            self.fail(f"{self.entry_point.value} is not callable")
            raise ImportError(f"{self}: {self.error}{self.others}")
        self.status, self.error = "loaded", ""
        return builder  # type: ignore[no-any-return]

    @property
    def others(self) -> str:
        """The end of a message that it fails: who else offers such a part, "" for nobody."""
        if not self.rivals:
            return ""
        return (
            f"; {', '.join(self.rivals)} offers one of that name too, which is used where "
            f"{self.package} is not installed"
        )

    def fail(self, error: str) -> None:
        """Remember why it does not work."""
        self.status, self.error = "failed", " ".join(error.split())


def are_disabled() -> bool:
    """Whether `VQVIDEO_DISABLE_PLUGINS` turns plugins off; "" and "0" do not."""
    return os.environ.get(DISABLE, "") not in ("", "0")


@functools.cache
def found() -> tuple[Plugin, ...]:
    """Every part that installed packages offer, looked for once, nothing imported.

    Sorted by kind, name and package (see `canonical`). Of several packages with one name the first
    is used, even if it fails, the others are "shadowed"; one that cannot work takes no name.
    """
    if are_disabled():
        return ()
    kinds, seen = [*KINDS, "?"], set[str]()
    plugins = sorted(
        (plugin for dist in distributions() for plugin in _offered(dist, seen)),
        key=lambda each: (kinds.index(each.kind), each.name, canonical(each.package)),
    )
    used: dict[tuple[str, str], Plugin] = {}
    for plugin in plugins:
        if plugin.usable:
            first = used.setdefault((plugin.kind, plugin.name), plugin)
            if first is not plugin:
                plugin.status = "shadowed"
                plugin.error = f"that of {first.package} has the same name and is used"
                first.rivals.append(plugin.package)
    return tuple(plugins)


def name_error(name: str) -> str:
    """What is wrong with a part's name, "" for nothing.

    >>> name_error("lattice-2"), name_error("2 lattices")[:22]
    ('', "'2 lattices' is no nam")
    """
    if _NAME.fullmatch(name):
        return ""
    return (
        f"{name!r} is no name for a part: it must begin with a letter a-z or A-Z, followed by "
        f"letters, digits, '-', '_' and '.'"
    )


def canonical(package: str) -> str:
    """The one spelling of a package's name that PEP 503 compares.

    >>> canonical("My_Package"), canonical("my-package")
    ('my-package', 'my-package')
    """
    return re.sub(r"[-_.]+", "-", package).lower()


def _offered(dist: Distribution, seen: set[str]) -> Iterator[Plugin]:
    """What one package offers; of a package that is there twice, the first on the path."""
    try:
        if "vqvideo." not in (dist.read_text("entry_points.txt") or ""):
            return
        package, version = str(dist.name), str(dist.version)
        entries = [entry for entry in dist.entry_points if entry.group.startswith("vqvideo.")]
        first = distribution(package).locate_file("") == dist.locate_file("")
    except Exception as cause:  # a file that nobody can read
        place = str(getattr(dist, "_path", "?"))
        broken = Plugin(
            "?", "?", os.path.basename(place), "?", EntryPoint("?", "?", "?"), usable=False
        )
        broken.fail(f"its entry points cannot be read: {type(cause).__name__}: {cause}")
        yield broken
        return
    if not first or canonical(package) in seen:
        return
    seen.add(canonical(package))
    stated = [entry.name for entry in entries if entry.group == API_GROUP]
    for entry in entries:
        if entry.group != API_GROUP:
            plugin = Plugin(GROUPS.get(entry.group, "?"), entry.name, package, version, entry)
            error = _entry_error(entry) or _api_error(package, entry.module, stated)
            if error:
                plugin.usable = False
                plugin.fail(error)
            yield plugin


def _entry_error(entry: EntryPoint) -> str:
    if entry.group not in GROUPS:
        return f"there is no group {entry.group!r}; there are: {', '.join(GROUPS)}"
    if not _VALUE.fullmatch(entry.value):
        return f"its entry point must be 'module:attribute', got {entry.value!r}"
    return name_error(entry.name)


def _api_error(package: str, module: str, stated: Sequence[str]) -> str:
    if str(API_VERSION) in stated:
        return ""
    if not stated:
        return (
            f"its package does not say which version of the plugin interface it is built for; "
            f'write {API_VERSION} = "{module.split(".")[0]}" under '
            f'[project.entry-points."{API_GROUP}"] in its pyproject.toml'
        )
    wrong = [version for version in stated if not _NUMBER.fullmatch(version)]
    if wrong:
        return (
            f"its package says it is built for version {wrong[0]!r} of the plugin interface; "
            f"versions are written 1, 2 and so on"
        )
    newer = [int(version) > API_VERSION for version in stated]
    advice = f"a newer {package}, or an older vqvideo"
    if any(newer):
        advice = "a newer vqvideo" if all(newer) else f"another vqvideo, or another {package}"
    return (
        f"it is built for version{'s' * (len(stated) > 1)} {' and '.join(stated)} of the plugin "
        f"interface, this vqvideo ({__version__}) has version {API_VERSION}: install {advice}"
    )
