"""A batched Grain MapDataset is read by index: the batch of a step is `md[step]`, shuffled each epoch."""

import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fourbeat as fb
from fourbeat.compiling.blocks import Block
from tests.data.streams_of import BATCH_SIZE, NUM_EXAMPLES, PER_PASS, Examples, grain_map

grain = pytest.importorskip("grain")


def batches_of(tick):
    batches = [tick.batch]
    if isinstance(tick.batch, Block):
        batches = [tick.batch.take(i) for i in range(tick.num_steps)]
    return [np.asarray(batch["id"]).tolist() for batch in batches]


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("start", [0, 2, 4, 8])
def test_the_batch_of_a_step_is_that_of_its_index(start, size):
    md, epoch_end = grain_map().batch(BATCH_SIZE), fb.every(epochs=1)
    ticks = fb.loop(md, start=start, until=fb.at(epochs=3), marks=[epoch_end], steps_per_call=size)
    seen, ends = [], []
    for tick in ticks:
        seen += batches_of(tick)
        full, rest = divmod(tick.step, PER_PASS)
        assert tick.epoch == full and tick.examples == full * NUM_EXAMPLES + rest * BATCH_SIZE
        ends += [tick.step] * (epoch_end in tick)
    assert seen == [md[step]["id"].tolist() for step in range(start, 9)]
    assert ends == [step for step in (3, 6, 9) if step > start]
    if start == 0:
        epochs = [list(itertools.chain(*seen[i : i + PER_PASS])) for i in (0, 3, 6)]
        assert all(sorted(ids) == list(range(NUM_EXAMPLES)) for ids in epochs)
        assert len(set(map(tuple, epochs))) == 3


def test_types_are_kept_and_a_step_beyond_the_batching_is_by_index_too():
    md = grain_map().batch(BATCH_SIZE).map(lambda batch: {**batch, "id": batch["id"] + 100})
    (tick,) = fb.loop(md, start=4, until=fb.at(steps=5))
    assert {name: column.dtype for name, column in tick.batch.items()} == {
        "id": "int32",
        "x": "uint8",
        "half": "float16",
    }
    assert batches_of(tick) == [md[4]["id"].tolist()]


def test_padded_it_is_by_index_still():
    md = grain_map().batch(BATCH_SIZE)
    (tick,) = fb.loop(fb.data.padded(md, BATCH_SIZE), start=5, until=fb.at(steps=6))
    assert tick.batch["weight"].tolist() == [1, 1, 1, 0]
    assert batches_of(tick)[0][:3] == md[5]["id"].tolist()


def test_an_evaluation_reads_one_epoch():
    beats = fb.four_beats(lambda model, batch: batch["id"] * model["w"], optax.sgd(0.1))
    score = fb.evaluator(beats)(beats.init({"w": jnp.ones(())}), grain_map().batch(BATCH_SIZE))
    assert score == {"loss": sum(range(NUM_EXAMPLES)) / NUM_EXAMPLES}


class Broken(Examples):
    def __getitem__(self, i):
        if i == 8:
            raise OSError("truncated picture 8")
        return super().__getitem__(i)


def test_a_broken_example_names_the_source_the_batch_and_the_repair():
    broken = grain.MapDataset.source(Broken()).batch(4)
    seen = []
    with pytest.raises(fb.data.ExampleError) as caught:
        seen.extend(tick.step for tick in fb.loop(broken, until=fb.at(epochs=1)))
    assert str(caught.value) == (
        "cannot read batch 2 of the Grain MapDataset: OSError: truncated picture 8. Mend the example, or "
        "leave it out in the source."
    )
    assert isinstance(caught.value.__cause__, OSError) and caught.value.source == "the Grain MapDataset"


EXAMPLES = (
    "batches is the Grain {}, which gives single examples: no step of it makes batches. {}. If it gives "
    "batches already, pass fb.data.Stream(lambda: iter(...))."
)
BY_INDEX = "Batch them: dataset.batch(32), or fb.data.Examples(dataset).batches(32)"


class Batched(Examples):
    """A source of the user's own class of data set, that gives whole batches."""

    def __getitem__(self, i):
        return {name: column[None] for name, column in super().__getitem__(i).items()}


def loader(*operations):
    return grain.DataLoader(
        data_source=Batched(),
        sampler=grain.samplers.IndexSampler(NUM_EXAMPLES, num_epochs=1),
        operations=operations,
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (grain_map, EXAMPLES.format("MapDataset", BY_INDEX)),
        (lambda: grain_map().map(lambda each: {"x": each["x"]}), EXAMPLES.format("MapDataset", BY_INDEX)),
        (lambda: grain.MapDataset.range(9), EXAMPLES.format("MapDataset", BY_INDEX)),
        (
            lambda: grain_map().map(lambda each: {"x": each["x"]}).to_iter_dataset(),
            EXAMPLES.format("IterDataset", "Batch them: dataset.batch(32)"),
        ),
        (
            lambda: grain_map().to_iter_dataset().mp_prefetch(grain.MultiprocessingOptions(num_workers=2)),
            EXAMPLES.format("IterDataset", "Batch them: dataset.batch(32)"),
        ),
        (
            loader,
            EXAMPLES.format("DataLoader", "Give it grain.transforms.Batch(32) as its last operation"),
        ),
    ],
    ids=["map", "images alone", "numbers", "iter", "workers", "loader"],
)
def test_examples_are_not_taken_for_batches(make, text):
    beats = fb.four_beats(lambda model, batch: batch["x"] * model["w"], optax.sgd(0.1))
    state = beats.init({"w": jnp.ones(())})
    for do in (
        lambda: fb.loop(make(), until=fb.at(steps=1)),
        lambda: fb.data.padded(make(), 32),
        lambda: fb.evaluator(beats)(state, make()),
    ):
        with pytest.raises(TypeError) as caught:
            do()
        assert str(caught.value) == text


def test_batches_of_a_class_of_the_users_are_let_through():
    class Own(grain.IterDataset):
        def __iter__(self):
            return iter(grain_map().batch(BATCH_SIZE).to_iter_dataset())

    assert len(list(fb.loop(fb.data.Stream(Own()), until=fb.at(epochs=1)))) == PER_PASS
    stream = fb.data.Stream(lambda: iter(grain.MapDataset.source(Batched()).to_iter_dataset()))
    assert len(list(fb.loop(stream, until=fb.at(epochs=1)))) == NUM_EXAMPLES


def test_holes_of_a_filter_are_not_taken_for_batches():
    md = grain_map().batch(BATCH_SIZE).filter(lambda batch: len(batch["id"]) == BATCH_SIZE)
    with pytest.raises(ValueError) as caught:
        list(fb.loop(md, until=fb.at(epochs=1)))
    assert str(caught.value) == (
        "batch 2 of the Grain MapDataset is None: a filter leaves holes in what is read by index. Filter "
        "before you batch, dataset.filter(...).to_iter_dataset().batch(32), in fb.data.Stream(...)."
    )
