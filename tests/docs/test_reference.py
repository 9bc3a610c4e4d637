"""Every public name stands in the reference, with a docstring."""

import importlib
import inspect
import pkgutil
import re

import griffe
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


@pytest.fixture(scope="module")
def package():
    extension = ROOT / "docs" / "site" / "public_names.py"
    extensions = griffe.load_extensions(f"{extension}:PublicNames")
    return griffe.load("fourbeat", search_paths=[ROOT / "src"], extensions=extensions)


@pytest.mark.parametrize("name", DECLARED)
def test_no_sentence_of_a_docstring_is_taken_for_a_name_or_a_type(name, package):
    found = package[name.removeprefix("fourbeat.")]
    for item in items_of(found.final_target if found.is_alias else found):
        label, of_words = getattr(item, "name", ""), str(item.annotation or "")
        wrong = re.search(r"[,\s`]", label) or re.search(r"`|[a-z] [a-z]{2,}", of_words)
        assert not wrong, f"{name}: {label or of_words}: {item.description}"


def items_of(found):
    """What the sections of the docstrings list, of a name and of its methods."""
    options = {"returns_multiple_items": False, "returns_named_value": False}
    for section in found.docstring.parse("google", **options) if found.docstring else ():
        if section.kind.value in ("parameters", "attributes", "returns", "yields", "raises"):
            yield from section.value
    for member in found.members.values() if found.is_class else ():
        if not member.is_alias and not member.name.startswith("_"):
            yield from items_of(member)
