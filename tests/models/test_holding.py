"""Plain Python objects inside a model: a write is refused, the user's object stays, restores compare."""

import collections
import dataclasses
import functools
import itertools
import random
import subprocess
import sys
import types
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat.models import HeldObjectError, HeldObjectWarning
from fourbeat.models.holding import Holding

X = {"x": np.ones((2, 3), np.float32)}


class Helper:
    num_made = 0
    shared: Any = []  # noqa: RUF012

    def __init__(self):
        self.calls, self.scale, self.last = 0, 2.0, None
        self.items, self.counts, self.seen = [1], {"a": 0}, {0}
        self.table, self.grid = np.arange(3.0), jnp.ones(3)
        self.window = collections.deque([1, 2], maxlen=2)
        self.inner = types.SimpleNamespace(n=0, deep=[{"k": 1}])
        self.random, self.ids = random.Random(0), itertools.count()

    def count(self, x):
        self.calls += 1
        return x


class Net(nnx.Module):
    """Runs a line of the table with its plain objects; one parameter, one variable."""

    def __init__(self, line):
        self.w, self.seen = nnx.Param(jnp.ones(3)), nnx.Variable(jnp.zeros(()))
        self.helper, self.line = Helper(), line
        self.names, self.sizes = ["a"], {"a": 1}
        self.tally = functools.partial(Helper.count, self.helper)
        self.bound = self.helper.count
        num_calls = 0

        def closure(x):
            nonlocal num_calls
            num_calls += 1
            return x

        self.closure = closure

    def __call__(self, x):
        self.seen[...] += 1
        self.line(self, x)
        return x * self.w


def _global_alias(model, x):
    model.helper.window.append(x.shape[0])


LINES = {
    "model.helper.calls": lambda m, x: setattr(m.helper, "calls", m.helper.calls + 1),
    "model.helper.last": lambda m, x: setattr(m.helper, "last", x * 2),
    "model.helper.fresh": lambda m, x: setattr(m.helper, "fresh", "made"),
    "model.helper.scale": lambda m, x: delattr(m.helper, "scale"),
    "model.helper.items": lambda m, x: m.helper.items.append(x.sum()),
    "model.helper.items[0]": lambda m, x: m.helper.items.__setitem__(0, 5),
    "model.helper.counts['a']": lambda m, x: m.helper.counts.update(a=x.mean()),
    "model.helper.counts['b']": lambda m, x: m.helper.counts.update(b=1),
    "model.helper.counts['c']": lambda m, x: m.helper.counts.setdefault("c", x.sum()),
    "model.helper.seen": lambda m, x: m.helper.seen.add("seen"),
    "model.helper.table": lambda m, x: m.helper.table.__setitem__(1, 7),
    "model.helper.grid": lambda m, x: setattr(m.helper, "grid", m.helper.grid + x.sum()),
    "model.helper.window[0]": _global_alias,
    "model.helper.inner.n": lambda m, x: setattr(m.helper.inner, "n", 1),
    "model.helper.inner.deep[0]['k']": lambda m, x: m.helper.inner.deep[0].update(k=x),
    "model.helper.random": lambda m, x: m.helper.random.random(),
    "Helper.num_made": lambda m, x: setattr(Helper, "num_made", Helper.num_made + 1),
    "Helper.shared": lambda m, x: Helper.shared.append(x),
    "model.names": lambda m, x: m.names.append(x),
    "model.sizes['a']": lambda m, x: m.sizes.update(a=x),
    "model.closure.num_calls": lambda m, x: m.closure(x),
}
CALLS = {
    "train_step": lambda beats, state: beats.train_step(state, X),
    "compiled": lambda beats, state: fb.compile(beats.train_step, donate=False)(state, X),
    "loss": lambda beats, state: beats.loss(state, X),
    "gradient": lambda beats, state: jax.jit(beats.gradient)(state, X),
    "eval_step": lambda beats, state: beats.eval_step(state, X, state.metrics),
    "predict_step": lambda beats, state: jax.jit(beats.predict_step)(state, X),
}


def beats_of(loss=lambda model, batch: (model(batch["x"]) ** 2).mean(-1)):
    return fb.four_beats(
        loss,
        optax.sgd(0.1),
        metrics=fb.metrics.Mean("loss"),
        predict=lambda model, batch: model(batch["x"]),
    )


def contents(value, seen=()):
    """What an object graph holds, by Python's own means; a tracer in it is named."""
    if id(value) in seen:
        return "again"
    seen = (*seen, id(value))
    if isinstance(value, jax.core.Tracer):
        return "a tracer"
    if isinstance(value, (np.ndarray, jax.Array)):
        return np.asarray(value).tolist()
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, dict):
        return {key: contents(each, seen) for key, each in value.items()}
    if isinstance(value, (list, set, collections.deque)):
        return [contents(each, seen) for each in value]
    if isinstance(value, (Helper, types.SimpleNamespace)):
        return contents(vars(value), seen)
    return value


def held_by(net):
    cell = net.closure.__closure__[0].cell_contents
    made = (Helper.num_made, contents(Helper.shared))
    return contents(net.helper), contents(list(net.names)), contents(dict(net.sizes)), cell, made


@pytest.mark.parametrize("path", LINES)
def test_a_write_is_refused_by_path_and_put_back(path):
    net = Net(LINES[path])
    before, beats = held_by(net), beats_of()
    state = beats.init(net)
    with pytest.raises(HeldObjectError, match="the forward pass wrote ") as raised:
        CALLS["compiled"](beats, state)
    assert raised.value.path == path
    assert raised.value.line is not None and raised.value.line[0].endswith("test_holding.py")
    assert held_by(net) == before
    report = fb.purity.check(beats.train_step, state, X)
    assert not report.ok and report.errors[0].path == path
    assert not fb.purity.check(net, X["x"]).ok
    assert held_by(net) == before


@pytest.mark.parametrize("name", CALLS)
def test_every_beat_refuses(name):
    net = Net(LINES["model.helper.last"])
    beats = beats_of()
    with pytest.raises(HeldObjectError, match=r"model\.helper\.last \(None -> ") as raised:
        CALLS[name](beats, beats.init(net))
    assert net.helper.last is None and raised.value.path == "model.helper.last"


@pytest.mark.parametrize("attribute", ["tally", "bound"])
def test_an_object_behind_a_partial_or_a_method(attribute):
    net = Net(lambda model, x: getattr(model, attribute)(x))
    with pytest.raises(HeldObjectError, match=r"model\.\w+(\[0\]|\.__self__)?\.calls \(0 -> 1\)"):
        CALLS["compiled"](beats_of(), beats_of().init(net))
    assert net.helper.calls == 0


def test_the_text():
    net = Net(LINES["model.helper.calls"])
    with pytest.raises(HeldObjectError) as raised:
        beats_of().train_step(beats_of().init(net), X)
    number = raised.value.line[1]
    assert str(raised.value) == (
        f"the forward pass wrote model.helper.calls (0 -> 1) at test_holding.py:{number}, in a plain Python "
        "object, which is no part of the explicit state. A compiled step runs that line once, while it is "
        "traced; it was put back. Hold what changes in an nnx.Variable (self.n = "
        "nnx.Variable(jnp.array(0)), self.n[...] += 1) or return it as aux. A cache holds what NumPy made, "
        "or is filled before the model is split."
    )


def test_the_iterator_of_an_object_is_refused():
    net = Net(lambda model, x: next(model.helper.ids))
    with pytest.raises(HeldObjectError, match=r"model\.helper\.ids"):
        beats_of().train_step(beats_of().init(net), X)


def test_an_exception_of_the_model_leaves_the_object_as_it_was():
    def fails(model, x):
        model.helper.calls += 1
        model.helper.last = x
        raise RuntimeError("from the model")

    net = Net(fails)
    before = held_by(net)
    with pytest.raises(RuntimeError, match="from the model"):
        jax.jit(beats_of().train_step)(beats_of().init(net), X)
    assert held_by(net) == before


def test_reading_an_object_is_no_write():
    net = Net(lambda model, x: (model.helper.scale, model.helper.items[0], model.helper.table[1]))
    beats = beats_of(lambda model, batch: model.helper.scale * model(batch["x"]).mean(-1))
    state, _ = fb.compile(beats.train_step)(beats.init(net), X)
    # d/dw of 2 * mean(w) is 2/3, and sgd(0.1) subtracts a tenth of it
    np.testing.assert_allclose(state.params["w"], np.full(3, 1 - 0.1 * 2 / 3), rtol=1e-6)
    assert float(state.rest["seen"]) == 1


def _fill(model, x):
    if model.helper.last is None:
        model.helper.last = np.tril(np.ones((3, 3), np.float32))
    return model.helper.last


def _fill_by_size(model, x):
    return model.helper.counts.setdefault(x.shape[-1], np.tril(np.ones((3, 3), np.float32)))


def _fill_late(model, x):
    if not hasattr(model.helper, "fresh"):
        model.helper.fresh = np.tril(np.ones((3, 3), np.float32))
    return model.helper.fresh


class Masked(Net):
    def __call__(self, x):
        self.seen[...] += 1
        return x @ self.line(self, x) * self.w


@pytest.mark.parametrize("fill", [_fill, _fill_by_size, _fill_late])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_cache_that_each_trace_fills_alike_is_no_write_and_is_put_back(fill, accumulate):
    net = Masked(fill)
    before = held_by(net)
    beats = fb.four_beats(
        lambda model, batch: model(batch["x"]).mean(-1), optax.sgd(0.1), accumulate=accumulate,
        predict=lambda model, batch: model(batch["x"]),
    )  # fmt: skip
    state, _ = fb.compile(beats.train_step)(beats.init(net), X)
    # each column of the mask is read by ones: 3, 2 and 1 times a third, and sgd(0.1) subtracts a tenth of it
    np.testing.assert_allclose(state.params["w"], 1 - 0.1 * np.array([3, 2, 1]) / 3, rtol=1e-6)
    assert float(state.rest["seen"]) == accumulate
    outputs, _ = beats.predict_step(state, X, carry=True)
    np.testing.assert_allclose(outputs[0], np.array([3, 2, 1]) * state.params["w"], rtol=1e-6)
    assert held_by(net) == before and not hasattr(net.helper, "fresh")
    assert beats.init(net).static is state.static
    assert fb.purity.check(beats.train_step, state, X).ok
    assert held_by(net) == before


class Logging(eqx.Module):
    w: jax.Array
    log: list = eqx.field(static=True)

    def __call__(self, x):
        self.log.append("x")
        return x * self.w


def _with_object(model, batch):
    model["helper"].calls += 1
    return model["w"] * batch["x"].mean(-1)


@dataclasses.dataclass
class Case:
    model: Any
    loss: Any
    path: str
    look: Any


def plain_cases():
    equinox, helper = Logging(jnp.ones(3), []), Helper()
    return {
        "a static list of Equinox": Case(
            equinox, lambda m, b: m(b["x"]).mean(-1), "model.log", lambda: equinox.log == []
        ),
        "an object in a dict": Case(
            {"w": jnp.ones(()), "helper": helper},
            _with_object,
            "model.helper.calls",
            lambda: helper.calls == 0,
        ),
    }


@pytest.mark.parametrize("name", plain_cases())
def test_other_pytrees(name):
    case = plain_cases()[name]
    beats = beats_of(case.loss)
    with pytest.raises(HeldObjectError) as raised:
        fb.compile(beats.train_step)(beats.init(case.model), X)
    assert raised.value.path == case.path and case.look()


# What the objects hold is a part of `static` and of checkpoints -------------------------------------


class Scaled(nnx.Module):
    def __init__(self, scale=2.0, table=(1.0, 2.0)):
        self.w, self.helper = nnx.Param(jnp.ones(3)), types.SimpleNamespace(scale=scale)
        self.helper.table = np.array(table, np.float32)

    def __call__(self, x):
        return x * self.w * self.helper.scale


def test_a_new_init_sees_what_has_changed():
    net, beats = Scaled(), beats_of(lambda model, batch: model(batch["x"]).mean(-1))
    step = fb.compile(beats.train_step, on_recompile="ignore", donate=False)
    first = beats.init(net)
    assert beats.init(net).static is first.static
    assert float(step(first, X)[1]["loss"]) == 2.0
    net.helper.scale = 3.0
    second = beats.init(net)
    assert second.static is not first.static
    assert float(step(second, X)[1]["loss"]) == 3.0


def test_a_change_since_init_is_named_when_the_next_program_is_traced():
    net, beats = Scaled(), beats_of(lambda model, batch: model(batch["x"]).mean(-1))
    state = beats.init(net)
    net.helper.scale = 3.0
    with pytest.warns(HeldObjectWarning) as warned:
        jax.jit(beats.train_step)(state, X)
    assert str(warned[0].message) == (
        "since the model was split, model.helper.scale was 2.0 and is 3.0. Steps that are compiled already "
        "keep the old value, and checkpoints record it. Call beats.init, or split, again after such a change."
    )


def test_a_restore_into_another_object_names_the_path(tmp_path):
    beats = beats_of()
    with fb.Checkpoints(tmp_path, asynchronous=False) as checkpoints:
        checkpoints.save(1, {"state": beats.init(Scaled())})
        same = checkpoints.restore({"state": beats.init(Scaled())})
        np.testing.assert_array_equal(same["state"].params["w"], np.ones(3))
        other = {"state": beats.init(Scaled(scale=3.0, table=(1.0, 5.0)))}
        with pytest.raises(ValueError, match="cannot restore step 1") as raised:
            checkpoints.restore(other)
        lines = str(raised.value).splitlines()
        assert lines[2].split() == ["tree['state'].model.helper.scale", "2.0", "3.0"]
        assert lines[3].split()[0] == "tree['state'].model.helper.table"
        _, mismatch = checkpoints.restore(other, partial=True)
        places = ["scale", "table"]
        assert list(mismatch.differing) == [f"tree['state'].model.helper.{name}" for name in places]


TEXTS = """
import collections, enum, functools, numpy as np
from fourbeat.models.holding import Holding
class Color(enum.Enum):
    RED = 1
class Helper:
    pass
h = Helper()
h.names, h.color, h.self = {"b", "a", "c"}, Color.RED, h
h.call, h.kind, h.array = functools.partial(max, 1), Helper, np.arange(3)
h.long, h.nested, h.inner, h.empty = "x" * 100, (1, ("a", 2.5)), [Helper()], {}
print(sorted(Holding({"model.h": h}).entries.items()))
"""


def test_texts_are_the_same_in_every_process():
    command = [sys.executable, "-c", TEXTS]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == second
    assert "('model.h.nested', \"tuple(1, tuple('a', 2.5))\")" in first and "0x" not in first


def test_large_objects_count_by_their_length():
    tokenizer = types.SimpleNamespace(
        vocabulary={str(i): i for i in range(100_001)}, rows=np.zeros(9_000_000), merges=list(range(300))
    )
    entries = Holding({"model.tokenizer": tokenizer}).entries
    assert entries["model.tokenizer.vocabulary"] in ("dict", "100001") and len(entries) == 201
    assert any(path.endswith("and others") for path in entries)

    def grows(model, x):
        model.helper.vocabulary["new"] = 1

    net = Net(grows)
    net.helper = nnx.static(tokenizer)
    with pytest.raises(HeldObjectError, match=r"model\.helper\.vocabulary \(100001 -> 100002\)"):
        beats_of().train_step(beats_of().init(net), X)
