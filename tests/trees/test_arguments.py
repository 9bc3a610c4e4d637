"""Which example arguments are traced, for the purity checker and for functionalize alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fourbeat as fb
from fourbeat.trees.arguments import Arguments


class Sum:
    """Adds `amount`, in a way that needs the values of its other arguments."""

    def __init__(self):
        self.n = 0

    def add(self, amount, how):
        for _ in range(len(how) if isinstance(how, str) or np.ndim(how) else int(how)):
            self.n += amount
        return self.n


NEED_THEIR_VALUE = {
    "an int": 2,
    "a bool": True,
    "a number of NumPy": np.int32(2),
    "texts": np.array(["a", "b"]),
    "a text": "ab",
}


@pytest.mark.parametrize("how", NEED_THEIR_VALUE.values(), ids=NEED_THEIR_VALUE)
def test_a_method_that_needs_the_value_of_an_argument_is_traced_with_it_by_both(how):
    ordinary, amount = Sum(), jnp.float32(3)
    expected = float(ordinary.add(amount, how))
    report = fb.purity.check(Sum().add, amount, how)
    assert [(finding.kind, finding.path) for finding in report.findings] == [("LEAK", "self.n")]
    F = fb.functionalize(Sum())
    state = F.init(amount, how)
    value, state = jax.jit(lambda state, amount: F.add(state, amount, how))(state, amount)
    assert float(value) == float(state["n"]) == expected > 0


def test_arrays_and_numbers_are_traced_and_numbers_stay_where_they_are_fixed():
    given = ((np.ones(2), 3, np.float32(1), "a", np.array(["b"])), {"flag": True})
    assert len(Arguments(*given).traced) == 4 and Arguments(*given).has_numbers
    fixed = Arguments(*given, fixed_numbers=True)
    assert len(fixed.traced) == 1 and not fixed.has_numbers
    args, keywords = fixed.rebuilt([jnp.zeros(2)])
    assert args[0].tolist() == [0, 0] and args[1:4] == (3, 1, "a") and keywords == {"flag": True}
