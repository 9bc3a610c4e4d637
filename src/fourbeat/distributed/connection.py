"""Messages between two processes of a training: one line of JSON each, over TCP."""

import json
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

_LONGEST = 1 << 20  # bytes of one message; what speaks longer is no process of a training
_open: weakref.WeakSet["Connection"] = weakref.WeakSet()


class _HasNumber(Protocol):
    def fileno(self) -> int: ...


_End = TypeVar("_End", bound=_HasNumber)


class Connection:
    """One end of a connection. One thread reads; any thread sends.

    Args:
      connected: socket, which the connection closes.
    """

    def __init__(self, connected: socket.socket):
        connected.settimeout(2.0)  # a peer that reads nothing must not hold up who sends
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected
        self.ended = False
        self._read = b""
        self._heard = False
        self._lock = threading.Lock()
        _open.add(self)

    def fileno(self) -> int:
        """What `select` asks for."""
        return self.socket.fileno()

    def send(self, **message: Any) -> bool:
        """Sends a message. False where the other end has gone, or does not read."""
        try:
            with self._lock:
                self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have come; `ended` is set where no more can. Call it when there is something."""
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return []
        except OSError:
            data = b""
        self.ended = self.ended or not data
        self._heard = self._heard or bool(data)
        *lines, self._read = (self._read + data).split(b"\n")
        messages = [message for line in lines if isinstance(message := _decoded(line), dict)]
        if len(messages) < len(lines) or len(self._read) > _LONGEST:
            self.ended = True
        return messages

    def await_message(self, ends: float) -> dict[str, Any] | None:
        """The next messages as one, later ones over earlier ones; None where none comes before this time.

        Args:
          ends: time of `time.monotonic`.
        """
        while not self.ended and (left_s := ends - time.monotonic()) > 0:
            if ready([self], min(left_s, 1.0)) and (messages := self.receive()):
                return {name: value for message in messages for name, value in message.items()}
        return None

    def silent_end(self) -> bool:
        """Whether the other end has closed, and has never said anything."""
        return self.ended and not self._heard

    def close(self) -> None:
        """Closes this end."""
        self.ended = True
        self.socket.close()


def ready(ends: Sequence[_End], timeout_s: float) -> list[_End]:
    """Those of the sockets and connections that have something to read; waits for the first one.

    Args:
      ends: any number of them; `select` of the system takes no file numbers above 1023.
      timeout_s: how long to wait.
    """
    poll, by_number = select.poll(), {each.fileno(): each for each in ends}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(1000 * timeout_s)]


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _close_in_child() -> None:
    """A forked process must not keep a connection open that its parent no longer has."""
    for each in list(_open):
        each.socket.close()


os.register_at_fork(after_in_child=_close_in_child)
