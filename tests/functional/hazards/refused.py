"""What has no place in a state, and is refused by name."""

import io
import itertools
import queue
import random
import threading
import weakref

import jax.numpy as jnp
import numpy as np

from tests.functional.hazards.numbers import Counter
from tests.functional.hazards.row import Table, X

HAZARDS = Table()
hazard = HAZARDS.add


@hazard("iterator", "step", refused="advance once")
class Iterating:
    def __init__(self):
        self.it = iter([1, 2, 3])

    def step(self):
        return next(self.it)


@hazard("itertools.count", "step", refused="advance once")
class Itertools:
    def __init__(self):
        self.ids = itertools.count()

    def step(self):
        return next(self.ids)


@hazard("generator", "step", refused="advance once")
class Generating:
    def __init__(self):
        self.gen = (i for i in range(3))

    def step(self):
        return next(self.gen)


@hazard("numpy Generator", "step", refused="repeat for ever")
class NumpyRandom:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def step(self):
        return self.rng.normal()


@hazard("random.Random", "step", refused="repeat for ever")
class PythonRandom:
    def __init__(self):
        self.rng = random.Random(0)

    def step(self):
        return self.rng.random()


@hazard("lock used by the method", "step", refused="guards one process's objects")
class Locked:
    def __init__(self):
        self.lock, self.n = threading.Lock(), 0

    def step(self):
        with self.lock:
            self.n += 1
        return self.n


@hazard("lock that the method does not touch", "step", "step")
class Untouched:
    def __init__(self):
        self.lock, self.ids, self.n = threading.Lock(), itertools.count(), 0

    def step(self):
        self.n += 1
        return self.n


@hazard("open file", "step", refused="it is an open file")
class Filed:
    def __init__(self):
        self.file = io.StringIO("12")

    def step(self):
        return len(self.file.read())


@hazard("weak reference", "step", refused="it is a weak reference")
class Weakly:
    def __init__(self):
        self.n = 0
        self.me = weakref.ref(self)

    def step(self):
        self.me().n += 1
        return self.n


@hazard("dict keyed by objects", "step", refused="keyed by objects")
class KeyedByObjects:
    def __init__(self):
        self.key = Counter()
        self.values = {self.key: 0}

    def step(self):
        self.values[self.key] += 1
        return self.values[self.key]


@hazard("queue", "step", refused="it is a Queue")
class Queued:
    def __init__(self):
        self.queue = queue.Queue()

    def step(self):
        self.queue.put(1)
        return self.queue.qsize()


@hazard("bytearray", "step", refused="it is a bytearray")
class Bytes:
    def __init__(self):
        self.buffer = bytearray(2)

    def step(self):
        self.buffer[0] += 1
        return self.buffer[0]


@hazard("view of a dict", "step", refused="it is a dict_values")
class DictView:
    def __init__(self):
        self.d = {"a": 1}
        self.view = self.d.values()

    def step(self):
        self.d["a"] += 1
        return sum(self.view)


@hazard("masked NumPy array", ("step", X), refused="it is a MaskedArray of float64")
class Masked:
    def __init__(self):
        self.a = np.ma.zeros(2)

    def step(self, x):
        self.a[0] = 1.0
        return x


@hazard("object with __del__", "step", refused="defines __del__")
class Deleted:
    class Inner:
        def __init__(self):
            self.n = 0

        def __del__(self):
            self.n -= 1

    def __init__(self):
        self.inner = self.Inner()

    def step(self):
        self.inner.n += 1
        return self.inner.n


@hazard("text made from a traced number", ("step", X), refused="made from a traced number")
class Labelled:
    def __init__(self):
        self.n, self.log = 0, {}

    def step(self, x):
        self.n += 1
        self.log[f"step {self.n}"] = x
        return x


@hazard("shape from a traced number", "step", refused="Python value of n")
class Reshaped:
    def __init__(self):
        self.n = 1

    def step(self):
        self.n += 1
        return jnp.ones(self.n).sum()


@hazard("slice up to a traced number", "step", refused="Python value of n")
class Sliced:
    def __init__(self):
        self.n, self.x = 1, jnp.arange(4.0)

    def step(self):
        self.n += 1
        return self.x[: self.n].sum()


@hazard("dict looked up by a traced number", "step", refused="Python value of n")
class LookedUp:
    def __init__(self):
        self.n, self.table = 0, {0: 1.0, 1: 2.0, 2: 3.0}

    def step(self):
        self.n += 1
        return self.table[self.n]
