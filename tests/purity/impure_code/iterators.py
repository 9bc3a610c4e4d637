"""Iterators and generators that are asked for an item."""

import itertools

from tests.purity.impure_code.row import ANY, Table, X

HAZARDS = Table()
hazard = HAZARDS.add


@hazard("list iterator", ("WRITE", "self.rows", ANY, ANY))
def list_iterator():
    class Reader:
        def __init__(self):
            self.rows = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])

        def read(self, x):
            return x * next(self.rows)  # here

    made = Reader()
    return made.read, (X,), lambda: None


@hazard("generator", ("WRITE", "rows", ANY, ANY))
def generator():
    rows = (float(n) for n in range(9))
    return (lambda x: x * next(rows)), (X,), lambda: None  # here


@hazard("itertools.count", ("WRITE", "ids", ANY, ANY))
def count_iterator():
    ids = itertools.count(1)
    return (lambda x: x * next(ids)), (X,), lambda: None  # here


@hazard("iterator used up at once", ("WRITE", "last", ANY, ANY), has_line=False)
def used_up_iterator():
    last = iter([2.0])
    return (lambda x: x * sum(last)), (X,), lambda: None
