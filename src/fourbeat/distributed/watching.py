"""A thread in each process that watches the others: who died, who failed, who is silent, who is slow.

Process 0 has a connection to each other one. When a process dies, the system closes its connection at once.
What process 0 finds out it tells all, and each ends: the main thread has a few seconds to end by itself, for
it may hang in a collective operation that no longer has all its members.
"""

import atexit
import contextlib
import logging
import os
import selectors
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any, NoReturn

from fourbeat.distributed.connection import Connection
from fourbeat.distributed.meeting import Person

LOST_STATUS = 75  # of sysexits.h: a failure that may be gone when the same is tried again
GRACE_S = 3.0  # for the main thread to end by itself
_BEAT_S = 1.0
_SLOW_AFTER_S = 10.0  # that the others have waited
_CAUSE_S = 2.0  # for the cause of an error that is the consequence of another process's end
_CONSEQUENCES = ("Gloo", "NCCL", "UNAVAILABLE", "ABORTED", "Socket closed", "heartbeat", "PeerError")

_watch: "_Watch | None" = None


def failed(error: BaseException) -> None:
    """Tells all processes that this one has failed; they end, and process 0 prints the text of the error.

    An exception that ends the program does that by itself. Call it where an exception is caught that the
    other processes do not see.

    Args:
      error: what ends the training on this process.

    >>> failed(ValueError("no such file"))  # with one process nothing is to be told
    """
    if _watch is not None:
        _watch.fail(error)


def at_step(step: int | None) -> None:
    """Notes the step that this process is at, so that a slow or dead process can be named with it.

    `fb.loop` calls it. A loop without `fb.loop` can call it at each step: it costs less than a microsecond.

    Args:
      step: about to be done; None where no loop runs any more.

    >>> at_step(40)
    """
    if _watch is not None:
        _watch.note(step)


def known_failure() -> str | None:
    """Why all processes are about to end; None where they are not."""
    return None if _watch is None else _watch.verdict


def gone() -> dict[int, str]:
    """Who has ended without a failure: by number, as a reader knows the process."""
    return {} if _watch is None else {each.person.process_id: str(each.person) for each in _watch.ended()}


def watching() -> bool:
    """Whether the thread runs."""
    return _watch is not None


def start(me: Person, others: Mapping[Person, Connection], *, heartbeat_s: float) -> None:
    """Starts the thread.

    Args:
      me: this process.
      others: at process 0 all of them, elsewhere process 0.
      heartbeat_s: after how long a silent process ends all.
    """
    global _watch
    _watch = _Watch(me, [_Peer(person, connection) for person, connection in others.items()], heartbeat_s)
    _watch.begin()


class _Peer:
    """What is known of another process."""

    def __init__(self, person: Person, connection: Connection):
        self.person = person
        self.connection = connection
        self.heard = time.monotonic()
        self.named_silent = False
        self.finished = False
        self.state: dict[str, Any] = {}


class _Watch:
    """The thread, and what the process has said of itself."""

    def __init__(self, me: Person, peers: list[_Peer], heartbeat_s: float):
        self.me, self.peers, self.heartbeat_s = me, peers, heartbeat_s
        self.step: int | None = None  # the last one that is known
        self.in_loop = False
        self.step_began = time.monotonic()
        self.finished = False
        self.verdict: str | None = None
        self.own_status: int | None = None  # with which this process ends, if it is the one that failed
        self.slowness = _Slowness()
        self.main = threading.main_thread()
        self.pid = os.getpid()
        self.lock = threading.Lock()

    def begin(self) -> None:
        previous = sys.excepthook

        def excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
            previous(kind, error, trace)
            self.fail(error)

        sys.excepthook = excepthook
        atexit.register(self.leave)
        threading.Thread(target=self.run, name="fourbeat-watching", daemon=True).start()

    # What this process says

    def note(self, step: int | None) -> None:
        self.step = self.step if step is None else step
        self.in_loop = step is not None
        self.step_began = time.monotonic()

    def fail(self, error: BaseException) -> None:
        if self.own_status is not None or os.getpid() != self.pid:
            return
        if any(word in f"{type(error).__name__}: {error}" for word in _CONSEQUENCES):
            self.await_cause()
        if self.verdict is not None:
            return
        self.own_status = 130 if isinstance(error, KeyboardInterrupt) else 1
        text = f"{self.me} failed{_at(self.step)}: {_text_of(error)}"
        if self.me.process_id == 0:
            self.end_all(text, but=0)
        else:
            for peer in self.peers:
                peer.connection.send(failed=text)

    def await_cause(self) -> None:
        ends = time.monotonic() + _CAUSE_S
        while self.verdict is None and time.monotonic() < ends:
            time.sleep(0.02)

    def leave(self) -> None:
        """At the end of the program. JAX would now wait for the others, even those that are gone."""
        if os.getpid() != self.pid:
            return
        if self.verdict is None and self.own_status is None:
            self.finished = True
            for peer in self.peers:
                peer.connection.send(finished=True)
            return
        self.exit_now()

    def exit_now(self) -> NoReturn:
        """Ends the process. Process 0 ends last: the end of JAX's service in it aborts the others."""
        if self.me.process_id == 0:
            ends = time.monotonic() + GRACE_S + 1
            while time.monotonic() < ends and not all(peer.connection.ended for peer in self.peers):
                time.sleep(0.02)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        logging.shutdown()
        os._exit(LOST_STATUS if self.own_status is None else self.own_status)

    # What the thread does

    def run(self) -> None:
        beat = time.monotonic()
        selector = selectors.DefaultSelector()
        for peer in self.peers:
            selector.register(peer.connection, selectors.EVENT_READ, peer)
        while True:
            for key, _ in selector.select(max(0.0, beat - time.monotonic())):
                self.hear(key.data)
                if key.data.connection.ended:
                    selector.unregister(key.fileobj)
            if time.monotonic() >= beat:
                beat = time.monotonic() + _BEAT_S
                self.say_and_judge()

    def hear(self, peer: _Peer) -> None:
        for message in peer.connection.receive():
            peer.heard, peer.named_silent = time.monotonic(), False
            peer.state = message.get("state", peer.state)
            peer.finished = peer.finished or "finished" in message
            if "failed" in message:
                self.end_all(message["failed"], but=peer.person.process_id)
            if "verdict" in message:
                self.end(message["verdict"])
        if peer.connection.ended and not peer.finished and self.verdict is None:
            while_at = "" if self.step is None else f" while process {self.me.process_id} was{_at(self.step)}"
            self.end_all(
                f"{peer.person} died{while_at}: killed, out of memory or crashed; see what it printed"
            )

    def say_and_judge(self) -> None:
        state = self.state()
        for peer in self.peers:
            if not peer.connection.ended:
                peer.connection.send(state=state)
        if self.verdict is not None:
            return
        now = time.monotonic()
        for peer in self.peers:
            silent_s = now - peer.heard
            if silent_s > self.heartbeat_s / 2 and not peer.named_silent and not peer.connection.ended:
                peer.named_silent = True
                say(
                    f"{peer.person} has been silent for {silent_s:.0f} s{_at(peer.state.get('step'))}: "
                    f"it is stopped, or its host is lost. JAX aborts all within {self.heartbeat_s:g} s "
                    "(status 134)."
                )
        if self.me.process_id == 0:
            others = [peer for peer in self.peers if peer.state]
            self.judge(
                {self.me: state, **{each.person: _aged(each.state, now - each.heard) for each in others}}
            )

    def judge(self, states: Mapping[Person, Mapping[str, Any]]) -> None:
        """At process 0: names who is slow, and ends all where some have ended and others wait for them."""
        ended = [peer.person for peer in self.peers if peer.finished] + [self.me] * self.finished
        left = {person: state for person, state in states.items() if person not in ended}
        if line := self.slowness.see(left, time.monotonic()):
            say(line)
        for person, state in left.items() if ended else ():
            if state["in_loop"] and state["waits"] and state["since_s"] > self.heartbeat_s:
                at = _at(states.get(ended[0], {}).get("step"))
                self.end_all(
                    f"{ended[0]} has ended{at}, and {person} waits for it{_at(state['step'])}: every process "
                    "has to do the same steps"
                )
                return

    def state(self) -> dict[str, Any]:
        waits, place = _place_of(self.main)
        since_s = time.monotonic() - self.step_began
        state = {"step": self.step, "in_loop": self.in_loop, "since_s": round(since_s, 3)}
        return {**state, "waits": waits, "place": place}

    def ended(self) -> list[_Peer]:
        return [peer for peer in self.peers if peer.finished]

    def end_all(self, text: str, but: int | None = None) -> None:
        """At process 0: tells all. Elsewhere only process 0 can have died, and each sees that itself."""
        if self.me.process_id == 0:
            for peer in self.peers:
                peer.connection.send(verdict=text)
        self.end(text, quiet=but == self.me.process_id)

    def end(self, text: str, quiet: bool = False) -> None:
        with self.lock:
            if self.verdict is not None:
                return
            self.verdict = text
        if not quiet and self.own_status is None:
            say(f"{text}. This is process {self.me.process_id}; it ends with status {LOST_STATUS}.")
        ending = threading.Thread(target=self.end_later, name="fourbeat-ending", daemon=True)
        ending.start()

    def end_later(self) -> None:
        time.sleep(GRACE_S)
        self.exit_now()


class _Slowness:
    """For whom the others wait, from what all say of themselves. No clock of another host is read."""

    def __init__(self) -> None:
        self.waited_s: dict[Person, float] = {}
        self.named_at_s: dict[Person, float] = {}
        self.seen: float | None = None

    def see(self, states: Mapping[Person, Mapping[str, Any]], now: float) -> str | None:
        """A line that names who has become slow by now (of `time.monotonic`); None where there is none."""
        passed_s, self.seen = now - (now if self.seen is None else self.seen), now
        awaited = _awaited(states)
        for person, state in states.items():
            sign = 1 if person == awaited else -1
            waited_s = self.waited_s[person] = max(0.0, self.waited_s.get(person, 0.0) + sign * passed_s)
            if waited_s >= self.named_at_s.get(person, _SLOW_AFTER_S):
                self.named_at_s[person] = 3 * waited_s
                return (
                    f"{person} is slow: the others have waited {waited_s:.0f} s for it. "
                    f"It is{_at(state['step'])} in {state['place']}."
                )
        return None


def _awaited(states: Mapping[Person, Mapping[str, Any]]) -> Person | None:
    """The process that all others can only go on after; None where there is none.

    It is the only one behind, or the only one of those behind that does not wait itself.
    """
    steps = [state["step"] for state in states.values()]
    is_known = None not in steps
    behind = {
        person: state for person, state in states.items() if not is_known or state["step"] == min(steps)
    }
    busy = [person for person, state in behind.items() if len(behind) == 1 or not state["waits"]]
    is_long = all(state["since_s"] >= 1 for state in behind.values())
    return busy[0] if len(states) > 1 and len(busy) == 1 and is_long else None


def _aged(state: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    return {**state, "since_s": state["since_s"] + seconds}


def _place_of(thread: threading.Thread) -> tuple[bool, str]:
    """Whether a thread waits in JAX or in an agreement, and the line of the program that it is at."""
    frame: FrameType | None = sys._current_frames().get(thread.ident or 0)
    waits, own = _waits_in_native_code(thread, frame), frame
    while own is not None and _is_inner(own.f_globals.get("__name__", "")):
        waits, own = True, own.f_back
    shown = frame if own is None else own
    if shown is None:
        return waits, "no Python code"
    return waits, f"{os.path.basename(shown.f_code.co_filename)}:{shown.f_lineno} ({shown.f_code.co_name})"


def _waits_in_native_code(thread: threading.Thread, frame: FrameType | None) -> bool:
    """Whether a thread waits for another one, as XLA does for a collective operation, and not in Python.

    Linux alone says that. `float(loss)` leaves no frame of JAX in the stack.
    """
    if frame is None or frame.f_globals.get("__name__") == "threading":
        return False
    try:
        with open(f"/proc/self/task/{thread.native_id}/wchan") as waiting:
            return waiting.read().startswith("futex")
    except OSError:
        return False


def _is_inner(module: str) -> bool:
    return module.partition(".")[0] in ("jax", "jaxlib") or module.startswith("fourbeat.distributed")


def _at(step: int | None) -> str:
    return "" if step is None else f" at step {step}"


def _text_of(error: BaseException) -> str:
    """The exception with the line of the program that raised it."""
    text = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else text


def say(line: str) -> None:
    """Prints a line on standard error, past Python's stream, which a thread that hangs may have locked."""
    with contextlib.suppress(OSError):
        os.write(2, f"fourbeat: {line}\n".encode())
