"""The sources of the laws on streams: each makes anew, from nothing but its name, what a process would build.

Eleven examples in batches of four: three batches a pass, the last of them short.
"""

from typing import NamedTuple

import numpy as np

NUM_EXAMPLES, BATCH_SIZE, PER_PASS = 11, 4, 3


def example(i):
    return {"id": np.int64(i), "x": np.full(3, i, np.uint8), "half": np.float16(i)}


def batch_of(ids):
    examples = [example(i) for i in ids]
    return {name: np.stack([each[name] for each in examples]) for name in examples[0]}


class Examples:
    """A data set by index, as Grain and PyTorch read one."""

    def __len__(self):
        return NUM_EXAMPLES

    def __getitem__(self, i):
        return example(i)

    def __repr__(self):
        return "Examples()"


class Counter:
    """An iterable of the user's with a state of its own; each pass has another order."""

    def __init__(self):
        self.number, self.count = 0, 0

    def __iter__(self):
        order = np.random.RandomState(self.number).permutation(NUM_EXAMPLES).tolist()
        while self.count < NUM_EXAMPLES:
            self.count += BATCH_SIZE
            yield batch_of(order[self.count - BATCH_SIZE : self.count])
        self.number, self.count = self.number + 1, 0

    def get_state(self):
        return {"number": self.number, "count": self.count}

    def set_state(self, state):
        self.number, self.count = state["number"], state["count"]


class OnePass:
    """An iterator of the user's: a single pass."""

    def __init__(self, number=0):
        self.order = np.random.RandomState(number).permutation(NUM_EXAMPLES).tolist()
        self.state = [0, {"a key": (b"\x00\xff", np.arange(3)), 5: None}]

    def __iter__(self):
        return self

    def __next__(self):
        at = self.state[0]
        if at >= NUM_EXAMPLES:
            raise StopIteration
        self.state[0] = at + BATCH_SIZE
        return batch_of(self.order[at : at + BATCH_SIZE])

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        assert state[1]["a key"][0] == b"\x00\xff" and state[1]["a key"][1].tolist() == [0, 1, 2]
        self.state = state


class Endless(Counter):
    """One pass that never ends."""

    def __iter__(self):
        while True:
            at = self.count
            self.count += BATCH_SIZE
            yield batch_of([i % NUM_EXAMPLES for i in range(at, at + BATCH_SIZE)])


class Passes:
    """An iterable whose iterators have the state."""

    def __iter__(self):
        return OnePass(7)


def grain_map():
    import grain

    return grain.MapDataset.source(Examples()).seed(1).shuffle()


def grain_iter():
    return grain_map().batch(BATCH_SIZE).to_iter_dataset()


def grain_iter_batched():
    return grain_map().to_iter_dataset().batch(BATCH_SIZE)


def grain_window_shuffle():
    import grain

    return grain.experimental.WindowShuffleIterDataset(
        grain_map().to_iter_dataset(), window_size=5, seed=2
    ).batch(BATCH_SIZE)


def grain_repeated(num_workers):
    """Three epochs in one pass, each in another order: the workers, slow to start, stay for all of them."""
    import grain

    batches = grain_map().batch(BATCH_SIZE).repeat(3).to_iter_dataset()
    return batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))


def grain_loader(worker_count=0, num_epochs=1):
    import grain

    return grain.DataLoader(
        data_source=Examples(),
        sampler=grain.samplers.IndexSampler(NUM_EXAMPLES, shuffle=True, seed=0, num_epochs=num_epochs),
        operations=[grain.transforms.Batch(BATCH_SIZE)],
        worker_count=worker_count,
    )


def hugging_face(num_shards=3):
    import datasets

    columns = batch_of(range(NUM_EXAMPLES))
    features = datasets.Features(
        id=datasets.Value("int64"),
        x=datasets.List(datasets.Value("uint8")),
        half=datasets.Value("float16"),
    )
    data = datasets.Dataset.from_dict({name: column.tolist() for name, column in columns.items()}, features)
    return data.to_iterable_dataset(num_shards=num_shards)


def hugging_face_mapped():
    return hugging_face().map(lambda rows: rows, batched=True, batch_size=3).batch(BATCH_SIZE)


def hugging_face_mixed():
    import datasets

    parts = [hugging_face(2).filter(lambda row, odd=odd: row["id"] % 2 == odd) for odd in (0, 1)]
    return datasets.interleave_datasets(parts, stopping_strategy="all_exhausted_without_replacement").batch(
        BATCH_SIZE
    )


def torch_data(base=object):
    import torch

    class Tensors(torch.utils.data.Dataset):
        def __len__(self):
            return NUM_EXAMPLES

        def __getitem__(self, i):
            return {name: torch.as_tensor(column) for name, column in example(i).items()}

    return Tensors()


def stateful_loader(seed=None, **options):
    import torch
    from torchdata.stateful_dataloader import StatefulDataLoader

    torch.manual_seed(5)  # what a loader without a generator draws its first seed from
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return StatefulDataLoader(
        torch_data(), batch_size=BATCH_SIZE, shuffle=True, generator=generator, **options
    )


def stateful_loader_of_stream(num_epochs=1):
    import torch
    from torchdata.stateful_dataloader import StatefulDataLoader

    class InOrder(torch.utils.data.IterableDataset):
        def __init__(self):
            self.count = 0

        def __iter__(self):
            while self.count < num_epochs * NUM_EXAMPLES:
                self.count += 1
                columns = example((self.count - 1) % NUM_EXAMPLES)
                yield {name: torch.as_tensor(column) for name, column in columns.items()}
            self.count = 0

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    return StatefulDataLoader(InOrder(), batch_size=BATCH_SIZE)


def stateful_loader_of_hugging_face():
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(hugging_face().with_format("torch"), batch_size=BATCH_SIZE)


def tf_data(**shuffle):
    import tensorflow as tf

    columns = tf.data.Dataset.from_tensor_slices(batch_of(range(NUM_EXAMPLES)))
    return columns.shuffle(6, seed=1, **shuffle).batch(BATCH_SIZE).prefetch(2)


def grain_endless():
    import grain

    # without threads, which would take turns; and a shuffle draws for 3 ms an example
    read = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return grain.MapDataset.source(Examples()).repeat().batch(BATCH_SIZE).to_iter_dataset(read)


def tf_data_endless():
    import tensorflow as tf

    columns = tf.data.Dataset.from_tensor_slices(batch_of(range(NUM_EXAMPLES)))
    return columns.repeat().batch(BATCH_SIZE)


class Kind(NamedTuple):
    """A source of the laws.

    Attributes:
      make: makes what `Stream` is given.
      needs: the library that it is of.
      num_passes: how many passes it makes; more than one where it can be iterated anew.
      reshuffles: whether its passes have orders of their own.
      small: whether it keeps the types of uint8 and float16.
    """

    make: object
    needs: str = "numpy"
    num_passes: int = 3
    reshuffles: bool = False
    small: bool = True


KINDS = {
    "own iterable": Kind(Counter, reshuffles=True),
    "own iterators": Kind(Passes),
    "own iterator": Kind(OnePass, num_passes=1),
    "function": Kind(lambda: Passes),
    "function of the pass": Kind(lambda: lambda number: OnePass(number), reshuffles=True),
    "Grain IterDataset": Kind(grain_iter, "grain"),
    "Grain IterDataset, batched last": Kind(grain_iter_batched, "grain"),
    "Grain window shuffle": Kind(grain_window_shuffle, "grain"),
    "Grain iterator": Kind(lambda: iter(grain_iter()), "grain", num_passes=1),
    "Grain DataLoader": Kind(grain_loader, "grain"),
    "function, Grain": Kind(
        lambda: lambda number: grain_map().seed(number).shuffle().batch(BATCH_SIZE).to_iter_dataset(),
        "grain",
        reshuffles=True,
    ),
    "Hugging Face": Kind(lambda: hugging_face().batch(BATCH_SIZE), "datasets"),
    "Hugging Face, numpy": Kind(lambda: hugging_face().batch(BATCH_SIZE).with_format("numpy"), "datasets"),
    "Hugging Face, mapped": Kind(hugging_face_mapped, "datasets", small=False),
    "Hugging Face, mixed": Kind(hugging_face_mixed, "datasets"),
    "Hugging Face, shards shuffled": Kind(
        lambda: hugging_face(11).shuffle(seed=3, buffer_size=1).batch(BATCH_SIZE), "datasets", reshuffles=True
    ),
    "StatefulDataLoader": Kind(stateful_loader, "torchdata", reshuffles=True),
    "StatefulDataLoader, seeded": Kind(lambda: stateful_loader(3), "torchdata", reshuffles=True),
    "StatefulDataLoader of a stream": Kind(stateful_loader_of_stream, "torchdata"),
    "StatefulDataLoader of Hugging Face": Kind(stateful_loader_of_hugging_face, "torchdata", small=False),
    "tf.data": Kind(tf_data, "tensorflow", reshuffles=True),
    "tf.data, one order": Kind(lambda: tf_data(reshuffle_each_iteration=False), "tensorflow"),
}
# Each with the steps that are read of it: a thousand where a library takes up to 2 ms for a batch.
ENDLESS = {
    "own iterable": (Kind(Endless), 10_000),
    "Grain IterDataset": (Kind(grain_endless, "grain"), 1_000),
    "Hugging Face": (Kind(lambda: hugging_face().repeat(None).batch(BATCH_SIZE), "datasets"), 1_000),
    "StatefulDataLoader": (Kind(lambda: stateful_loader_of_stream(10**6), "torchdata"), 1_000),
    "tf.data": (Kind(tf_data_endless, "tensorflow"), 1_000),
}


def grain_loader_order(num_workers):
    """Grain's workers each take every n-th example of the sampler and batch them; a batch of each in turn."""
    import grain

    sampler = grain.samplers.IndexSampler(NUM_EXAMPLES, shuffle=True, seed=0, num_epochs=3)
    keys = [sampler[i].record_key for i in range(3 * NUM_EXAMPLES)]
    parts = [keys[worker::num_workers] for worker in range(num_workers)]
    in_turn = [part[i : i + BATCH_SIZE] for i in range(0, len(keys), BATCH_SIZE) for part in parts]
    return [batch for batch in in_turn if batch]


class WithWorkers(NamedTuple):
    """A source whose workers are processes.

    Attributes:
      kind: `make` takes how many.
      whole: the numbers of its batches, or a source that gives them; it takes how many too.
      starts: steps of the second epoch, or near it, from which it goes on.
    """

    kind: Kind
    whole: object
    starts: tuple[int, ...] = (PER_PASS + 1,)


def forked_loader(workers):
    return stateful_loader(3, num_workers=workers)


WITH_WORKERS = {
    "Grain IterDataset": WithWorkers(Kind(grain_repeated, "grain"), lambda workers: grain_repeated(0)),
    "Grain DataLoader": WithWorkers(
        Kind(lambda workers: grain_loader(workers, num_epochs=3), "grain"), grain_loader_order
    ),
    # it draws other orders without workers than with them; and starts them in no time
    "StatefulDataLoader": WithWorkers(
        Kind(forked_loader, "torchdata"), forked_loader, (PER_PASS, PER_PASS + 1, PER_PASS + 2)
    ),
}
