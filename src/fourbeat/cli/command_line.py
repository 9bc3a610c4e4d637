"""The entry point: commands to functions, errors to one line and an exit status."""

import contextlib
import functools
import importlib.util
import io
import itertools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fourbeat.cli.joining import taken_out
from fourbeat.distributed.failures import is_to_be_printed
from fourbeat.runs import Diverged, Interrupted, lost_output
from fourbeat.runs.printing import printable

_Config = TypeVar("_Config")

_HELP = {"-h", "--help"}
_ABOUT = "You write the training loop; fourbeat makes its hard parts correct. `--version` says which it is."
_TRACEBACK = "FOURBEAT_TRACEBACK"  # where it is set, errors come with their traceback


def main(args: Sequence[str] | None = None) -> None:
    """Runs `fourbeat <command>`.

    Exits with 0; with 1 where a run's result is not finite, or a function that was checked is impure;
    with 2 after an error, which is told in one line; with 128 + n after signal n.
    """
    given = sys.argv[1:] if args is None else list(args)

    def command() -> None:
        args = given
        if args[:1] == ["--version"]:
            print(f"fourbeat {metadata.version('fourbeat')}")
            return
        _check_extra()
        is_to_train, is_first = args[:1] == ["train"] and not _HELP & set(args), True
        is_loading = is_to_train and "jax" not in sys.modules
        processes = None
        if is_to_train:
            processes, args = taken_out(args)
            is_first = processes.speaks
        with _loading_is_shown() if is_loading and is_first else contextlib.nullcontext():
            if processes is not None:
                processes.join()
            from fourbeat.cli.commands import commands
            from fourbeat.recipes import RECIPES

            known = commands(args)
            asked = [arg for arg in args[:1] if arg in known]
            asked += [arg for arg in args[1:2] if is_to_train and arg in RECIPES]
            cli = _tyro().extras.subcommand_cli_from_dict
            parse = functools.partial(cli, known, prog="fourbeat", description=_ABOUT, args=args)
            run = _parsed(parse, args, " ".join(["fourbeat", *asked]))
        if is_loading and is_first:  # the backend starts, and the model is built: that takes a while
            print("fourbeat: loading JAX, building the model", file=sys.stderr, flush=True)
        run()

    _run(command)


def run_file(recipe: str, config_type: type[_Config], train: Callable[[_Config], object]) -> None:
    """Runs a recipe's own file as `fourbeat train` runs the recipe: the same flags, errors and exit status.

    For the end of a file that `fourbeat new` wrote: `python train.py --steps 100`. An error that
    fourbeat did not raise keeps its traceback, because it comes from the file.

    Args:
      recipe: the recipe's name, which its runs have too.
      config_type: a dataclass; its fields are the flags.
      train: takes the flags.
    """
    prog = f"python {Path(sys.argv[0]).name}"

    def parse(args: Sequence[str]) -> Callable[[], object]:
        from fourbeat import runs
        from fourbeat.cli.resuming import defaults

        default = defaults(recipe, config_type, args)
        config = _tyro().cli(config_type, prog=prog, default=default, args=args)
        runs.check_flags(config)
        return lambda: train(config)

    def command() -> None:
        _check_extra()
        processes, args = taken_out(sys.argv[1:])
        if not _HELP & set(args):
            processes.join()
        _parsed(functools.partial(parse, args), args, prog)()

    _run(command, is_users_code=True)


def _check_extra() -> None:
    for name in ("tyro", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            _fail(f"the command line needs {name}: pip install 'fourbeat[cli]'")


def _tyro() -> Any:
    import tyro

    return tyro


@contextlib.contextmanager
def _loading_is_shown() -> Iterator[None]:
    """In a terminal a line is shown at once; it is cleared before anything else is printed."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if is_terminal:
        print("fourbeat: loading JAX", end="\r", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if is_terminal:
            print("\x1b[2K", end="", file=sys.stderr, flush=True)


def _run(command: Callable[[], object], *, is_users_code: bool = False) -> None:
    """Runs a command. Whatever it raises ends here, in one line and an exit status."""
    _prepare_streams()
    try:
        command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except Interrupted as stop:
        if is_to_be_printed(stop):
            _say(str(stop))
        sys.exit(1 if stop.signal is None else 128 + stop.signal)
    except KeyboardInterrupt as error:
        if is_to_be_printed(error):
            _say("stopped at once")
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output, such as `head`, closed it
        sys.exit(128 + signal.SIGPIPE)
    except Diverged as error:
        _fail(str(error), status=1, is_said=is_to_be_printed(error))
    except Exception as error:
        if os.environ.get(_TRACEBACK):
            raise
        is_said = is_to_be_printed(error)
        if isinstance(error, _known_errors()):
            _fail(str(error) or type(error).__name__, is_said=is_said)
        if is_users_code:
            raise
        where = f"({_TRACEBACK}=1 in the environment shows where)"
        _fail(f"{type(error).__name__}: {error} {where}", is_said=is_said)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except OSError:
                lost_output.drop(stream)


def _known_errors() -> tuple[type[Exception], ...]:
    """The errors about bad input, the machine or a damaged run: their text says everything."""
    # where a package is not loaded, it raised nothing
    homes = {
        "checkpoints": "CheckpointError",
        "distributed.agreement": "PeerError",
        "distributed.joining": "JoinError",
    }
    loaded = {name: sys.modules.get(f"fourbeat.{home}") for home, name in homes.items()}
    ours = (getattr(module, name) for name, module in loaded.items() if module is not None)
    return (ValueError, OSError, MemoryError, ImportError, *ours)


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed when the program began
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            # a log shows each line when it is printed; a character that the encoding lacks is escaped
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def _parsed(
    parse: Callable[[], Callable[[], object]], args: Sequence[str], command: str
) -> Callable[[], object]:
    """The command that the arguments ask for. A usage error becomes one line and exit status 2."""
    errors = io.StringIO()
    columns = os.environ.get("COLUMNS")
    if not _HELP & set(args):
        os.environ["COLUMNS"] = "10000"  # otherwise tyro would break an error's text at the screen's width
    try:
        with contextlib.redirect_stderr(errors):
            return parse()
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(_message_of(errors.getvalue(), command)) from None
    finally:
        if columns is None:
            os.environ.pop("COLUMNS", None)
        else:
            os.environ["COLUMNS"] = columns


def _message_of(boxed: str, command: str) -> str:
    """The message of tyro's error box, and what there is to choose from, without box and help."""
    lines = [line.strip("│╭╮╰╯ ") for line in boxed.splitlines()[1:]]  # the first is the box's title
    below = itertools.dropwhile(_is_rule, lines)
    said = " ".join(itertools.takewhile(lambda line: not _is_rule(line), below))
    choices = [line.lower() for line in lines if line.startswith("Available subcommands")]
    meant = _similar_flags(lines, command)
    choices += [f"perhaps you meant {' or '.join(meant)}"] if meant else []
    return f"{'; '.join([said, *choices])} (see {command} --help)"


def _similar_flags(lines: Sequence[str], command: str) -> list[str]:
    """The flags that tyro's error box finds to be like an unknown one, those of other commands left out."""
    homes: dict[tuple[str, str], list[str]] = {}  # the commands that have a flag, by what it is like
    title, names = "", []
    for line in lines:
        if line.startswith(("Perhaps you meant:", "Arguments similar to ")):
            title = line
        elif title and (flags := re.match(r"--[a-z][\w-]*(, --[a-z][\w-]*)*( |$)", line)):
            names = homes.setdefault((title, flags[0].strip().replace(",", " or")), [])
        elif line.startswith("in ") and line.endswith(" --help"):
            names.append(line.removeprefix("in ").removesuffix(" --help"))
    # of several unknown ones tyro takes any first
    in_order = sorted(homes, key=lambda home: home[0])
    return list(dict.fromkeys(home[1] for home in in_order if command in homes[home] or not homes[home]))


def _is_rule(line: str) -> bool:
    return not line.strip("─-")


def _fail(message: str, *, status: int = 2, is_said: bool = True) -> NoReturn:
    lines = (line.strip() for line in message.splitlines())
    if is_said:
        _say(f"fourbeat: {printable(' '.join(line for line in lines if line))}")
    sys.exit(status)


def _say(message: str) -> None:
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)
