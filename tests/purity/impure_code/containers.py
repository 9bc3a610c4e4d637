"""Items of lists, dicts, deques and sets, and the contents of arrays."""

import collections
import types

import numpy as np

from tests.purity.impure_code.row import ANY, Table, X, on

HAZARDS = Table()
hazard = HAZARDS.add


class Containers:
    def __init__(self):
        self.items, self.counts, self.last = [], {"a": 0}, collections.deque([1, 2], maxlen=2)
        self.seen, self.array, self.rows = {0}, np.zeros(3), [0, 0]

    def append(self, x):
        self.items.append("x")  # here
        return x * len(self.items)

    def key(self, x):
        self.counts["a"] += 1  # here
        return x * self.counts["a"]

    def new_keys(self, x):
        self.counts[str(len(self.counts))] = 1  # here
        return x * len(self.counts)

    def rotate(self, x):
        self.last.append(self.last[0] + 2)  # here
        return x * self.last[0]

    def add(self, x):
        self.seen.add(len(self.seen))  # here
        return x * len(self.seen)

    def item(self, x):
        self.rows[1] += 1  # here
        return x * self.rows[1]

    def contents(self, x):
        self.array[1] += 1  # here
        return x * float(self.array.sum())

    def view(self, x):
        part = self.array[1:]
        np.add(part, 1, out=part)  # here
        return x * float(self.array.sum())


@hazard("list append", ("WRITE", "self.items", "[]", "['x']"))
def appended():
    return on(Containers, "append", X)


@hazard("list item", ("WRITE", "self.rows[1]", 0, 1))
def list_item():
    return on(Containers, "item", X)


@hazard("dict value", ("WRITE", "self.counts['a']", 0, 1))
def dict_value():
    return on(Containers, "key", X)


@hazard("dict that grows in every trace", ("WRITE", "self.counts['1']", "absent", 1))
def dict_growth():
    return on(Containers, "new_keys", X)


@hazard("deque", ("WRITE", "self.last[0]", 1, 2), ("WRITE", "self.last[1]", 2, 3))
def deque():
    return on(Containers, "rotate", X)


@hazard("set", ("WRITE", "self.seen", "[0]", "[0, 1]"))
def set_add():
    return on(Containers, "add", X)


@hazard("NumPy contents", ("WRITE", "self.array", "[0. 0. 0.]", "[0. 1. 0.]"))
def numpy_contents():
    return on(Containers, "contents", X)


@hazard("NumPy view with out=", ("WRITE", "self.array", "[0. 0. 0.]", "[0. 1. 1.]"))
def numpy_view():
    return on(Containers, "view", X)


@hazard("bytearray", ("WRITE", "self.bytes", ANY, ANY))
def byte_array():
    class Bytes:
        def __init__(self):
            self.bytes = bytearray(b"\0")

        def count(self, x):
            self.bytes[0] += 1  # here
            return x * self.bytes[0]

    return on(Bytes, "count", X)


@hazard(
    "defaultdict and SimpleNamespace", ("WRITE", "self.names.n", 0, 1), ("WRITE", "self.tally['x']", 5, 6)
)
def stdlib_containers():
    class Both:
        def __init__(self):
            self.names, self.tally = types.SimpleNamespace(n=0), collections.Counter(x=5)

        def count(self, x):
            self.names.n, self.tally["x"] = self.names.n + 1, self.tally["x"] + 1  # here
            return x * (self.names.n + self.tally["x"])

    made = Both()
    return made.count, (X,), lambda: (made.names.n, made.tally["x"])
