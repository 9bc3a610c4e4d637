"""The text of every refusal a user can meet, and what the hazard table is worth."""

import statistics
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.functional import discovery, refusals
from fourbeat.functional.flattening import flatten
from fourbeat.functional.functionalizing import functionalize
from tests.functional import test_functionalize_hazards as table
from tests.functional.hazards import HAZARDS
from tests.functional.hazards.functions import JittedSelf, NnxJitted
from tests.functional.hazards.numbers import Branching
from tests.functional.hazards.numpy_arrays import LargeArray, NumpyFunction, Shared
from tests.functional.hazards.outside import (
    CachedBySelf,
    GlobalRandom,
    ReturnsSelf,
    WritesClass,
    WritesLarge,
    WritesText,
)
from tests.functional.hazards.refused import Labelled, Locked, NumpyRandom

TEXTS = {
    Branching: (
        "Branching.step needs the Python value of n at numbers.py:LINE: `if self.n % 2:`. It is "
        "state, so it is traced and has no Python value.\n"
        "Repair: use jnp.where or jax.lax.cond; or keep it out of the state with "
        "functionalize(..., static_paths=('n',)), which compiles once for each value."
    ),
    CachedBySelf: (
        "CachedBySelf.step filled the cache of CachedBySelf.table at outside.py:LINE, which remembers "
        "results by object and not by what the object holds.\n"
        "Repair: keep the result in an attribute, or cache a function of plain arguments."
    ),
    GlobalRandom: (
        "GlobalRandom.step drew from random at outside.py:LINE, which lies outside the objects made "
        "explicit; every compiled call would repeat the same numbers.\n"
        "Repair: keep a key, self.key = jax.random.key(seed), and split it in the method."
    ),
    JittedSelf: (
        "cannot make f explicit state: it is a compiled or cached function (PjitFunction) over a "
        "stateful object.\n"
        "Repair: keep the plain method, and compile outside: jax.jit(F.method)."
    ),
    Labelled: (  # how a tracer reads differs between JAX versions
        "cannot make log explicit state: it holds the text 'step LINE', which was made from a traced "
        "number.\n"
        "Repair: key by the number's position in an array, or keep the number out of the state with "
        "functionalize(..., static_paths=...)."
    ),
    LargeArray: (
        "cannot make a explicit state: 1099511627776 does not fit int32.\n"
        "Repair: start from a smaller number, or set jax_enable_x64."
    ),
    Locked: (
        "cannot make lock explicit state: it is a lock, which guards one process's objects.\n"
        "Repair: leave it outside: a pure function needs none."
    ),
    NnxJitted: (
        "NnxJitted.step passes a NnxJitted as self to a function under jax.jit or nnx.jit, which take "
        "arrays, pytrees and NNX modules; a NnxJitted is none of these.\n"
        "Repair: take the jit off that function, and compile outside: jax.jit(F.step)."
    ),
    NumpyFunction: (
        "NumpyFunction.push gives a traced value to NumPy at numpy_arrays.py:LINE: "
        "`return np.sqrt(self.total)`.\n"
        "Repair: jnp.sqrt in place of np.sqrt."
    ),
    NumpyRandom: (
        "cannot make rng explicit state: it is a numpy random generator, which a compiled call "
        "would ask once and repeat for ever.\n"
        "Repair: keep a key, self.key = jax.random.key(seed), and split it in the method."
    ),
    ReturnsSelf: (
        "ReturnsSelf.step returned a ReturnsSelf, which is not an array or a pytree of arrays.\n"
        "Repair: return the values you need; the object itself travels as the state."
    ),
    Shared: (
        "cannot make a explicit state: it is written in place and shares NumPy memory with b.\n"
        "Repair: keep one of the two attributes and take the view where it is used."
    ),
    WritesClass: (
        "WritesClass.step wrote WritesClass.total (0 -> 1) at outside.py:LINE, which lies outside the "
        "objects made explicit; a compiled call would run that line once.\n"
        "Repair: keep it in an attribute, or return it; WritesClass.total was put back."
    ),
    WritesLarge: (
        "WritesLarge.step wrote into BIG (69 MB) at outside.py:LINE, which lies outside the objects made "
        "explicit; a compiled call would run that line once.\n"
        "Repair: keep it in an attribute, or return it; arrays above 64 MiB are not put back."
    ),
    WritesText: (
        "WritesText.step wrote HISTORY['last'] (absent -> 'x') at outside.py:LINE, which lies outside the "
        "objects made explicit; a compiled call would run that line once.\n"
        "Repair: keep it in an attribute, or return it; HISTORY['last'] was put back."
    ),
}


@pytest.mark.parametrize("kind", TEXTS, ids=lambda kind: kind.__name__)
def test_text_of_a_refusal(kind):
    row = next(row for row in HAZARDS if row.make is kind)
    methods = {name: args for name, *args in row.calls}
    with pytest.raises(refusals.FunctionalizeError) as raised:
        functionalize(kind()).init(methods=methods)
    text = str(raised.value)
    if "LINE" in TEXTS[kind]:
        before, _, after = TEXTS[kind].partition("LINE")
        assert text.startswith(before) and text.endswith(after)
    else:
        assert text == TEXTS[kind]


def test_text_of_an_unseen_numpy_write():
    class Tally:
        def __init__(self):
            self.bins = np.zeros(2)

        def read(self):
            return self.bins.sum()

        def push(self, x):
            self.bins[0] = x

    F = functionalize(Tally())
    with pytest.raises(refusals.UnseenWriteError) as raised:
        jax.jit(F.push)(F.init(), 1.0)
    before, _, after = str(raised.value).partition(".py:")
    assert before == "Tally.push writes the NumPy array bins in place at test_functionalize_refusals"
    assert after.partition(": ")[2] == (
        "`self.bins[0] = x`. F.init did not see that write, so the array is read-only.\n"
        "Repair: F.init(..., methods={'push': (its arguments,)}), or "
        "functionalize(..., state_paths=('bins',))."
    )
    G = functionalize(Tally(), state_paths=("bins",))
    _, state = jax.jit(G.push)(G.init(), 1.0)
    np.testing.assert_array_equal(state["bins"], [1, 0])


def test_text_for_what_is_no_state_and_no_method():
    class Counter:
        def __init__(self):
            self.n = 0

        def count(self):
            self.n += 1

    F = functionalize(Counter())
    with pytest.raises(refusals.FunctionalizeError) as raised:
        F.count(3)
    assert str(raised.value) == (
        "F.count takes the state first and got int.\n"
        "Repair: state = F.init(...); out, state = F.count(state, ...)."
    )
    with pytest.raises(AttributeError, match="Counter has no method 'cuont'"):
        _ = F.cuont
    with pytest.raises(AttributeError, match="Counter has no method 'cuont'"):
        F.init(methods={"count": (), "cuont": ()})
    with pytest.raises(refusals.FunctionalizeError) as raised:
        F.init(3, by=1.0)
    assert str(raised.value) == (
        'no method of Counter accepts (int, by=float).\nRepair: F.init(methods={"name": (its arguments,)}).'
    )
    with pytest.raises(AttributeError, match=r"n is an attribute.*read it from a state: state\['n'\]"):
        _ = F.n


def test_a_branch_in_the_standard_library_names_the_line_that_called_it():
    class Middling:
        def __init__(self):
            self.n = 0

        def step(self):
            self.n += 1
            return statistics.median([self.n, 2, 3])

    with pytest.raises(refusals.FunctionalizeError) as raised:
        functionalize(Middling()).init()
    text = str(raised.value)
    assert text.startswith("Middling.step needs the Python value of n at test_functionalize_refusals.py:")
    assert "`return statistics.median([self.n, 2, 3])`" in text


def test_a_lock_inside_is_only_refused_where_it_is_used():
    class Guarded:
        def __init__(self):
            self.lock, self.n = threading.Lock(), jnp.zeros(())

        def free(self):
            self.n = self.n + 1
            return self.n

        def locked(self):
            with self.lock:
                return self.n

    F = functionalize(Guarded())
    value, state = jax.jit(F.free)(F.init())
    assert float(value) == 1.0
    with pytest.raises(refusals.FunctionalizeError, match="cannot make lock explicit state"):
        jax.jit(F.locked)(state)


def test_the_table_sees_that_discovery_is_switched_off(monkeypatch):
    def nothing(roots, names, policy, candidates):
        return flatten(roots, names, policy, copy=True)

    monkeypatch.setattr("fourbeat.functional.functionalizing.discover", nothing)
    names = ("int counter", "running mean that starts at int 0", "numpy element written in place")
    for row in HAZARDS:
        if row.name in names:
            with pytest.raises((AssertionError, UserWarning, refusals.FunctionalizeError)):
                table.test_behaves_as_the_ordinary_object(row)


def test_the_table_sees_one_round_of_discovery(monkeypatch):
    rounds, changes = [], discovery._changes

    def once(*args):
        rounds.append(args)
        return changes(*args) if len(rounds) == 1 else {}

    monkeypatch.setattr(discovery, "_changes", once)
    row = next(row for row in HAZARDS if row.name == "a number that two calls reach")
    with pytest.raises((AssertionError, UserWarning)):
        table.test_behaves_as_the_ordinary_object(row)
