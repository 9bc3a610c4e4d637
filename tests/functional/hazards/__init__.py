"""The hazard table: classes nobody wrote for JAX, each with calls to make and what must come of them.

A row is a class, the calls made on it in order, how many compilations they may cost, and, where the
class has no pure form, the words of the refusal. The tests compare every result with the same calls
on an ordinary object, and the object after `commit` with the ordinary object.
"""

from tests.functional.hazards import (
    containers,
    functions,
    instances,
    jax_arrays,
    libraries,
    numbers,
    numpy_arrays,
    outside,
    refused,
)

HAZARDS = [
    *numbers.HAZARDS,
    *jax_arrays.HAZARDS,
    *numpy_arrays.HAZARDS,
    *containers.HAZARDS,
    *instances.HAZARDS,
    *functions.HAZARDS,
    *libraries.HAZARDS,
    *refused.HAZARDS,
    *outside.HAZARDS,
]
