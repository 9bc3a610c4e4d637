"""Strings of streams and of plain batches stay on the host, beside the batch, in its order."""

import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from tests.data.streams_of import BATCH_SIZE, NUM_EXAMPLES, OnePass

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:'set_vital' is deprecated:UserWarning"
    ),  # torchdata 0.11 on torch 2.13
]
STEPS = 2 * -(-NUM_EXAMPLES // BATCH_SIZE)


def named(i):
    return {"id": i, "name": f"photo {i}"}


class Named(OnePass):
    """Batches of the user's own: names in a list, bytes in an array of objects."""

    def __next__(self):
        batch = super().__next__()
        ids = batch["id"].tolist()
        raw = np.empty(len(ids), object)
        raw[:] = [bytes([i, 0]) for i in ids]
        return {"id": batch["id"], "name": [f"photo {i}" for i in ids], "raw": raw}


def batches_of(numbers):
    parts = [list(numbers[i : i + BATCH_SIZE]) for i in range(0, len(numbers), BATCH_SIZE)]
    return [{"id": np.array(ids), "name": [f"photo {i}" for i in ids]} for ids in parts]


def hugging_face():
    import datasets

    columns = {"id": list(range(NUM_EXAMPLES)), "name": [f"photo {i}" for i in range(NUM_EXAMPLES)]}
    return datasets.Dataset.from_dict(columns).to_iterable_dataset(num_shards=3).batch(BATCH_SIZE)


class ByNumber:
    def __len__(self):
        return NUM_EXAMPLES

    def __getitem__(self, i):
        return named(i)


def grain():
    import grain

    return grain.MapDataset.source(ByNumber()).seed(1).shuffle().batch(BATCH_SIZE).to_iter_dataset()


def stateful_loader():
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(ByNumber(), batch_size=BATCH_SIZE)


def tf_data():
    import tensorflow as tf

    columns = {"id": np.arange(NUM_EXAMPLES), "raw": [bytes([i, 0]) for i in range(NUM_EXAMPLES)]}
    return tf.data.Dataset.from_tensor_slices(columns).batch(BATCH_SIZE)


STREAMS = {
    "own": ("numpy", lambda: fb.data.Stream(lambda number: Named(number))),
    "Hugging Face": ("datasets", lambda: fb.data.Stream(hugging_face())),
    "Grain": ("grain", lambda: fb.data.Stream(grain())),
    "StatefulDataLoader": ("torchdata", lambda: fb.data.Stream(stateful_loader())),
    "tf.data": ("tensorflow", lambda: fb.data.Stream(tf_data())),
    "a list": ("numpy", lambda: batches_of(range(NUM_EXAMPLES))),
    "a generator": ("numpy", lambda: iter(2 * batches_of(range(NUM_EXAMPLES)))),
}


def assert_beside(batch):
    """The strings are those of the numbers beside which they lie."""
    ids = np.asarray(batch["id"]).ravel().tolist()
    assert list(batch) == ["id"]
    found = {name: text.ravel().tolist() for name, text in batch.texts.items()}
    wanted = {"name": [f"photo {i}" for i in ids], "raw": [bytes([i, 0]) for i in ids]}
    assert found and found == {name: wanted[name] for name in found}
    return ids


@pytest.mark.parametrize("kind", STREAMS)
def test_strings_lie_beside_each_batch_and_each_batch_of_a_block(kind):
    needs, make = STREAMS[kind]
    pytest.importorskip(needs)
    seen = [assert_beside(tick.batch) for tick in fb.loop(make(), until=fb.at(steps=STEPS))]
    passes = [sorted(itertools.chain(*part)) for part in (seen[: STEPS // 2], seen[STEPS // 2 :])]
    assert passes == 2 * [list(range(NUM_EXAMPLES))]
    in_blocks = []
    for tick in fb.loop(make(), until=fb.at(steps=STEPS), steps_per_call=2):
        in_blocks += [assert_beside(tick.batch.take(i)) for i in range(tick.num_steps)]
    assert in_blocks == seen


def test_a_block_of_batches_by_number_gives_the_strings_of_each():
    batches = fb.data.Examples(ByNumber()).batches(2, remainder="drop", workers=1)
    for tick in fb.loop(batches, until=fb.at(steps=5), steps_per_call=3):
        for i in range(tick.num_steps):
            assert_beside(tick.batch.take(i))


def test_nested_columns_stay_and_what_the_user_writes_later_changes_nothing():
    names = np.array(["a", "b"])
    (tick,) = fb.loop([{"x": {"y": np.ones(2)}, "name": names}], until=fb.at(steps=1))
    names[:] = "c"
    assert tick.batch.texts["name"].tolist() == ["a", "b"] and tick.batch["x"]["y"].tolist() == [1, 1]


def test_steps_scores_and_padding_do_not_see_the_strings():
    beats = fb.four_beats(lambda model, batch: (model["w"] - batch["id"]) ** 2, optax.sgd(0.01))
    named_ones = batches_of(range(NUM_EXAMPLES))
    plain = [{"id": batch["id"]} for batch in named_ones]
    evaluate, weights = fb.evaluator(beats), []
    for batches in (named_ones, plain):
        step = fb.compile(beats.train_step)
        batches, state = fb.data.padded(batches, BATCH_SIZE), beats.init({"w": jnp.ones(())})
        for tick in fb.loop(batches, until=fb.at(epochs=1)):
            if batches.unpadded[0].get("name"):
                assert tick.batch.texts["name"][-1] == f"photo {min(4 * tick.step, NUM_EXAMPLES) - 1}"
            state, _ = step(state, tick.batch)
        weights.append((float(state.params["w"]), evaluate(state, batches)))
    w = 1.0
    for batch in plain:
        w -= 0.01 * 2 * np.mean(w - batch["id"])
    assert weights[0] == weights[1] and weights[0][0] == pytest.approx(w)
