"""What lies outside of the object: globals, classes, closures, caches, generators."""

import functools
import random
import typing
from typing import Any

import jax
import numpy as np

from tests.functional.hazards.instances import UNSET
from tests.functional.hazards.row import Table, X

HAZARDS = Table()
hazard = HAZARDS.add


@hazard("global generator of random", ("step", X), refused="drew from random at outside.py:")
class GlobalRandom:
    def step(self, x):
        return x * random.random()


@hazard("global generator of NumPy", ("step", X), refused="drew from np.random at outside.py:")
class GlobalNumpyRandom:
    def step(self, x):
        return x * np.random.uniform()


@hazard("sentinel written", "step", refused="wrote mark.n (absent -> 1) at outside.py:")
class WritesSentinel:
    def __init__(self):
        self.mark = UNSET

    def step(self):
        self.mark.n = getattr(self.mark, "n", 0) + 1
        return self.mark.n


TOTAL = 0
SEEN: list[Any] = []


@hazard("global number", "step", refused="the global TOTAL (0 -> 1) at outside.py:")
class WritesGlobal:
    def step(self):
        global TOTAL
        TOTAL += 1
        return TOTAL


@hazard("global list", ("step", X), refused="wrote SEEN ([] -> [a traced float32[]])")
class WritesGlobalList:
    def step(self, x):
        SEEN.append(x)
        return x


@hazard("class attribute", "step", refused="wrote WritesClass.total (0 -> 1)")
class WritesClass:
    total = 0

    def step(self):
        type(self).total += 1
        return self.total


@hazard("class attribute that is new", ("step", X), refused="wrote NewOnClass.last (absent -> ")
class NewOnClass:
    def step(self, x):
        type(self).last = x
        return x


TABLES: dict[Any, Any] = {}
CALLS: dict[str, int] = {}


@hazard("memo in a global dict", ("step", X), ("step", X))
class Memo:
    def __init__(self):
        self.n = 0

    def step(self, x):
        if "table" not in TABLES:
            TABLES["table"] = np.arange(3.0)
        self.n += 1
        return (TABLES["table"] * x).sum() * self.n


@hazard("count in a global dict", ("step", X), refused="wrote CALLS['step'] (absent -> 1)")
class CountsGlobally:
    def step(self, x):
        CALLS["step"] = CALLS.get("step", 0) + 1
        return x


HISTORY: dict[str, str] = {}
SQUARES: dict[int, float] = {}


@hazard("text in a global dict", ("step", X), refused="wrote HISTORY['last'] (absent -> 'x')")
class WritesText:
    def step(self, x):
        HISTORY["last"] = "x"
        return x


@hazard("array put anew into a global dict", ("step", X), refused="wrote HISTORY['rows'] (absent -> [0 1])")
class WritesRows:
    def step(self, x):
        HISTORY["rows"] = np.arange(2)
        return x


@hazard(
    "global dict that gains a key in every call",
    ("step", X),
    refused="wrote HISTORY['call 0'] (absent",
)
class Logs:
    def step(self, x):
        HISTORY[f"call {len(HISTORY)}"] = "made"
        return x


@hazard("text that is new on the class", ("step", X), refused="wrote NewText.mode (absent -> 'b')")
class NewText:
    def step(self, x):
        type(self).mode = "b"
        return x


@hazard("text of the class", ("step", X), refused="wrote OldText.mode ('a' -> 'b')")
class OldText:
    mode = "a"

    def step(self, x):
        type(self).mode = "b"
        return x


@hazard("memo of a number in a global dict", ("step", X), ("step", X))
class MemoNumber:
    def __init__(self):
        self.n = 0

    def step(self, x):
        self.n += 1
        if 3 not in SQUARES:
            SQUARES[3] = 9.0
        return x * SQUARES[3] * self.n


@hazard("memo on the class", ("step", X), ("step", X))
class MemoOnClass:
    def __init__(self):
        self.n = 0

    def step(self, x):
        self.n += 1
        if not hasattr(type(self), "table"):
            type(self).table = np.arange(3.0)
        return (x * self.table).sum() * self.n


BIG = np.zeros(2**23 + 2**18)  # 68 MiB


@hazard("large global array", ("step", X), refused="wrote into BIG (69 MB) at outside.py:")
class WritesLarge:
    def step(self, x):
        BIG[5] += 1
        return x


@hazard("global array", ("step", X), refused="wrote SMALL (float64[1048576] -> float64[1048576])")
class WritesSmall:
    def step(self, x):
        SMALL[5] += 1
        return x


SMALL = np.zeros(2**20)


@hazard("list shared by the class", ("step", X), refused="wrote SharedByClass.items ([] -> [a traced ")
class SharedByClass:
    items: typing.ClassVar[list] = []

    def step(self, x):
        self.items.append(x)
        return x


@hazard("mutable default argument", ("step", X), refused="wrote step.__defaults__[0] ([] -> ")
class Default:
    def step(self, x, seen=()):
        seen.append(x)
        return x

    step.__defaults__ = ([],)


def _closing_class():
    total = 0

    class Closing:
        def step(self):
            nonlocal total
            total += 1
            return total

    return Closing()


hazard("closure of the class", "step", refused="wrote the nonlocal total (0 -> 1)")(_closing_class)


@hazard("lru_cache over self", "step", refused="filled the cache of CachedBySelf.table")
class CachedBySelf:
    def __init__(self):
        self.n = 2

    @functools.lru_cache  # noqa: B019
    def table(self):
        return self.n * 3

    def step(self):
        self.n += 1
        return self.table()


@hazard("method returns self", "step", refused="returned a ReturnsSelf")
class ReturnsSelf:
    def __init__(self):
        self.n = 0

    def step(self):
        self.n += 1
        return self


@hazard("tracer of an inner jit left behind", ("step", X), refused="unexpected tracer")
class Leaking:
    def __init__(self):
        self.last = 0.0

    def step(self, x):
        @jax.jit
        def inner(x):
            self.last = x * 2
            return x

        return inner(x)


def assert_untouched():
    """No row has left a trace of itself in this module."""
    assert (TOTAL, SEEN, CALLS, HISTORY, SMALL[5]) == (0, [], {}, {}, 0.0) and OldText.mode == "a"
