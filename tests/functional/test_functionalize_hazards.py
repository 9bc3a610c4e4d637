"""Every row of the hazard table behaves as the ordinary object does, or is refused by name."""

import copy
import importlib
import pkgutil

import jax
import numpy as np
import pytest

from fourbeat.functional.functionalizing import functionalize
from fourbeat.functional.refusals import FunctionalizeError
from tests.functional import hazards
from tests.functional.comparing import assert_same
from tests.functional.hazards import HAZARDS, outside, refused


def run(obj, calls):
    """The same calls as pure functions under jit: results, the number of traces, and `obj` after."""
    methods = {}
    for name, *args in calls:
        methods.setdefault(name, tuple(args))
    F = functionalize(obj)
    state, results, compiled, num_traces = F.init(methods=methods), [], {}, [0]

    def counted(method):
        def traced(state, *args):
            num_traces[0] += 1
            return method(state, *args)

        return jax.jit(traced, donate_argnums=0)

    for name, *args in calls:
        if name not in compiled:
            compiled[name] = counted(F if name == "__call__" else F.method(name))
        out, state = compiled[name](state, *args)
        results.append(out)
    F.commit(state)
    return results, num_traces[0]


# Objects that hold what only equals itself: two of them are never the same.
WITH_IDENTITY = [refused.Itertools, refused.Iterating, refused.Generating, refused.KeyedByObjects]
WITH_IDENTITY += [refused.DictView]


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")  # where arrays grow
@pytest.mark.parametrize("row", [h for h in HAZARDS if not h.refused], ids=lambda h: h.name)
def test_behaves_as_the_ordinary_object(row):
    ordinary, obj = row.make(), row.make()
    expected = [copy.copy(getattr(ordinary, name)(*args)) for name, *args in row.calls]
    results, num_traces = run(obj, row.calls)
    for got, want in zip(results, expected, strict=True):
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5), got, want)
        if isinstance(want, jax.Array):
            assert got.dtype == want.dtype
    assert_same(obj, ordinary)
    assert num_traces == row.compiles


@pytest.mark.parametrize("row", [h for h in HAZARDS if h.refused], ids=lambda h: h.name)
def test_is_refused_by_name(row):
    obj, untouched = row.make(), row.make()
    with pytest.raises((FunctionalizeError, TypeError, jax.errors.UnexpectedTracerError)) as raised:
        run(obj, row.calls)
    assert row.refused in str(raised.value)
    if row.make not in WITH_IDENTITY:
        assert_same(obj, untouched)
    outside.assert_untouched()


def test_the_table_holds_the_rows_of_every_file_each_name_once():
    files = [name for _, name, _ in pkgutil.iter_modules(hazards.__path__) if name != "row"]
    rows = [row for name in files for row in importlib.import_module(f"{hazards.__name__}.{name}").HAZARDS]
    assert sorted(row.name for row in rows) == sorted({row.name for row in HAZARDS})
