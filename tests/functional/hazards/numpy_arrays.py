"""NumPy arrays, written in place and replaced."""

import jax.numpy as jnp
import numpy as np

from tests.functional.hazards.row import Table, V, X

HAZARDS = Table()
hazard = HAZARDS.add


@hazard("numpy element written in place", ("add", 1, X), ("add", 1, X), ("add", 0, X))
class Histogram:
    def __init__(self):
        self.bins = np.zeros(3, np.float32)

    def add(self, i, x):
        self.bins[i] += x
        return self.bins.sum()


@hazard("numpy augmented assignment", "step", "step")
class Augmented:
    def __init__(self):
        self.a = np.arange(4, dtype=np.int32)

    def step(self):
        self.a += 2
        self.a *= 3
        return self.a


@hazard("numpy views, reshape and transpose", ("step", X), ("step", 5.0))
class Views:
    def __init__(self):
        self.a = np.zeros((2, 3), np.float32)

    def step(self, x):
        row = self.a[1]
        row[1:] += x
        self.a.T[0][1] = 7
        self.a.reshape(-1)[2:4] -= 1
        self.a[:, 0] = self.a[:, 2]
        return row.sum()


@hazard("numpy out= and fill", ("step", X), ("step", X))
class Out:
    def __init__(self):
        self.a, self.b = np.ones(3, np.float32), np.ones(3, np.float32)

    def step(self, x):
        np.add(self.a, x, out=self.a)
        self.b.fill(x)
        np.multiply(self.a, self.b, out=self.b)
        return self.b.max()


@hazard("numpy masks, sort, put and add.at", ("step", X), ("step", X))
class Masks:
    def __init__(self):
        self.a = np.array([3.0, 1.0, 2.0, 0.5], np.float32)

    def step(self, x):
        self.a[self.a > 2] = x
        self.a.sort()
        np.add.at(self.a, np.array([0, 0, 1]), x)
        self.a.put([3], 9)
        return self.a.mean()


@hazard("numpy ring buffer at a traced position", ("push", X), ("push", 5.0), ("push", X))
class Ring:
    def __init__(self):
        self.rows, self.position = np.zeros((2, 2), np.float32), 0

    def push(self, x):
        row = self.rows[self.position]
        row[0] = x
        row += 1
        self.rows[[0, 1], [1, 1]] *= 2
        self.position = (self.position + 1) % len(self.rows)
        return self.rows.mean()


@hazard("numpy element at a traced index", ("add", jnp.int32(1), X), ("add", jnp.int32(0), X))
class AtTracedIndex:
    def __init__(self):
        self.bins, self.table = np.zeros(3, np.float32), np.arange(3)

    def add(self, i, x):
        self.bins[i] += x
        return self.bins[i] + x


@hazard("numpy running variance", ("push", V), ("push", 2 * V), ("push", V))
class Welford:
    def __init__(self):
        self.n, self.mean, self.m2 = 0, np.zeros(3, np.float32), np.zeros(3, np.float32)

    def push(self, x):
        self.n += 1
        delta = x - self.mean
        self.mean += delta / self.n
        self.m2 += delta * (x - self.mean)
        return self.m2 / self.n


@hazard("numpy function of a traced value", ("push", X), refused="jnp.sqrt in place of np.sqrt")
class NumpyFunction:
    def __init__(self):
        self.total = 0.0

    def push(self, x):
        self.total += x
        return np.sqrt(self.total)


@hazard("numpy copyto and aliases", ("step", X), ("step", X))
class Alias:
    def __init__(self):
        self.a = np.zeros(2, np.float32)
        self.same = self.a

    def step(self, x):
        np.copyto(self.same, np.float32(1))
        self.a[0] += x
        return self.same.sum()


@hazard("numpy int array truncates what is assigned", ("step", 2.75), ("step", 3.75))
class Truncating:
    def __init__(self):
        self.a = np.zeros(2, np.int32)

    def step(self, x):
        self.a[0] = x
        return self.a.sum()


@hazard("numpy replaced, not written", ("step", X), ("step", X))
class Replaced:
    def __init__(self):
        self.a = np.ones(3, np.float32)

    def step(self, x):
        self.a = self.a * x + 1
        return self.a.sum()


@hazard("numpy replaced without any tracer", "step", "step", "step")
class ReplacedByNumpy:
    def __init__(self):
        self.a = np.ones(3, np.float32)

    def step(self):
        self.a = self.a + 1
        return self.a.sum()


@hazard("numpy table that is only read", "step", "step")
class Table:
    def __init__(self):
        self.table, self.n = np.array([[2.0, 0.0], [0.0, 4.0]], np.float32), 0

    def step(self):
        self.n += 1
        return np.linalg.inv(self.table) * self.n + int(self.table[1, 1])


@hazard("numpy table beside one written", ("step", X), ("step", X))
class TableAndWritten:
    def __init__(self):
        self.table, self.a = np.arange(3), np.zeros(3, np.float32)

    def step(self, x):
        for i in self.table.tolist():
            self.a[i] += x * int(self.table[i])
        return self.a.sum()


@hazard("float into an int array", ("step", X), refused="Cannot cast ufunc 'add'")
class BadCast:
    def __init__(self):
        self.a = np.zeros(2, np.int32)

    def step(self, x):
        self.a += 0.5
        return x


@hazard("attributes that share numpy memory", ("step", X), refused="shares NumPy memory")
class Shared:
    def __init__(self):
        self.a = np.zeros(4)
        self.b = self.a[1:]

    def step(self, x):
        self.a[1] = x
        return self.b.sum()


@hazard("a view kept as an attribute", ("step", X), refused="shares NumPy memory")
class KeepsView:
    def __init__(self):
        self.a, self.b = np.zeros(4), None

    def step(self, x):
        self.b = self.a[1:]
        self.b[0] = x
        return self.a.sum()


@hazard("int64 array that does not fit", "step", refused="does not fit int32")
class LargeArray:
    def __init__(self):
        self.a = np.array([2**40])

    def step(self):
        self.a += 1
        return self.a.sum()
