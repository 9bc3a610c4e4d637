"""What each process is told when they cannot meet. Threads stand for processes: only sockets matter."""

import os
import re
import resource
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from fourbeat.distributed import meeting
from fourbeat.distributed.meeting import JoinError, Person
from tests.distributed.processes import free_port


def meet(*others, num_processes=3, timeout_s=5.0, said=None):
    """What process 0, and each of the others, gets of a meeting: who is there, or the text of the error."""
    server, seen, opened = meeting.listener(0), {}, []
    port = server.getsockname()[1]

    def note(name, come):
        try:
            seen[name] = come()
        except JoinError as error:
            seen[name] = str(error)

    def first():
        me = Person(0, num_processes, "here", 10)
        come = meeting.receive_others(
            server, me, timeout_s=timeout_s, say=[].append if said is None else said.append
        )
        opened.extend(come.values())
        return sorted(person.process_id for person in come)

    def other(person):
        found, connection = meeting.come_to("127.0.0.1", port, person, timeout_s=timeout_s + 1)
        opened.append(connection)
        return found

    threads = [threading.Thread(target=note, args=("first", first))]
    for index, person in enumerate(others):
        threads.append(threading.Thread(target=note, args=(index, lambda person=person: other(person))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in opened:
        connection.close()
    return seen, port


def test_all_are_told_when_they_are_complete():
    seen, _ = meet(Person(2, 3, "there", 12), Person(1, 3, "there", 11))
    assert seen == {"first": [1, 2], 0: Person(0, 3, "here", 10), 1: Person(0, 3, "here", 10)}


WRONG = {
    "the same number twice": (
        [Person(1, 3, "b", 11), Person(1, 3, "b", 11)],
        "two processes have process_id 1: pid 11 on b and pid 11 on b. Give each a number of its own.",
    ),
    "the number of process 0 twice": (
        [Person(0, 3, "there", 11), Person(1, 3, "there", 12)],
        "two processes have process_id 0: pid 10 on here and pid 11 on there. Give each a number of its own.",
    ),
    "a number beyond": (
        [Person(3, 3, "there", 11), Person(1, 3, "there", 12)],
        "process_id 3 (there, pid 11) is not one of 0 to 2: give each of the 3 processes a number of its own",
    ),
    "another number of processes": (
        [Person(1, 4, "there", 11), Person(2, 3, "there", 12)],
        "process 1 (there, pid 11) was started for 4 processes and process 0 (here, pid 10) for 3: give "
        "every process the same num_processes",
    ),
}


@pytest.mark.parametrize(("others", "text"), WRONG.values(), ids=WRONG)
def test_wrong_numbers_are_refused_on_every_process(others, text):
    seen, _ = meet(*others)
    assert set(seen.values()) == {text}


def test_a_missing_process_is_named_on_all_that_came(monkeypatch):
    monkeypatch.setattr(meeting, "_TELL_AFTER_S", 0.1)
    said = []
    seen, port = meet(Person(2, 4, "there", 12), num_processes=4, timeout_s=0.8, said=said)
    text = (
        f"process 0 (here, pid 10) waited 0.8 s at port {port} and processes 1 and 3 of 4 did not come. "
        "Start them with this coordinator address, or see what they printed."
    )
    assert seen == {"first": text, 0: text}
    assert re.fullmatch(
        rf"process 0 waits at port {port} for processes (1, 2|1) and 3 of 4, 1 s more", said[0]
    )


def test_a_process_that_goes_away_may_come_again():
    server = meeting.listener(0)
    port = server.getsockname()[1]
    seen = []

    def receive():
        seen.append(meeting.receive_others(server, Person(0, 3, "a", 1), timeout_s=20, say=print))

    first = threading.Thread(target=receive)
    first.start()
    with socket.create_connection(("127.0.0.1", port)):
        pass  # a scan of ports
    with pytest.raises(JoinError, match=r"^process 1 waited 0\.3 s: process 0 \(a, pid 1\) at 127\.0\.0\.1:"):
        meeting.come_to("127.0.0.1", port, Person(1, 3, "b", 2), timeout_s=0.3)
    kept = []
    others = [
        threading.Thread(
            target=lambda each=each: kept.append(
                meeting.come_to("127.0.0.1", port, Person(each, 3, "b", 2), timeout_s=20)
            )
        )
        for each in (1, 2)
    ]
    for other in others:
        other.start()
    for thread in (first, *others):
        thread.join()
    for connection in (*seen[0].values(), *(connection for _, connection in kept)):
        connection.close()
    assert {person.process_id for person in seen[0]} == {1, 2}
    assert [person for person, _ in kept] == [Person(0, 3, "a", 1)] * 2


def test_who_came_and_ended_is_not_said_to_be_missing():
    server, texts = meeting.listener(0), []
    port = server.getsockname()[1]

    def receive(timeout_s):
        try:
            meeting.receive_others(server, Person(0, 3, "a", 1), timeout_s=timeout_s, say=print)
        except JoinError as error:
            texts.append(str(error))

    first = threading.Thread(target=receive, args=[1.0])
    first.start()
    with pytest.raises(JoinError):
        meeting.come_to("127.0.0.1", port, Person(1, 3, "b", 2), timeout_s=0.3)
    first.join()
    assert texts == [
        f"process 0 (a, pid 1) waited 1 s at port {port} and process 2 of 3 did not come. Start them with "
        "this coordinator address, or see what they printed."
    ]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (
            ("127.0.0.1", None),
            "process 1 could not reach process 0 at 127.0.0.1:PORT within 0.3 s: nothing listens there. "
            "Start process 0, or check the coordinator address.",
        ),
        (
            ("no-such-host.invalid", 1),
            r"process 1 could not reach process 0 at no-such-host.invalid:1 within 0.3 s: no host is named "
            r"'no-such-host.invalid' \([^)]+\). Check the coordinator address.",
        ),
    ],
)
def test_a_wrong_coordinator_is_named_within_the_limit(address, text):
    host, port = address[0], address[1] or free_port()
    began = time.monotonic()
    with pytest.raises(JoinError, match=f"^{text.replace('PORT', str(port))}$"):
        meeting.come_to(host, port, Person(1, 2, "b", 2), timeout_s=0.3)
    assert time.monotonic() - began < 20  # and not the minutes of a name server or of JAX


def test_another_program_at_the_port_is_no_process_0():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def speak():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=speak).start()
        with pytest.raises(JoinError) as error:
            meeting.come_to("127.0.0.1", port, Person(1, 2, "b", 2), timeout_s=5)
    assert str(error.value) == (
        f"process 1 reached 127.0.0.1:{port}, but what listens there is not process 0 of this training. "
        "Another program may have taken the port of the coordinator: choose another one."
    )


@pytest.mark.parametrize("address", ["node1", "node1:", "node1:port", ":8476", "node1:0", "node1:70000"])
def test_an_address_without_a_port_is_refused(address):
    with pytest.raises(JoinError) as error:
        meeting.split_address(address)
    assert str(error.value) == f"coordinator address {address!r} is not host:port, such as 'node1:8476'"


def test_a_program_with_a_thousand_open_files_meets_too():
    """`select` takes no file numbers above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if 0 < hard < 2048 else 2048, hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(open(os.devnull))
        seen, _ = meet(Person(1, 2, "there", 11), num_processes=2)
    assert seen == {"first": [1], 0: Person(0, 2, "here", 10)}
