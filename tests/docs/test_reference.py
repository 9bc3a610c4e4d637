"""Every public name stands in the reference, with a docstring."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import griffe
import pytest

import fourbeat
from tests.docs.blocks import ROOT

DECLARED = [
    name
    for page in sorted((ROOT / "docs" / "reference").glob("*.md"))
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
]


# this never reaches a user: what raises it is a proof, and the caller goes another way without one
NEVER_SEEN = {"RowsInteractError"}
# commands, whole loops, and what is our own alone
NOT_TO_CALL = ("fourbeat.cli", "fourbeat.recipes")


def public_names():
    """The names of fourbeat, and of each of its packages those that fourbeat itself does not hand on."""
    seen = {}
    for name in fourbeat.__all__:
        value = getattr(fourbeat, name)
        if not inspect.ismodule(value):
            seen[id(value)] = f"fourbeat.{name}"
    for module in pkgutil.iter_modules(fourbeat.__path__, "fourbeat."):
        if module.name in NOT_TO_CALL or module.name.startswith("fourbeat._"):
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


IN_FRESH_IMPORTS = """
import flax.nnx, importlib, itertools, jax, json, optax, orbax.checkpoint, sys, types
failed, names = {}, sorted(json.loads(sys.argv[1]))
for order in (names, names[::-1]):
    for package, of_package in itertools.groupby(order, lambda name: name.rpartition(".")[0]):
        for module in [module for module in sys.modules if module.split(".")[0] == "fourbeat"]:
            del sys.modules[module]  # so that what the names before have imported is gone
        fourbeat = importlib.import_module("fourbeat")
        for name in of_package:
            found = fourbeat
            try:
                for part in name.split(".")[1:]:
                    found = getattr(found, part)
                assert isinstance(found, types.ModuleType) == (name == "fourbeat.runs.figures"), found
            except Exception as error:
                failed[name] = repr(error)
print(json.dumps(failed))
"""


def test_every_name_of_the_reference_works_where_fourbeat_alone_is_imported():
    """The names of a package follow each other, from the first and from the last."""
    done = subprocess.run(
        [sys.executable, "-c", IN_FRESH_IMPORTS, json.dumps(DECLARED)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stdout + done.stderr


def test_a_name_is_the_same_before_and_after_others_were_used():
    code = (
        "import fourbeat as fb, pkgutil\n"
        "names = {*fb.__all__, *(module.name for module in pkgutil.iter_modules(fb.__path__)), 'evaluate'}\n"
        "names -= {'cli', 'recipes'}\n"
        "look = lambda: {name: getattr(fb, name, None) for name in sorted(names)}\n"
        "before = {'evaluate': getattr(fb, 'evaluate', None), **look()}\n"
        "changed = [name for name, value in look().items() if value is not before[name]]\n"
        "print(changed, before['evaluate'], fb.compiling.eigen_convolutions.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] None eigen_convolutions\n"


def test_every_error_and_warning_of_ours_has_a_public_home():
    found = {}
    for module in pkgutil.walk_packages(fourbeat.__path__, "fourbeat."):
        if module.name.split(".")[1] not in ("cli", "recipes"):
            for name, value in vars(importlib.import_module(module.name)).items():
                is_error = inspect.isclass(value) and issubclass(value, BaseException)
                is_seen = not name.startswith("_") and name not in NEVER_SEEN
                if is_error and value.__module__.startswith("fourbeat.") and is_seen:
                    found[value] = value.__module__
    public = {getattr(importlib.import_module(home), name) for home, _, name in map(parted, DECLARED)}
    assert sorted(f"{home}.{value.__name__}" for value, home in found.items() if value not in public) == []
    assert len(found) >= 10


def test_every_warning_has_a_class_of_ours():
    home, without = Path(fourbeat.__file__).parent, []
    for file in sorted(home.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                given = [*node.args[1:2], *(each.value for each in node.keywords if each.arg == "category")]
                if not any(ast.unparse(each).endswith("Warning") for each in given):
                    without.append(f"{file.relative_to(home)}:{node.lineno}")
    assert without == []


def parted(name):
    return name.rpartition(".")


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
