"""Every public name stands in the reference, with a docstring."""

import importlib
import inspect
import pkgutil
import re

import pytest

import fourbeat
from tests.docs.blocks import ROOT

DECLARED = [
    name
    for page in sorted((ROOT / "docs" / "reference").glob("*.md"))
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
]


def public_names():
    """The names of fourbeat, and of each of its packages those that fourbeat itself does not hand on."""
    seen = {}
    for name in fourbeat.__all__:
        value = getattr(fourbeat, name)
        if not inspect.ismodule(value):
            seen[id(value)] = f"fourbeat.{name}"
    for module in pkgutil.iter_modules(fourbeat.__path__, "fourbeat."):
        if module.name in ("fourbeat.cli", "fourbeat.recipes"):  # commands and whole loops, not parts to call
            continue
        package = importlib.import_module(module.name)
        own = [name for name, value in vars(package).items() if _is_own(package, name, value)]
        for name in getattr(package, "__all__", own):
            seen.setdefault(id(getattr(package, name)), f"{module.name}.{name}")
    return set(seen.values())


def _is_own(package, name, value):
    return not name.startswith("_") and getattr(value, "__module__", None) == package.__name__


def test_the_reference_declares_every_public_name_once():
    assert len(DECLARED) == len(set(DECLARED))
    assert set(DECLARED) == public_names()


@pytest.mark.parametrize("name", DECLARED)
def test_every_public_name_and_method_has_a_docstring(name):
    *home, last = name.split(".")
    value = getattr(importlib.import_module(".".join(home)), last)
    assert inspect.getdoc(value), name
    if inspect.isclass(value):
        for member, found in vars(value).items():
            is_called = inspect.isroutine(found) or isinstance(found, property)
            if is_called and not member.startswith(("_", "tree_")):
                assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"
