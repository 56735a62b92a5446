"""Names for the parts a plugin may add, and the errors that help when a name is wrong.

One flat `Registry` per kind of part. A name is written once, where the part is defined; the
builder's keyword-only signature is the schema of its options. The parts of installed packages
(plugins.py) stand beside ours: they are listed without being imported, and one is imported only
when somebody asks for its name. One that fails is reported by name with its cause and hurts nobody
else; one that is hidden by a part of the same name is named in a warning.

Not here: what the parts are. A config read from a file can name registered parts only, never an
import path.
"""

from __future__ import annotations

import difflib
import fnmatch
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from vqvideo.plugins import DISABLE, KINDS, Plugin, are_disabled, found, name_error

T = TypeVar("T")
Builder = Callable[..., T]
BuilderT = TypeVar("BuilderT", bound=Callable[..., Any])


class UnknownNameError(ValueError):
    """A name that no registered part and no installed plugin has."""


class Registry(Generic[T]):
    """Name -> builder of one kind of part.

    Args:
        kind: of part.
        part: the class that all of them are of.
        needs: what every builder must take: the sizes that the library tells it.

    >>> shapes = Registry("prior", tuple)
    >>> @shapes.register("square")
    ... def square(*, side: int) -> tuple[int, int]:
    ...     return side, side
    >>> shapes.build("square", side=3)
    (3, 3)
    """

    def __init__(self, kind: str, part: type[Any], needs: Sequence[str] = ()) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.kind, self.part, self.needs = kind, part, tuple(needs)
        self._builders: dict[str, Builder[T]] = {}

    def register(self, name: str) -> Callable[[BuilderT], BuilderT]:
        """Decorator: make a class or function buildable as `name`.

        Registering the same object again changes nothing; another object under a taken name
        raises `ValueError` naming both owners, and so does a name with odd characters.
        """
        if error := name_error(name):
            raise ValueError(error)

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
        known = {*self._builders, *(plugin.name for plugin in self.plugins() if plugin.usable)}
        return sorted(fnmatch.filter(known, pattern))

    def plugins(self) -> list[Plugin]:
        """The plugins of this kind, and which of them are hidden; imports nothing."""
        own = [plugin for plugin in found() if plugin.kind == self.kind]
        for plugin in own:
            if plugin.usable and self._is_taken(plugin):
                owner = _owner(self._builders[plugin.name])
                whose = "the built-in one" if owner.startswith("vqvideo.") else owner
                plugin.status, plugin.error = "shadowed", f"{whose} has the same name and is used"
        return own

    def get(self, name: str) -> Builder[T]:
        """The builder called `name`, importing its plugin if need be.

        Raises:
            UnknownNameError: nobody has that name; the message suggests and lists.
            ImportError: a plugin has it, and failed to import or cannot be used.
            TypeError: a plugin has it, and what it offers cannot build such a part.
        """
        offers = [plugin for plugin in self.plugins() if plugin.name == name]
        for plugin in offers:
            _warn_if_hidden(plugin)
        if name in self._builders:
            return self._builders[name]
        if not offers:
            raise UnknownNameError(self._unknown(name))
        return self.load(self._plugin(name) or offers[0])  # the latter says why it cannot be used

    def load(self, plugin: Plugin) -> Builder[T]:
        """The builder of a plugin of this kind; raises `ImportError` and `TypeError` as `get`."""
        builder = plugin.load()
        if error := self._builder_error(builder):
            plugin.fail(error)
            raise TypeError(f"{plugin} {error}")
        return builder

    def build(self, name: str, options: Mapping[str, Any] | None = None, **given: Any) -> T:
        """Call the builder with `options` (the user's) and `given` (the library's own).

        Options are checked against the builder's signature first, so a misspelt one raises
        `ValueError` listing those that exist. `TypeError` says whose builder gives something else
        than such a part.
        """
        builder = self.get(name)
        self.check_options(name, options or {}, given)
        try:
            part = builder(**given, **(options or {}))
        except SystemExit as cause:
            raise RuntimeError(f"{self._who(name)} called sys.exit() when it was built") from cause
        except Exception as error:
            if self._plugin(name):
                error.add_note(f"when {self._who(name)} was built")
            raise
        if not isinstance(part, self.part):
            raise TypeError(
                f"{self._who(name)} must be a {_path(self.part)}, got a {_path(type(part))} from "
                f"{_owner(builder)}"
            )
        return part

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
        who = self._who(name)
        if needed and len(named) == len(parameters):
            raise ValueError(f"{who} does not take {needed[0]}, which is needed here")
        if unknown and len(named) == len(parameters):  # else it takes anything
            raise ValueError(
                f"{who} has no option {unknown[0]!r}"
                f"{_did_you_mean(unknown[0], free)}; it takes: {', '.join(free) or 'none'}"
            )
        for parameter in named:
            if parameter.default is parameter.empty and parameter.name not in {**options, **given}:
                raise ValueError(f"{who} needs the option {parameter.name!r}")

    def _plugin(self, name: str) -> Plugin | None:
        """The plugin that is built under that name."""
        offers = (p for p in self.plugins() if p.usable and p.status != "shadowed")
        return next((plugin for plugin in offers if plugin.name == name), None)

    def _is_taken(self, plugin: Plugin) -> bool:
        """Whether a part of another package is registered under the plugin's name."""
        builder = self._builders.get(plugin.name)
        package = plugin.entry_point.module.split(".")[0]
        return builder is not None and builder.__module__.split(".")[0] != package

    def _builder_error(self, builder: Builder[T]) -> str:
        """What is wrong with a plugin's builder before it is called, "" for nothing."""
        if isinstance(builder, type) and not issubclass(builder, self.part):
            return (
                f"must be a subclass of {_path(self.part)}, or a function that returns such a "
                f"{self.kind}; {_path(builder)} is neither"
            )
        try:
            parameters = inspect.signature(builder).parameters.values()
        except (ValueError, TypeError):
            return f"cannot be asked for its options: {_owner(builder)} has no signature"
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return ""
        named = {p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY}
        lacking = [name for name in self.needs if name not in named]
        if not lacking:
            return ""
        return (
            f"must take {', '.join(self.needs)}, as every {self.kind} does; {_owner(builder)} "
            f"does not take {lacking[0]}"
        )

    def _who(self, name: str) -> str:
        return str(self._plugin(name) or f"{self.kind} {name!r}")

    def _unknown(self, name: str) -> str:
        known = self.names()
        failed = [plugin.name for plugin in self.plugins() if plugin.status == "failed"]
        return (
            f"unknown {self.kind} {name!r}{_did_you_mean(name, known)}; "
            f"known: {', '.join(known) or 'none'}"
            + (f"; failed, see `vqvideo plugins`: {', '.join(failed)}" if failed else "")
            + (f"; plugins are turned off by {DISABLE}" if are_disabled() else "")
        )


def _warn_if_hidden(plugin: Plugin) -> None:
    if plugin.status == "shadowed" and not plugin.warned:
        plugin.warned = True
        warnings.warn(f"{plugin} is hidden: {plugin.error}", RuntimeWarning, stacklevel=4)


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _path(part: type) -> str:
    return part.__qualname__ if part.__module__ == "builtins" else _owner(part)


def _owner(builder: Callable[..., Any]) -> str:
    return f"{builder.__module__}.{getattr(builder, '__qualname__', repr(builder))}"
