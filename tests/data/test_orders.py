"""The laws of every order, and what each of them promises beside."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.data import Arrays, Examples, by_length, pad_to

LENGTHS = np.array([3, 9, 1, 4, 4, 12, 2, 8, 7, 3, 1, 16, 5, 2, 4, 6, 1])  # 10 up to 4, 4 up to 8, 3 up to 16
BOUNDS = (4, 8, 16)
NUMBERS = np.arange(len(LENGTHS))


def text(number):
    """An example with as many tokens as its length says; its first token is its number."""
    tokens = np.full(LENGTHS[number], number, np.int32)
    return {"number": np.int32(number), "tokens": tokens, "weight": np.ones(len(tokens), np.float32)}


def texts(bounds=BOUNDS):
    return Examples(NUMBERS, decode=text, collate=pad_to(tokens=bounds, weight=bounds))


def numbered():
    return Arrays(number=NUMBERS)


# name: (data, arguments of batches); each is built anew, so that nothing is kept from one to the next
ORDERS = {
    "by length": (texts, {"order": by_length(LENGTHS, BOUNDS)}),
    "by length, shuffled": (texts, {"order": by_length(LENGTHS, BOUNDS), "shuffle": True}),
    "by length, in whole batches": (
        texts,
        {"order": by_length(LENGTHS, BOUNDS), "shuffle": True, "remainder": "drop"},
    ),
    "by length, on the device": (
        numbered,
        {"order": by_length(LENGTHS, BOUNDS), "shuffle": True, "resident": True},
    ),
    "padded, in any order": (texts, {"shuffle": True}),
}
ON_THE_HOST = [name for name, (_, options) in ORDERS.items() if not options.get("resident")]


def made(name, **more):
    data, options = ORDERS[name]
    return data().batches(3, **{"seed": 5, **options, **more})


def read(batch):
    """The columns of a batch as bytes, to compare."""
    columns = {name: np.asarray(column) for name, column in batch.materialize().items()}
    return {name: (column.shape, str(column.dtype), column.tobytes()) for name, column in columns.items()}


@pytest.fixture(scope="module")
def wanted():
    """The batches of two epochs of each order, read one after the other."""
    return {name: [read(made(name)[step]) for step in range(2 * len(made(name)))] for name in ORDERS}


@pytest.mark.parametrize("name", ORDERS)
def test_a_step_is_a_function_of_its_number_and_of_the_seed(name, wanted):
    batches, steps = made(name), np.random.RandomState(0).permutation(len(wanted[name]))
    for step in steps:
        assert read(batches[step]) == wanted[name][step]
    if ORDERS[name][1].get("shuffle"):
        half = len(batches)
        assert wanted[name][:half] != wanted[name][half:]
        assert [read(batch) for batch in made(name, seed=6)] != wanted[name][:half]


@pytest.mark.parametrize("name", ORDERS)
def test_a_loop_goes_on_from_any_step(name, wanted):
    for start in range(len(wanted[name])):
        (tick,) = fb.loop(made(name), start=start, until=fb.at(steps=start + 1))
        assert read(tick.batch) == wanted[name][start]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ON_THE_HOST)
def test_workers_and_blocks_change_nothing(name, workers, wanted):
    for size in (1, 4):
        seen = []
        run = fb.loop(made(name, workers=workers), until=fb.at(epochs=2), steps_per_call=size)
        for tick in run:
            stack = [tick.batch] if size == 1 else [tick.batch.take(i) for i in range(tick.num_steps)]
            seen += map(read, stack)
        assert seen == wanted[name]


@pytest.mark.parametrize("name", ORDERS)
def test_examples_are_counted_without_padding(name):
    batches = made(name)
    sizes = [len(batches.numbers_of(step)) for step in range(2 * len(batches))]
    for step in range(len(sizes) + 1):
        assert batches.examples(step) == sum(sizes[:step])
    assert batches.num_examples == sum(sizes[: len(batches)]) == sum(sizes[len(batches) :])
    for amount in range(sum(sizes) + 1):
        assert batches.step_of(examples=amount) == np.searchsorted(np.cumsum([0, *sizes]), amount)
    mark, before = fb.every(examples=5), 0
    for tick in fb.loop(batches, until=fb.at(epochs=2), marks=[mark]):
        assert tick.examples == sum(sizes[: tick.step])
        assert (mark in tick) == (tick.examples // 5 > before // 5)
        before = tick.examples


@pytest.mark.parametrize("name", ORDERS)
def test_a_batch_holds_the_examples_it_names(name):
    batches = made(name)
    for step in range(2 * len(batches)):
        columns, numbers = batches[step].materialize(), batches.numbers_of(step)
        assert columns["number"][: len(numbers)].tolist() == numbers
        weight = np.asarray(columns["weight"]) if "weight" in columns else np.ones(3)
        assert (weight.reshape(3, -1).sum(axis=1) > 0).sum() == len(numbers)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_batch_is_of_one_bucket_and_each_example_comes_once(shuffle):
    batches = texts().batches(3, order=by_length(LENGTHS, BOUNDS), shuffle=shuffle, seed=2)
    for epoch in range(2):
        seen, places = [], []
        for step in range(epoch * len(batches), (epoch + 1) * len(batches)):
            numbers, width = batches.numbers_of(step), batches[step]["tokens"].shape[1]
            assert {int(np.searchsorted(BOUNDS, LENGTHS[number])) for number in numbers} == {
                BOUNDS.index(width)
            }
            seen += numbers
            places.append(BOUNDS.index(width))
        assert sorted(seen) == NUMBERS.tolist()
        assert (places == sorted(places)) == (not shuffle)
        if not shuffle:
            assert seen == [i for low, high in ((0, 4), (4, 8), (8, 16)) for i in NUMBERS
                            if low < LENGTHS[i] <= high]  # fmt: skip


def test_whole_batches_leave_out_others_in_each_epoch():
    batches = made("by length, in whole batches")
    left_out = [
        {*NUMBERS.tolist()} - {n for step in range(len(batches)) for n in batches.numbers_of(epoch + step)}
        for epoch in range(0, 5 * len(batches), len(batches))
    ]
    assert {len(numbers) for numbers in left_out} == {batches.dropped} == {2}
    assert len(set.union(*left_out)) > 2


def test_the_draws_by_length_are_those_written_down():
    batches = Arrays(number=NUMBERS).batches(3, order=by_length(LENGTHS, BOUNDS), shuffle=True, seed=5)
    # Written down once: another stream would break the resuming of every older run.
    assert [batches.numbers_of(step) for step in range(7, 14)] == [
        [14, 13, 16], [15, 7, 12], [8], [4, 0, 2], [3, 6, 10], [11, 5, 1], [9]
    ]  # fmt: skip


ERRORS = {
    "too long": (
        lambda: by_length([3, 20, 30], bounds=(4, 8)),
        "example 1 has length 20, one of 2 that are not from 0 to 8, the last of the bounds. Cut them, leave "
        "them out, or add a bound: bounds=(..., 30).",
    ),
    "no lengths": (
        lambda: by_length([1.5]),
        "lengths is float64 of shape (1,); expected whole numbers, one an example.",
    ),
    "no bounds": (
        lambda: by_length([1], bounds=()),
        "bounds is (); expected one or several whole numbers of at least 1.",
    ),
    "lengths of other data": (
        lambda: numbered()[1:].batches(2, order=by_length(LENGTHS, BOUNDS)),
        "by_length(...) has 17 lengths and the data has 16 examples. Give one an example, in the order of "
        "the data; of a part, those of that part: fourbeat.data.Arrays(lengths=...) is split and sliced as "
        "the data is.",
    ),
    "a bucket that never comes": (
        lambda: numbered().batches(4, order=by_length(LENGTHS, BOUNDS), remainder="drop"),
        "by_length(...) has 3 examples of lengths 9 to 16, fewer than batch_size 4, so remainder='drop' "
        "would never show one of them. Use remainder='pad', a smaller batch_size, or wider bounds.",
    ),
    "blocks by hand": (
        lambda: made("by length").stacked(3, 3, 3),
        "cannot stack the batches of steps 3 to 5: in that of step 4 'tokens' has shape (3, 8) after (3, 4). "
        "The blocks of fourbeat.loop end where a shape changes; or pad all batches to one length.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_do(name):
    fails, message = ERRORS[name]
    with pytest.raises(ValueError) as raised:
        fails()
    assert str(raised.value) == message


# What is trained on these texts: a value for each token, whose loss is its squared distance to a target.


def token_losses(model, batch):
    return (model["values"][batch["tokens"]] - batch["tokens"] / 8) ** 2


@pytest.fixture(scope="module")
def learner():
    return fb.four_beats(
        token_losses,
        optax.sgd(0.1),
        predict=lambda model, batch: (model["values"][batch["tokens"]] * batch["weight"]).sum(axis=1),
    )


def start(learner):
    return learner.init({"values": jnp.linspace(-1, 1, len(LENGTHS))})


@pytest.mark.parametrize("name", ["by length, shuffled", "padded, in any order"])
def test_each_announced_shape_compiles_once_and_fusing_changes_no_bit(name, learner):
    shapes, states = {made(name)[step]["tokens"].shape for step in range(2 * len(made(name)))}, []
    assert len(shapes) > 1
    for size in (1, 4):
        state, step = start(learner), fb.compile(learner.train_step, on_recompile="raise")
        for tick in fb.loop(made(name), until=fb.at(epochs=2), steps_per_call=size):
            state, _ = step(state, tick.batch)
        assert step.num_compilations == len(shapes)
        states.append(jax.device_get(state.params))
    assert np.array_equal(states[0]["values"], states[1]["values"])


def test_a_shape_that_nobody_announced_is_told():
    step = fb.compile(lambda total, batch: (total + batch["tokens"].sum(), {}), on_recompile="raise")
    total, _ = step(jnp.int32(0), made("by length")[0])
    step(total, made("by length")[5])
    ragged = lambda examples: {"tokens": np.stack([example["tokens"] for example in examples])}
    alone = Examples(NUMBERS, decode=text, collate=ragged).batches(1)
    step = fb.compile(lambda total, batch: (total + batch["tokens"].sum(), {}), on_recompile="raise")
    total, _ = step(jnp.int32(0), alone[0])
    with pytest.raises(
        fb.compiling.RecompilationError,
        match=r"batch\.columns\['tokens'\] changed from int32\[1, 3\] to int32\[1, 9\]\.",
    ):
        step(total, alone[1])
    step = fb.compile(lambda total, batch: (total + batch["tokens"].sum(), {}), on_recompile="raise")
    total, _ = step(jnp.int32(0), texts().batches(2)[0])
    with pytest.raises(
        fb.compiling.RecompilationError,
        match=r"batch\.columns\['tokens'\] changed from int32\[2, 4\|8\|16\] to int32\[3, 4\|8\|16\]",
    ):
        step(total, texts().batches(3)[0])


def test_padded_tokens_count_nothing(learner):
    """The gradient of a batch is that of its tokens alone, each text by itself and unpadded."""
    state = start(learner)
    values, batches = state.params["values"], made("by length")
    gradient = jax.jit(learner.gradient)
    for step in (0, 3, 6):  # whole, with padding examples, of the longest texts
        tokens = [text(n)["tokens"] for n in batches.numbers_of(step)]
        assert len(tokens) == (1 if step == 3 else 3)

        def by_hand(values, tokens=tokens):
            return jnp.concatenate([(values[each] - each / 8) ** 2 for each in tokens]).mean()

        grads, out = gradient(state, batches[step])
        loss_by_hand, grads_by_hand = jax.jit(jax.value_and_grad(by_hand))(values)
        np.testing.assert_allclose(out.loss, loss_by_hand, rtol=1e-6)
        np.testing.assert_allclose(grads["values"], grads_by_hand, rtol=1e-5, atol=1e-7)


def test_evaluation_and_prediction_take_every_text_once_in_the_order_of_the_data(learner):
    state, batches = start(learner), made("by length")
    values = np.linspace(-1, 1, len(LENGTHS), dtype=np.float32)
    tokens = np.concatenate([text(n)["tokens"] for n in NUMBERS])
    loss = fb.evaluator(learner)(state, batches)["loss"]
    np.testing.assert_allclose(loss, ((values[tokens] - tokens / 8) ** 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(fb.predictor(learner)(state, batches), values * LENGTHS, rtol=1e-5)
