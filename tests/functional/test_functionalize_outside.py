"""One engine for the world outside: each hazard table runs through the other engine too, an outcome a row."""

import itertools
import os
import random
import sys
import time
import types
import uuid

import jax
import numpy as np
import pytest

from fourbeat.functional.functionalizing import functionalize
from fourbeat.functional.refusals import FunctionalizeError
from fourbeat.purity import check
from tests.functional import hazards
from tests.purity import impure_code
from tests.purity.clean_code import CLEAN

# The table of `functionalize` through the checker ---------------------------------------------------

# Rows whose plain method cannot be traced at all, by what tracing it raises: jit would raise the same.
RAISES = {
    "numpy ring buffer at a traced position": ValueError,
    "numpy element at a traced index": jax.errors.TracerArrayConversionError,
    "numpy copyto and aliases": ValueError,
    "numpy table beside one written": ValueError,
    "attributes that share numpy memory": ValueError,
    "a view kept as an attribute": ValueError,
    "int64 that does not fit": OverflowError,
    "float into an int array": TypeError,
    "method under nnx.jit in a plain class": TypeError,
    "method under jax.jit in a plain class": TypeError,
}
# Rows where a read of the outside changes the program: no slot of ours holds what a file has given.
WARNS = {"open file": "NONDETERMINISTIC", "queue": "NONDETERMINISTIC"}


@pytest.mark.parametrize("row", hazards.HAZARDS, ids=lambda row: row.name)
def test_the_checker_on_the_table_of_functionalize(row):
    """Every class of the table changes something in a call, so its methods are impure by themselves."""
    methods, reports = {name: args for name, *args in reversed(row.calls)}, []
    for name, args in methods.items():
        method = getattr(row.make(), name)
        if row.name in RAISES:
            with pytest.raises(RAISES[row.name]):
                check(method, *args)
            return
        reports.append(check(method, *args))
    if row.name in WARNS:
        assert [each.kind for report in reports for each in report.findings] == [WARNS[row.name]]
        return
    assert not all(report.ok for report in reports), [str(report) for report in reports]
    hazards.outside.assert_untouched()


# The table of the checker through `functionalize` ---------------------------------------------------

REFUSED = {  # by words of the refusal; every other row is made pure
    "counter under jax.jit already": "compiled or cached function",
    "static self, as in partial(jax.jit, static_argnums=0)": "unexpected tracer",
    "NumPy contents": "needs the Python value of array at containers.py:",
    "NumPy view with out=": "needs the Python value of array at containers.py:",
    "bytearray": "cannot make bytes explicit state: it is a bytearray",
    "global": "wrote the global TOTAL (0 -> 1) at names.py:",
    "global in a called function": "wrote TABLE['n'] (0 -> 1) at names.py:",
    "text in a global dict": "wrote HISTORY['last'] (absent -> 'x') at names.py:",
    "rows put anew into a global dict": "wrote HISTORY['rows'] (absent -> [0 1]) at names.py:",
    "text of a class": "wrote Config.mode ('a' -> 'b') at names.py:",
    "array of a class": "wrote Config.limits ([0. 0.] -> [0. 3.]) at names.py:",
    "environment variable set": "wrote os.environ['FOURBEAT_TEST'] (absent -> 'on') at names.py:",
    "environment variable written": "wrote os.environ['FOURBEAT_TEST'] (absent -> '1') at names.py:",
    "module attribute": "wrote SETTINGS.flag (0 -> 1) at names.py:",
    "class attribute": "wrote Shared.total (0 -> 1) at names.py:",
    "classmethod": "wrote Registry.names ([] -> ['x']) at names.py:",
    "function attribute": "wrote run.calls (0 -> 1) at names.py:",
    "inside a custom_vjp rule": "wrote rules['forward'] (0 -> 1) at names.py:",
    "list iterator": "it is an iterator (list_iterator), which a compiled call would advance once",
    "generator": "it is an iterator (generator), which a compiled call would advance once",
    "itertools.count": "it is an iterator (count), which a compiled call would advance once",
    "iterator used up at once": "cannot make last explicit state: it is an iterator",
    "tracer in an lru_cache": "left a traced value in the cache of table",
    "tracer of a scan body in a list": "unexpected tracer",
    "tracer in a global dict": "wrote STORE['x'] (absent -> a traced float32[3]) at leaks.py:",
    "linen module that keeps an activation": "wrote KEPT ([3.0] -> [3.0, a traced float32[]])",
    "static list of an Equinox module": "compiled or cached function (BoundMethod)",
    "np.random": "drew from np.random at readings.py:",
    "random": "drew from random at readings.py:",
    "np.random.Generator as an attribute": "numpy random generator",
    "random.Random as an attribute": "random random generator",
    "np.random.default_rng without a seed": "drew from os.urandom at readings.py:",
    "np.random.RandomState without a seed": "drew from os.urandom at readings.py:",
    "secrets": "drew from os.urandom at readings.py:",
    "time.time_ns": "read time.time_ns at readings.py:",
    "perf_counter for a duration": "read time.perf_counter at readings.py:",
    "datetime.now": "read datetime.now at readings.py:",
    "os.environ": "read os.environ['FOURBEAT_SCALE'] at readings.py:",
    "os.getenv": "read os.environ['FOURBEAT_SCALE'] at readings.py:",
}
CLEAN_REFUSED = {  # compiled methods of an object: `functionalize` takes the object itself
    "Equinox bound method": "a compiled or cached function",
    "fourbeat compiled step of a dict": "a compiled or cached function",
}
STATEFUL_ARGUMENTS = {  # how many arguments of the function hold state
    "NNX BatchNorm as an argument of plain jit": 1,
    "NNX static attribute of an argument": 1,
    "NNX Rngs as an argument": 1,
    "NNX optimizer as an argument of plain jit": 2,
    "dict argument": 1,
    "list argument": 1,
}


@pytest.fixture
def _process_state(monkeypatch):
    for name in ("FOURBEAT_TEST", "FOURBEAT_SCALE"):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)
    monkeypatch.setattr(impure_code.names, "TOTAL", 0)
    monkeypatch.setitem(impure_code.names.TABLE, "n", 0)
    monkeypatch.setattr(impure_code.names.SETTINGS, "flag", 0)
    states = random.getstate(), np.random.get_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def functionalized(row):
    """The pure function, its state and the arguments of a call: (call, state, args)."""
    fn, args, _ = row.make()
    if isinstance(fn, types.MethodType) and not isinstance(fn.__self__, type):
        F = functionalize(fn.__self__)
        return F.method(fn.__name__), F.init(methods={fn.__name__: args}), args
    num = STATEFUL_ARGUMENTS.get(row.name, 0)
    F = functionalize(fn, *args[:num])
    return F, F.init(*args[num:]), args[num:]


def called_three_times(row):
    call, state, given = functionalized(row)
    compiled, results = jax.jit(call), []
    for _ in range(3):
        out, state = compiled(state, *given)
        results.append(out)
    return results


@pytest.mark.usefixtures("_process_state")
@pytest.mark.parametrize("row", impure_code.HAZARDS, ids=lambda row: row.name)
def test_functionalize_on_the_table_of_the_checker(row):
    if row.name in REFUSED:
        with pytest.raises((FunctionalizeError, jax.errors.UnexpectedTracerError)) as raised:
            called_three_times(row)
        assert REFUSED[row.name] in str(raised.value)
        return
    fn, args, _ = row.make()
    expected = [jax.tree.map(np.asarray, fn(*args)) for _ in range(3)]
    for got, want in zip(called_three_times(row), expected, strict=True):
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6), got, want)


@pytest.mark.parametrize("name", CLEAN)
def test_functionalize_refuses_no_clean_code(name):
    """What the checker finds pure `functionalize` takes as it is; what it needs the value of stays static."""
    fn, args = CLEAN[name]()
    F = functionalize(fn)
    if name in CLEAN_REFUSED:
        with pytest.raises(FunctionalizeError, match=CLEAN_REFUSED[name]):
            F.init(*args)
        return
    out, _ = F(F.init(*args), *args)
    again, _ = CLEAN[name]()
    assert jax.tree.structure(out) == jax.tree.structure(again(*args))


# Places outside that a method reaches in other ways than by a global name ---------------------------


@pytest.fixture
def program(monkeypatch):
    """A module that the program made, with what a module may hold."""
    made = types.ModuleType("made_by_the_program")
    made.count, made.flags, made.table = 0, {"on": 1}, np.zeros(3)  # pyright: ignore
    made.ids, made.random, made.numpy = itertools.count(5), random.Random(0), np.random.default_rng(0)  # pyright: ignore
    made.cache = {}  # pyright: ignore
    made.clock = time.perf_counter  # pyright: ignore
    monkeypatch.setitem(sys.modules, "made_by_the_program", made)
    monkeypatch.delenv("FOURBEAT_TEST", raising=False)
    return made


WORLD = {"n": 0}


def _calls(n):
    _calls.num = n


WAYS = {
    "an attribute of a module": (lambda m: setattr(m, "count", m.count + 1), "wrote m.count (0 -> 1)"),
    "a global of the module of a closure": (lambda m: WORLD.update(n=1), "wrote WORLD['n'] (0 -> 1)"),
    "a dict in a module": (lambda m: m.flags.update(on=2), "wrote m.flags['on'] (1 -> 2)"),
    "an array in a module": (
        lambda m: m.table.__setitem__(1, 2.0),
        "wrote m.table ([0. 0. 0.] -> ",
    ),
    "an iterator of a module": (lambda m: next(m.ids), "advanced the iterator m.ids"),
    "a random.Random of a module": (lambda m: m.random.random(), "drew from m.random"),
    "a Generator of a module": (lambda m: float(m.numpy.normal()), "drew from m.numpy"),
    "a clock under another name": (lambda m: m.clock() % 1.0, "read time.perf_counter"),
    "the environment": (lambda m: os.environ.update(FOURBEAT_TEST="1"), "wrote os.environ['FOURBEAT_TEST']"),
    "a variable of the environment": (lambda m: len(os.environ.get("FOURBEAT_TEST", "")), "read os.environ"),
    "an identifier": (lambda m: uuid.uuid4().int % 7, "drew from os.urandom"),
    "an attribute of a function": (lambda m: _calls(1), "wrote _calls.num (absent -> 1)"),
}


def stepping(body, module):
    """An object whose methods run `body` on a module that they close over."""
    m = module

    class Counter:
        def __init__(self):
            self.n = 0

        def step(self):
            self.n += 1
            return self.n + (body(m) or 0)

        def stays(self):
            self.n += 1
            return self.n

    return Counter()


@pytest.mark.parametrize("way", WAYS)
def test_the_world_outside_is_refused_by_path_and_line(way, program):
    body, words = WAYS[way]
    counter = stepping(_through(body, program), program)
    with pytest.raises(FunctionalizeError) as raised:
        functionalize(counter).init(methods={"step": ()})
    text = str(raised.value)
    assert words in text and "at test_functionalize_outside.py:" in text
    assert "Repair: " in text
    assert counter.n == 0 and not check(counter.step).ok
    assert (program.count, program.flags, program.table.tolist()) == (0, {"on": 1}, [0.0, 0.0, 0.0])
    assert WORLD == {"n": 0} and not hasattr(_calls, "num") and "FOURBEAT_TEST" not in os.environ
    assert program.random.getstate() == random.Random(0).getstate()


def _through(body, module):
    """A function that closes over the module, as a helper of a program does."""
    return lambda _: body(module)


def test_a_method_that_init_has_left_out_is_refused_when_it_is_called(program):
    F = functionalize(stepping(lambda m: setattr(m, "count", 5), program))
    state = F.init()  # `stays` works, so `step` is left out
    value, state = jax.jit(F.stays)(state)
    assert int(value) == 1
    with pytest.raises(FunctionalizeError, match=r"wrote \w+\.count \(0 -> 5\)"):
        jax.jit(F.step)(state)
    assert program.count == 0


def test_a_memo_in_a_module_stays(program):
    def table(m):
        if "rows" not in m.cache:
            m.cache["rows"] = np.arange(3.0)
        return m.cache["rows"].sum()

    F = functionalize(stepping(_through(table, program), program))
    state = F.init(methods={"step": ()})
    for wanted in (4.0, 5.0):
        value, state = jax.jit(F.step)(state)
        assert float(value) == wanted
    assert list(program.cache) == ["rows"]


def test_the_text_of_a_refusal(program):
    counter = stepping(_through(lambda m: next(m.ids), program), program)
    with pytest.raises(FunctionalizeError) as raised:
        functionalize(counter).init(methods={"step": ()})
    before, _, after = str(raised.value).partition(" at test_functionalize_outside.py:")
    assert before == "Counter.step advanced the iterator m.ids"
    assert after.partition(", ")[2] == (
        "which lies outside the objects made explicit; every compiled call would use the same item.\n"
        "Repair: pass the next item as an argument, or keep an array and an index into it in attributes; an "
        "iterator cannot be put back."
    )
    clock = stepping(_through(lambda m: time.time(), program), program)
    with pytest.raises(FunctionalizeError) as raised:
        functionalize(clock).init(methods={"step": ()})
    before, _, after = str(raised.value).partition(" at test_functionalize_outside.py:")
    assert before == "Counter.step read time.time"
    assert after.partition("; ")[2] == (
        "every compiled call would use what was read then.\n"
        "Repair: read it before the call, and pass the value as an argument or keep it in an attribute."
    )
