"""Joining real processes, and what ends them."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

import fourbeat as fb
from fourbeat.distributed import joining
from fourbeat.runs import RunDirectory
from tests.distributed import processes

BEGIN = """
    import os, signal, sys
    import fourbeat as fb
    from fourbeat.distributed import runtime

    kept = lambda *_: None
    signal.signal(signal.SIGTERM, kept)
    fb.distributed.initialize(timeout_s=30, heartbeat_s=15)
    index, number = fb.distributed.process_index(), fb.distributed.num_processes()
    assert number == 2 and signal.getsignal(signal.SIGTERM) is kept
"""
STEPS = """
    import jax, jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    number = len(jax.devices())
    rows = NamedSharding(jax.make_mesh((number,), ("data",)), PartitionSpec("data"))
    column = jax.make_array_from_callback((number,), rows, lambda index: jnp.ones(1))
    total = jax.jit(jnp.sum)
    for step in range(10_000):
        fb.distributed.at_step(step)
        if step == 3 and index == int(sys.argv[1]):
            {event}
        float(total(column))
"""
AGAIN = """
    errors = []
    fb.distributed.initialize()
    for values in ((None, 3, None), (None, None, 1 - index), ("localhost:1", 2, index)):
        try:
            fb.distributed.initialize(*values)
            errors.append(None)
        except fb.distributed.JoinError as error:
            errors.append(str(error))
    import json
    print(json.dumps([runtime.coordinator_address(), errors]), flush=True)
"""


def test_a_second_call_and_a_failure_are_told_on_every_process(tmp_path):
    script = BEGIN + AGAIN + STEPS.format(event="raise ValueError('no such row')")
    first, second = processes.run(script, 2, tmp_path, arguments=[1])
    for index, done in enumerate((first, second)):
        address, errors = json.loads(next(line for line in done.output.splitlines() if line.startswith("[")))
        said = [(index, 3), (1 - index, 2)]
        assert errors == [
            *(
                f"this is process {index} of 2 already, joined at {address}; the environment "
                f"(JAX_NUM_PROCESSES) asks for process {wanted} of {number}. Processes are joined once: "
                "remove one of the two calls, or give both the same values."
                for wanted, number in said
            ),
            None,
        ]
    assert (first.status, second.status) == (75, 1)
    assert "\nValueError: no such row\n" in second.errors
    line = next(line for line in first.errors.splitlines() if line.startswith("fourbeat:"))
    assert line.startswith("fourbeat: process 1 (") and line.endswith(
        "). This is process 0; it ends with status 75."
    )
    assert " failed at step 3: ValueError: no such row (script.py:" in line


def test_the_end_of_the_coordinator_is_told_before_jax_aborts(tmp_path):
    script = BEGIN + STEPS.format(event="os.kill(os.getpid(), signal.SIGKILL)")
    first, second = processes.run(script, 2, tmp_path, arguments=[0], devices=2)
    assert first.status == 137
    assert second.status in (75, 134)
    line = next(line for line in second.errors.splitlines() if line.startswith("fourbeat:"))
    assert line.startswith("fourbeat: process 0 (") and line.endswith(
        "killed, out of memory or crashed; see what it printed. This is process 1; it ends with status 75."
    )


LATE = """
    import os, signal, jax
    own = os.environ["JAX_COORDINATOR_ADDRESS"], 2, int(os.environ["JAX_PROCESS_ID"])
    jax.distributed.initialize(*own, heartbeat_timeout_seconds=15, cluster_detection_method="deactivate")
    import fourbeat as fb
    fb.distributed.initialize()
    fb.distributed.initialize(num_processes=2)
    fb.distributed.barrier("watched")
    print(fb.distributed.num_processes(), flush=True)
    if fb.distributed.process_index() == 1:
        signal.raise_signal(signal.SIGKILL)
    fb.distributed.barrier("never")
"""


def test_processes_that_somebody_else_has_joined_are_watched_too(tmp_path):
    first, second = processes.run(LATE, 2, tmp_path)
    assert (first.output, first.status) == ("2\n", 75)
    assert (second.output, second.status) == ("2\n", 137)
    assert "PeerError: process 1 (" in first.errors


@pytest.fixture
def launched(monkeypatch):
    """A launcher that has started two processes."""
    joining.check_joined.cache_clear()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    yield monkeypatch
    joining.check_joined.cache_clear()
    monkeypatch.setattr(joining, "_alone_by_intent", False)


def test_several_trainings_in_place_of_one_are_refused(launched, tmp_path):
    batches = [{"x": np.zeros((2, 3))}]
    for ask in (
        fb.distributed.check_joined,
        lambda: fb.loop(batches, until=fb.at(steps=1)),
        lambda: fb.mesh(data=-1),
        lambda: RunDirectory.open(
            "two", dataclasses.make_dataclass("Config", [("out", str)])(str(tmp_path / "run"))
        ),
    ):
        with pytest.raises(fb.distributed.JoinError) as error:
            ask()
        assert str(error.value) == (
            "the environment (JAX_NUM_PROCESSES) says that 2 processes train together, but this one trains "
            "alone: there would be 2 independent trainings in place of one. Call fb.distributed.initialize() "
            "at the top of the program; if they are meant to be independent, call "
            "fb.distributed.initialize(num_processes=1)."
        )
    assert list(tmp_path.iterdir()) == []
    fb.distributed.initialize(num_processes=1)
    assert [tick.step for tick in fb.loop(batches, until=fb.at(steps=1))] == [1]
    assert fb.distributed.num_processes() == 1


def test_what_nobody_has_said_is_asked_for(launched):
    with pytest.raises(fb.distributed.JoinError) as error:
        fb.distributed.initialize()
    assert str(error.value) == (
        "the environment (JAX_NUM_PROCESSES) says nothing of coordinator_address: give all three of "
        "coordinator_address, num_processes and process_id, or start the program by a launcher"
    )
    launched.delenv("JAX_NUM_PROCESSES")
    with pytest.raises(fb.distributed.JoinError) as error:
        fb.distributed.initialize("localhost:8476")
    assert str(error.value) == (
        "this call says nothing of num_processes and process_id: give all three of coordinator_address, "
        "num_processes and process_id, or start the program by a launcher"
    )
    with pytest.raises(fb.distributed.JoinError, match=r"^num_processes is 0, and has to be at least 1$"):
        fb.distributed.initialize("localhost:8476", 0, 0)


def test_after_the_devices_it_is_too_late():
    code = (
        "import jax, fourbeat as fb; jax.devices()\n"
        "try: fb.distributed.initialize('localhost:8476', 2, 0)\n"
        "except fb.distributed.JoinError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "JAX has looked for its devices already, and cannot join other processes any more. Call "
        "fb.distributed.initialize() at the top of the program, before any array is made and before "
        "jax.devices() is called.\n"
    )


def test_a_port_in_use_is_named():
    with processes.socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(fb.distributed.JoinError) as error:
            joining._listen("127.0.0.1", port, joining.meeting.Person(0, 2, "a", 1), 0.2)
    assert str(error.value) == (
        f"process 0 cannot listen at port {port} of this host: Address already in use. Another program has "
        "it: choose another port in the coordinator address of every process."
    )
