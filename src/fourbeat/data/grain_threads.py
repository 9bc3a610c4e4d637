"""The threads that Grain leaves when its worker processes have ended."""

import sys
from typing import Any


class GrainThreads:
    """Ends the pool of threads that Grain starts with its first worker process and keeps (Grain 0.2).

    The pool frees shared memory. Without it Grain frees shared memory where an array is deleted, so other
    pipelines go on. A pool that was there before is left alone.
    """

    def __init__(self):
        self._before = _pool()

    def end(self) -> None:
        """Ends the threads that were started since; to be called when the processes have ended."""
        pool = _pool()
        if pool is None or pool is self._before:
            return
        shared_arrays = _shared_arrays()
        with shared_arrays._lock:
            shared_arrays._del_thread_pool = shared_arrays._outstanding_del_requests = None
        pool.close()
        pool.join()


def _pool() -> Any:
    return getattr(_shared_arrays(), "_del_thread_pool", None)


def _shared_arrays() -> Any:
    """The class that holds the pool; None where no pipeline was made, or where it lies elsewhere."""
    module = sys.modules.get("grain._src.python.ipc.shared_memory_array")
    return getattr(module, "SharedMemoryArray", None)
