"""`purity.jit`: a check in every compilation, nothing in a hit, and stale reads under guard."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat import purity
from fourbeat.testing import expect_compilations

X = np.ones(3, np.float32)


class Counter:
    def __init__(self):
        self.n, self.scale, self.unused = 0, 2.0, 0

    def count(self, x):
        self.n += 1
        return x + self.n

    def scaled(self, x):
        return self.scale * x


def test_impure_functions_never_compile():
    counter = Counter()
    counted = purity.jit(counter.count)
    with expect_compilations(0):
        for _ in range(2):
            with pytest.raises(
                purity.ImpureError, match=r"Counter\.count wrote self\.n \(0 -> 1\) at test_purity_"
            ):
                counted(X)
    assert counter.n == 0


def test_a_hit_runs_no_python():
    scaled = purity.jit(Counter().scaled)
    assert type(scaled) is type(jax.jit(lambda x: x))
    x = jnp.asarray(X)
    scaled(x)
    scaled(x)
    events = []
    sys.setprofile(lambda frame, event, arg: events.append((event, frame.f_code.co_filename)))
    try:
        scaled(x)
    finally:
        sys.setprofile(None)
    assert [file for event, file in events if event == "call"] == []


def test_each_signature_is_checked():
    seen = []

    def by_rank(x):
        if x.ndim == 2:
            seen.append(1)
        return 2 * x

    doubled = purity.jit(by_rank)
    np.testing.assert_array_equal(doubled(X), 2 * X)
    with pytest.raises(purity.ImpureError, match="seen"):
        doubled(X[None])
    assert seen == []
    np.testing.assert_array_equal(doubled(X), 2 * X)


def test_options_and_allow():
    counter = Counter()
    counted = purity.jit(counter.count, allow=("self.n",))
    assert [float(counted(X)[0]) for _ in range(3)] == [2.0, 2.0, 2.0] and counter.n == 1

    def repeated(x, times, *, flag=False):
        return sum(x for _ in range(times)) if flag else x

    called = purity.jit(repeated, static_argnums=1, static_argnames="flag", donate_argnums=())
    np.testing.assert_array_equal(called(X, 3, flag=True), 3 * X)


def test_under_other_transformations():
    square = purity.jit(lambda x: (x**2).sum())
    np.testing.assert_allclose(jax.grad(square)(X), 2 * X)
    np.testing.assert_allclose(jax.jit(jax.vmap(square))(np.ones((2, 3), np.float32)), [3.0, 3.0])
    kept = []

    def leaks(x):
        kept.append(x)
        return x

    with pytest.raises(purity.ImpureError, match="left a tracer in kept"):
        jax.vmap(purity.jit(leaks))(X)
    assert kept == []


def test_check_looks_through_a_purity_jit():
    counter = Counter()
    assert [each.path for each in purity.check(purity.jit(counter.count), X).errors] == ["self.n"]
    assert [each.path for each in purity.check(purity.jit(counter.count, guard=True), X).errors] == ["self.n"]


def test_guard_raises_for_stale_reads():
    counter = Counter()
    scaled = purity.jit(counter.scaled, guard=True)
    np.testing.assert_array_equal(scaled(X), 2 * X)
    counter.unused = 5
    np.testing.assert_array_equal(scaled(X), 2 * X)
    counter.scale, counter.unused = 3.0, 6
    with pytest.raises(purity.StaleReadError) as caught:
        scaled(X)
    assert str(caught.value) == (
        "Counter.scaled captured self.scale (2.0 -> 3.0) as a constant when it was compiled, and it has "
        "changed since.\nCompiled calls still use 2.0. Repair: pass self.scale as an argument, or "
        "compile again after changing it."
    )
    np.testing.assert_array_equal(scaled(X[None]), 3 * X[None])
    counter.scale = 2.0
    np.testing.assert_array_equal(scaled(X), 2 * X)
    with pytest.raises(purity.StaleReadError, match=r"self\.scale \(3\.0 -> 2\.0\)"):
        scaled(X[None])


def test_guard_sees_arrays_globals_and_closures():
    weights, factor = np.ones(3, np.float32), 1.0

    def run(x):
        return factor * weights * x * FACTORS["f"]

    guarded = purity.jit(run, guard=True)
    guarded(X)
    weights[1] = 5.0
    with pytest.raises(purity.StaleReadError, match="captured weights "):
        guarded(X)
    weights[1] = 1.0
    guarded(X)
    factor = 2.0
    with pytest.raises(purity.StaleReadError, match=r"captured factor \(1\.0 -> 2\.0\)"):
        guarded(X)
    factor = 1.0
    FACTORS["f"] = 4.0
    with pytest.raises(purity.StaleReadError, match=r"captured FACTORS\['f'\] \(1\.0 -> 4\.0\)"):
        guarded(X)


FACTORS = {"f": 1.0}


def test_a_name_that_a_module_gains_is_a_stale_read(monkeypatch):
    settings = types.ModuleType("settings_made_here")
    monkeypatch.setitem(sys.modules, settings.__name__, settings)

    def scaled(x):
        return x * (settings.extra if hasattr(settings, "extra") else 1.0)

    compiled = purity.jit(scaled, guard=True)
    np.testing.assert_array_equal(compiled(X), X)
    settings.extra = 3.0
    with pytest.raises(purity.StaleReadError) as raised:
        compiled(X)
    assert str(raised.value) == (
        "scaled captured settings.extra (absent -> 3.0) as a constant when it was compiled, and it has "
        "changed since.\nCompiled calls still use absent. Repair: pass settings.extra as an argument, or "
        "compile again after changing it."
    )
    assert settings.extra == 3.0
