"""What the folders promise: no module hides a function, and imports make no circle."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import fourbeat

ROOT = Path(__file__).parent.parent
SOURCE = Path(fourbeat.__file__).parent


def packages():
    found = pkgutil.walk_packages(fourbeat.__path__, "fourbeat.")
    return ["fourbeat", *(module.name for module in found if module.ispkg)]


def test_no_module_has_the_name_of_what_its_package_hands_on():
    hidden = []
    for name in packages():
        package = importlib.import_module(name)
        own = {module.name for module in pkgutil.iter_modules(package.__path__)}
        for public in own & set(getattr(package, "__all__", ())):
            is_module = inspect.ismodule(getattr(package, public))
            hidden += [] if is_module else [f"{name}.{public}"]
    assert hidden == []


def imports_of(path, package, modules):
    """The modules of the package that a file imports, inside its functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name in modules and name != package)


@pytest.mark.parametrize("folder", [SOURCE, ROOT / "benchmarks"], ids=["src", "benchmarks"])
def test_imports_make_no_circle(folder):
    """Those for the names of types alone count too."""
    files = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts): path for path in folder.rglob("*.py")
    }
    graph = {name: set(imports_of(path, folder.name, files)) for name, path in files.items()}
    assert sum(map(len, graph.values())) > 50
    while free := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in free:
            del graph[name]
    assert graph == {}
