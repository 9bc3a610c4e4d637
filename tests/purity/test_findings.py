"""Levels, the settle test, allow, and the text of every finding."""

import functools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import fourbeat
from fourbeat.purity import ImpureError, check
from fourbeat.testing import assert_pure

X = np.ones(3, np.float32)
APP = """\
class Counter:
    def __init__(self):
        self.n = 0

    def count(self):
        self.n += 1
        return self.n


class Model:
    def __init__(self):
        self.cache, self.last, self.calls, self.mode = {}, None, 0, "train"

    def forward(self, x):
        self.last = 2 * x
        self.calls += 1
        return x


def train_step(model, batch):
    batch["x"] = 2 * batch["x"]
    model.calls += 1
    return model.linear(batch["x"])


total = 0


def add(x):
    global total
    total += 1
    return x + total


def drawn(x):
    return x + np.random.normal()


def timed(x):
    return x + time.time()


def printed(x):
    print("x")
    return x


def reading(rows, x):
    return x * next(rows)


def dense(x):
    return W @ x


def tables(x):
    return x * table()


def fills(model, x):
    if "x" not in model.cache:
        model.cache["x"] = 1
    if model.mode == "train":
        model.mode = "eval"
    return x


def sets(model, x):
    model.cache["x"], model.mode = 1, "eval"
    return x
"""


ELSEWHERE = """\
calls = 0


class Meter:
    def __init__(self):
        self.n, self.seen = 0, []

    def tick(self):
        self.n += 1
        self.seen.append(1)
        turn()


def turn():
    global calls
    calls += 1
    return calls
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    """The module above, as a file of its own: its line numbers are those of the texts below."""
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "app", raising=False)
    import app

    app.np, app.time = np, time
    yield app
    del sys.modules["app"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A package that the checked functions do not belong to."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").write_text(ELSEWHERE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "elsewhere", raising=False)
    import elsewhere

    yield elsewhere
    del sys.modules["elsewhere"]


def texts(fn, *args, kind=None):
    return [str(each) for each in check(fn, *args).findings if kind in (None, each.kind)]


def test_error_text(app):
    counter = app.Counter()
    with pytest.raises(ImpureError) as caught:
        check(counter.count).raise_if_bad()
    assert str(caught.value) == (
        "Counter.count wrote self.n (0 -> 1) at app.py:6 while it was being traced. jit runs that line "
        "once;\nevery compiled call will return 1. Repair: F = fb.functionalize(counter); "
        "value, state = F.count(state)."
    )
    assert caught.value.report.errors[0].file == app.__file__
    assert counter.n == 0
    with pytest.raises(ImpureError, match=r"app\.py:6"):
        assert_pure(jax.jit(counter.count))


def test_texts_of_an_object(app):
    assert texts(app.Model().forward, X) == [
        "Model.forward left a tracer in self.last (None -> a traced float32[3]) at app.py:15. A tracer has "
        "no use after its trace;\nthe next use of self.last raises UnexpectedTracerError. Repair: "
        "F = fb.functionalize(model); value, state = F.forward(state, x).",
        "Model.forward wrote self.calls (0 -> 1) at app.py:16 while it was being traced. jit runs that line "
        "once;\nno compiled call will write it again. Repair: F = fb.functionalize(model); "
        "value, state = F.forward(state, x).",
    ]


def test_texts_of_arguments(app):
    class Net(nnx.Module):
        def __init__(self):
            self.linear, self.calls = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), 0

    assert texts(app.train_step, Net(), {"x": X}) == [
        "train_step wrote model.calls (0 -> 1) at app.py:22, which belongs to an argument. jit passes a copy "
        "and drops it;\nthe caller's model stays as it was. Repair: F = fb.functionalize(train_step, model); "
        "value, state = F(state, batch); or compile it with nnx.jit.",
        "train_step wrote batch['x'] at app.py:21, which belongs to an argument. jit passes a copy and "
        "drops it;\nthe caller's batch stays as it was. Repair: return it: "
        "value, batch = train_step(model, batch).",
    ]


class Normed(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.linear, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x)).mean()


def test_writes_to_the_arguments_of_a_jit_inside():
    model, x = Normed(), np.arange(6.0, dtype=np.float32).reshape(2, 3)

    @jax.jit
    def step(model, x):
        return model(x)

    @jax.jit
    def halve(batch):
        batch["x"] = batch["x"] / 2
        return batch["x"].sum()

    def train(x):
        return step(model, x) + halve({"x": x})

    before = np.asarray(model.norm.mean[...])
    train(x)
    np.testing.assert_array_equal(model.norm.mean[...], before)  # the oracle: jit dropped the write
    with jax.disable_jit():
        train(x)
    assert not np.array_equal(model.norm.mean[...], before)
    found = check(train, x).errors
    assert [(each.kind, each.path) for each in found] == [
        ("LOST WRITE", "model.norm.mean"),
        ("LOST WRITE", "model.norm.var"),
        ("LOST WRITE", "batch['x']"),
    ]
    line = found[0].where
    assert line.startswith("test_findings.py:") and found[0].text == (
        f"step wrote model.norm.mean at {line}, which belongs to an argument. jit passes a copy and drops "
        "it;\nthe caller's model stays as it was. Repair: F = fb.functionalize(step, model); value, state = "
        "F(state, x); or compile it with nnx.jit."
    )
    assert found[2].repair == "return it: value, batch = halve(batch)"


def test_texts_of_the_outside(app, capsys):
    assert texts(app.add, X) == [
        "add wrote the global total (0 -> 1) at app.py:31 while it was being traced. jit runs that line "
        "once;\nno compiled call will write it again. Repair: take total as an argument and return it: "
        "value, total = add(total, x)."
    ]
    assert texts(app.drawn, X) == [
        "drawn drew from np.random at app.py:36 while it was being traced. jit runs that line once;\n"
        "every compiled call will use the same numbers. Repair: take a key: drawn(x, key), and draw with "
        "jax.random."
    ]
    assert texts(app.timed, X) == [
        "timed read time.time at app.py:40 while it was being traced. jit runs that line once;\n"
        "every compiled call will use what was read then. Repair: read it before the call and pass the value "
        "as an argument."
    ]
    assert texts(app.printed, X) == [
        "printed called print at app.py:44. jit runs that line once, while tracing. Repair: jax.debug.print, "
        "or jax.debug.callback for other output."
    ]
    assert texts(functools.partial(app.reading, iter([1.0, 2.0, 3.0, 4.0, 5.0])), X) == [
        "reading advanced the iterator rows at app.py:49 while it was being traced. jit runs that line "
        "once;\nevery compiled call will use the same item. Repair: pass the next item as an argument: "
        "reading(next(rows))."
    ]


def test_texts_of_programs(app):
    app.W = jnp.ones((600, 500))
    [baked] = check(app.dense, jnp.ones(500)).findings
    assert (baked.kind, baked.level, baked.path) == ("BAKED", "warning", "W")
    assert str(baked) == (
        "dense captured W (float32[600,500], 1.2 MB) as a constant. Every compiled program holds a copy;\n"
        "what is written to W later is not seen. Repair: pass it as an argument."
    )
    app.table = functools.lru_cache(lambda: jnp.arange(3.0))
    assert texts(app.tables, X, kind="LEAK") == [
        "tables left a tracer in the cache of table at a line that was not seen. A tracer has no use after "
        "its trace;\nthe next trace that met it raised UnexpectedTracerError. Repair: cache NumPy arrays "
        "instead of JAX arrays, or compute the value before and pass it."
    ]
    assert float(app.table().sum()) == 3.0, "the cache was emptied"


def test_nondeterministic(elsewhere):
    def run(x):
        return x * elsewhere.turn()  # a global that no snapshot of this function looks at

    [finding] = check(run, X).findings
    assert (finding.kind, finding.level) == ("NONDETERMINISTIC", "warning")
    assert finding.text == (
        "run gave two programs in two traces from the same state.\njit keeps the first one. Repair: pass "
        "what differs (an id, an order of a set, an outside value) as an argument."
    )


def test_cache_levels(app):
    model = app.Model()
    overwritten, filled = check(functools.partial(app.fills, model), X).findings
    assert (filled.kind, filled.level, filled.path) == ("CACHE", "information", "model.cache['x']")
    assert (overwritten.kind, overwritten.level, overwritten.path) == ("CACHE", "warning", "model.mode")
    assert (overwritten.before, overwritten.after) == ("train", "eval")
    assert str(overwritten) == (
        "fills wrote model.mode ('train' -> 'eval') at app.py:64; a second trace left it as it was. jit runs "
        "that line once;\nonce it is set back, no compiled call writes it again. Repair: set it before the "
        "call, or return it."
    )
    assert str(filled) == (
        "fills wrote model.cache['x'] (absent -> 1) at app.py:62; a second trace left it as it was. "
        "Repair: none is needed while the value depends on nothing that changes."
    )
    assert (model.cache, model.mode) == ({}, "train")


def test_a_settled_write_that_nobody_reads_back_is_no_memo(app):
    model = app.Model()
    repair = (
        "Repair: take model as an argument: F = fb.functionalize(sets, model); value, state = F(state, x)."
    )
    lost = "jit runs that line once;\nno compiled call will write it again."
    assert texts(functools.partial(app.sets, model), X) == [
        f"sets wrote model.mode ('train' -> 'eval') at app.py:69 while it was being traced. {lost} {repair}",
        f"sets wrote model.cache['x'] (absent -> 1) at app.py:69 while it was being traced. {lost} {repair}",
    ]
    assert (model.cache, model.mode) == ({}, "train")


def test_a_settled_write_that_changes_the_program_misleads():
    class Warm:
        def __init__(self):
            self.scale = None

        def run(self, x):
            if self.scale is None:
                self.scale = 3.0
                return x
            return x * self.scale

    [finding] = check(Warm().run, X).findings
    assert (finding.kind, finding.level, finding.path) == ("CACHE", "warning", "self.scale")


def test_allow(app):
    model = app.Model()
    assert check(model.forward, X, allow=("self.last", "self.calls")).findings == ()
    assert [each.path for each in check(model.forward, X, allow=("self.last",)).errors] == ["self.calls"]
    assert check(model.forward, X, allow=("self",)).ok
    assert not check(model.forward, X, allow=("self.la",)).ok


def test_slots_of_other_packages_are_no_errors(elsewhere):
    meter, mine = elsewhere.Meter(), []

    def run(x):
        meter.tick()
        mine.append(1)
        return x

    report = check(run, X)
    assert [each.path for each in report.errors] == ["mine"]
    assert {each.path for each in report.findings if each.level == "warning"} == {"meter.n", "meter.seen"}
    assert (meter.n, meter.seen, mine) == (0, [], [])


def test_a_warm_inner_jit_does_not_hide_its_writes():
    calls = []

    @jax.jit
    def inner(x):
        calls.append(1)
        return 2 * x

    inner(X)
    [finding] = check(lambda x: inner(x), X).errors
    assert (finding.path, finding.before, finding.after) == ("calls", "[1]", "[1, 1]")
    assert calls == [1]


def test_a_write_without_a_line():
    """The trace that looks for lines does not make a write that hangs on an iterator's first item."""

    class Once:
        def __init__(self):
            self.turns, self.first = iter(range(9)), "no"

        def run(self, x):
            if next(self.turns) == 0:
                self.first = "yes"
            return x

    [finding] = [each for each in check(Once().run, X).findings if each.path == "self.first"]
    assert (finding.file, finding.line, finding.where) == (None, None, "a line that was not seen")
    assert "wrote self.first ('no' -> 'yes') at a line that was not seen" in finding.text


def test_a_librarys_function_answers_for_the_code_it_was_handed():
    seen = []

    def loss_fn(model, batch):
        seen.append(1)
        return (model["w"] * batch["x"]).sum()

    beats = fourbeat.four_beats(loss_fn, optax.sgd(0.1))
    state = beats.init({"w": jnp.ones(3)}, key=0)
    report = check(beats.train_step, state, {"x": X})
    assert [each.path for each in report.errors] == ["seen"]
    assert report.errors[0].where.startswith("test_findings.py:")


def test_what_the_function_raises_comes_out_and_all_is_put_back(app):
    model = app.Model()

    def run(x):
        model.calls += 1
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing"):
        check(run, X)
    assert model.calls == 0
    with pytest.raises(TypeError) as caught:
        check(3)
    assert str(caught.value) == "cannot check 3: it is an int, which cannot be called. Pass a function."
    with pytest.raises(jax.errors.TracerBoolConversionError):
        check(lambda x: x if x.sum() > 0 else -x, X)


def test_debuggers_and_profilers_stay():
    def trace(frame, event, arg):
        return None

    def profile(frame, event, arg):
        return None

    turns, before = [], (sys.gettrace(), sys.getprofile())
    try:
        sys.settrace(trace)
        sys.setprofile(profile)
        check(lambda x: turns.append(1) or x, X)
        assert (sys.gettrace(), sys.getprofile()) == (trace, profile)
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])


GRAPHS = st.recursive(
    st.integers(0, 9),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


class Held:
    def __init__(self, graph):
        self.graph = graph


@settings(deadline=None, max_examples=25, derandomize=True)
@given(graph=GRAPHS, data=st.data())
def test_exactly_the_written_slots_are_found(graph, data):
    held = Held({"root": graph})
    places = list(_places(held.graph, ()))
    chosen = data.draw(st.lists(st.sampled_from(places), unique=True) if places else st.just([]))

    def run(self, x):
        for *outer, last in chosen:
            container = functools.reduce(lambda value, key: value[key], outer, self.graph)
            container[last] += 1
        return x

    shown = repr(held.graph)
    report = check(run.__get__(held), X)
    paths = {"self.graph" + "".join(f"[{key!r}]" for key in place) for place in chosen}
    assert {each.path for each in report.errors} == paths
    assert repr(held.graph) == shown


def _places(value, place):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        if isinstance(child, int):
            yield (*place, key)
        yield from _places(child, (*place, key))


def test_every_cache_that_was_filled_is_emptied_where_a_dead_tracer_lies_in_one():
    """A cache that had entries cannot be put back; one that kept a tracer would raise at its next use."""
    tables = [functools.lru_cache(lambda n, fill=fill: jnp.full(n, fill)) for fill in (1.0, 2.0)]
    for table in tables:
        table(2)

    def scaled(x):
        return x * tables[0](3) + tables[1](3)

    report = check(scaled, jnp.ones(3))
    assert "LEAK" in [finding.kind for finding in report.findings]
    np.testing.assert_array_equal(scaled(jnp.ones(3)), [3.0, 3.0, 3.0])
