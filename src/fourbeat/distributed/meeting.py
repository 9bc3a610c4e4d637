"""The processes of a training meet before JAX joins them.

JAX's own call ends a process with SIGABRT when another is missing or cannot be reached. So they meet here
first, at the same address: process 0 listens, the others come and say who they are, and process 0 tells all
of them whether they are complete, or what is wrong. Their connections stay open: by them a process that dies
is noticed.
"""

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from fourbeat.distributed.connection import Connection, ready

_WORD = "fourbeat-meeting-1"
_ANSWER_S = 5.0  # what listens and does not greet within this is no process of a training
_AGAIN_S = 0.2  # between two tries
_LATE_S = 5.0  # for those that come after something was found wrong
_TELL_AFTER_S, _TELL_EVERY_S = 5.0, 10.0


class JoinError(RuntimeError):
    """A process cannot join the others; the text names the cause."""


class Person(NamedTuple):
    """Who comes to a meeting.

    Attributes:
      process_id: its number.
      num_processes: that it was started for.
      host: its name.
      pid: its number on its host.
    """

    process_id: int
    num_processes: int
    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.process_id} ({self.host}, pid {self.pid})"


def this_person(process_id: int, num_processes: int) -> Person:
    """What this process says of itself."""
    return Person(process_id, num_processes, socket.gethostname(), os.getpid())


def split_address(address: str) -> tuple[str, int]:
    """Host and port.

    >>> split_address("[::1]:8476")
    ('::1', 8476)
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise JoinError(f"coordinator address {address!r} is not host:port, such as 'node1:8476'")
    return host.strip("[]"), int(port)


def listener(port: int) -> socket.socket:
    """A socket that listens on this port of all addresses of the host; 0 takes a free one."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def receive_others(
    server: socket.socket, me: Person, *, timeout_s: float, say: Callable[[str], None]
) -> dict[Person, Connection]:
    """Waits at process 0 until all others have come, and tells them so.

    Args:
      server: socket that listens. It is closed.
      me: process 0.
      timeout_s: how long to wait for them.
      say: is given a line now and then that says whom process 0 waits for.

    Raises:
      JoinError: some did not come, or came with other numbers. Those that came are told the same text.
    """
    meeting = _Meeting(me, timeout_s)
    try:
        meeting.wait(server, say)
    except JoinError as error:
        meeting.refuse(server, str(error))
        raise
    finally:
        server.close()
    for each in meeting.come.values():
        each.send(complete=True)
    return meeting.come


def come_to(host: str, port: int, me: Person, *, timeout_s: float) -> tuple[Person, Connection]:
    """Goes to process 0, and waits until it says that all have come. Gives who process 0 is.

    Raises:
      JoinError: process 0 cannot be reached in time, refuses this process, or others did not come.
    """
    ends = time.monotonic() + timeout_s
    while True:
        connection = Connection(_connect(host, port, me, ends, timeout_s))
        greeting = connection.await_message(min(ends, time.monotonic() + _ANSWER_S))
        if not connection.silent_end() or time.monotonic() + _AGAIN_S > ends:
            break
        connection.close()  # its listener went away meanwhile: of an earlier run, or of process 0 in trouble
        time.sleep(_AGAIN_S)
    if greeting is None or greeting.get("word") != _WORD:
        connection.close()
        raise JoinError(
            f"process {me.process_id} reached {host}:{port}, but what listens there is not process 0 of this "
            "training. Another program may have taken the port of the coordinator: choose another one."
        )
    first = Person(*greeting["person"])
    if greeting.get("refused"):
        connection.close()
        raise JoinError(greeting["refused"])
    connection.send(person=me)
    waiting: list[int] = list(greeting.get("waiting", []))
    while (message := connection.await_message(ends)) is not None:
        if message.get("complete"):
            return first, connection
        if message.get("refused"):
            connection.close()
            raise JoinError(message["refused"])
        waiting = message.get("waiting", waiting)
    ended = connection.ended
    connection.close()
    if ended:
        raise JoinError(f"{first} has ended before all had come; look at what it printed")
    others = [number for number in waiting if number != me.process_id]
    raise JoinError(
        f"process {me.process_id} waited {timeout_s:g} s: {first} at {host}:{port} still waits for "
        f"{numbers_text(others)} of {me.num_processes}. Start them, or see what they printed."
    )


class _Meeting:
    """Who has come to process 0 so far."""

    def __init__(self, me: Person, timeout_s: float):
        self.me, self.timeout_s = me, timeout_s
        self.ends = time.monotonic() + timeout_s
        self.come: dict[Person, Connection] = {}
        self.left: set[int] = set()  # numbers of those that came, and went away again
        self.connections: list[Connection] = []  # of those too that have not said who they are

    def missing(self) -> list[int]:
        come = {person.process_id for person in self.come}
        return [number for number in range(1, self.me.num_processes) if number not in come]

    def wait(self, server: socket.socket, say: Callable[[str], None]) -> None:
        tell = time.monotonic() + _TELL_AFTER_S
        where = server.getsockname()[1]
        while missing := self.missing():
            now = time.monotonic()
            if now > self.ends:
                never = [number for number in missing if number not in self.left]
                who = f"{numbers_text(never or missing)} of {self.me.num_processes}"
                raise JoinError(
                    f"{self.me} waited {self.timeout_s:g} s at port {where} and {who} "
                    f"{'did not come' if never else 'ended before all had come'}. Start them with this "
                    "coordinator address, or see what they printed."
                )
            if now > tell:
                say(
                    f"process 0 waits at port {where} for {numbers_text(missing)} of "
                    f"{self.me.num_processes}, {self.ends - now:.0f} s more"
                )
                tell = now + _TELL_EVERY_S
            come = ready([server, *self.connections], 0.2)
            for connection in [each for each in self.connections if each in come]:
                self.hear(connection)
            if server in come:
                self.greet(server)

    def refuse(self, server: socket.socket, text: str) -> None:
        """Tells all that came, and those that come soon; waits until they have read it, and gone."""
        told = 0
        ends = min(time.monotonic() + _LATE_S, self.ends + 1)
        for each in self.connections:
            each.send(refused=text)
        while time.monotonic() < ends and (told < self.me.num_processes - 1 or self.connections):
            come = ready([server, *self.connections], 0.2)
            for connection in [each for each in self.connections if each in come]:
                connection.receive()
                if connection.ended:
                    told += 1
                    self.connections.remove(connection)
                    connection.close()
            if server in come:
                self.greet(server)
                self.connections[-1].send(refused=text)
        for each in self.connections:
            each.close()

    def greet(self, server: socket.socket) -> None:
        connection = Connection(server.accept()[0])
        connection.send(word=_WORD, person=self.me, waiting=self.missing())
        self.connections.append(connection)

    def hear(self, connection: Connection) -> None:
        for message in connection.receive():
            if "person" in message:
                self.admit(Person(*message["person"]), connection)
        if connection.ended:  # it may come again
            self.connections.remove(connection)
            self.left |= {person.process_id for person, each in self.come.items() if each is connection}
            self.come = {person: each for person, each in self.come.items() if each is not connection}
            connection.close()

    def admit(self, person: Person, connection: Connection) -> None:
        me = self.me
        if person.num_processes != me.num_processes:
            raise JoinError(
                f"{person} was started for {person.num_processes} processes and {me} for {me.num_processes}: "
                "give every process the same num_processes"
            )
        if not 0 <= person.process_id < me.num_processes:
            raise JoinError(
                f"process_id {person.process_id} ({person.host}, pid {person.pid}) is not one of 0 to "
                f"{me.num_processes - 1}: give each of the {me.num_processes} processes a number of its own"
            )
        for other in (me, *self.come):
            if other.process_id == person.process_id:
                raise JoinError(
                    f"two processes have process_id {person.process_id}: pid {other.pid} on {other.host} and "
                    f"pid {person.pid} on {person.host}. Give each a number of its own."
                )
        self.come[person] = connection
        for each in self.come.values():
            each.send(waiting=self.missing())


def numbers_text(numbers: list[int]) -> str:
    """As a reader calls processes by their numbers.

    >>> numbers_text([1, 3])
    'processes 1 and 3'
    """
    if len(numbers) == 1:
        return f"process {numbers[0]}"
    shown = [str(number) for number in numbers[:8]] + [f"{len(numbers) - 8} more"] * (len(numbers) > 8)
    return f"processes {', '.join(shown[:-1])} and {shown[-1]}" if numbers else "nobody"


def _connect(host: str, port: int, me: Person, ends: float, timeout_s: float) -> socket.socket:
    """Tries until something listens there."""
    cause: Any = "no time was left"
    while (left_s := ends - time.monotonic()) > 0:
        try:
            return socket.create_connection((host, port), timeout=min(left_s, 10.0))
        except OSError as error:
            cause = error
        time.sleep(min(_AGAIN_S, max(0.0, ends - time.monotonic())))
    raise JoinError(
        f"process {me.process_id} could not reach process 0 at {host}:{port} within {timeout_s:g} s: "
        f"{_why(cause, host)}"
    )


def _why(cause: Any, host: str) -> str:
    if isinstance(cause, socket.gaierror):
        return f"no host is named {host!r} ({cause.strerror}). Check the coordinator address."
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens there. Start process 0, or check the coordinator address."
    if isinstance(cause, TimeoutError) or getattr(cause, "errno", None) == errno.EHOSTUNREACH:
        return (
            "the host does not answer. Check the coordinator address, and that the network lets it through."
        )
    return f"{cause}. Check the coordinator address."
