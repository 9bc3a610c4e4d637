"""The entry point: commands to functions, errors to one line and an exit status."""

import contextlib
import io
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence

from fourbeat.runs import Interrupted


def main(args: Sequence[str] | None = None) -> None:
    """Runs `fourbeat <command>`; exits with 0, with 2 after a user's error, with 128 + n after signal n."""
    args = sys.argv[1:] if args is None else list(args)
    try:
        import matplotlib  # noqa: F401
        import tyro  # noqa: F401
    except ImportError as error:
        _fail(f"the command line needs {error.name}: pip install 'fourbeat[cli]'")
    try:
        _parsed(args)()
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(1 if stop.signal is None else 128 + stop.signal)
    except KeyboardInterrupt:
        print("stopped at once", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        _fail(str(error))


def _parsed(args: list[str]) -> Callable[[], object]:
    """The command that the arguments ask for. A usage error becomes one line and exit status 2."""
    import tyro

    from fourbeat.cli.commands import commands

    known, errors = commands(args), io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.extras.subcommand_cli_from_dict(known, prog="fourbeat", args=args)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        return lambda: _fail(_one_line(errors.getvalue(), args, known))


def _one_line(boxed: str, args: list[str], commands: Iterable[str]) -> str:
    """The message of tyro's error box, and what there is to choose from, without box and help."""
    lines = [line.strip("│╭╮╰╯ ") for line in boxed.splitlines()[1:]]  # the first is the box's title
    below = itertools.dropwhile(_is_rule, lines)
    said = " ".join(itertools.takewhile(lambda line: not _is_rule(line), below))
    choices = [line.lower() for line in lines if line.startswith("Available subcommands")]
    command = [arg for arg in args[:1] if arg in commands]
    return f"{'; '.join([said, *choices])} (see {' '.join(['fourbeat', *command])} --help)"


def _is_rule(line: str) -> bool:
    return not line.strip("─-")


def _fail(message: str) -> None:
    print(f"fourbeat: {message}", file=sys.stderr)
    sys.exit(2)
