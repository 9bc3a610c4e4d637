"""What griffe, which reads the source without running it, must be told to show fourbeat as users see it."""

import logging
import re
from typing import Any

import griffe

_logger = logging.getLogger("mkdocs.public_names")  # a warning there fails a strict build
_DOCTEST = re.compile(r"(^>>> .*(?:\n.+)*)", re.MULTILINE)


class PublicNames(griffe.Extension):
    """Names at the places where they are imported from, and doctests as code."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Puts the object in the place of every name handed on; warns where it has no docstring."""
        if pkg.name != "fourbeat":
            return
        homes = {name: _defined(pkg, path) for name, path in pkg.imports.items()}
        for module in [each for each in pkg.members.values() if isinstance(each, griffe.Module)]:
            for name, path in module.imports.items():
                if path.startswith("fourbeat."):
                    homes[f"{module.name}.{name}"] = _defined(pkg, path)
        for place, target in homes.items():
            if target is not None:
                if target.docstring is None:
                    _logger.warning("fourbeat.%s has no docstring: %s", place, target.filepath)
                *package, name = place.split(".")
                holder = pkg[package[0]] if package else pkg
                holder.members[name] = griffe.Alias(name, target, parent=holder)

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Puts a fence around the doctests of a docstring, which Markdown would take for quotations."""
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub(r"```pycon\n\1\n```", obj.docstring.value)


def _defined(pkg: griffe.Module, path: str) -> griffe.Object | None:
    """The object imported as `path`, from the file that defines it; None for what is no name of ours."""
    if not path.startswith("fourbeat."):
        return None
    holder, parts = pkg, path.split(".")[1:]
    for part in parts[:-1]:
        holder = holder.members[part]
    handed_on = holder.imports.get(parts[-1])
    if handed_on is not None and handed_on != path:
        return _defined(pkg, handed_on)
    found = holder.members.get(parts[-1])
    return found if isinstance(found, griffe.Object) and not isinstance(found, griffe.Module) else None
