"""Whether a slot that was filled is a memo: the function runs once more with a stand-in in it.

The stand-in stays where the slot is read back, and goes where a line writes whatever stands there.
"""

import copy
from typing import Any

import numpy as np

_COPIED = (list, dict, np.ndarray)


def stand_in(value: Any) -> Any:
    """An equal value that is another object, or, where there is none, an object that equals nothing.

    >>> word, rows = "table", [1, 2]
    >>> stand_in(word) == word, stand_in(rows) == rows, stand_in(rows) is rows
    (True, True, False)
    >>> stand_in(None) == None
    False
    """
    made = value
    if type(value) in _COPIED:
        made = copy.copy(value)
    elif type(value) in (int, float):
        made = type(value)(repr(value))
    elif type(value) in (str, tuple):
        made = value[:1] + value[1:]
    return object() if made is value else made
