"""Writing a state back into live objects."""

import collections
import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.functional.functionalizing import functionalize
from fourbeat.functional.refusals import FunctionalizeError


@dataclasses.dataclass(frozen=True)
class Config:
    n: int
    name: str = "config"


class Everything:
    def __init__(self):
        self.n, self.mean, self.small = 0, 0.0, np.float32(1)
        self.items, self.d = [1.0], collections.OrderedDict(a=0)
        self.window = collections.deque([0], maxlen=2)
        self.bins, self.table = np.zeros(2), np.ones(2)
        self.inner = types.SimpleNamespace(n=0)
        self.same = self.inner
        self.config, self.fixed = Config(0), Config(7)
        self.old, self.key = "gone", jax.random.key(0)
        self.array, self.big = jnp.zeros(2), np.int64(3)

    def step(self, x):
        self.n += 1
        self.mean += x
        self.small *= 2
        self.big += 1
        self.items.append(x)
        self.d["b"] = self.n
        self.window.append(self.n)
        self.bins[0] += x
        self.inner.n += 1
        self.config = dataclasses.replace(self.config, n=self.config.n + 1)
        self.new = x * 2
        if hasattr(self, "old"):
            del self.old
        self.key, _ = jax.random.split(self.key)
        self.array = self.array + x


def test_identities_and_types_are_kept():
    obj = Everything()
    F = functionalize(obj)
    state = F.init(2.5)
    _, state = jax.jit(F.step, donate_argnums=0)(state, 2.5)
    held = {name: getattr(obj, name) for name in ("items", "d", "window", "bins", "inner", "fixed")}
    table = obj.table
    F.commit(state)
    expected = Everything()
    expected.step(2.5)
    for name, value in held.items():
        assert getattr(obj, name) is value, name
    assert obj.same is obj.inner and obj.table is table and obj.config == Config(1)
    assert (type(obj.n), type(obj.mean), type(obj.inner.n)) == (int, float, int)
    assert (type(obj.small), type(obj.big)) == (np.float32, np.int64)
    assert obj.bins.dtype == np.float64 and list(obj.bins) == [2.5, 0.0]
    assert (obj.n, obj.mean, obj.small, obj.big) == (1, 2.5, 2.0, 4)
    assert [float(x) for x in obj.items] == [1.0, 2.5]
    assert {k: int(v) for k, v in obj.d.items()} == {"a": 0, "b": 1}
    assert [int(x) for x in obj.window] == [0, 1] and obj.window.maxlen == 2
    assert not hasattr(obj, "old") and float(obj.new) == 5.0
    assert bool((jax.random.key_data(obj.key) == jax.random.key_data(expected.key)).all())
    _, state = jax.jit(F.step, donate_argnums=0)(state, 1.0)  # the object keeps arrays of its own
    assert list(obj.array) == [2.5, 2.5]
    obj.step(1.0)
    assert obj.n == 2


def test_an_uncommitted_object_is_untouched_and_a_committed_one_goes_on():
    class Counter:
        def __init__(self):
            self.n = 0

        def count(self):
            self.n += 1
            return self.n

    counter = Counter()
    F = functionalize(counter)
    state = F.init()
    for _ in range(3):
        _, state = jax.jit(F.count)(state)
    assert counter.n == 0
    F.commit(state)
    assert counter.n == 3 and counter.count() == 4
    value, _ = F.count(F.init())
    assert int(value) == 5


def test_tracers_and_batched_values_are_refused_before_anything_is_written():
    obj = Everything()
    F = functionalize(obj)
    state = F.init(2.5)
    batched = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    _, batched = jax.vmap(F.step, in_axes=(0, None))(batched, 2.5)
    with pytest.raises(FunctionalizeError) as raised:
        F.commit(batched)
    assert str(raised.value) == (
        "cannot commit n: it is of shape (2,) where one object holds ().\n"
        "Repair: pick one entry first, for example jax.tree.map(lambda leaf: leaf[0], state)."
    )
    with pytest.raises(FunctionalizeError) as raised:
        jax.jit(F.commit)(state)
    assert str(raised.value) == "cannot commit n: it is a tracer.\nRepair: commit outside jit."
    assert obj.n == 0 and obj.items == [1.0]
    F.commit(jax.tree.map(lambda leaf: leaf[1], batched))
    assert obj.n == 1


def test_values_that_are_batched_without_vmap_are_refused_too():
    class Scaled:
        def __init__(self):
            self.w = jnp.ones(2)

        def step(self):
            self.w = self.w * 2

    F = functionalize(Scaled())
    batched = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), F.init())
    _, batched = F.step(batched)
    with pytest.raises(FunctionalizeError, match=r"cannot commit w: it is of shape \(2, 2\)"):
        F.commit(batched)


def test_closures_are_written_through_their_cells():
    def make():
        n = 0

        def bump():
            nonlocal n
            n += 1
            return n

        return bump

    bump = make()
    F = functionalize(bump)
    state = F.init()
    assert state.keys() == ("n",)
    _, state = jax.jit(F)(state)
    _, state = jax.jit(F)(state)
    F.commit(state)
    assert bump() == 3
