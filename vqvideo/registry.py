"""Registries that build parts by name, built-in parts and plugins.

There is one `Registry` per kind of part. The builder's keyword-only signature is the schema of its
options. The parts of plugins (plugins.py) are listed without being imported; a plugin is imported
when its part is first used. A plugin that fails is reported by name with its cause and does not
affect others; a plugin shadowed by a part of the same name is named in a warning. Every built part
records its origin (identity.py), so that a checkpoint can name the packages it needs.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from vqvideo.builtin_parts import MODULES
from vqvideo.identity import Origin, format_options, record_origin
from vqvideo.isolation import call_builder, describe_error, run_foreign_code
from vqvideo.option_types import find_type_error
from vqvideo.plugins import (
    DISABLE_ENV_VAR,
    PART_KINDS,
    Plugin,
    are_plugins_disabled,
    find_name_error,
    find_plugins,
    normalize_part_name,
)
from vqvideo.version import __version__

T = TypeVar("T")
Builder = Callable[..., T]
BuilderT = TypeVar("BuilderT", bound=Callable[..., Any])


class UnknownNameError(ValueError):
    """No registered part and no installed plugin has the name."""


class Registry(Generic[T]):
    """Mapping from names to builders of one kind of part.

    Args:
        kind: kind of part, one of `PART_KINDS`.
        base_class: class that every part is an instance of.
        required_args: arguments that every builder must take: the sizes the library passes.

    >>> shapes = Registry("prior", tuple)
    >>> @shapes.register("square")
    ... def square(*, side: int) -> tuple[int, int]:
    ...     return side, side
    >>> shapes.build("square", side=3)
    (3, 3)
    """

    def __init__(self, kind: str, base_class: type[Any], required_args: Sequence[str] = ()) -> None:
        if kind not in PART_KINDS:
            raise ValueError(f"kind must be one of {', '.join(PART_KINDS)}, got {kind!r}")
        self.kind, self.base_class, self.required_args = kind, base_class, tuple(required_args)
        self._builders: dict[str, Builder[T]] = {}
        self._modules: dict[str, str] = {}  # the module that registered each
        self._plugin_builders: dict[str, tuple[Plugin, Builder[T]]] = {}
        _INSTANCES.add(self)

    def register(self, name: str) -> Callable[[BuilderT], BuilderT]:
        """Return a decorator that registers a class or function as the builder of `name`.

        Registering the same object again changes nothing.

        Raises:
            ValueError: the name is invalid, or taken by another object or a loaded plugin; the
                message names both owners.
        """
        if error := find_name_error(name):
            raise ValueError(error)
        name = normalize_part_name(name)
        # the builder's own module may be another one, as for a partial of a built-in class
        module = str(sys._getframe(1).f_globals.get("__name__", "?"))
        if not module.startswith("vqvideo."):
            self._import_builtin_parts()  # their names are taken

        def add(builder: BuilderT) -> BuilderT:
            known, owner = self._builders.get(name), ""
            if known is not None and known is not builder:
                owner = f"already registered by {_get_qualified_name(known)}"
            plugin, loaded = self._plugin_builders.get(name, (None, None))
            if plugin and loaded is not builder and not plugin.provides(module):
                owner = f"already provided by {plugin.package} {plugin.version}"
            if owner:
                raise ValueError(
                    f"{self.kind} {name!r} is {owner}; {_get_qualified_name(builder)} must choose "
                    f"another name"
                )
            if loaded is not builder:  # otherwise it has the name as a plugin
                self._builders[name], self._modules[name] = builder, module
            return builder

        return add

    def list_names(self, pattern: str = "*") -> list[str]:
        """List all names that match a wildcard pattern, plugins included, importing nothing."""
        plugins = [plugin.name for plugin in self.list_plugins() if plugin.is_usable]
        names = {*plugins, *self._builders}
        return sorted(fnmatch.filter(names, normalize_part_name(pattern)))

    def list_plugins(self) -> list[Plugin]:
        """List the plugins of this kind and mark shadowed ones, importing none of them."""
        self._import_builtin_parts()
        plugins = [plugin for plugin in find_plugins() if plugin.kind == self.kind]
        for plugin in plugins:
            builder = self._builders.get(plugin.name)
            if builder is None or not plugin.is_usable:
                continue
            module = self._get_module(plugin.name)
            if not plugin.provides(module):
                builtin = module.startswith("vqvideo.")
                owner = "the built-in part" if builtin else _get_qualified_name(builder)
                plugin.status, plugin.error = "shadowed", f"{owner} has the same name and is used"
        return plugins

    def get(self, name: str) -> Builder[T]:
        """Return the builder of `name`, importing its plugin if necessary.

        Raises:
            UnknownNameError: the name is unknown; the message suggests and lists names.
            ImportError: the plugin of that name failed to import or cannot be used.
            TypeError: the builder of the plugin cannot build such a part.
        """
        name = normalize_part_name(name)
        candidates = [plugin for plugin in self.list_plugins() if plugin.name == name]
        for candidate in candidates:
            candidate.warn_if_shadowed()
        plugin = self._get_plugin(name)
        if plugin is None and name in self._builders:
            return self._builders[name]
        if not candidates:
            raise UnknownNameError(self._format_unknown_error(name))
        return self.load(plugin or candidates[0])  # the latter raises the reason

    def load(self, plugin: Plugin) -> Builder[T]:
        """Return the builder of a plugin; raise `ImportError` and `TypeError` as `get` does."""
        builder = plugin.load()
        with run_foreign_code() as ends_program:
            try:
                error = self._find_builder_error(builder)
            except BaseException as cause:  # attributes of a builder may raise anything
                if ends_program(cause):
                    raise
                error = f"has a builder that cannot be examined: {describe_error(cause)}"
        if error:
            plugin.mark_failed(error)
            raise TypeError(f"{plugin} {error}{plugin.shadowed_note}")
        self._plugin_builders[plugin.name] = plugin, builder
        return builder

    def get_owner(self, name: str) -> tuple[str, str] | None:
        """Return the package and version that provide a part; None if the name is unknown.

        For a part registered by a decorator outside vqvideo: its top-level module and "".

        >>> from vqvideo.quantizers import QUANTIZERS
        >>> QUANTIZERS.get_owner("ema")[0]
        'vqvideo'
        """
        name = normalize_part_name(name)
        plugin = self._get_plugin(name)
        if plugin is None and name in self._builders:
            package = self._get_module(name).split(".")[0]
            return package, __version__ if package == "vqvideo" else ""
        plugin = plugin or next((p for p in self.list_plugins() if p.name == name), None)
        return (plugin.package, plugin.version) if plugin else None

    def build(self, name: str, options: Mapping[str, Any] | None = None, **library_args: Any) -> T:
        """Build a part from `options` (the user's) and `library_args` (the library's own).

        Raises:
            ValueError: an option is unknown, missing or of another type than the builder's
                annotation; the message names it.
            TypeError: the builder returns something else than such a part.
        """
        name = normalize_part_name(name)
        builder, arguments = self.get(name), {**library_args, **(options or {})}
        self.check_options(name, options or {}, library_args)
        is_plugin = self._get_plugin(name) is not None
        part = call_builder(builder, arguments, self._describe_part(name), is_plugin=is_plugin)
        if not isinstance(part, self.base_class):
            raise TypeError(
                f"{self._describe_part(name)} must be a {_format_type(self.base_class)}, got a "
                f"{_format_type(type(part))} from {_get_qualified_name(builder)}"
            )
        owner = self.get_owner(name) or ("", "")
        record_origin(part, Origin(self.kind, name, *owner, format_options(builder, arguments)))
        return part

    def has_option(self, name: str, option: str) -> bool:
        """Return whether the builder of `name` has the option."""
        return option in inspect.signature(self.get(name)).parameters

    def check_options(
        self, name: str, options: Mapping[str, Any], library_args: Mapping[str, Any] | None = None
    ) -> None:
        """Raise `ValueError` if the part called `name` does not take these options."""
        library_args = library_args or {}
        parameters = inspect.signature(self.get(name)).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        known = [p.name for p in named if p.name not in library_args]
        takes_any = len(named) < len(parameters)  # it has *args or **kwargs
        unknown = [] if takes_any else sorted(set(options) - set(known))
        missing = [] if takes_any else sorted(set(library_args) - {p.name for p in named})
        part = self._describe_part(normalize_part_name(name))
        if missing:
            raise ValueError(f"{part} does not take {missing[0]}, which is needed here")
        if unknown:
            raise ValueError(
                f"{part} has no option {unknown[0]!r}"
                f"{_suggest_name(unknown[0], known)}; it takes: {', '.join(known) or 'none'}"
            )
        for arg in named:
            if arg.default is arg.empty and arg.name not in {**options, **library_args}:
                raise ValueError(f"{part} needs the option {arg.name!r}")
        if error := find_type_error(self.get(name), options):
            raise ValueError(f"{part}: {error}")

    def _get_plugin(self, name: str) -> Plugin | None:
        """Return the plugin that provides the part of that name, None if none does."""
        candidates = (p for p in self.list_plugins() if p.is_usable and p.status != "shadowed")
        return next((plugin for plugin in candidates if plugin.name == name), None)

    def _import_builtin_parts(self) -> None:
        for module in MODULES.get(self.kind, ()):
            importlib.import_module(module)

    def _get_module(self, name: str) -> str:
        return self._modules.get(name) or self._builders[name].__module__

    def _find_builder_error(self, builder: Builder[T]) -> str:
        """Return an error message if a plugin's builder is invalid, without calling it, else ""."""
        if isinstance(builder, type) and not issubclass(builder, self.base_class):
            return (
                f"must be a subclass of {_format_type(self.base_class)}, or a function that "
                f"returns such a {self.kind}; {_format_type(builder)} is neither"
            )
        try:
            parameters = inspect.signature(builder).parameters.values()
        except (ValueError, TypeError):
            return f"must have a signature, but {_get_qualified_name(builder)} has none"
        named = {p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY}
        missing = [name for name in self.required_args if name not in named]
        if not missing or any(p.kind is p.VAR_KEYWORD for p in parameters):
            return ""
        return (
            f"must take {', '.join(self.required_args)}, as every {self.kind} does; "
            f"{_get_qualified_name(builder)} does not take {missing[0]}"
        )

    def _describe_part(self, name: str) -> str:
        return str(self._get_plugin(name) or f"{self.kind} {name!r}")

    def _format_unknown_error(self, name: str) -> str:
        known = self.list_names()
        failed = [plugin.name for plugin in self.list_plugins() if plugin.status == "failed"]
        others = [registry.kind for registry in _INSTANCES if name in registry.list_names()]
        other = min((kind for kind in others if kind != self.kind), default="")
        hint = f" (a{'n' * (other == 'encoder')} {other} has that name)" if other else ""
        hint += _suggest_name(name, known)
        return (
            f"unknown {self.kind} {name!r}{hint}; known: {', '.join(known) or 'none'}"
            + (f"; failed, see `vqvideo plugins`: {', '.join(failed)}" if failed else "")
            + (f"; plugins are disabled by {DISABLE_ENV_VAR}" if are_plugins_disabled() else "")
        )


_INSTANCES: weakref.WeakSet[Registry[Any]] = weakref.WeakSet()  # to suggest names of other kinds


def _suggest_name(name: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _format_type(part: type) -> str:
    return part.__qualname__ if part.__module__ == "builtins" else _get_qualified_name(part)


def _get_qualified_name(builder: Callable[..., Any]) -> str:
    """Return the name of a builder; for an object without a name, that of its class."""
    named = builder if hasattr(builder, "__qualname__") else type(builder)
    return f"{named.__module__}.{named.__qualname__}"
