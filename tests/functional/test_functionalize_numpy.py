"""In-place NumPy writes with a value that is NumPy's in an ordinary call and traced in a compiled one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.functional.functionalizing import functionalize
from fourbeat.functional.refusals import FunctionalizeError, UnseenWriteError
from tests.functional.comparing import assert_same

X = np.arange(1.0, 4.0, dtype=np.float32)


class Holder:
    def __init__(self):
        self.h = np.zeros((3, 3), np.float32)
        self.same, self.n = self.h, 0
        self.items, self.table = [np.zeros(3, np.float32)], {"a": np.ones((2, 3), np.float32)}


def row_view(self, x):
    r = self.h[1]
    r += x
    return r.sum()


def slice_view(self, x):
    r = self.h[:, 1:]
    r -= x[1:]
    return self.h.sum()


def transposed(self, x):
    t = self.h.T
    t += x
    return self.h[0].sum()


def flat_view(self, x):
    r = self.h.reshape(-1)
    r += x.sum()
    return r[0]


def rows_of_a_loop(self, x):
    for row in self.h:
        row += x
    return self.h.sum()


def zipped_rows(self, x):
    for row, k in zip(self.h, range(3), strict=True):
        row += x * k
    return self.h.sum()


def attribute_and_its_alias(self, x):
    self.h += x
    return self.same.sum()


def out_argument(self, x):
    np.add(self.h, x, out=self.h)
    return self.h.sum()


def item_of_a_list(self, x):
    r = self.items[0]
    r += x
    return r.sum()


def row_of_a_dict(self, x):
    r = self.table["a"][0]
    r *= x
    return self.table["a"].sum()


def number_that_is_state(self, x):
    self.n += 1
    r = self.h[1]
    r += self.n
    return self.h.sum()


def helper_function(self, x):
    _add(self.h[2], x)
    return self.h.sum()


def _add(row, x):
    row += 2 * x + 1


def raveled(self, x):
    r = np.ravel(self.h)
    r += x.sum()
    return self.h.sum()


def moved_axes(self, x):
    r = np.moveaxis(np.swapaxes(self.h, 0, 1), 0, -1)
    r += x[:, None]
    return (self.h * x).sum()


def squeezed(self, x):
    r = self.h.squeeze()
    r += x
    return self.h.sum()


def split_in_two(self, x):
    _, b = np.split(self.h, [1])
    b += x
    return self.h.sum()


def new_axis(self, x):
    r = self.h[..., None]
    r += x[None, :, None]
    return self.h.sum()


def item_beside_a_view(self, x):
    self.h[0] = x
    r = self.h[1]
    r += x
    return self.h.sum()


def many_operators(self, x):
    r = self.h[1]
    r += 1
    r **= x
    r /= 2
    r -= x
    return self.h.sum()


METHODS = [
    *(row_view, slice_view, transposed, flat_view, rows_of_a_loop, zipped_rows, attribute_and_its_alias),
    *(out_argument, item_of_a_list, row_of_a_dict, number_that_is_state, helper_function, raveled),
    *(moved_axes, squeezed, split_in_two, new_axis, item_beside_a_view, many_operators),
]
ALWAYS_WRITES = [number_that_is_state, out_argument, item_beside_a_view, many_operators]


def holding(method):
    return type("Made", (Holder,), {"step": method})()


def run(method, example, x):
    """Three ordinary calls, and three compiled ones of a state that `init` found with `example`."""
    ordinary, obj = holding(method), holding(method)
    expected = [float(ordinary.step(x)) for _ in range(3)]
    F = functionalize(obj)
    state, results, step = F.init(example), [], jax.jit(F.step)
    for _ in range(3):
        value, state = step(state, x)
        results.append(float(value))
    F.commit(state)
    np.testing.assert_allclose(results, expected, rtol=1e-5)
    assert_same(obj, ordinary)


@pytest.mark.parametrize("example", [X, 0 * X], ids=["the values", "zeros"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_write_by_numpy_is_found(method, example):
    run(method, example, X)


@pytest.mark.parametrize(
    "method", [each for each in METHODS if each not in ALWAYS_WRITES], ids=lambda method: method.__name__
)
def test_a_jax_value_makes_a_new_array_in_both(method):
    """`row += x` with a JAX x gives a new array in an ordinary call too, and leaves the view alone."""
    run(method, jnp.asarray(X), jnp.asarray(X))


@pytest.mark.parametrize("method", [item_beside_a_view, many_operators], ids=lambda method: method.__name__)
def test_a_jax_value_beside_a_write_is_refused(method):
    """NumPy writes the array in one line and makes a new one in another: a box could only write."""
    with pytest.raises(FunctionalizeError) as raised:
        functionalize(holding(method)).init(jnp.asarray(X))
    before, _, after = str(raised.value).partition(" at test_functionalize_numpy.py:")
    assert before == "Made.step has an operator such as += between a NumPy array and a JAX value"
    assert after.partition(". ")[2] == (
        "In an ordinary call that makes a new array and leaves NumPy's as it is; in a compiled one it cannot "
        "be told from a write.\nRepair: row = row + x for a new array, row[...] += x for a write."
    )


class TwoMethods(Holder):
    def read(self):
        return self.h.sum()

    def push(self, x):
        r = self.h[1]
        r += x
        return self.h.sum()


def test_a_write_that_init_has_not_seen_is_refused():
    F = functionalize(TwoMethods())
    with pytest.raises(UnseenWriteError) as raised:
        jax.jit(F.push)(F.init(), X)
    before, _, after = str(raised.value).partition(" in place at test_functionalize_numpy.py:")
    assert before == "TwoMethods.push writes the NumPy array h"
    assert after.partition(": ")[2] == (
        "`r += x`. F.init did not see that write, so the array is read-only.\n"
        "Repair: F.init(..., methods={'push': (its arguments,)}), or functionalize(..., state_paths=('h',))."
    )
    G = functionalize(TwoMethods())
    value, _ = jax.jit(G.push)(G.init(methods={"read": (), "push": (X,)}), X)
    assert float(value) == 6.0


def test_the_users_arrays_are_left_alone():
    obj, x = holding(row_view), X.copy()
    functionalize(obj).init(x)
    np.testing.assert_array_equal(obj.h, np.zeros((3, 3)))
    np.testing.assert_array_equal(x, X)


def test_a_write_through_asarray_is_refused():
    def through(self, x):
        r = np.asarray(self.h)
        r += x
        return self.h.sum()

    with pytest.raises(FunctionalizeError) as raised:
        functionalize(holding(through)).init(X)
    assert str(raised.value) == (
        "Made.step writes into the NumPy array h through np.asarray, or a NumPy function that takes it as it "
        "is; while the method is traced that is a copy, and the write is lost.\n"
        "Repair: write into the attribute itself, h[...] = ..., or a slice of it."
    )


def test_reading_through_asarray_is_no_write():
    def reads(self, x):
        return (np.asarray(self.h) + x).sum()

    run(reads, X, X)


@pytest.mark.parametrize("name", ["real", "shape", "flat"])
def test_setting_an_attribute_of_an_array_is_refused(name):
    def sets(self, x):
        self.h[0] = x
        setattr(self.h, name, x)
        return self.h.sum()

    with pytest.raises((AttributeError, TypeError, ValueError)):
        functionalize(holding(sets)).init(X)
