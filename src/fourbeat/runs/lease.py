"""The lock on a run in an object store: an object that its holder renews. No JAX is needed.

A store has no locks that end with their holder. So who finds the object waits whether it is renewed: if it
is not, its holder was killed. This needs no clocks that agree.
"""

import datetime
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Callable

from fourbeat.loggers import strict_json
from fourbeat.stores.holders import hold, let_go
from fourbeat.stores.store import Store, StoreError

LOCK = "lock"
RENEWED_EVERY_S = 5.0
SILENT_S = 20.0  # whoever was silent for so long is taken to be dead
_FRESH_S = 60.0  # to show a run as running: between two machines, whose clocks may differ


class Lease:
    """Holds the lock of the run at an address from `acquire` until `release`, and renews it in a thread.

    Args:
      store: of the run.
      meanwhile: called in that thread after each renewal.
    """

    def __init__(self, store: Store, meanwhile: Callable[[], object]):
        self._store = store
        self._meanwhile = meanwhile
        self._token = secrets.token_hex(8)
        self._is_ending = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Takes the lock. Where another process has left it, this waits for 20 s whether that one is alive.

        Raises:
          ValueError: another process holds it.
          StoreError: the store cannot be read or written.
        """
        while not self._store.create(LOCK, self._content()):
            left = self._store.read(LOCK)
            if left is None:  # it was released between the two calls
                continue
            if "token" in _read(left):  # else it was copied here with a run of a disk, and means nothing
                self._wait_whether_silent(left)
            if self._store.read(LOCK) == left:
                self._store.remove(LOCK)
        hold(self._store.address, self.check)
        self._thread = threading.Thread(target=self._renew, name="fourbeat-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Makes sure that this process still holds the lock.

        Raises:
          StoreError: another process has taken it, as this one was silent for too long.
        """
        there = self._store.read(LOCK)
        if there is None or _read(there).get("token") != self._token:
            holder = "it was removed" if there is None else f"{_holder(there)} has it"
            raise StoreError(
                f"the run {self._store.address} is not this process's any more: its object {LOCK!r} was not "
                f"renewed for {SILENT_S:g} s, and {holder}. Nothing more is written to it."
            )

    @property
    def is_held(self) -> bool:
        """Whether it was acquired, and not released."""
        return self._thread is not None

    def release(self) -> None:
        """Lets go; without effect where the lock is not held."""
        if self._thread is not None:
            self._is_ending.set()
            self._thread.join()
            self._thread = None
            self.check()
            let_go(self._store.address)
            self._store.remove(LOCK)

    def _renew_once(self) -> None:
        began_s = time.monotonic()
        self.check()
        if time.monotonic() - began_s < SILENT_S / 2:  # else another may have taken it since
            self._store.write(LOCK, self._content())

    def _renew(self) -> None:
        while not self._is_ending.wait(RENEWED_EVERY_S):
            try:
                self._renew_once()
                self._meanwhile()
            except OSError:  # at the next save it is raised, if it lasts
                continue

    def _wait_whether_silent(self, left: bytes) -> None:
        print(
            f"waiting {SILENT_S:g} s whether {_holder(left)} still writes the run {self._store.address}",
            file=sys.stderr,
            flush=True,
        )
        ends = time.monotonic() + SILENT_S
        while (left_s := ends - time.monotonic()) > 0:
            time.sleep(min(left_s, SILENT_S / 20))
            there = self._store.read(LOCK)
            if there is None:
                return
            if there != left:
                raise ValueError(
                    f"another process ({_holder(there)}) is writing the run {self._store.address}. Wait for "
                    "it, stop it, or choose another --out."
                )

    def _content(self) -> bytes:
        held = {"token": self._token, "host": platform.node(), "process": os.getpid()}
        return strict_json.dumps(held | {"renewed": _now().isoformat()}).encode()


def is_fresh(content: bytes | None) -> bool:
    """Whether a lock was renewed in the last minute, by the clocks of its holder and this machine."""
    try:
        renewed = datetime.datetime.fromisoformat(str(_read(content or b"").get("renewed")))
        return abs((_now() - renewed).total_seconds()) < _FRESH_S
    except (TypeError, ValueError):
        return False


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _read(content: bytes) -> dict:
    try:
        read = strict_json.loads(content)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _holder(content: bytes) -> str:
    read = _read(content)
    return f"process {read.get('process', '?')} on {read.get('host', '?')}"
