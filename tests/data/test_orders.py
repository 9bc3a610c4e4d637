"""The laws of every order, and what each of them promises beside."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.data import Arrays, Examples, balanced, by_length, mix, pad_to, weighted
from fourbeat.data.order import Drawn

LENGTHS = np.array([3, 9, 1, 4, 4, 12, 2, 8, 7, 3, 1, 16, 5, 2, 4, 6, 1])  # 10 up to 4, 4 up to 8, 3 up to 16
BOUNDS = (4, 8, 16)
NUMBERS = np.arange(len(LENGTHS))
LABELS = np.array([0, 0, 2, 0, 1, 0, 0, 2, 0, 0, 0, 2, 2, 0, 0, 2, 0])  # 11, 1 and 5
WEIGHTS = np.array([0, 1, 0, 0, 4, 1, 0.5, 0, 2, 0, 0, 0, 0, 0, 8, 1e-9, 0])


def text(number):
    """An example with as many tokens as its length says; its first token is its number."""
    tokens = np.full(LENGTHS[number], number, np.int32)
    return {"number": np.int32(number), "tokens": tokens, "weight": np.ones(len(tokens), np.float32)}


def texts(bounds=BOUNDS):
    return Examples(NUMBERS, decode=text, collate=pad_to(tokens=bounds, weight=bounds))


def numbered():
    return Arrays(number=NUMBERS)


def counted():
    return Examples(NUMBERS, decode=lambda number: {"number": np.int32(number)})


def mixed(data, other=None, **options):
    """The first five and the other twelve, half and half: numbered through as they were."""
    return mix({data[:5]: 0.5, (data if other is None else other)[5:]: 0.5}, **options)


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
    "by weights": (texts, {"order": weighted(WEIGHTS)}),
    "by weights, on the device": (numbered, {"order": weighted(WEIGHTS, 7), "resident": True}),
    "balanced": (numbered, {"order": balanced(LABELS), "resident": False}),
    "balanced, shuffled": (texts, {"order": balanced(LABELS, 10), "shuffle": True}),
    "balanced, in whole batches": (
        numbered,
        {"order": balanced(LABELS, 20), "shuffle": True, "remainder": "drop", "resident": True},
    ),
    "a mix on the device": (lambda: mixed(numbered()), {"shuffle": True, "resident": True}),
    "a mix of both kinds": (lambda: mixed(numbered(), counted()), {"resident": False}),
    "a mix in whole batches": (lambda: mixed(counted()), {"shuffle": True, "remainder": "drop"}),
    "a mix of texts": (lambda: mixed(texts()), {"shuffle": True}),
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
    if ORDERS[name][1].get("shuffle") or "weights" in name:
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


def visited(batches, num_epochs):
    """The numbers of each epoch, in their order."""
    steps = [batches.numbers_of(step) for step in range(num_epochs * len(batches))]
    epochs = [steps[i : i + len(batches)] for i in range(0, len(steps), len(batches))]
    return [[number for step in epoch for number in step] for epoch in epochs]


def test_examples_are_drawn_by_their_weights():
    batches = numbered().batches(8, order=weighted(WEIGHTS, 4000), seed=3)
    ends = np.cumsum(WEIGHTS)
    for epoch, numbers in enumerate(visited(batches, 2)):
        draws = np.random.RandomState([3, epoch]).random_sample(4000)
        by_hand = [next(i for i in NUMBERS if ends[i] / ends[-1] > draw) for draw in draws]
        assert numbers == by_hand
        shares = np.bincount(numbers, minlength=len(WEIGHTS)) / 4000
        assert not shares[WEIGHTS == 0].any()
        np.testing.assert_allclose(shares, WEIGHTS / WEIGHTS.sum(), atol=0.03)
    assert (batches.num_examples, batches.dropped, len(batches)) == (4000, 0, 500)


def assert_gone_through(numbers, members, shuffle):
    """Whether members come again and again, each once in a pass."""
    passes = [numbers[i : i + len(members)] for i in range(0, len(numbers), len(members))]
    for one in passes[:-1]:
        assert sorted(one) == members
    assert len(set(passes[-1])) == len(passes[-1]) and {*passes[-1]} <= {*members}
    if not shuffle:
        assert all(one == members[: len(one)] for one in passes)
    elif len(members) > 3:
        assert passes[0] != passes[1]


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_class_comes_equally_often_and_its_examples_one_pass_after_the_other(shuffle):
    batches = numbered().batches(5, order=balanced(LABELS), shuffle=shuffle, seed=4)
    assert batches.num_examples == 18  # 17, rounded up to a multiple of three classes
    epochs = visited(batches, 9)
    assert all(np.bincount(LABELS[numbers]).tolist() == [6, 6, 6] for numbers in epochs)
    for step in range(9 * len(batches)):
        counts = np.bincount(LABELS[batches.numbers_of(step)], minlength=3)
        assert counts.max() - counts.min() <= 1
    for label in range(3):
        of_class = [number for numbers in epochs for number in numbers if LABELS[number] == label]
        assert_gone_through(of_class, [n for n in NUMBERS if LABELS[n] == label], shuffle)


def split_mix(number):
    """The finaliser of SplitMix64, in whole numbers of Python."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        number = (number ^ (number >> shift)) * factor % 2**64
    return number ^ (number >> 31)


def test_a_pass_through_a_class_is_sorted_by_bits_that_depend_on_seed_pass_and_example():
    seed, golden = 7, 0x9E3779B97F4A7C15
    labels = np.random.RandomState(1).randint(0, 9, 40)
    classes = [np.flatnonzero(labels == label).tolist() for label in range(9)]
    batches = Arrays(number=np.arange(40)).batches(
        45, order=balanced(labels), shuffle=True, seed=seed, resident=False
    )
    endless = []
    for members in classes:
        passes = [split_mix((seed + (number + 1) * golden) % 2**64) for number in range(60)]
        endless.append(
            [
                example
                for bits in passes
                for example in sorted(members, key=lambda n: split_mix((bits + (n + 1) * golden) % 2**64))
            ]
        )
    for epoch in (0, 1, 5):
        turns = [(place, label) for place in range(5) for label in range(9)]
        assert batches.numbers_of(epoch) == [endless[label][5 * epoch + place] for place, label in turns]


def test_labels_may_be_words():
    words = np.array(["cat", "bird", "dog"])[LABELS]
    batches = numbered().batches(6, order=balanced(words))
    assert sorted(words[batches.numbers_of(0)]) == ["bird", "bird", "cat", "cat", "dog", "dog"]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("remainder", ["pad", "drop"])
def test_a_mix_keeps_its_proportions_and_loses_nothing(remainder, shuffle):
    parts = {numbered()[:3]: 0.5, numbered()[3:5]: 0.2, numbered()[5:]: 0.3}
    batches = mix(parts, num_examples=23).batches(4, shuffle=shuffle, remainder=remainder, seed=1)
    num_examples, counts = (23, [11, 5, 7]) if remainder == "pad" else (20, [10, 4, 6])  # 11.5, 4.6, 6.9
    assert (batches.num_examples, batches.dropped) == (num_examples, 0)
    epochs, starts = visited(batches, 6), [0, 3, 5, len(NUMBERS)]
    for numbers in epochs:
        assert np.histogram(numbers, starts)[0].tolist() == counts
    for step in range(len(batches)):
        if len(numbers := batches.numbers_of(step)) == 4:
            assert np.all(np.abs(np.histogram(numbers, starts)[0] - [2, 0.8, 1.2]) <= 1)
    for start, end in itertools.pairwise(starts):
        of_part = [number for numbers in epochs for number in numbers if start <= number < end]
        assert_gone_through(of_part, [*range(start, end)], shuffle)


def test_a_mix_of_mixes_is_one_too():
    inner = mix({numbered()[:3]: 1, numbered()[3:5]: 2}, num_examples=6)
    numbers = visited(mix({inner: 3, numbered()[5:9]: 1}, num_examples=8).batches(4), 3)
    assert [np.histogram(epoch, [0, 3, 5, 9])[0].tolist() for epoch in numbers] == [[2, 4, 2]] * 3


def halved(batch):
    return {"number": batch["number"] // 2}


def test_functions_are_mapped_over_the_mix_or_over_every_part():
    data = numbered().map(halved)
    over_parts, over_mix = (
        mixed(data).batches(4, shuffle=True),
        mixed(numbered()).map(halved).batches(4, shuffle=True),
    )
    for step in range(3):
        assert read(over_parts[step]) == read(over_mix[step])
        assert over_mix[step]["number"].tolist() == [n // 2 for n in over_mix.numbers_of(step)]


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


# Written down once: another stream would break the resuming of every older run.
DRAWN = {
    "by length, shuffled": [14, 13, 16, 15, 7, 12, 8, 4, 0, 2, 3, 6, 10, 11, 5, 1, 9],
    "by weights": [4, 4, 14, 1, 14, 14, 14, 14, 8, 5, 14, 14, 5, 14, 14, 14, 4],
    "balanced, shuffled": [14, 4, 7, 9, 4, 2, 3, 4, 2, 16],
    "a mix on the device": [4, 11, 2, 8, 0, 6, 4, 7, 1, 10, 3, 11, 0, 8, 2, 16, 4],
}


@pytest.mark.parametrize("name", DRAWN)
def test_the_second_epoch_is_the_one_written_down(name):
    assert visited(made(name), 2)[1] == DRAWN[name]


ERRORS = {
    "too long": (
        lambda: by_length([3, 20, 30], bounds=(4, 8)),
        "example 1 has length 20, one of 2 that are not from 0 to 8, the last of the bounds. Cut them, leave "
        "them out, or add a bound: bounds=(..., 30).",
    ),
    "a negative weight": (
        lambda: weighted([1, 0, -2, np.nan]),
        "the weight of example 2 is -2.0, one of 2 that are negative or not finite. A weight says how often "
        "an example is drawn beside the others: give a number of at least 0.",
    ),
    "no weight": (
        lambda: weighted([0, 0]),
        "all weights are 0, so no example could be drawn. Give one of them a weight above 0.",
    ),
    "weights in two dimensions": (
        lambda: weighted(np.ones((1, 2))),
        "weights has shape (1, 2); expected one number an example.",
    ),
    "no draws": (
        lambda: weighted([1, 2], 0),
        "weighted(...): num_examples is 0; expected 1 to 2**31 - 1 examples an epoch.",
    ),
    "weights of other data": (
        lambda: numbered()[1:].batches(2, order=weighted(WEIGHTS)),
        "weighted(...) has 17 weights and the data has 16 examples. Give one an example, in the order of the "
        "data; of a part, those of that part: fourbeat.data.Arrays(weights=...) is split and sliced as the "
        "data is.",
    ),
    "classes that never come": (
        lambda: balanced(LABELS, 2),
        "balanced(...) has 3 classes, and an epoch of 2 examples would never show all. Use "
        "num_examples >= 3.",
    ),
    "labels that are no classes": (
        lambda: balanced([0.5]),
        "labels is float64 of shape (1,); expected whole numbers or strings, one an example.",
    ),
    "a proportion of nothing": (
        lambda: mix({numbered(): 0}),
        "the proportion of Arrays(17 examples: number int32 ()) is 0; expected a finite number above 0.",
    ),
    "an empty part": (
        lambda: mix({numbered()[:0]: 1}),
        "cannot mix the Arrays: it has no examples.",
    ),
    "a part that never comes": (
        lambda: mix({counted(): 0.001, numbered(): 0.999}).batches(4),
        "an epoch of 34 examples has none of the ndarray, whose share is 0.001. Use "
        "mix(..., num_examples=1000) or more.",
    ),
    "other types": (
        lambda: mix({numbered(): 1, Arrays(number=[0.5]): 1}),
        "cannot mix the Arrays with the Arrays: column 'number' is int32 () in the one and float32 () in the "
        "other. All parts need the same columns, in the same types and shapes: convert them in decode=.",
    ),
    "other columns": (
        lambda: mix({counted(): 1, Arrays(label=[0]): 1}),
        "cannot mix the ndarray with the Arrays: column 'number' is int32 () in the one and not there in the "
        "other. All parts need the same columns, in the same types and shapes: convert them in decode=.",
    ),
    "other functions": (
        lambda: mix({numbered().map(halved): 1, numbered(): 1}),
        "cannot mix Arrays(17 examples: number int32 ()) with Arrays(17 examples: number int32 ()): other "
        "functions are mapped over its batches, and a batch of the mix holds examples of both. Map over the "
        "mix, mix({...}).map(fn), or do it in decode=.",
    ),
    "another collate": (
        lambda: mix({texts(): 1, texts(): 1}),
        "cannot mix the ndarray and the ndarray: some have a collate=, which is given the examples of a "
        "whole batch. Give all parts the same one: collate = fourbeat.data.pad_to(...), then "
        "Examples(..., collate=collate) for each.",
    ),
    "a mix in another order": (
        lambda: mixed(numbered()).batches(4, order=weighted(WEIGHTS)),
        "order=weighted(17 weights) would leave the proportions of this mix out of account. Use it without.",
    ),
    "no whole batch": (
        lambda: numbered().batches(8, order=weighted(WEIGHTS, 7), remainder="drop"),
        "batch_size 8 is larger than the 7 examples, so remainder='drop' would leave no batch. Use "
        "batch_size <= 7, or remainder='pad'.",
    ),
    "predictions of draws": (
        lambda: made("by weights").places(),
        "Batches(6 steps of 3, order=weighted(17 weights), shuffle=False, seed=5, remainder='pad', on the "
        "host) gives some examples several times or not at all in an epoch. For one output an example use "
        "batches of another order.",
    ),
    "no lengths": (
        lambda: by_length(np.array([1.5])),
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


class Own(Drawn):
    """An order of somebody's."""

    def __init__(self, numbers):
        self.numbers = numbers if isinstance(numbers, np.ndarray) else np.array(numbers, np.int32)

    def of(self, num_examples, batch_size, *, shuffle, seed, remainder):
        super().__init__(len(self.numbers), batch_size, remainder, lambda epoch: self.numbers)
        return self

    def __repr__(self):
        return "Own()"


class Unpadded(Own):
    """One that does not say that it has padding."""

    def of(self, *args, **kwargs):
        super().of(*args, **kwargs).is_padded = False
        return self


OWN = {
    "beyond the examples": (
        Own([0, 1, 17]),
        "order=Own(): index(0) is numbers from 0 to 17; expected 0 to 16, those of the examples.",
    ),
    "below them": (
        Own([0, -1, 3]),
        "order=Own(): index(0) is numbers from -1 to 3; expected 0 to 16, those of the examples.",
    ),
    "of another type": (
        Own(np.array([0.0, 1.0, 2.0])),
        "order=Own(): index(0) is float64 of shape (1, 3); expected int32 of shape (1, 3).",
    ),
    "padding that would count": (
        Unpadded([0, 1]),
        "order=Own(): sizes(0) is [2]; expected 1 sizes from 3 to 3, in all num_examples=2.",
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_an_order_of_somebodys_is_looked_at_before_its_numbers_are_gathered(name):
    order, message = OWN[name]
    with pytest.raises(ValueError) as raised:
        numbered().batches(3, order=order, resident=False)[0]
    assert str(raised.value) == message
    assert visited(numbered().batches(3, order=Own([4, 2, 9, 4])), 1) == [[4, 2, 9, 4]]


@pytest.mark.parametrize("order", [weighted, [2, 0, 1]], ids=["not called", "a list"])
def test_what_is_no_order_is_told(order):
    with pytest.raises(TypeError, match=r"has no method `of`\. Use fourbeat\.data\.weighted\(weights\)"):
        numbered().batches(3, order=order)


def test_a_collate_function_announces_the_lengths_it_says_and_no_other():
    class Collate:
        def __init__(self):
            self.lengths = {"tokens": (1, 3)}

        def __call__(self, examples):
            return {"tokens": np.stack([example["tokens"] for example in examples])}

    batches = Examples(NUMBERS, decode=text, collate=Collate()).batches(1)
    step = fb.compile(lambda total, batch: (total + batch["tokens"].sum(), {}), on_recompile="raise")
    total, _ = step(jnp.int32(0), batches[0])  # 3 tokens
    total, _ = step(total, batches[2])  # 1
    with pytest.raises(fb.compiling.RecompilationError, match=r"from int32\[1, 1\|3\] to int32\[1, 9\]"):
        step(total, batches[1])


@pytest.mark.parametrize("taken", [lambda data: data[:3], lambda data: data.split(3)])
def test_a_mix_is_not_taken_apart(taken):
    with pytest.raises(
        TypeError, match=r"a mix: its examples come in proportions.*Take parts of what is mixed"
    ):
        taken(mixed(numbered()))


@pytest.mark.parametrize("given", [[Arrays(x=[1])], {}, {"a": 1}], ids=["a list", "nothing", "a name"])
def test_what_is_mixed_are_data_sets(given):
    with pytest.raises(TypeError, match=r"mix takes a dict of data sets to proportions|cannot mix a str"):
        mix(given)


def test_a_broken_text_of_a_mix_is_named():
    with pytest.raises(
        fb.data.ExampleError, match=r"^example 11 of the ndarray: its 'tokens' has length 16, and"
    ):
        list(mixed(texts(bounds=(4, 12))).batches(3))


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
