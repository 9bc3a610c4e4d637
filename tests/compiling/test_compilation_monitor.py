"""CompilationMonitor: what jax compiles, from the first part of it to the last."""

import threading

import jax
import numpy as np
import pytest

from fourbeat.compiling.compilation_monitor import CompilationMonitor


def listeners():
    from jax._src import monitoring

    return [*monitoring.get_scalar_listeners(), *monitoring.get_event_duration_listeners()]


def test_the_outermost_compilation_is_under_way_and_each_ends_once():
    seen = []

    @jax.jit
    def inner(x):
        seen.append(underway.now.name)
        return x * 3

    def outer(x):
        with jax.ensure_compile_time_eval():
            constant = inner(2.0)  # a compilation of its own within this one
        seen.append(underway.now.name)
        return x * constant

    before, x = listeners(), np.float32(2)
    with CompilationMonitor() as underway:
        compiled = jax.jit(outer)
        for _ in range(2):  # the second call compiles nothing
            compiled(x)
        assert underway.now is None
    assert seen == ["outer", "outer"]
    assert [name for name, _ in underway.ended] == ["outer"]
    assert all(seconds > 0 for _, seconds in underway.ended)
    assert listeners() == before


def test_a_trace_that_fails_is_under_way_no_more():
    def failing(x):
        raise KeyError(x)

    with CompilationMonitor() as underway:
        with pytest.raises(KeyError):
            jax.jit(failing)(1.0)
        assert underway.now is None
    assert not underway.ended


def test_other_threads_and_traces_alone_are_no_compilations():
    seen = []
    with CompilationMonitor() as underway:
        program = jax.jit(lambda x: seen.append(underway.now) or x - 7)
        thread = threading.Thread(target=program, args=(1.0,))
        thread.start()
        thread.join()
        assert seen == [None]
        jax.eval_shape(lambda x: x - 8, 1.0)
    assert not underway.ended


def test_one_that_began_before_is_left_out():
    def begun_before(x):
        underway.__enter__()
        return x

    underway = CompilationMonitor()
    jax.jit(begun_before)(1.0)
    underway.__exit__()
    assert underway.now is None
