"""Every kind of impurity is found, with slot, values and line; every row is one that jit does lose."""

import linecache
import random
import types

import jax
import numpy as np
import pytest

from fourbeat.purity import check, examining, wording
from tests.purity import test_clean
from tests.purity.clean_code import CLEAN
from tests.purity.impure_code import HAZARDS
from tests.purity.impure_code.row import ANY

ROWS = pytest.mark.parametrize("row", HAZARDS, ids=lambda row: row.name)


@pytest.fixture(autouse=True)
def _process_state(monkeypatch):
    """What the rows do to the process ends with the test."""
    for name in ("FOURBEAT_TEST", "FOURBEAT_SCALE"):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)
    states = random.getstate(), np.random.get_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])


@ROWS
def test_found(row):
    fn, args, _ = row.make()
    errors = check(fn, *args).errors
    seen = sorted((each.kind, each.path, str(each.before), str(each.after)) for each in errors)
    wanted = sorted(tuple(str(each) for each in one[:2]) + tuple(one[2:]) for one in row.expected)
    assert len(seen) == len(wanted), [str(each) for each in errors]
    for one, other in zip(seen, wanted, strict=True):
        for value, expected in zip(one, other, strict=True):
            assert expected in (ANY, str(ANY)) or value == str(expected)
    for each in errors:
        if row.has_line:
            assert "# here" in linecache.getline(each.file, each.line), (each.file, each.line)
            assert f"{each.file.rpartition('/')[2]}:{each.line}" in each.text


@ROWS
def test_put_back(row):
    """A check changes nothing, so a second one says the same."""
    fn, args, look = row.make()
    before = _safely(look)
    texts = [str(each.kind) + each.path for each in check(fn, *args).errors]
    assert _same(_safely(look), before) or "environ" in row.name or "getenv" in row.name
    if "iterator" in row.name or row.name in ("generator", "itertools.count"):
        return
    assert [str(each.kind) + each.path for each in check(fn, *args).errors] == texts


@ROWS
def test_is_a_hazard(row):
    """The oracle: the function run eagerly and under `jax.jit`, three times each."""
    assert not _same(_history(row, lambda fn: fn), _history(row, jax.jit))


@pytest.mark.parametrize("adds", [False, True], ids=["in place of what it finds", "beside what it finds"])
def test_the_tables_see_an_always_impure_checker(adds, monkeypatch):
    judge = examining.judge

    def always(target, evidence):
        found = wording.Wording(target).clock("self.n", ("app.py", 1))
        return [found, *(judge(target, evidence) if adds else ())]

    monkeypatch.setattr(examining, "judge", always)
    for row in HAZARDS[::8]:
        with pytest.raises(AssertionError):
            test_found(row)
    for name in list(CLEAN)[:6]:
        with pytest.raises(AssertionError):
            test_clean.test_no_error(name)


def _history(row, transform):
    fn, args, look = row.make()
    if isinstance(fn, types.MethodType) and hasattr(fn.__func__, "__wrapped__"):
        fn = fn.__func__.__wrapped__.__get__(fn.__self__)
    called = transform(getattr(fn, "__wrapped__", fn))
    return [_safely(lambda: (jax.tree.map(np.asarray, called(*args)), look())) for _ in range(3)]


def _safely(read):
    try:
        return jax.tree.map(lambda leaf: leaf, read())
    except Exception as error:
        return type(error).__name__


def _same(one, other):
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    if len(leaves) != len(others) or jax.tree.structure(one) != jax.tree.structure(other):
        return False
    return all(_equal(leaf, other) for leaf, other in zip(leaves, others, strict=True))


def _equal(leaf, other):
    if isinstance(leaf, np.ndarray):
        return isinstance(other, np.ndarray) and np.allclose(leaf, other, equal_nan=True)
    return leaf is other or (type(leaf) is type(other) and leaf == other)
