"""What a host column may be: one table, through every place that takes columns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.data.host_arrays import host_array

WIDER = "Rescale them, or turn 64-bit types on: jax.config.update('jax_enable_x64', True)."
FITTING = {
    "int64": (np.array([-(2**31), 2**31 - 1]), np.int32),
    "uint64": (np.array([0, 2**32 - 1], np.uint64), np.uint32),
    "float64": (np.array([0.1, 3e38]), np.float32),
    "float64 that is not finite": (np.array([np.nan, np.inf]), np.float32),
    "complex128": (np.array([1 + 2j, 0]), np.complex64),
    "big-endian float": (np.array([0.5, 2], ">f4"), np.float32),
    "big-endian int": (np.array([1, 2], ">i8"), np.int32),
    "long double": (np.array([0.5, 2], np.longdouble), np.float32),
    "long complex": (np.array([0.5, 2j], np.clongdouble), np.complex64),
    "bool": (np.array([True, False]), np.bool_),
    "bfloat16": (np.array([1, 2], jnp.bfloat16), jnp.bfloat16),
    "a mask that masks nothing": (np.ma.masked_array([1.0, 2.0], [False, False]), np.float32),
    "no example": (np.zeros(0, np.int64), np.int32),
}
NO_NUMBERS = (
    "{} has dtype {}, which no device can hold. Encode it as numbers of one shape (integer labels, padded "
    "token ids, float features), or leave the column out."
)
MASKED = (
    "{} is a masked array with {}, and a device keeps no mask. Fill them in, .filled(0), and give them "
    "weight 0 in the column 'weight'."
)
REFUSED = {
    "int64": (
        np.array([2**40 + 7, 3]),
        "{} holds int64 values from 3 to 1099511627783, which do not fit in int32. " + WIDER,
    ),
    "uint64": (
        np.array([2**32, 3], np.uint64),
        "{} holds uint64 values from 3 to 4294967296, which do not fit in uint32. " + WIDER,
    ),
    "float64": (
        np.array([1e300, 0.5, np.nan]),
        "{} holds float64 values from 0.5 to 1e+300, which do not fit in float32. " + WIDER,
    ),
    "big-endian": (
        np.array([2**40, 3], ">i8"),
        "{} holds >i8 values from 3 to 1099511627776, which do not fit in int32. " + WIDER,
    ),
    "long double": (
        np.array(["1e300", "2"], np.longdouble),
        f"{{}} holds {np.dtype(np.longdouble)} values from 2.0 to 1e+300, which do not fit in float32. "
        + WIDER,
    ),
    "one masked": (np.ma.masked_array([1.0, 2.0], [False, True]), MASKED.format("{}", "1 masked value")),
    "masked": (np.ma.masked_array([1, 2], [True, True]), MASKED.format("{}", "2 masked values")),
    "text": (np.array(["a", "bc"]), NO_NUMBERS.format("{}", "<U2")),
    "bytes": (np.array([b"a", b"bc"]), NO_NUMBERS.format("{}", "|S2")),
    "objects": (np.array([[1], [2, 3]], object), NO_NUMBERS.format("{}", "object")),
    "dates": (np.array(["2020-01-01", "2020-01-02"], "M8[D]"), NO_NUMBERS.format("{}", "datetime64[D]")),
    "records": (np.zeros(2, [("a", "f4")]), NO_NUMBERS.format("{}", "[('a', '<f4')]")),
}


def beats():
    return fb.four_beats(
        lambda model, batch: abs(batch["x"] * model["w"]).astype(jnp.float32),
        optax.sgd(0.1),
        predict=lambda model, batch: batch["x"],
    )


def looped(column):
    (tick,) = fb.loop([{"x": column}], until=fb.at(epochs=1))
    return tick.batch["x"]


def in_a_block(column):
    (tick,) = fb.loop(iter([{"x": column}]), until=fb.at(epochs=1), steps_per_call=2)
    return tick.batch.take(0)["x"]


def evaluated(column):
    return fb.evaluator(beats())(beats().init({"w": jnp.ones(())}), [{"x": column}])


def predicted(column):
    return fb.predictor(beats())(beats().init({"w": jnp.ones(())}), [{"x": column}])


# a batch of strings alone says so in another way: beside numbers they would be taken
TEXTS = ("text", "bytes")
NOTHING_ELSE = (
    "batch holds no numbers: x are strings, which no device can hold. Encode some as numbers of one shape: "
    "integer labels, padded token ids."
)
PLACES = {
    "Arrays": (lambda column: fb.data.Arrays(x=column).columns["x"], "column 'x'"),
    "loop": (looped, "batch['x']"),
    "block": (in_a_block, "batch['x']"),
    "evaluator": (evaluated, "batch['x']"),
    "predictor": (predicted, "batch['x']"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_everywhere(kind, place):
    column, text = REFUSED[kind]
    take, name = PLACES[place]
    with pytest.raises((TypeError, ValueError)) as caught:
        take(column)
    assert str(caught.value) == (NOTHING_ELSE if kind in TEXTS and place != "Arrays" else text.format(name))


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (kind, place)
        for kind in FITTING
        for place in (["Arrays"] if kind == "no example" else ["Arrays", "loop", "block", "predictor"])
    ],
)
def test_what_fits_keeps_its_values_everywhere(kind, place):
    column, dtype = FITTING[kind]
    kept = PLACES[place][0](column)
    assert kept.dtype == dtype
    np.testing.assert_array_equal(np.asarray(kept), np.asarray(column).astype(dtype))


def test_nothing_is_narrowed_where_64_bit_types_are_on():
    with jax.enable_x64(True):
        for column in (np.array([2**40 + 7]), np.array([1e300]), np.array([2**63], np.uint64)):
            assert host_array("it", column) is column
            np.testing.assert_array_equal(looped(column), column)
        with pytest.raises(ValueError) as caught:
            host_array("it", np.array(["1e400"], np.longdouble))
    assert str(caught.value) == (
        f"it holds {np.dtype(np.longdouble)} values from 1e+400 to 1e+400, which do not fit in float64. "
        "Rescale them."
    )


def test_a_weight_is_float32_whatever_it_was():
    weight = fb.data.Arrays(x=[1, 2], weight=np.array([2**40, 1])).columns["weight"]
    assert weight.dtype == np.float32 and weight.tolist() == [2.0**40, 1.0]


@pytest.mark.parametrize(
    "columns",
    [
        {"id": np.array([2**40 + 7, 7])},
        {"id": np.array([2**63 + 5], np.uint64)},
        {"id": {"deep": [np.array([-(2**40)])]}},
        {"id": np.array([1e300])},
        {"id": np.ma.array([1.0, 2.0], mask=[0, 1])},
    ],
    ids=["int64", "uint64", "nested", "float64", "masked"],
)
def test_a_compiled_step_refuses_what_a_device_cannot_keep(columns):
    beats = fb.four_beats(lambda model, batch: model["w"] * jax.tree.leaves(batch)[0], optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"batch\['id'\]"):
        fb.compile(beats.train_step)(beats.init({"w": jnp.ones(())}), columns)


def test_a_compiled_step_takes_what_fits_by_value():
    beats = fb.four_beats(lambda model, batch: model["w"] * batch["x"], optax.sgd(0.1))
    for dtype in (">f4", "f8", "i8", np.longdouble):
        state, step = beats.init({"w": jnp.ones(())}), fb.compile(beats.train_step)
        _, logs = step(state, {"x": np.array([1, 2], dtype)})
        assert float(logs["loss"]) == 1.5
