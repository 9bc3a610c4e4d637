"""Random generators, clocks and the environment."""

import datetime
import itertools
import os
import random
import secrets
import time

import numpy as np

from tests.purity.impure_code.row import ANY, Table, X

HAZARDS = Table()
hazard = HAZARDS.add


# Random numbers ------------------------------------------------------------------------------------


@hazard("np.random", ("RNG", "np.random", ANY, ANY))
def numpy_random():
    np.random.seed(0)
    return (lambda x: x + np.random.normal()), (X,), lambda: None  # here


@hazard("random", ("RNG", "random", ANY, ANY))
def python_random():
    random.seed(0)
    return (lambda x: x + random.random()), (X,), lambda: None  # here


class Draws:
    def __init__(self):
        self.numpy, self.python = np.random.default_rng(0), random.Random(0)

    def from_numpy(self, x):
        return x + self.numpy.normal()  # here

    def from_python(self, x):
        return x + self.python.gauss(0, 1)  # here


@hazard("np.random.Generator as an attribute", ("RNG", "self.numpy", ANY, ANY))
def generator_attribute():
    return Draws().from_numpy, (X,), lambda: None


@hazard("random.Random as an attribute", ("RNG", "self.python", ANY, ANY))
def random_attribute():
    return Draws().from_python, (X,), lambda: None


@hazard("np.random.default_rng without a seed", ("RNG", "os.urandom", ANY, ANY))
def unseeded():
    return (lambda x: x + np.random.default_rng().normal()), (X,), lambda: None  # here


@hazard("np.random.RandomState without a seed", ("RNG", "os.urandom", ANY, ANY))
def unseeded_state():
    def run(x, seed=None):
        return x + np.random.RandomState(seed).normal()  # here

    return run, (X,), lambda: None


@hazard("secrets", ("RNG", "os.urandom", ANY, ANY))
def from_secrets():
    return (lambda x: x + secrets.randbelow(10**6)), (X,), lambda: None  # here


# Clocks --------------------------------------------------------------------------------------------


@hazard("time.time_ns", ("CLOCK", "time.time_ns", ANY, ANY))
def read_time():
    return (lambda x: x + time.time_ns() % 9973), (X,), lambda: None  # here


@hazard("perf_counter for a duration", ("CLOCK", "time.perf_counter", ANY, ANY))
def read_duration():
    return (lambda x: x + 1e6 * (time.perf_counter() % 1e-2)), (X,), lambda: None  # here


@hazard("datetime.now", ("CLOCK", "datetime.now", ANY, ANY))
def read_datetime():
    return (lambda x: x + datetime.datetime.now().microsecond), (X,), lambda: None  # here


@hazard("os.environ", ("CLOCK", "os.environ['FOURBEAT_SCALE']", ANY, ANY))
def read_environment():
    scale = itertools.count(1)

    def run(x):
        return x * float(os.environ["FOURBEAT_SCALE"])  # here

    def advance():
        os.environ["FOURBEAT_SCALE"] = str(next(scale))

    advance()
    return run, (X,), advance


@hazard("os.getenv", ("CLOCK", "os.environ['FOURBEAT_SCALE']", ANY, ANY))
def read_getenv():
    _, args, advance = read_environment()
    return (lambda x: x * float(os.getenv("FOURBEAT_SCALE", "1"))), args, advance  # here
