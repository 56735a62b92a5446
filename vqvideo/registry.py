"""Names for the parts a plugin may add, and the errors that help when a name is wrong.

One flat `Registry` per kind of part. A name is written once, where the part is defined; the
builder's keyword-only signature is the schema of its options. Plugins are entry points of the
group `vqvideo.<kind>s`: their names are listed without importing anything, and a plugin is
imported only when somebody asks for its name. One that fails is reported by name with its cause
and hurts nobody else.

Not here: what the parts are. A config read from a file can name registered parts only, never an
import path.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import inspect
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
Builder = Callable[..., T]
BuilderT = TypeVar("BuilderT", bound=Callable[..., Any])

KINDS = ("model", "encoder", "decoder", "quantizer", "prior", "likelihood")


class UnknownNameError(ValueError):
    """A name that no registered part and no installed plugin has."""


@dataclass
class Plugin:
    """One entry point of an installed package: a part that can be built by name.

    `status` is "available" (found, not imported yet), "loaded", "failed" (see `error`) or
    "shadowed" (a built-in part or an earlier package has the same name and is used instead).
    """

    kind: str
    name: str
    package: str
    version: str
    entry_point: EntryPoint
    status: Literal["available", "loaded", "failed", "shadowed"] = "available"
    error: str = ""

    def load(self) -> Builder[Any]:
        """Import the plugin; `ImportError` names the plugin, its package and the cause."""
        try:
            builder = self.entry_point.load()
        except Exception as cause:  # whatever a stranger's module raises, name the stranger
            self.status, self.error = "failed", f"{type(cause).__name__}: {cause}"
            raise ImportError(
                f"{self.kind} {self.name!r} comes from {self.package} {self.version} "
                f"({self.entry_point.value}), which failed to import: {self.error}"
            ) from cause
        if not callable(builder):
            self.status, self.error = "failed", f"{self.entry_point.value} is not callable"
            raise ImportError(f"{self.kind} {self.name!r} of {self.package}: {self.error}")
        self.status = "loaded"
        return builder  # type: ignore[no-any-return]


@functools.cache
def _scan() -> tuple[Plugin, ...]:
    """Every vqvideo entry point of the environment, found once, nothing imported."""
    if os.environ.get("VQVIDEO_DISABLE_PLUGINS", "") not in ("", "0"):
        return ()
    return tuple(
        Plugin(
            kind=kind,
            name=entry.name,
            package=entry.dist.name if entry.dist else "unknown",
            version=entry.dist.version if entry.dist else "unknown",
            entry_point=entry,
        )
        for kind in KINDS
        for entry in entry_points(group=f"vqvideo.{kind}s")
    )


def list_plugins() -> tuple[Plugin, ...]:
    """All parts that installed packages offer, without importing them.

    Setting the environment variable `VQVIDEO_DISABLE_PLUGINS=1` turns discovery off.
    """
    return _scan()


class Registry(Generic[T]):
    """Name -> builder of one kind of part.

    >>> shapes: Registry[tuple[int, int]] = Registry("prior")
    >>> @shapes.register("square")
    ... def square(*, side: int) -> tuple[int, int]:
    ...     return side, side
    >>> shapes.build("square", side=3)
    (3, 3)
    """

    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.kind = kind
        self._builders: dict[str, Builder[T]] = {}

    def register(self, name: str) -> Callable[[BuilderT], BuilderT]:
        """Decorator: make a class or function buildable as `name`.

        Registering the same object again changes nothing; another object under a taken name
        raises `ValueError` naming both owners.
        """

        def add(builder: BuilderT) -> BuilderT:
            known = self._builders.get(name)
            if known is not None and known is not builder:
                raise ValueError(
                    f"{self.kind} {name!r} is already registered by {_owner(known)}; "
                    f"{_owner(builder)} must choose another name"
                )
            self._builders[name] = builder
            return builder

        return add

    def names(self, pattern: str = "*") -> list[str]:
        """Sorted names that match a wildcard pattern, plugins included; imports nothing."""
        known = set(self._builders) | {plugin.name for plugin in self._plugins().values()}
        return sorted(fnmatch.filter(known, pattern))

    def get(self, name: str) -> Builder[T]:
        """The builder called `name`, importing its plugin if need be.

        Raises:
            UnknownNameError: nobody has that name; the message suggests and lists.
            ImportError: a plugin has it, and failed to import.
        """
        if name in self._builders:
            self._plugins()  # a plugin hidden by this built-in is worth one warning
            return self._builders[name]
        plugin = self._plugins().get(name)
        if plugin is None:
            raise UnknownNameError(self._unknown(name))
        return plugin.load()

    def build(self, name: str, options: Mapping[str, Any] | None = None, **given: Any) -> T:
        """Call the builder with `options` (the user's) and `given` (the library's own).

        Options are checked against the builder's signature first, so a misspelt one raises
        `ValueError` listing those that exist.
        """
        builder = self.get(name)
        self.check_options(name, options or {}, given)
        return builder(**given, **(options or {}))

    def takes(self, name: str, option: str) -> bool:
        """Whether the builder called `name` has an option of that name."""
        return option in inspect.signature(self.get(name)).parameters

    def check_options(
        self, name: str, options: Mapping[str, Any], given: Mapping[str, Any] | None = None
    ) -> None:
        """Raise `ValueError` when the part called `name` does not take these options."""
        given = given or {}
        parameters = inspect.signature(self.get(name)).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        free = [p.name for p in named if p.name not in given]
        unknown = sorted(set(options) - set(free))
        needed = sorted(set(given) - {p.name for p in named})
        if needed and len(named) == len(parameters):
            raise ValueError(
                f"{self.kind} {name!r} does not take {needed[0]}, which is needed here"
            )
        if unknown and len(named) == len(parameters):  # else it takes anything
            raise ValueError(
                f"{self.kind} {name!r} has no option {unknown[0]!r}"
                f"{_did_you_mean(unknown[0], free)}; it takes: {', '.join(free) or 'none'}"
            )
        for parameter in named:
            if parameter.default is parameter.empty and parameter.name not in {**options, **given}:
                raise ValueError(f"{self.kind} {name!r} needs the option {parameter.name!r}")

    def _plugins(self) -> dict[str, Plugin]:
        """The plugins of this kind that can be reached by name."""
        reachable: dict[str, Plugin] = {}
        for plugin in _scan():
            if plugin.kind != self.kind:
                continue
            if self._is_taken(plugin) or plugin.name in reachable:
                self._shadow(plugin, reachable.get(plugin.name))
            else:
                reachable[plugin.name] = plugin
        return reachable

    def _is_taken(self, plugin: Plugin) -> bool:
        """Whether a part of another package is registered under the plugin's name."""
        builder = self._builders.get(plugin.name)
        package = plugin.entry_point.module.split(".")[0]
        return builder is not None and builder.__module__.split(".")[0] != package

    def _shadow(self, plugin: Plugin, winner: Plugin | None) -> None:
        if plugin.status != "shadowed":
            plugin.status = "shadowed"
            owner = f"that of {winner.package}" if winner else "the built-in one"
            warnings.warn(
                f"{self.kind} {plugin.name!r} of {plugin.package} {plugin.version} is hidden: "
                f"{owner} has the same name and is used",
                RuntimeWarning,
                stacklevel=4,
            )

    def _unknown(self, name: str) -> str:
        known = self.names()
        failed = [p.name for p in _scan() if p.kind == self.kind and p.status == "failed"]
        return (
            f"unknown {self.kind} {name!r}{_did_you_mean(name, known)}; "
            f"known: {', '.join(known) or 'none'}"
            + (f"; failed to import: {', '.join(failed)}" if failed else "")
        )


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _owner(builder: Callable[..., Any]) -> str:
    return f"{builder.__module__}.{getattr(builder, '__qualname__', repr(builder))}"
