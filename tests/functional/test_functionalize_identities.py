"""Objects that methods move or replace: after `commit` each is the live object that the eager call leaves."""

import collections
import dataclasses
import gc
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fourbeat.functional.functionalizing import StatefulUseWarning, functionalize
from fourbeat.functional.refusals import FunctionalizeError
from fourbeat.functional.stepping import as_step
from tests.functional.comparing import assert_same, identities, mutable_parts


class Box:
    def __init__(self, **attributes):
        vars(self).update(attributes)


@dataclasses.dataclass(frozen=True)
class Config:
    n: int


class Swapped:
    def __init__(self):
        self.a, self.b = Box(n=1, table={"x": 1.0}), Box(n=2, table={"x": 2.0})

    def step(self):
        self.a, self.b = self.b, self.a
        self.a.n += 10
        self.b.table["x"] *= 3.0
        return self.a.n


class Rotated:
    def __init__(self):
        self.items, self.window = [Box(n=i) for i in range(3)], collections.deque([Box(n=7), Box(n=8)])

    def step(self):
        self.items.append(self.items.pop(0))
        self.window.rotate(1)
        self.items[0].n += 1
        self.window[0].n += 1
        return self.items[0].n


class Moved:
    def __init__(self):
        self.left, self.right = Box(n=1), None

    def step(self):
        self.left, self.right = self.right, self.left
        held = self.left or self.right
        held.n += 1
        return held.n


class DoubleBuffered:
    def __init__(self):
        self.front, self.back = np.zeros(2, np.float32), np.ones(2, np.float32)

    def step(self):
        self.front, self.back = self.back, self.front
        self.front[0] += 5
        return self.front.sum()


class OnlyExchanged(DoubleBuffered):
    def step(self):
        self.front, self.back = self.back, self.front
        return self.front.sum() + 0.0


class Nested:
    def __init__(self):
        self.pair = (Box(n=1), Box(n=2))
        self.links = {"a": Box(n=3, next=None), "b": Box(n=4, next=None)}
        self.links["a"].next = self.links["b"]

    def step(self):
        self.pair = self.pair[::-1]
        self.links["a"], self.links["b"] = self.links["b"], self.links["a"]
        self.pair[0].n += self.links["a"].n
        return self.pair[0].n


class Replaced:
    def __init__(self):
        self.config, self.params, self.box = Config(0), {"w": 1.0}, Box(n=0)

    def step(self):
        self.config = dataclasses.replace(self.config, n=self.config.n + 1)
        self.params = {name: value * 2.0 for name, value in self.params.items()}
        old, self.box = self.box, Box(n=self.box.n + 1)
        old.n = 100
        return self.params["w"]


class Frozen:
    def __init__(self):
        self.a, self.b, self.n = Config(1), Config(2), 0

    def step(self):
        self.a, self.b, self.n = self.b, self.a, self.n + 1
        return self.a.n


class Equinox:
    def __init__(self):
        keys = jax.random.split(jax.random.key(0))
        self.a, self.b = eqx.nn.Linear(2, 2, key=keys[0]), eqx.nn.Linear(2, 2, key=keys[1])

    def step(self):
        self.a, self.b = self.b, eqx.tree_at(lambda m: m.bias, self.a, self.a.bias + 1)
        return self.a.bias


class Modules(nnx.Module):
    def __init__(self):
        self.a, self.b = nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Linear(2, 2, rngs=nnx.Rngs(1))

    def step(self):
        self.a, self.b = self.b, self.a
        self.a.kernel[...] += 1
        return self.a.kernel.sum()


class Shrinking:
    def __init__(self):
        self.items, self.made = [Box(n=i) for i in range(3)], []

    def step(self):
        if self.items:
            self.items.pop(0).n += 1
        self.made.append(Box(n=len(self.items)))
        return float(len(self.made))


class Functions:
    def __init__(self):
        def counted(start):
            n = start

            def bump():
                nonlocal n
                n += 1
                return n

            return bump

        self.a, self.b = counted(0), counted(10)

    def step(self):
        self.a, self.b = self.b, self.a
        return self.a()


KINDS = [Swapped, Rotated, Moved, DoubleBuffered, OnlyExchanged, Nested, Replaced, Frozen, Equinox, Modules]
KINDS += [Shrinking]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("commits", ["every call", "the last call"])
def test_every_object_is_the_one_it_was(kind, commits):
    ordinary, obj = kind(), kind()
    known, theirs = mutable_parts(obj), mutable_parts(ordinary)
    F = functionalize(obj)
    state = F.init()
    assert "(identities)" in state
    step = jax.jit(F.step)
    for call in range(4):
        expected = ordinary.step()
        value, state = step(state)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        if commits == "every call" or call == 3:
            F.commit(state)
            assert identities(obj, known) == identities(ordinary, theirs)
            assert_same(obj, ordinary)
            known, theirs = mutable_parts(obj), mutable_parts(ordinary)
    if kind not in (Moved, Nested, Shrinking):  # other structures
        assert step._cache_size() == 1
    ordinary.step(), obj.step()  # both go on as ordinary objects
    assert identities(obj, known) == identities(ordinary, theirs)


def test_functions_that_changed_places_keep_their_cells():
    obj, ordinary = Functions(), Functions()
    F = functionalize(obj)
    state = F.init()
    for _ in range(3):
        ordinary.step()
        _, state = jax.jit(F.step)(state)
    F.commit(state)
    assert (obj.a(), obj.b()) == (ordinary.a(), ordinary.b())


def test_what_others_hold_is_written_where_it_went():
    obj = Swapped()
    one, other = obj.a, obj.b
    F = functionalize(obj)
    _, state = jax.jit(F.step)(F.init())
    F.commit(state)
    assert obj.a is other and obj.b is one
    assert (one.n, other.n, one.table, other.table) == (1, 12, {"x": 3.0}, {"x": 2.0})
    again = F.init()  # from the object as it is now
    _, again = jax.jit(F.step)(again)
    F.commit(again)
    assert obj.a is one and (one.n, other.n) == (11, 12)
    F.commit(state)  # and back to a state of before
    assert obj.a is other and (one.n, other.n) == (1, 12)


def test_objects_that_a_method_made_stay_those_of_the_commit():
    obj = Replaced()
    F = functionalize(obj)
    _, state = jax.jit(F.step)(F.init())
    F.commit(state)
    made = obj.params
    F.commit(state)
    assert obj.params is made
    _, state = jax.jit(F.step)(state)
    F.commit(state)
    assert obj.params is not made and made == {"w": 2.0} and obj.params == {"w": 4.0}
    reference = weakref.ref(obj.box)
    _, state = jax.jit(F.step)(state)
    F.commit(state)
    gc.collect()
    assert reference() is None  # an object made by one commit and replaced by the next is given up


def test_objects_change_places_in_loops_and_under_vmap():
    def calls(num):
        ordinary = Rotated()
        for _ in range(num):
            ordinary.step()
        return ordinary

    obj = Rotated()
    known = mutable_parts(obj)
    F = functionalize(obj)
    start = F.init()
    state, _ = jax.lax.scan(lambda state, _: as_step(F.step)(state), start, length=4)
    F.commit(state)
    names = [item.n for item in calls(4).items]
    assert [item.n for item in obj.items] == names
    assert identities(obj, known)[2:5] == [3, 4, 2]

    def some(num, state):
        return jax.lax.fori_loop(0, num, lambda _, state: F.step(state)[1], state)

    states = jax.jit(jax.vmap(some, in_axes=(0, None)))(jnp.arange(4), start)
    for num in range(4):
        F.commit(jax.tree.map(lambda leaf, num=num: leaf[num], states))
        assert_same(obj, calls(num))
        assert obj.items[0] is known[2 + num % 3]


class Exchanging:
    def __init__(self):
        self.a, self.b = Box(n=1), Box(n=2)

    def swap(self, x):
        self.a, self.b = self.b, self.a

    def count(self):
        self.a.n, self.b.n = self.a.n + 1, self.b.n + 1


def test_a_move_that_init_did_not_see():
    obj = Exchanging()
    one, other = obj.a, obj.b
    F = functionalize(obj)
    state = F.init()
    assert set(state) == {"a.n", "b.n"}
    swap = jax.jit(F.swap)
    with pytest.warns(StatefulUseWarning) as caught:
        _, moved = swap(state, 1.0)
    assert str(caught[0].message) == (
        "Exchanging.swap changes the places of objects, which F.init did not see; state from now on, at the "
        "cost of one more compilation. Pass methods= to F.init."
    )
    F.commit(moved)
    assert obj.a is other and obj.b is one and (one.n, other.n) == (1, 2)
    F.init()  # meets them in another order
    with pytest.raises(FunctionalizeError) as raised:
        F.commit(moved)
    assert str(raised.value) == (
        "cannot commit this state: its objects changed places, and F.init did not see the method that moved "
        "them, and has met them in more than one order.\nRepair: name that method in F.init(methods={...})."
    )
    with pytest.raises(FunctionalizeError) as raised:
        functionalize(obj).commit(moved)
    assert str(raised.value) == (
        "cannot commit this state: its objects changed places, and this F has not met the live objects.\n"
        "Repair: call F.init() before."
    )
    with pytest.raises(FunctionalizeError, match=r"objects changed places, which F\.init did not see"):
        jax.lax.scan(lambda state, _: as_step(F.swap)(state, 1.0), F.init(), length=2)
