"""Random calls of random methods on random object graphs, against the ordinary object."""

import jax
import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fourbeat.functional.functionalizing import functionalize
from tests.functional.comparing import assert_same, identities, mutable_parts


class Cell:
    def __init__(self, n, x, size):
        self.n, self.x, self.other = n, x, None
        self.bins = np.arange(size, dtype=np.float32)
        self.items, self.table = [n, x], {"n": n, "pair": (n, x)}


class Machine:
    """A graph of cells, and three methods that are programs over it."""

    def __init__(self, cells, links, programs):
        self.cells = [Cell(*values) for values in cells]
        for i, j in links:
            self.cells[i % len(cells)].other = self.cells[j % len(cells)]
        self.programs = programs

    def first(self, x):
        return self._run(self.programs[0], x)

    def second(self, x):
        return self._run(self.programs[1], x)

    def third(self, x):
        return self._run(self.programs[2], x)

    def _run(self, program, x):
        for name, i, j in program:
            here, there = self.cells[i % len(self.cells)], self.cells[j % len(self.cells)]
            OPERATIONS[name](here, there, x)
        return sum(cell.n + cell.x + cell.bins.sum() + sum(cell.items) for cell in self.cells)


def count(here, there, x):
    here.n += 1


def add(here, there, x):
    here.x = there.x * 0.5 + x


def exchange(here, there, x):
    here.n, there.n = there.n, here.n


def write(here, there, x):
    here.bins[1] += x
    there.bins[:2] *= 0.5


def put(here, there, x):
    here.items[0] = there.items[1]
    there.table["n"] += 1


def pair(here, there, x):
    left, right = here.table["pair"]
    here.table["pair"] = (left + 1, right + there.x)


def follow(here, there, x):
    if here.other is not None:
        here.other.n += 2
        here.other.other = there.other


def grow(here, there, x):
    if len(here.items) < 4:
        here.items.append(there.n)


def trade(here, there, x):
    here.table, there.table = there.table, here.table
    here.bins, there.bins = there.bins, here.bins


def rotate(here, there, x):
    here.items, there.items, here.table["held"] = there.items, here.items, here.items


def renew(here, there, x):
    here.table = dict(there.table)


PLAIN = (count, add, exchange, write, put, pair, follow, grow)
OPERATIONS = {f.__name__: f for f in (*PLAIN, trade, rotate, renew)}

index = st.integers(0, 2)
program = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), index, index), max_size=4)
cell = st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 1.5, -2.0]), st.integers(2, 3))
machine = st.tuples(
    st.lists(cell, min_size=1, max_size=3),
    st.lists(st.tuples(index, index), max_size=3),
    st.tuples(*[program.map(tuple)] * 3),
)
calls = st.lists(st.sampled_from(["first", "second", "third"]), min_size=1, max_size=5)


PHASES = (Phase.explicit, Phase.generate)  # shrinking would compile for minutes


def assert_law(built, names, compiled):
    ordinary, obj = Machine(*built), Machine(*built)
    F = functionalize(obj)
    state = F.init(np.float32(1))
    known, theirs = mutable_parts(obj), mutable_parts(ordinary)
    methods = {name: jax.jit(F.method(name)) if compiled else F.method(name) for name in names}
    for i, name in enumerate(names):
        expected = getattr(ordinary, name)(np.float32(i))
        value, state = methods[name](state, np.float32(i))
        np.testing.assert_allclose(value, expected, rtol=1e-4)
        if not compiled:
            F.commit(state)
            assert identities(obj, known) == identities(ordinary, theirs)
    F.commit(state)
    assert_same(obj, ordinary, kinds=False)  # a number that is a float at times is one always
    assert identities(obj, known) == identities(ordinary, theirs)


@settings(deadline=None, max_examples=15, derandomize=True, phases=PHASES)
@given(machine, calls)
def test_compiled_calls_equal_the_ordinary_object(built, names):
    assert_law(built, names, compiled=True)


@settings(deadline=None, max_examples=40, derandomize=True, phases=PHASES)
@given(machine, calls)
def test_uncompiled_calls_equal_the_ordinary_object(built, names):
    assert_law(built, names, compiled=False)
