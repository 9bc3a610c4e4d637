"""Joining the processes of a training."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import cache

import jax
from jax._src import xla_bridge

from fourbeat.distributed import agreement, launchers, meeting, runtime, watching
from fourbeat.distributed.launchers import Place
from fourbeat.distributed.meeting import JoinError

_NO_PROXY = "no_grpc_proxy"  # in small letters, as gRPC reads it
_alone_by_intent = False


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout_s: float = 60,
    heartbeat_s: float = 20,
) -> None:
    """Joins this process to the others that run the same program.

    Call it first, before anything asks JAX for a device. What is not given comes from the launcher: Slurm
    (`srun`), JobSet, Kubeflow Trainer or Ray Train. Where there is none, or where all is done already, it
    does nothing. `num_processes=1` says that this process trains alone, whatever its launcher says.

    From then on a thread watches the other processes. When one dies or fails, all end with exit status 75
    within a few seconds, and say which one it was.

    Args:
      coordinator_address: `host:port` of process 0, which the others can reach.
      num_processes: that train together.
      process_id: number of this one, from 0.
      timeout_s: how long to wait for the others.
      heartbeat_s: a process that gives no sign of life for this long ends all. JAX ends them then, with exit
        status 134.

    Raises:
      JoinError: the others cannot be joined, or were joined already with other values; the text names the
        cause.

    >>> initialize()  # no launcher, no arguments: this process trains alone
    >>> runtime.num_processes()
    1
    """
    global _alone_by_intent
    asked = _asked(coordinator_address, num_processes, process_id)
    if runtime.client() is not None:
        _compare(asked)
        if not watching.watching() and runtime.num_processes() > 1:
            _watch_joined(timeout_s, heartbeat_s)
        return
    if asked.num_processes == 1:
        _alone_by_intent = num_processes == 1
        return
    if asked[1:4] == (None, None, None):
        return
    _check_whole(asked)
    if xla_bridge.backends_are_initialized():
        raise JoinError(
            "JAX has looked for its devices already, and cannot join other processes any more. Call "
            "fb.distributed.initialize() at the top of the program, before any array is made and before "
            "jax.devices() is called."
        )
    _join(asked, timeout_s, heartbeat_s)


@cache
def check_joined() -> None:
    """Refuses several independent trainings in place of one.

    `fb.loop`, `fb.mesh` and a run directory ask this. It reads what the launcher says once.

    Raises:
      JoinError: the launcher has started several processes, and this one has not joined the others.

    >>> check_joined()
    """
    if _alone_by_intent or runtime.num_processes() > 1:
        return
    said = launchers.place()
    if said.num_processes is not None and said.num_processes > 1:
        raise JoinError(
            f"{said.launcher} says that {said.num_processes} processes train together, but this one trains "
            f"alone: there would be {said.num_processes} independent trainings in place of one. Call "
            "fb.distributed.initialize() at the top of the program; if they are meant to be independent, "
            "call fb.distributed.initialize(num_processes=1)."
        )


def _asked(address: str | None, number: int | None, index: int | None) -> Place:
    """What is given, and for the rest what the launcher says. Three arguments need no launcher."""
    if None not in (address, number, index) or number == 1:
        return Place("this call", address, number, index)
    try:
        said = launchers.place()
    except ValueError as error:
        raise JoinError(str(error)) from None
    number = said.num_processes if number is None else number
    index = said.process_id if index is None else index
    if said.launcher == "Ray Train" and address is None and runtime.client() is None and (number or 1) > 1:
        address = launchers.ray_coordinator()
    return Place(
        said.launcher or "this call",
        said.coordinator_address if address is None else address,
        number,
        index,
        said.local_device_ids,
    )


def _check_whole(asked: Place) -> None:
    absent = [name for name, value in zip(Place._fields[1:4], asked[1:4], strict=True) if value is None]
    if absent:
        raise JoinError(
            f"{asked.launcher} says nothing of "
            f"{' and '.join(absent)}: give all three of coordinator_address, num_processes and process_id, "
            "or start the program by a launcher"
        )
    if asked.num_processes is None or asked.num_processes < 1:
        raise JoinError(f"num_processes is {asked.num_processes}, and has to be at least 1")


def _compare(asked: Place) -> None:
    """Processes are joined once. The address may be written in another way."""
    seen = (runtime.num_processes(), runtime.process_index())
    wanted = tuple(
        have if want is None else want
        for have, want in zip(seen, (asked.num_processes, asked.process_id), strict=True)
    )
    if seen != wanted:
        raise JoinError(
            f"this is process {seen[1]} of {seen[0]} already, joined at {runtime.coordinator_address()}; "
            f"{asked.launcher} asks for process {wanted[1]} of {wanted[0]}. Processes are joined once: "
            "remove one of the two calls, or give both the same values."
        )


def _join(asked: Place, timeout_s: float, heartbeat_s: float) -> None:
    address, number, index = asked.coordinator_address or "", asked.num_processes or 0, asked.process_id or 0
    ends = time.monotonic() + timeout_s
    host, port = meeting.split_address(address)
    me = meeting.this_person(index, number)
    if index == 0:
        server = _listen(host, port, me, timeout_s)
        others = meeting.receive_others(server, me, timeout_s=timeout_s, say=watching.say)
    else:
        others = dict([meeting.come_to(host, port, me, timeout_s=timeout_s)])
    watching.start(me, others, heartbeat_s=heartbeat_s)
    _past_proxies(host)

    def join() -> None:
        jax.distributed.initialize(
            address,
            number,
            index,
            local_device_ids=asked.local_device_ids,
            cluster_detection_method="deactivate",
            initialization_timeout=max(10, int(ends - time.monotonic())),
            heartbeat_timeout_seconds=max(1, round(heartbeat_s)),
        )

    _keeping_sigterm(join)


def _listen(host: str, port: int, me: meeting.Person, timeout_s: float):
    """Process 0 listens. Where something does already, it may be another process 0."""
    try:
        return meeting.listener(port)
    except OSError as error:
        try:
            meeting.come_to(host, port, me, timeout_s=min(timeout_s, 5.0))
        except JoinError as other:
            if "two processes" in str(other):
                raise
        raise JoinError(
            f"process 0 cannot listen at port {port} of this host: {os.strerror(error.errno or 0)}. Another "
            "program has it: choose another port in the coordinator address of every process."
        ) from None


def _past_proxies(host: str) -> None:
    """Process 0 was reached directly. JAX would ask a proxy of the environment for it, and abort."""
    if any(os.environ.get(name) for name in ("grpc_proxy", "https_proxy", "http_proxy")):
        others = os.environ.get(_NO_PROXY) or os.environ.get("no_proxy")
        os.environ[_NO_PROXY] = f"{others},{host}" if others else host


def _keeping_sigterm(join: Callable[[], None]) -> None:
    """JAX's own call replaces the handler of SIGTERM by one that only JAX reads."""
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGTERM)
        join()
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)
    else:  # where no handler can be set
        before = jax.config.jax_enable_preemption_service  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_enable_preemption_service", False)
        try:
            join()
        finally:
            jax.config.update("jax_enable_preemption_service", before)


def _watch_joined(timeout_s: float, heartbeat_s: float) -> None:
    """Somebody else has joined the processes. They meet at a port that process 0 takes, and names."""
    number, index = runtime.num_processes(), runtime.process_index()
    me = meeting.this_person(index, number)
    host, _ = meeting.split_address(runtime.coordinator_address() or "")
    server = meeting.listener(0) if index == 0 else None
    port = agreement.broadcast(
        server.getsockname()[1] if server is not None else None, topic="watching", timeout_s=timeout_s
    )
    if server is not None:
        others = meeting.receive_others(server, me, timeout_s=timeout_s, say=watching.say)
    else:
        others = dict([meeting.come_to(host, port, me, timeout_s=timeout_s)])
    watching.start(me, others, heartbeat_s=heartbeat_s)
