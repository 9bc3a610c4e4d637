"""Methods made pure under every transformation, and the state as a pytree like any other."""

import concurrent.futures
import gc
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fourbeat.functional.functionalizing import StatefulUseWarning, functionalize
from fourbeat.functional.object_state import ObjectState
from fourbeat.functional.refusals import FunctionalizeError
from fourbeat.functional.stepping import as_step


class Mean:
    """Running mean, last values and a key: an int, a float, an array, a NumPy array, a key."""

    def __init__(self):
        self.n, self.mean, self.scale = 0, 0, 2.0
        self.last = jnp.zeros(2)
        self.bins = np.zeros(3, np.float32)
        self.key = jax.random.key(0)

    def push(self, x):
        self.n += 1
        self.mean += (x - self.mean) / self.n
        self.last = jnp.stack([self.last[1], x])
        self.bins[self.n % 3] += x
        self.key, sub = jax.random.split(self.key)
        return self.mean * self.scale + jax.random.normal(sub)

    def reset(self):
        self.n, self.mean = 0, 0.0
        return 0.0 * self.scale


X = jnp.float32(3)
METHODS = {"push": (X,), "reset": ()}


def eagerly(xs):
    mean = Mean()
    return [mean.push(x) for x in xs], mean


def assert_equals(state, mean):
    for name in ("n", "mean", "last", "bins"):
        np.testing.assert_allclose(state[name], getattr(mean, name), rtol=1e-5, err_msg=name)
    assert bool((jax.random.key_data(state["key"]) == jax.random.key_data(mean.key)).all())


XS = jnp.array([1.0, 5.0, -2.0, 4.0])


def by_jit(F, state):
    out, push = [], jax.jit(F.push, donate_argnums=0)
    for x in XS:
        value, state = push(state, x)
        out.append(value)
    return out, state


def by_scan(F, state):
    state, out = jax.lax.scan(as_step(F.push), state, XS)
    return out, state


def by_while_loop(F, state):
    def body(carry):
        i, state, out = carry
        value, state = F.push(state, XS[i])
        return i + 1, state, out.at[i].set(value)

    start = (0, state, jnp.zeros(4))
    _, state, out = jax.lax.while_loop(lambda carry: carry[0] < 4, body, start)
    return out, state


def by_fori_loop(F, state):
    def body(i, carry):
        state, out = carry
        value, state = F.push(state, XS[i])
        return state, out.at[i].set(value)

    state, out = jax.lax.fori_loop(0, 4, body, (state, jnp.zeros(4)))
    return out, state


def by_cond(F, state):
    @jax.jit
    def step(state, x):
        return jax.lax.cond(x > -100, F.push, lambda state, x: F.reset(state), state, x)

    out = []
    for x in XS:
        value, state = step(state, x)
        out.append(value)
    return out, state


def by_remat(F, state):
    out, push = [], jax.jit(jax.checkpoint(F.push))
    for x in XS:
        value, state = push(state, x)
        out.append(value)
    return out, state


def by_vmap(F, state):
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), state)
    out, push = [], jax.jit(jax.vmap(F.push))
    for x in XS:
        values, states = push(states, jnp.stack([x, x + 1, x + 2]))
        out.append(values[0])
    return out, jax.tree.map(lambda leaf: leaf[0], states)


def by_shard_map(F, state):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec()
    specs = jax.tree.map(lambda _: spec, state)
    sharded = jax.shard_map(
        F.push, mesh=mesh, in_specs=(specs, spec), out_specs=(spec, specs), check_vma=False
    )
    out, push = [], jax.jit(sharded)
    for x in XS:
        value, state = push(state, x)
        out.append(value)
    return out, state


def by_eager_calls(F, state):
    out = []
    for x in XS:
        value, state = F.push(state, x)
        out.append(value)
    return out, state


WAYS = [
    *(by_jit, by_scan, by_while_loop, by_fori_loop, by_cond, by_remat, by_vmap, by_shard_map),
    by_eager_calls,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_transformation_equals_the_ordinary_object(way):
    F = functionalize(Mean())
    out, state = way(F, F.init(methods=METHODS))
    expected, mean = eagerly(XS)
    np.testing.assert_allclose(np.stack(out), np.stack(expected), rtol=1e-5)
    assert_equals(state, mean)


def test_methods_that_name_a_mesh_axis():
    class Total:
        def __init__(self):
            self.total, self.n = 0.0, 0

        def push(self, x):
            self.n += 1
            self.total += jax.lax.psum(x, "data")
            return self.total

    F = functionalize(Total())
    state = F.init(X, axis_sizes={"data": 2})
    assert set(state) == {"total", "n"}
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec()
    push = jax.jit(jax.shard_map(F.push, mesh=mesh, in_specs=spec, out_specs=(spec, spec), check_vma=False))
    for expected in (3.0, 6.0):
        value, state = push(state, X)
        assert float(value) == expected
    assert state.spec is F.init(X, axis_sizes={"data": 2}).spec
    with pytest.raises(NameError, match="data"):
        F.init(X)


def test_gradient_over_what_is_float():
    class Model:
        def __init__(self):
            self.w, self.n, self.name = jnp.array([1.0, 2.0]), 0, "model"

        def loss(self, x):
            self.n += 1
            return ((self.w * x) ** 2).sum() * self.n

    F = functionalize(Model())
    state = F.init(X)
    (loss, after), grads = jax.value_and_grad(F.loss, has_aux=True, allow_int=True)(state, X)
    assert float(loss) == 45.0 and int(after["n"]) == 1
    np.testing.assert_allclose(grads["w"], [18.0, 36.0])

    def of_floats(floats, rest):
        leaves = [r if f is None else f for f, r in zip(floats, rest, strict=True)]
        return F.loss(jax.tree.unflatten(structure, leaves), X)[0]

    leaves, structure = jax.tree.flatten(state)
    floats = [leaf if jnp.issubdtype(leaf.dtype, jnp.floating) else None for leaf in leaves]
    np.testing.assert_allclose(jax.grad(of_floats)(floats, leaves)[0], [18.0, 36.0])


def test_a_state_is_a_named_pytree():
    F = functionalize(Mean())
    state = F.init(methods=METHODS)
    assert set(state) == {"n", "mean", "last", "bins", "key"} and len(state) == 5
    assert "scale" not in state and "n" in state
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert paths == ["['n']", "['mean']", "['last']", "['bins']", "['key']"]
    doubled = jax.tree.map(lambda leaf: leaf + leaf, state.replace({"n": 4}))
    assert isinstance(doubled, ObjectState) and int(doubled["n"]) == 8
    assert state.spec is F.init(methods=METHODS).spec is functionalize(Mean()).init(methods=METHODS).spec
    with pytest.raises(KeyError, match="'lats' is not in the state; it holds last"):
        state["lats"]
    with pytest.raises(AttributeError, match="immutable"):
        state.n = 3


def test_errors_of_jax_name_the_attribute():
    F = functionalize(Mean())
    state = F.init(methods=METHODS)
    with pytest.raises(Exception, match=r"state\['last'\]"):
        jax.jit(lambda state: bool(state["last"][0]))(state)
    wrong = jax.tree.map(lambda leaf: leaf.astype(jnp.int32) if leaf.ndim == 0 else leaf, state)
    with pytest.raises(TypeError, match=r"\['mean'\]"):
        jax.lax.scan(lambda s, x: (state, x), wrong, XS)


def test_reading_copies_and_init_copies():
    obj = Mean()
    F = functionalize(obj)
    state = F.init(methods=METHODS)
    last, live = state["last"], obj.last
    _, state = jax.jit(F.push, donate_argnums=0)(state, X)
    np.testing.assert_array_equal(last, [0, 0])
    np.testing.assert_array_equal(live, [0, 0])
    obj.bins[:] = 9
    assert float(F.init(methods=METHODS)["bins"][0]) == 9 and float(state["bins"][0]) == 0


def test_a_spec_keeps_no_tracer_and_no_object_alive():
    class Items:
        def __init__(self):
            self.items, self.n = [], 0
            self.bump = lambda: setattr(self, "n", self.n + 1)

        def push(self, x):
            self.items.append(x)
            self.bump()

    obj = Items()
    F = functionalize(obj)
    with jax.checking_leaks():
        _, state = jax.jit(F.push)(F.init(X), X)
    reference = weakref.ref(obj)
    obj.bump = None
    del obj, F
    gc.collect()
    assert reference() is None and len(state) == 2


def test_a_state_restored_as_numpy_and_one_inside_another_object():
    class Outer:
        def __init__(self):
            self.F = functionalize(Mean())
            self.state = self.F.init(methods=METHODS)

        def push(self, x):
            value, self.state = self.F.push(self.state, x)
            return value

    F = functionalize(Outer())
    state = F.init(X)
    assert len(state) == 6 and "(identities)" in state  # `push` puts another state object in its place
    out, push = [], jax.jit(F.push)
    for x in XS:
        value, state = push(jax.tree.map(np.asarray, state), x)
        out.append(value)
    np.testing.assert_allclose(out, np.stack(eagerly(XS)[0]), rtol=1e-5)
    value, _ = F.push(jax.tree.map(np.asarray, F.init(X)), XS[0])
    np.testing.assert_allclose(value, out[0], rtol=1e-5)


def test_a_state_is_saved_and_restored_like_any_state(tmp_path):
    from orbax.checkpoint import v1 as ocp

    F = functionalize(Mean())
    push, state = jax.jit(F.push), F.init(methods=METHODS)
    _, state = push(state, XS[0])
    ocp.save(tmp_path / "state", state)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )
    restored = ocp.load(tmp_path / "state", like)
    for x in XS[1:]:
        value, state = push(state, x)
        same, restored = push(restored, x)
        np.testing.assert_array_equal(value, same)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_weak_types_settle_in_a_loop():
    F = functionalize(Mean())
    state = F.init(2.0)  # a Python number: the mean is weak, and the loop's values are not
    state, out = jax.lax.scan(as_step(F.push), state, XS)
    np.testing.assert_allclose(out, np.stack(eagerly(XS)[0]), rtol=1e-5)


def test_structure_that_grows_in_a_scan_is_refused():
    class History:
        def __init__(self):
            self.items, self.best = [], None

        def push(self, x):
            self.items.append(x)
            self.best = x

    F = functionalize(History())
    with pytest.raises(FunctionalizeError) as raised:
        jax.lax.scan(as_step(F.push), F.init(X), XS)
    assert str(raised.value) == (
        "History.push changes the structure of its state inside a loop, whose carry must keep its "
        "structure:\n"
        "  items: list became list of 1\n"
        "  best: the constant None became float32[]\n"
        "  items[0]: absent became float32[]\n"
        "Repair: allocate it before the loop (an array to write into, a number instead of None), "
        "or return the value and let scan stack it."
    )


def test_numbers_of_an_unseen_method_become_state_with_a_warning():
    class Two:
        def __init__(self):
            self.a, self.inner = 0, types.SimpleNamespace(b=0)

        def seen(self):
            self.a += 1

        def unseen(self, x, y):
            self.inner.b += x * y
            return self.inner.b

    F = functionalize(Two())
    state = F.init()
    unseen = jax.jit(F.unseen)
    with pytest.warns(StatefulUseWarning) as caught:
        value, state = unseen(state, 2, 3)
    assert str(caught[0].message) == (
        "Two.unseen changes inner.b, which F.init did not see; state from now on, at the cost of "
        "one more compilation. Pass methods= to F.init."
    )
    for expected in (12, 18):
        value, state = unseen(state, 2, 3)
        assert int(value) == expected
    assert unseen._cache_size() == 2 and set(state) == {"a", "inner.b"}


def test_static_and_state_override_what_was_inferred():
    class Model:
        def __init__(self):
            self.n, self.rate, self.table = 0, 0.5, np.ones(2, np.float32)

        def step(self):
            self.n += 1
            return self.rate if self.n % 2 else -self.rate

    F = functionalize(Model(), static_paths=("n",), state_paths=("rate", "table"))
    state = F.init()
    assert set(state) == {"rate", "table"}
    step, values = jax.jit(F.step), []
    for _ in range(3):
        value, state = step(state)
        values.append(float(value))
    assert values == [0.5, -0.5, 0.5] and step._cache_size() == 3
    value, _ = step(state.replace({"rate": 7.0}))
    assert float(value) == -7.0 and step._cache_size() == 4
    obj = Model()
    functionalize(obj, static_paths=("n",)).commit(functionalize(obj, static_paths=("n",)).init())
    assert obj.n == 0


def test_what_is_asked_to_be_state_keeps_its_type():
    class Until:
        def __init__(self):
            self.n, self.done = 0, False

        def step(self, x):
            self.n += 1
            self.done = self.n >= 3
            return self.n

    obj = Until()
    F = functionalize(obj, state_paths=("n", "done"))
    state, out = jax.lax.scan(as_step(F.step), F.init(X), XS)
    assert out.tolist() == [1, 2, 3, 4]
    F.commit(state)
    assert obj.n == 4 and type(obj.n) is int and obj.done is True


def test_discovery_leaves_out_methods_that_raise():
    class Some:
        def __init__(self):
            self.n, self.calls = 0, []

        def good(self):
            self.n += 1
            return self.n

        def bad(self):
            raise RuntimeError("not now")

    F = functionalize(Some())
    value, _ = jax.jit(F.good)(F.init())
    assert int(value) == 1
    with pytest.raises(RuntimeError, match="not now"):
        F.init(methods={"bad": ()})


def test_the_object_is_as_it_was_after_an_exception_and_between_threads():
    class Busy(Mean):
        def push(self, x):
            out = super().push(x)
            self.items = [x]
            if x.dtype == jnp.int32:
                raise RuntimeError("in the middle")
            return out

        def __repr__(self):
            return "Busy"

    obj = Busy()
    before = {name: value.copy() if name == "bins" else value for name, value in vars(obj).items()}
    F = functionalize(obj)
    state = F.init(methods=METHODS)
    with pytest.raises(RuntimeError, match="in the middle"):
        jax.jit(F.push)(state, jnp.int32(7))

    def trace(size):
        x = jnp.float32(size)
        _, after = jax.jit(lambda state: F.push(state, x))(state)
        return float(after["last"][1]), int(after["n"])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(trace, range(8))) == [(float(i), 1) for i in range(8)]
    assert vars(obj).keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(*map(_data, (vars(obj)[name], value)))


def _data(value):
    is_key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(value) if is_key else value


_TABLES = {}


def test_a_memo_is_told_from_a_write_without_a_second_effect():
    calls = []

    class Logged:
        def __init__(self):
            self.n = 0

        def step(self, x):
            self.n += 1
            jax.debug.callback(lambda n: calls.append(int(n)), self.n)
            if "rows" not in _TABLES:
                _TABLES["rows"] = np.arange(3.0)
            return (x * _TABLES["rows"]).sum()

    F = functionalize(Logged(), state_paths=("n",))
    state = F.init(methods={})  # nothing is traced: the memo is filled by the compiled call
    step = jax.jit(F.step)
    for _ in range(2):
        value, state = step(state, X)
    jax.effects_barrier()
    assert calls == [1, 2] and float(value) == 9.0
    np.testing.assert_array_equal(_TABLES["rows"], np.arange(3.0))


def test_an_optax_step_in_a_closure():
    tx, params = optax.sgd(0.1), {"w": jnp.ones(2)}
    model = types.SimpleNamespace(params=params, opt_state=tx.init(params))

    def fit(x):
        grads = jax.grad(lambda params: ((params["w"] * x) ** 2).sum())(model.params)
        updates, model.opt_state = tx.update(grads, model.opt_state)
        model.params = optax.apply_updates(model.params, updates)

    F = functionalize(fit)
    _, state = jax.jit(F)(F.init(X), X)
    np.testing.assert_allclose(state["model.params['w']"], [-0.8, -0.8], rtol=1e-5)
    np.testing.assert_array_equal(model.params["w"], [1, 1])
    F.commit(state)
    np.testing.assert_allclose(model.params["w"], [-0.8, -0.8], rtol=1e-5)
