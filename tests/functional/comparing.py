"""Two object graphs, compared part by part."""

import collections

import jax
import jax.numpy as jnp
import numpy as np


def assert_same(got, expected, path="object", seen=None, *, kinds=True):
    """One object graph is the other: kinds of numbers, values, and which parts are one object."""
    seen = {} if seen is None else seen
    if got is expected:
        return
    if id(expected) in seen:
        assert seen[id(expected)] is got or not hasattr(got, "__dict__"), f"{path}: alias lost"
        return
    if isinstance(expected, (bool, str, type(None), type)):
        assert got == expected, path
    elif isinstance(expected, (jax.Array, np.ndarray, int, float, complex, np.number)):
        if kinds and not isinstance(got, (jax.Array, np.ndarray)):
            floats = [jnp.issubdtype(jnp.result_type(each), jnp.inexact) for each in (got, expected)]
            assert floats[0] == floats[1], f"{path}: {type(got)} is not {type(expected)}"
        if isinstance(expected, jax.Array) and jax.dtypes.issubdtype(expected.dtype, jax.dtypes.prng_key):
            got, expected = jax.random.key_data(got), jax.random.key_data(expected)
        np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=1e-5, err_msg=path)
    elif isinstance(expected, (list, tuple, collections.deque)):
        seen[id(expected)] = got
        assert type(got) is type(expected) and len(got) == len(expected), path
        for i, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{path}[{i}]", seen, kinds=kinds)
    elif isinstance(expected, dict):
        seen[id(expected)] = got
        assert list(got) == list(expected), path
        for key in expected:
            assert_same(got[key], expected[key], f"{path}[{key!r}]", seen, kinds=kinds)
    mine, theirs = held_by(got), held_by(expected)
    if theirs:
        seen[id(expected)] = got
    assert mine.keys() == theirs.keys(), path
    for name, part in theirs.items():
        assert_same(mine[name], part, f"{path}.{name}", seen, kinds=kinds)


def held_by(value):
    """What Python itself would pickle of an instance: its slots and its `__dict__`, by name."""
    if isinstance(value, (jax.Array, np.ndarray, type)):
        return {}
    state = object.__getstate__(value)
    parts = state if isinstance(state, tuple) else (state,)
    held = {name: part for each in parts for name, part in (each or {}).items()}
    if isinstance(value, collections.defaultdict):
        held["default_factory"] = value.default_factory
    return held


def mutable_parts(value, seen=None):
    """Every object that can be written below `value`, each once, in an order that its structure fixes."""
    seen = {} if seen is None else seen
    if id(value) in seen or isinstance(value, (type, jax.Array)):
        return list(seen.values())
    if isinstance(value, (list, dict, collections.deque, np.ndarray)) or held_by(value):
        seen[id(value)] = value
    if isinstance(value, (list, tuple, collections.deque)):
        for each in value:
            mutable_parts(each, seen)
    if isinstance(value, dict):
        for each in value.values():
            mutable_parts(each, seen)
    for _, each in sorted(held_by(value).items()):
        mutable_parts(each, seen)
    return list(seen.values())


def identities(value, known):
    """For each mutable part of `value`, its position among `known` objects, or None for a new one."""
    positions = {id(each): i for i, each in enumerate(known)}
    return [positions.get(id(each)) for each in mutable_parts(value)]
