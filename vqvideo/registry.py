"""Names for the parts a plugin may add, and the errors that help when a name is wrong.

One flat `Registry` per kind of part. A name is written once, where the part is defined; the
builder's keyword-only signature is the schema of its options. The parts of installed packages
(plugins.py) stand beside ours: they are listed without being imported, and one is imported only
when somebody asks for its name. One that fails is reported by name with its cause and hurts nobody
else; one that is hidden by a part of the same name is named in a warning. What a plugin builds is
signed with its name and package (`BUILT_BY`), so that a checkpoint can say whose parts it needs.

Not here: what the parts are. A config read from a file can name registered parts only, never an
import path.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import inspect
import sys
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from vqvideo.identity import Origin, format_options, record_origin
from vqvideo.plugins import DISABLE, KINDS, Plugin, are_disabled, found, name_error
from vqvideo.version import __version__

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
        self._modules: dict[str, str] = {}  # that registered them
        self._loaded: dict[str, tuple[Plugin, Builder[T]]] = {}
        _REGISTRIES.add(self)

    def register(self, name: str) -> Callable[[BuilderT], BuilderT]:
        """Decorator: make a class or function buildable as `name`.

        Registering the same object again changes nothing; another object under a taken name
        raises `ValueError` naming both owners, the name of a plugin that is loaded too, and so does
        a name with odd characters.
        """
        if error := name_error(name):
            raise ValueError(error)
        # A builder may be of any module, as a partial of a class of ours is; who says the name is
        # whose it is.
        module = str(sys._getframe(1).f_globals.get("__name__", "?"))

        def add(builder: BuilderT) -> BuilderT:
            known, owner = self._builders.get(name), ""
            if known is not None and known is not builder:
                owner = f"already registered by {_owner(known)}"
            plugin, loaded = self._loaded.get(name, (None, None))
            if plugin and loaded is not builder and not _is_of(plugin, module):
                owner = f"already that of {plugin.package} {plugin.version}"
            if owner:
                raise ValueError(
                    f"{self.kind} {name!r} is {owner}; {_owner(builder)} must choose another name"
                )
            if loaded is not builder:  # else it has the name already
                self._builders[name], self._modules[name] = builder, module
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
            name = plugin.name
            if plugin.usable and name in self._builders and not _is_of(plugin, self._module(name)):
                ours = self._module(name).startswith("vqvideo.")
                whose = "the built-in one" if ours else _owner(self._builders[name])
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
        for each in offers:
            _warn_if_hidden(each)
        plugin = self._plugin(name)
        if plugin is None and name in self._builders:
            return self._builders[name]
        if not offers:
            raise UnknownNameError(self._unknown(name))
        return self.load(plugin or offers[0])  # the latter says why it cannot be used

    def load(self, plugin: Plugin) -> Builder[T]:
        """The builder of a plugin of this kind; raises `ImportError` and `TypeError` as `get`."""
        builder = plugin.load()
        if error := self._builder_error(builder):
            plugin.fail(error)
            raise TypeError(f"{plugin} {error}{plugin.others}")
        self._loaded[plugin.name] = plugin, builder
        return builder

    def owner(self, name: str) -> tuple[str, str] | None:
        """The package, and its version, whose part `name` builds; None if nobody has the name.

        Of a part that only a decorator registered: the module that did, and no version.

        >>> from vqvideo.quantizers import QUANTIZERS
        >>> QUANTIZERS.owner("ema")[0]
        'vqvideo'
        """
        offers = [plugin for plugin in self.plugins() if plugin.name == name]
        plugin = self._plugin(name)
        if plugin is None and name in self._builders:
            package = self._module(name).split(".")[0]
            return package, __version__ if package == "vqvideo" else ""
        plugin = plugin or next(iter(offers), None)
        return (plugin.package, plugin.version) if plugin else None

    def build(self, name: str, options: Mapping[str, Any] | None = None, **given: Any) -> T:
        """Call the builder with `options` (the user's) and `given` (the library's own).

        Options are checked against the builder's signature first, so a misspelt one raises
        `ValueError` listing those that exist. `TypeError` says whose builder gives something else
        than such a part.
        """
        builder = self.get(name)
        self.check_options(name, options or {}, given)
        plugin = self._plugin(name)
        quiet = contextlib.redirect_stdout(sys.stderr) if plugin else contextlib.nullcontext()
        try:
            with quiet:  # stdout is for results
                part = builder(**given, **(options or {}))
        except SystemExit as cause:
            raise RuntimeError(f"{self._who(name)} called sys.exit() when it was built") from cause
        except Exception as error:
            if plugin:
                error.add_note(f"when {self._who(name)} was built")
            raise
        if not isinstance(part, self.part):
            raise TypeError(
                f"{self._who(name)} must be a {_path(self.part)}, got a {_path(type(part))} from "
                f"{_owner(builder)}"
            )
        package, version = self.owner(name) or ("", "")
        given_options = format_options(builder, {**given, **(options or {})})
        record_origin(part, Origin(self.kind, name, package, version, given_options))
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

    def _module(self, name: str) -> str:
        return self._modules.get(name) or self._builders[name].__module__

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
        others = [each.kind for each in _REGISTRIES if name in each.names()]
        other = min((kind for kind in others if kind != self.kind), default="")
        hint = f" (a{'n' * (other == 'encoder')} {other} has that name)" if other else ""
        hint += _did_you_mean(name, known)
        return (
            f"unknown {self.kind} {name!r}{hint}; known: {', '.join(known) or 'none'}"
            + (f"; failed, see `vqvideo plugins`: {', '.join(failed)}" if failed else "")
            + (f"; plugins are turned off by {DISABLE}" if are_disabled() else "")
        )


_REGISTRIES: weakref.WeakSet[Registry[Any]] = weakref.WeakSet()  # each may look at the others


def _is_of(plugin: Plugin, module: str) -> bool:
    """Whether a module is of the plugin's package."""
    return module.split(".")[0] == plugin.entry_point.module.split(".")[0]


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
