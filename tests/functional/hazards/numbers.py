"""Python and NumPy numbers that methods change."""

import jax.numpy as jnp
import numpy as np

from tests.functional.hazards.row import Table, X

HAZARDS = Table()
hazard = HAZARDS.add


@hazard("int counter", "count", "count", "count")
class Counter:
    def __init__(self):
        self.n = 0

    def count(self):
        self.n += 1
        return self.n


@hazard("running mean that starts at int 0", ("push", X), ("push", 4.0), ("push", 9.0))
class RunningMean:
    def __init__(self):
        self.n, self.mean = 0, 0

    def push(self, x):
        self.n += 1
        self.mean += (x - self.mean) / self.n
        return self.mean


@hazard("one method promotes what another reads", "grow", "read", "grow", "read")
class Coupled:
    def __init__(self):
        self.a, self.b, self.c = 1, 10, 100

    def grow(self):
        self.a += 1

    def read(self):
        self.b = self.a
        self.c = self.b
        return self.c


@hazard("a number that two calls reach", "shift", "shift", "shift", "shift")
class Chain:
    def __init__(self):
        self.a, self.b, self.c, self.d = 1, 0, 0, 0

    def shift(self):
        self.d, self.c, self.b, self.a = self.c, self.b, self.a, self.a + 1
        return self.d


@hazard("bool flag stays static", "eval_", "step", "train", "step", "step", compiles=4)
class Flagged:
    def __init__(self):
        self.training, self.n = True, 0

    def train(self):
        self.training = True

    def eval_(self):
        self.training = False

    def step(self):
        self.n += 2 if self.training else 1
        return self.n


@hazard("str mode stays static", ("step", X), "finish", ("step", X), compiles=3)
class Moded:
    def __init__(self):
        self.mode, self.total = "sum", 0.0

    def step(self, x):
        self.total = self.total + x if self.mode == "sum" else self.total - x
        return self.total

    def finish(self):
        self.mode = "difference"


@hazard("unchanged int used as a shape", "step", "step")
class Shaped:
    def __init__(self):
        self.width, self.n = 3, 0

    def step(self):
        self.n += 1
        return jnp.ones(self.width) * self.n


@hazard("complex number", "turn", "turn", "turn")
class Turning:
    def __init__(self):
        self.z = 1 + 1j

    def turn(self):
        self.z = self.z * 1j
        return self.z


@hazard("numpy scalars", "step", "step")
class NumpyScalars:
    def __init__(self):
        self.n, self.x = np.int32(3), np.float32(0.5)

    def step(self):
        self.n = self.n + np.int32(2)
        self.x = self.x * np.float32(3)
        return self.n * self.x


@hazard("reset with a Python literal", ("push", X), "reset", ("push", X), ("push", X))
class Resetting:
    def __init__(self):
        self.calls = 0
        self.total = jnp.float32(0)

    def push(self, x):
        self.calls += 1
        self.total = self.total + x
        return self.total

    def reset(self):
        self.total = 0


@hazard("weak and bfloat16", ("push", jnp.bfloat16(2)), ("push", jnp.bfloat16(3)))
class Weak:
    def __init__(self):
        self.total = 0

    def push(self, x):
        self.total = self.total + x
        return self.total


@hazard("Python numbers yield to bfloat16", ("scale", jnp.bfloat16(2)), ("scale", jnp.bfloat16(3)))
class Yielding:
    def __init__(self):
        self.n, self.rate = 1, 0.5

    def scale(self, x):
        self.n += 1
        self.rate *= 2
        return x * self.n + self.rate


@hazard("floor, mod and power of an int", "step", "step", "step")
class Arithmetic:
    def __init__(self):
        self.n = 7

    def step(self):
        self.n = (self.n**2 // 3) % 101
        return self.n


@hazard("None becomes an array", ("push", X), ("push", X), ("push", X), compiles=2)
class Lazily:
    def __init__(self):
        self.calls = 0
        self.best = None

    def push(self, x):
        self.calls += 1
        self.best = x if self.best is None else jnp.maximum(self.best, x + 1)
        return self.best


@hazard("attribute made by the first call", ("push", X), ("push", X), ("push", X), compiles=2)
class MadeLate:
    def push(self, x):
        if not hasattr(self, "seen"):
            self.seen = 0
            self.last = jnp.zeros(())
        self.seen += 1
        self.last = x
        return self.seen


@hazard("attribute deleted", "drop", "read", compiles=2)
class Dropping:
    def __init__(self):
        self.n, self.extra = 1, 5

    def drop(self):
        del self.extra

    def read(self):
        self.n += 1
        return self.n + getattr(self, "extra", 100)


@hazard("branch on traced state", "step", refused="Python value of n")
class Branching:
    def __init__(self):
        self.n = 0

    def step(self):
        self.n += 1
        if self.n % 2:
            return 1.0
        return 2.0


@hazard("range over traced state", "step", refused="Python value of n")
class Ranging:
    def __init__(self):
        self.n = 1

    def step(self):
        self.n += 1
        return sum(i for i in range(self.n))


@hazard("int64 that does not fit", "step", refused="does not fit int32")
class Large:
    def __init__(self):
        self.n = 2**40

    def step(self):
        self.n += 1
        return self.n
