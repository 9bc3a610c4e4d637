"""Globals, nonlocals, classes, modules and functions."""

import os
import types

import jax
import numpy as np

from tests.purity.impure_code.row import ANY, Table, X

HAZARDS = Table()
hazard = HAZARDS.add


TOTAL = 0
TABLE = {"n": 0}
SETTINGS = types.ModuleType("tests_purity_settings")
SETTINGS.__file__ = os.path.join(os.path.dirname(__file__), "settings.py")
SETTINGS.__name__ = __name__.rpartition(".")[0] + ".settings"
SETTINGS.flag = 0  # pyright: ignore


@hazard("global", ("WRITE", "TOTAL", ANY, ANY))
def global_name():
    def run(x):
        global TOTAL
        TOTAL += 1  # here
        return x * TOTAL

    return run, (X,), lambda: TOTAL


@hazard("global in a called function", ("WRITE", "TABLE['n']", ANY, ANY))
def global_dict():
    return _calls_bump, (X,), lambda: TABLE["n"]


def _calls_bump(x):
    return x * _bump()


def _bump():
    TABLE["n"] += 1  # here
    return TABLE["n"]


HISTORY: dict = {}


class Config:
    mode, limits = "a", np.zeros(2)


@hazard("text in a global dict", ("WRITE", "HISTORY['last']", "absent", "x"))
def global_text():
    HISTORY.clear()
    return _writes_text, (X,), lambda: HISTORY.pop("last", None)


def _writes_text(x):
    HISTORY["last"] = "x"  # here
    return x


@hazard("rows put anew into a global dict", ("WRITE", "HISTORY['rows']", "absent", "[0 1]"))
def global_rows():
    HISTORY.clear()
    return _writes_rows, (X,), lambda: HISTORY.pop("rows", None)


def _writes_rows(x):
    HISTORY["rows"] = np.arange(2)  # here
    return x


@hazard("text of a class", ("WRITE", "Config.mode", "a", "b"))
def class_text():
    def look():
        seen, Config.mode = Config.mode, "a"
        return seen

    Config.mode = "a"
    return _writes_mode, (X,), look


def _writes_mode(x):
    Config.mode = "b"  # here
    return x


@hazard("array of a class", ("WRITE", "Config.limits", "[0. 0.]", "[0. 3.]"))
def class_array():
    def look():
        seen = Config.limits.tolist()
        Config.limits[:] = 0
        return seen

    Config.limits[:] = 0
    return _writes_limits, (X,), look


def _writes_limits(x):
    Config.limits[1] = 3  # here
    return x


@hazard("flag of an object", ("WRITE", "self.seen", False, True), ("WRITE", "self.shape", None, "(3,)"))
def flag():
    class Seen:
        def __init__(self):
            self.seen, self.shape = False, None

        def run(self, x):
            self.seen, self.shape = True, x.shape  # here
            return x

    made = Seen()

    def look():
        seen, made.seen, made.shape = (made.seen, made.shape), False, None
        return seen

    return made.run, (X,), look


@hazard("list emptied and filled", ("WRITE", "rows", "[]", "['x']"))
def list_refilled():
    rows: list = []

    def run(x):
        rows.clear()
        rows.append("x")  # here
        return x

    def look():
        seen = list(rows)
        rows.clear()
        return seen

    return run, (X,), look


@hazard("environment variable set", ("WRITE", "os.environ['FOURBEAT_TEST']", "absent", "on"))
def environment_set():
    os.environ.pop("FOURBEAT_TEST", None)

    def run(x):
        os.environ["FOURBEAT_TEST"] = "on"  # here
        return x

    return run, (X,), lambda: os.environ.pop("FOURBEAT_TEST", None)


@hazard("module attribute", ("WRITE", "SETTINGS.flag", ANY, ANY))
def module_attribute():
    def run(x):
        SETTINGS.flag += 1  # here
        return x * SETTINGS.flag

    return run, (X,), lambda: SETTINGS.flag


@hazard("nonlocal", ("WRITE", "n", 0, 1))
def nonlocal_name():
    n = 0

    def run(x):
        nonlocal n
        n += 1  # here
        return x * n

    return run, (X,), lambda: n


@hazard("class attribute", ("WRITE", "Shared.total", 0, 1))
def class_attribute():
    class Shared:
        total = 0

        def count(self, x):
            type(self).total += 1  # here
            return x * self.total

    return Shared().count, (X,), lambda: Shared.total


@hazard("classmethod", ("WRITE", "Registry.names", "[]", "['x']"))
def class_method():
    class Registry:
        names: list = []  # noqa: RUF012

        @classmethod
        def register(cls, x):
            cls.names.append("x")  # here
            return x * len(cls.names)

    return Registry.register, (X,), lambda: list(Registry.names)


@hazard("function attribute", ("WRITE", "run.calls", 0, 1))
def function_attribute():
    def run(x):
        run.calls += 1  # here
        return x * run.calls

    run.calls = 0
    return run, (X,), lambda: run.calls


@hazard("mutable default", ("WRITE", ANY, "[]", "[1]"))
def mutable_default():
    def run(x, seen=[]):  # noqa: B006
        seen.append(1)  # here
        return x * len(seen)

    return run, (X,), lambda: len(run.__defaults__[0])


@hazard("inside a scan body", ("WRITE", "traces", "[]", "['body']"))
def in_scan():
    traces: list = []

    def run(x):
        def body(carry, row):
            traces.append("body")  # here
            return carry + row, row

        return jax.lax.scan(body, 0.0, x)[0]

    return run, (X,), lambda: len(traces)


@hazard("inside a custom_vjp rule", ("WRITE", "rules['forward']", 0, 1))
def in_custom_vjp():
    rules = {"forward": 0}

    @jax.custom_vjp
    def same(x):
        return x

    def forward(x):
        rules["forward"] += 1  # here
        return x, None

    same.defvjp(forward, lambda _, g: (g,))

    def run(x):
        out, pull = jax.vjp(same, x)
        return pull(out * rules["forward"])

    return run, (X,), lambda: rules["forward"]


@hazard(
    "environment variable written",
    ("WRITE", "os.environ['FOURBEAT_TEST']", "absent", "1"),
    ("WRITE", "n", 0, 1),
)
def environment_written():
    os.environ.pop("FOURBEAT_TEST", None)
    n = 0

    def run(x):
        nonlocal n
        n, os.environ["FOURBEAT_TEST"] = n + 1, str(n + 1)  # here
        return x

    return run, (X,), lambda: os.environ.pop("FOURBEAT_TEST", None)
