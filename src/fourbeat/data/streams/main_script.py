"""Whether a process that is spawned now would run the whole main script again."""

import ast
import linecache
import sys
from types import FrameType


def refuse_unguarded(why: str) -> None:
    """Raises where the main script is running outside of `if __name__ == "__main__"`.

    A spawned process imports the main script first. An unguarded script would train there too and start
    processes in turn, which Python refuses in the spawned process, far from the cause.

    Raises:
      RuntimeError: the main script is unguarded. No process was started.
    """
    main = sys.modules.get("__main__")
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and main is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is vars(main):
            path, line = frame.f_code.co_filename, frame.f_lineno
            if getattr(main, "__file__", None) is not None and not _is_guarded(path, line):
                raise RuntimeError(
                    f"{why}, and each of them runs {path} again up to its end: line {line} is not under "
                    'if __name__ == "__main__":. Put what trains there, or into a function that is called '
                    "there."
                )
        frame = frame.f_back


def _is_guarded(path: str, line: int) -> bool:
    """Whether a line of a script is below an `if __name__ == "__main__"`; True where that is unknown."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:
        return True
    around = [
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.stmt) and each.lineno <= line <= (each.end_lineno or line)
    ]
    is_guard = [isinstance(each, ast.If) and "__name__" in ast.unparse(each.test) for each in around]
    return any(is_guard) or not around
