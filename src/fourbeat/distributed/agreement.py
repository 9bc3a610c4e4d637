"""What all processes think: values exchanged through JAX's coordination service.

No device takes part. An agreement works from any thread, does not wait behind the queue of a device, and says
which processes did not come. With one process every function answers at once.

Each process posts its value as a key. Process 0 reads all of them and posts the list, which is the answer.
So every agreement is a barrier too: nobody has its answer before all have come.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax

from fourbeat.distributed import watching
from fourbeat.distributed.runtime import client, num_processes, process_index

_SLICE_S = 1.0  # one call of the service waits no longer, so that signals are handled meanwhile
_numbers: Counter[str] = Counter()  # agreements so far, by topic
_numbers_of: Any = None  # the client that they belong to
_lock = threading.Lock()


class PeerError(RuntimeError):
    """Other processes did not come to an agreement, or came to another one; the text names them."""


def barrier(name: str, *, topic: str = "main", timeout_s: float = 600.0) -> None:
    """Waits until every process has come to the barrier of this name.

    Args:
      name: the same on every process. Another name is an error on all of them.
      topic: agreements of one topic are counted together, and are made by one thread at a time. Give each
        thread a topic of its own.
      timeout_s: how long to wait for the others.

    Raises:
      PeerError: a process did not come in time, or came to another agreement.

    >>> barrier("saved")
    """
    _exchange(None, f"barrier {name!r}", topic, timeout_s)


def broadcast(value: Any, *, topic: str = "main", timeout_s: float = 600.0) -> Any:
    """The value of process 0, on every process.

    Args:
      value: what `json` can write; only that of process 0 counts. A tuple comes as a list.
      topic: see [`barrier`][fourbeat.distributed.barrier].
      timeout_s: how long to wait for the others.

    Raises:
      PeerError: a process did not come in time, or came to another agreement.

    >>> broadcast(3)
    3
    """
    return _exchange(value if process_index() == 0 else None, "broadcast", topic, timeout_s)[0]


def gather(value: Any, *, topic: str = "main", timeout_s: float = 600.0) -> list[Any]:
    """The values of all processes, by number of the process, on every process.

    Args:
      value: what `json` can write. A tuple comes as a list.
      topic: see [`barrier`][fourbeat.distributed.barrier].
      timeout_s: how long to wait for the others.

    Raises:
      PeerError: a process did not come in time, or came to another agreement.

    >>> gather("a")
    ['a']
    """
    return _exchange(value, "gather", topic, timeout_s)


def any_of(flag: bool, *, topic: str = "main", timeout_s: float = 600.0) -> bool:
    """Whether the flag is true on any process.

    Args:
      flag: that of this process.
      topic: see [`barrier`][fourbeat.distributed.barrier].
      timeout_s: how long to wait for the others.

    Raises:
      PeerError: a process did not come in time, or came to another agreement.

    >>> any_of(False)
    False
    """
    return any(_exchange(bool(flag), "any_of", topic, timeout_s))


def _exchange(value: Any, kind: str, topic: str, timeout_s: float) -> list[Any]:
    """The values of all processes. Each has to come with the same kind of agreement."""
    if num_processes() == 1:
        return [value]
    text = json.dumps([kind, value])
    place = f"fourbeat/{topic}/{_next_number(topic)}"
    client().key_value_set(f"{place}/from/{process_index()}", text)
    answer = _collect(place, topic, timeout_s) if process_index() == 0 else _await(place, topic, timeout_s)
    if (missing := answer.get("missing")) is not None:
        raise PeerError(_missing_text(kind, topic, missing, timeout_s))
    kinds, values = zip(*map(json.loads, answer["texts"]), strict=True)
    if len(set(kinds)) > 1:
        raise PeerError(_kinds_text(kinds, topic))
    return list(values)


def _collect(place: str, topic: str, timeout_s: float) -> Mapping[str, Any]:
    """What process 0 makes of the values, and posts. What was posted before all came here can go."""
    ends = time.monotonic() + timeout_s
    texts = [_get(f"{place}/from/{each}", ends, of=each) for each in range(num_processes())]
    if all(text is not None for text in texts):
        answer = {"texts": texts}
        before, _, number = place.rpartition("/")
        client().key_value_delete(f"{before}/{int(number) - 1}")
    else:
        answer = {"missing": _missing(place)}
    client().key_value_set(f"{place}/answer", json.dumps(answer))
    return answer


def _await(place: str, topic: str, timeout_s: float) -> Mapping[str, Any]:
    """What process 0 posts. It may have come later, and then waits longer for the others."""
    for _ in range(2):
        if (text := _get(f"{place}/answer", time.monotonic() + timeout_s, of=0)) is not None:
            return json.loads(text)
        if 0 in (missing := _missing(place)):
            return {"missing": missing}
    return {"missing": [0]}


def _get(key: str, ends: float, of: int) -> str | None:
    """What a process posts as this key; None where nothing is when the time is over, or the process."""
    while True:
        left_s = max(0.001, min(_SLICE_S, ends - time.monotonic()))
        try:
            return client().blocking_key_value_get(key, int(1000 * left_s))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise PeerError(f"the coordination service of process 0 does not answer: {error}") from None
            if (failure := watching.known_failure()) is not None:
                raise PeerError(failure) from None
            if time.monotonic() >= ends or of in watching.gone():
                return None


def _missing(place: str) -> list[int]:
    come = {int(key.rpartition("/")[2]) for key, _ in client().key_value_dir_get(f"{place}/from")}
    return sorted(set(range(num_processes())) - come)


def _next_number(topic: str) -> int:
    """Number of the next agreement of this topic; from 1 for each time that processes were joined."""
    global _numbers_of
    with _lock:
        if _numbers_of is not client():
            _numbers_of = client()
            _numbers.clear()
        _numbers[topic] += 1
        return _numbers[topic]


def _missing_text(kind: str, topic: str, missing: list[int], timeout_s: float) -> str:
    who = "process " + str(missing[0]) if len(missing) == 1 else f"processes {', '.join(map(str, missing))}"
    ended = ", and has ended" if missing[0] in watching.gone() else f" within {timeout_s:g} s"
    return (
        f"{who} of {num_processes()} did not come to {kind} (topic {topic!r}){ended}; "
        f"this is process {process_index()}. Look at what they printed: every process has to run the same "
        "program."
    )


def _kinds_text(kinds: tuple[str, ...], topic: str) -> str:
    other = next(each for each, kind in enumerate(kinds) if kind != kinds[0])
    return (
        f"process 0 came to {kinds[0]} and process {other} to {kinds[other]} (topic {topic!r}). "
        "Every process has to run the same program: let no condition differ between them."
    )
