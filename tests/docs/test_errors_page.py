"""The page of errors and warnings is the tree of the classes, each at its public home."""

import importlib
import inspect
import pkgutil

import fourbeat
from tests.docs.blocks import ROOT
from tests.docs.test_reference import DECLARED, NEVER_SEEN

PAGE = ROOT / "docs" / "reference" / "errors.md"


def classes_of_ours():
    """Every error and warning class that a file of fourbeat defines, but those of a file alone."""
    found = set()
    for module in pkgutil.walk_packages(fourbeat.__path__, "fourbeat."):
        if ".recipes" in module.name or module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            is_ours = inspect.isclass(value) and value.__module__.startswith("fourbeat.")
            is_error = is_ours and issubclass(value, BaseException)
            if is_error and not value.__name__.startswith("_") and value.__name__ not in NEVER_SEEN:
                found.add(value)
    return found


def home_of(each):
    """The name in the reference that is this class."""
    for name in DECLARED:
        module, _, attribute = name.rpartition(".")
        if attribute == each.__name__ and getattr(importlib.import_module(module), attribute, None) is each:
            return name
    raise AssertionError(f"{each.__module__}.{each.__name__} has no line in docs/reference")


def lines_below(base, classes, depth):
    lines = []
    for each in sorted((each for each in classes if each.__base__ is base), key=lambda each: each.__name__):
        name, about = home_of(each), inspect.cleandoc(each.__doc__).splitlines()[0]
        lines.append(f"{'    ' * depth}- [`{name.replace('fourbeat.', 'fb.', 1)}`][{name}]: {about}")
        lines += lines_below(each, classes, depth + 1)
    return lines


def tree(classes):
    """The lines of the page: each class of Python's that ours are made of, and ours below it."""
    bases = {each.__base__ for each in classes} - classes
    lines = []
    for base in sorted(bases, key=lambda base: (issubclass(base, Warning), base.__name__)):
        lines += [f"- `{base.__name__}`", *lines_below(base, classes, 1)]
    return lines


def test_every_error_and_warning_stands_on_the_page_below_its_base():
    classes = classes_of_ours()
    assert {"BadStepError", "CheckpointWarning", "LoopWarning"} <= {each.__name__ for each in classes}
    listed = [line for line in PAGE.read_text().splitlines() if line.lstrip().startswith("- ")]
    assert listed == tree(classes), "\n".join(tree(classes))
