"""`fourbeat check package.module:function`: the report as a table, and an exit status."""

import importlib
import os
import sys
from typing import Any

from fourbeat.purity.examining import check as check_function
from fourbeat.purity.report import Report
from fourbeat.types import Model, Object

_FITS_REPAIRS = 100  # columns; with fewer, repairs stand below the table, so that they can be copied


def check(target: str, args: str | None = None) -> int:
    """Prints which effects of a function `jax.jit` would lose.

    Args:
      target: `package.module:function`; `module:object.method` for a method of a module's object.
      args: a Python expression, evaluated in that module: a tuple of arguments, or one argument.

    Returns:
      The exit status: 0 when pure, 1 when impure.

    Raises:
      ValueError: the target is not found, the expression cannot be evaluated, or the function cannot be run:
        then the check knows nothing about it.
    """
    module, function = _find(target)
    arguments = _evaluated(args, module)
    try:
        report = check_function(function, *arguments)
    except (Exception, SystemExit) as error:
        needs = "" if arguments else " Give the arguments that it needs: --args '(...)'."
        raise ValueError(
            f"cannot check {target!r}: it failed with {type(error).__name__}: {error}.{needs}"
        ) from error
    _print(report)
    return 0 if report.ok else 1


def _find(target: str) -> tuple[Any, Any]:
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise ValueError(f"cannot check {target!r}: write it as package.module:function.")
    if os.getcwd() not in sys.path:  # as `python -m` does, for modules of the current folder
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"cannot check {target!r}: importing {module_name} failed with {error}. Run the command from "
            f"the folder that holds it, or install it."
        ) from error
    except (Exception, SystemExit) as error:  # a module may do anything while it is imported
        raise ValueError(
            f"cannot check {target!r}: importing {module_name} failed with {type(error).__name__}: {error}."
        ) from error
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            raise ValueError(f"cannot check {target!r}: {module_name} has no {path}.")
        found = getattr(found, name)
    return module, found


def _evaluated(expression: str | None, module: Model) -> tuple[Any, ...]:
    if expression is None:
        return ()
    try:
        value = eval(expression, dict(vars(module)))
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"cannot evaluate --args {expression!r} in {module.__name__}: {type(error).__name__}: {error}. "
            f"Names are looked up in that module; write a tuple for several arguments."
        ) from error
    return value if type(value) is tuple else (value,)


def _print(report: Report) -> None:
    from rich.console import Console

    console = Console()
    with console.capture() as drawn:
        _draw(report, console)
    print(drawn.get(), end="")  # rich itself would end the program with status 1 if the reader has left


def _draw(report: Report, console: Object) -> None:
    from rich.table import Table
    from rich.text import Text

    verdict = "pure" if report.ok else "impure"
    if not report.findings:
        console.print(Text(f"{report.name} is pure: no findings"))
        return
    table = Table(title=f"{report.name} is {verdict}", title_justify="left")
    is_narrow = console.width < _FITS_REPAIRS
    headings = ("level", "kind", "path", "before -> after", "line", "repair")
    for heading in headings[:-1] if is_narrow else headings:
        table.add_column(heading, overflow="fold")
    for finding in report.findings:
        values = "" if finding.before is None and finding.after is None else finding.values
        row = (finding.level, finding.kind, finding.path, values, finding.where, finding.repair)
        table.add_row(*(Text(str(cell)) for cell in row[: len(table.columns)]))
    console.print(table)
    for finding in report.findings if is_narrow else ():
        console.print(Text(f"{finding.path}: {finding.repair}"), soft_wrap=True)
