"""The entry point: commands to functions, errors to one line and an exit status."""

import contextlib
import functools
import importlib.util
import io
import itertools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

_Config = TypeVar("_Config")


def main(args: Sequence[str] | None = None) -> None:
    """Runs `fourbeat <command>`; exits with 0, with 2 after a user's error, with 128 + n after signal n."""
    _check_extra()
    args = sys.argv[1:] if args is None else list(args)
    is_to_train = args[:1] == ["train"] and not {"-h", "--help"} & set(args)
    if is_to_train and "jax" not in sys.modules:  # it takes a while; a first line comes at once
        print("fourbeat: loading JAX, building the model", file=sys.stderr, flush=True)

    def command() -> None:
        from fourbeat.cli.commands import commands

        known = commands(args)
        asked = [arg for arg in args[:1] if arg in known]
        parse = functools.partial(_tyro().extras.subcommand_cli_from_dict, known, prog="fourbeat", args=args)
        _parsed(parse, " ".join(["fourbeat", *asked]))()

    _run(command)


def run_file(recipe: str, config_type: type[_Config], train: Callable[[_Config], object]) -> None:
    """Runs a recipe's own file as `fourbeat train` runs the recipe: the same flags, errors and exit status.

    For the end of a file that `fourbeat new` wrote: `python train.py --steps 100`.

    Args:
      recipe: its name, that of its runs.
      config_type: a dataclass; its fields are the flags.
      train: takes the flags.
    """
    _check_extra()
    from fourbeat.cli.resuming import defaults

    prog = f"python {Path(sys.argv[0]).name}"

    def parse() -> Callable[[], object]:
        default = defaults(recipe, config_type, sys.argv[1:])
        config = _tyro().cli(config_type, prog=prog, default=default)
        return lambda: train(config)

    _run(lambda: _parsed(parse, prog)())


def _check_extra() -> None:
    for name in ("tyro", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            _fail(f"the command line needs {name}: pip install 'fourbeat[cli]'")


def _tyro() -> Any:
    import tyro

    return tyro


def _run(command: Callable[[], object]) -> None:
    from fourbeat.runs import Interrupted  # with JAX: after the first line

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log shows each line when it is printed
    try:
        command()
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(1 if stop.signal is None else 128 + stop.signal)
    except KeyboardInterrupt:
        print("stopped at once", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # who read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, OSError) as error:
        _fail(str(error))


def _parsed(parse: Callable[[], Callable[[], object]], command: str) -> Callable[[], object]:
    """What the arguments ask for. A usage error becomes one line and exit status 2."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return parse()
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        return lambda: _fail(_one_line(errors.getvalue(), command))


def _one_line(boxed: str, command: str) -> str:
    """The message of tyro's error box, and what there is to choose from, without box and help."""
    lines = [line.strip("│╭╮╰╯ ") for line in boxed.splitlines()[1:]]  # the first is the box's title
    below = itertools.dropwhile(_is_rule, lines)
    said = " ".join(itertools.takewhile(lambda line: not _is_rule(line), below))
    choices = [line.lower() for line in lines if line.startswith("Available subcommands")]
    return f"{'; '.join([said, *choices])} (see {command} --help)"


def _is_rule(line: str) -> bool:
    return not line.strip("─-")


def _fail(message: str) -> None:
    print(f"fourbeat: {message}", file=sys.stderr)
    sys.exit(2)
