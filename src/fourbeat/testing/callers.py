"""Which line of the user's own code is being run."""

import os
import sysconfig
from types import FrameType

_LIBRARIES = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    os.path.dirname(os.__file__) + os.sep,
)


def is_of_the_user(filename: str) -> bool:
    """Whether a file is neither of Python, nor of an installed package, nor of fourbeat.

    >>> is_of_the_user(os.__file__), is_of_the_user("/home/me/train.py")
    (False, True)
    """
    return not filename.startswith((*_LIBRARIES, "<frozen", "<string>"))


def line_of_the_user(frame: FrameType | None) -> str:
    """The innermost line of the user's code at or above a frame, as file:line; or an empty text."""
    while frame is not None:
        if is_of_the_user(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
