"""What a stream refuses, and what it says: every text whole."""

import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

import fourbeat as fb
from tests.data.streams_of import (
    Counter,
    Examples,
    Passes,
    grain_iter,
    grain_loader,
    grain_map,
    grain_window_shuffle,
    hugging_face,
    stateful_loader,
    torch_data,
)

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:'set_vital' is deprecated:UserWarning"
    ),  # torchdata 0.11 on torch 2.13
]
NO_STATE = "cannot make a stream of the {}: it has no state that could be saved. {}."
METHODS = (
    "Give it, or its iterators, the methods get_state and set_state, or state_dict and load_state_dict; or "
    "pass a function that makes what has them"
)
BUFFER = (
    "cannot make a stream of a Hugging Face IterableDataset with a shuffle buffer (of {} examples): its "
    "state does not hold the buffer, so that resumed, the examples in it would be lost. Shuffle the shards "
    "alone, .shuffle(seed=0, buffer_size=1), or take the data set by index: "
    "fb.data.Examples(dataset).batches(32, shuffle=True)."
)


def torch_loader(**options):
    import torch

    return torch.utils.data.DataLoader(torch_data(), batch_size=4, **options)


def torch_iterable_loader():
    import torch

    class InOrder(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from torch_data()

    return torch.utils.data.DataLoader(InOrder(), batch_size=4)


def interleaved():
    import datasets

    parts = [hugging_face().shuffle(seed=0, buffer_size=size) for size in (1, 5)]
    return datasets.interleave_datasets(parts).map(lambda row: row).batch(4).with_format("numpy")


def loader_of_shuffled():
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(hugging_face().shuffle(seed=0, buffer_size=3), batch_size=4)


def loader_of_hugging_face(**options):
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(hugging_face().with_format("torch"), batch_size=4, **options)


def loader_with_replacement():
    import torch
    from torchdata.stateful_dataloader import StatefulDataLoader
    from torchdata.stateful_dataloader.sampler import RandomSampler

    generator = torch.Generator()
    sampler = RandomSampler(torch_data(), replacement=True, generator=generator)
    return StatefulDataLoader(torch_data(), sampler=sampler, batch_size=4, generator=generator)


REFUSED = {
    "a generator": (
        "numpy",
        lambda: (batch for batch in [{"x": np.ones(2)}]),
        TypeError,
        NO_STATE.format("generator", METHODS),
    ),
    "an iterable": ("numpy", lambda: {1, 2}, TypeError, NO_STATE.format("set", METHODS)),
    "a list": (
        "numpy",
        lambda: [{"x": np.ones(2)}],
        TypeError,
        NO_STATE.format("list", "It is read by number: pass it to the loop as it is"),
    ),
    "batches by number": (
        "numpy",
        lambda: fb.data.Arrays(x=np.ones(4)).batches(2),
        TypeError,
        NO_STATE.format("Batches", "It is read by number: pass it to the loop as it is"),
    ),
    "a batch": ("numpy", lambda: {"x": np.ones(2)}, TypeError, NO_STATE.format("dict", METHODS)),
    "a number": ("numpy", lambda: 3, TypeError, NO_STATE.format("int", METHODS)),
    "Grain by index": (
        "grain",
        lambda: grain_map().batch(4),
        TypeError,
        "a Grain MapDataset is no stream: it is read by index, and needs no state. Pass it to the loop as it "
        "is.",
    ),
    "a loader of PyTorch": (
        "torch",
        torch_loader,
        TypeError,
        NO_STATE.format(
            "DataLoader",
            "fb.data.Examples(loader.dataset).batches(32, shuffle=True, seed=0) gives any step by its "
            "number, and fb.data.Stream(loader) goes on where torchdata's StatefulDataLoader takes its place",
        ),
    ),
    "a loader of a stream": (
        "torch",
        torch_iterable_loader,
        TypeError,
        NO_STATE.format(
            "DataLoader",
            "fb.data.Stream(loader) of torchdata's StatefulDataLoader in its place does, where the data set "
            "has state_dict and load_state_dict",
        ),
    ),
    "Hugging Face with a shuffle buffer": (
        "datasets",
        lambda: hugging_face().shuffle(seed=0, buffer_size=7).batch(4).with_format("numpy"),
        ValueError,
        BUFFER.format(7),
    ),
    "Hugging Face with a buffer within": ("datasets", interleaved, ValueError, BUFFER.format(5)),
    "a loader of Hugging Face with a buffer": ("torchdata", loader_of_shuffled, ValueError, BUFFER.format(3)),
    "a loader out of order": (
        "torchdata",
        lambda: stateful_loader(num_workers=2, in_order=False),
        ValueError,
        "cannot make a stream of this StatefulDataLoader: with in_order=False its state does not tell which "
        "batches were given. Leave that out.",
    ),
    "a loader of Hugging Face whose workers persist": (
        "torchdata",
        lambda: loader_of_hugging_face(num_workers=2, persistent_workers=True),
        ValueError,
        "cannot make a stream of this StatefulDataLoader: its workers persist, and each of its passes over a "
        "Hugging Face data set would begin where the first one went on. Leave persistent_workers out.",
    ),
    "a loader with replacement": (
        "torchdata",
        loader_with_replacement,
        ValueError,
        "cannot make a stream of this StatefulDataLoader: it shares its generator with a sampler that draws "
        "with replacement, and its state does not tell what was drawn. Give the sampler a generator of its "
        "own.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_stream(kind):
    needs, make, error, text = REFUSED[kind]
    pytest.importorskip(needs)
    with pytest.raises(error) as caught:
        fb.data.Stream(make())
    assert str(caught.value) == text
    if error is TypeError and kind not in ("a batch", "a number"):  # a function is asked when its pass begins
        with pytest.raises(error) as caught:
            list(fb.loop(fb.data.Stream(make), until=fb.at(steps=1)))
        assert str(caught.value) == text


def after(steps, make=Counter):
    stream = fb.data.Stream(make())
    for _ in fb.loop(stream, until=fb.at(steps=steps)):
        pass
    return stream


UNRESTORED = {
    "no text": (
        lambda: fb.data.Stream(Counter()).restore(None),
        TypeError,
        "a stream is restored from the text that state() gave, and this is a NoneType. Pass on what was "
        "saved: stream.restore(saved['stream']).",
    ),
    "another text": (
        lambda: fb.data.Stream(Counter()).restore('{"next_index": 4}'),
        ValueError,
        "'{\"next_index\": 4}' is no state of a stream. Pass on what stream.state() gave, as it was saved.",
    ),
    "a later format": (
        lambda: fb.data.Stream(Counter()).restore(after(2).state().replace('"format": 1', '"format": 7')),
        ValueError,
        "this state of a stream has format 7, and this fourbeat reads 1.",
    ),
    "another kind of source": (
        lambda: fb.data.Stream(Passes()).restore(after(2).state()),
        ValueError,
        "this state was saved of a stream of a Counter, and this is one of a Passes. A state fits the kind "
        "of source that it was saved of.",
    ),
    "another kind of source, of a function": (
        lambda: list(
            fb.loop(fb.data.Stream(Passes).restore(after(2).state()), start=2, until=fb.at(steps=4))
        ),
        ValueError,
        "this state was saved of a stream of a Counter, and this is one of a Passes. A state fits the kind "
        "of source that it was saved of.",
    ),
    "a state that the source does not take": (
        lambda: list(
            fb.loop(
                fb.data.Stream(Counter()).restore(after(2).state().replace('"count"', '"where"')),
                start=2,
                until=fb.at(steps=4),
            )
        ),
        ValueError,
        "cannot go on with a Counter after batch 2: 'count'. Build it as it was when the state was saved: of "
        "the same data, with the same options and as many workers.",
    ),
    "a state of another step": (
        lambda: fb.loop(fb.data.Stream(Counter()), start=4, until=fb.at(steps=9)),
        ValueError,
        "start=4, and the Stream of a Counter has given 0 batches: its next one is not that of the next "
        "step. Restore it with what stream.state() gave at the step of the state, stream.restore(saved); in "
        "a run, run.restore and run.loop do so. A state of step 0 takes a new Stream.",
    ),
    "a stream that has moved": (
        lambda: fb.loop(after(2), start=0, until=fb.at(steps=9)),
        ValueError,
        "start=0, and the Stream of a Counter has given 2 batches: its next one is not that of the next "
        "step. Restore it with what stream.state() gave at the step of the state, stream.restore(saved); in "
        "a run, run.restore and run.loop do so. A state of step 0 takes a new Stream.",
    ),
}


@pytest.mark.parametrize("kind", UNRESTORED)
def test_a_place_that_does_not_fit(kind):
    do, error, text = UNRESTORED[kind]
    with pytest.raises(error) as caught:
        do()
    assert str(caught.value) == text


class Unwritable(Counter):
    def get_state(self):
        return {"rng": [object()]}


def test_a_state_that_cannot_be_written_down():
    with pytest.raises(TypeError) as caught:
        list(fb.loop(fb.data.Stream(Unwritable()), until=fb.at(steps=1)))
    assert str(caught.value) == (
        "the state of the Stream of an Unwritable['rng'][0] is a builtins.object, which cannot be written "
        "down. A state is made of numbers, text, bytes, lists, tuples, dicts, arrays and tensors."
    )


def test_tf_data_does_not_go_back():
    pytest.importorskip("tensorflow")
    from tests.data.streams_of import tf_data

    stream, states = fb.data.Stream(tf_data()), []
    for _ in fb.loop(stream, until=fb.at(steps=5)):
        states.append(stream.state())
    with pytest.raises(ValueError) as caught:
        list(fb.loop(stream.restore(states[0]), start=1, until=fb.at(steps=5)))
    assert str(caught.value) == (
        "a tf.data.Dataset in pass 1 cannot go back to pass 0: it draws an order for each pass. Build the "
        "data set anew, or give Stream a function that does."
    )


def test_grain_does_not_go_on_with_the_state_of_another_pipeline():
    grain = pytest.importorskip("grain")
    state = after(2, grain_iter).state()
    others = {
        "its state is of 0 workers, and this pipeline has 2": grain_iter().mp_prefetch(
            grain.MultiprocessingOptions(num_workers=2)
        ),
        "its state has next_index, and that of this pipeline parent_window_start_state, window_index, "
        "pos_in_window": grain_window_shuffle(),
    }
    for why, other in others.items():
        with pytest.raises(ValueError) as caught:
            list(fb.loop(fb.data.Stream(other).restore(state), start=2, until=fb.at(steps=3)))
        assert str(caught.value) == (
            f"cannot go on with a Grain IterDataset after batch 2: {why}. Build it as it was when the state "
            "was saved: of the same data, with the same options and as many workers."
        )
    assert multiprocessing.active_children() == []
    state = after(2, grain_loader).state()
    with pytest.raises(ValueError, match="Worker count in checkpoint does not match") as caught:
        list(fb.loop(fb.data.Stream(grain_loader(1)).restore(state), start=2, until=fb.at(steps=3)))
    assert str(caught.value).endswith("of the same data, with the same options and as many workers.")


def test_two_loops_do_not_share_a_stream():
    stream = fb.data.Stream(Counter())
    text = (
        "the Stream of a Counter is being read by a loop already, and two would each get a part of its "
        "batches. Make a Stream for each; an evaluation takes one that was given a function."
    )
    for tick in fb.loop(stream, until=fb.at(steps=2)):
        for do in (
            lambda: next(iter(stream)),
            lambda: stream.restore(stream.state()),
            lambda step=tick.step: list(fb.loop(stream, start=step, until=fb.at(steps=9))),
        ):
            with pytest.raises(RuntimeError) as caught:
                do()
            assert str(caught.value) == text
    assert stream.step == 2


def test_an_iterator_that_a_loop_has_closed_is_not_read_on():
    pytest.importorskip("grain")
    stream = fb.data.Stream(iter(grain_iter()))
    for _ in fb.loop(stream, until=fb.at(steps=2)):
        pass
    with pytest.raises(ValueError) as caught:
        list(fb.loop(stream, start=2, until=fb.at(steps=3)))
    assert str(caught.value) == (
        "the Grain iterator was closed when the loop before ended, so that its workers end. Give Stream what "
        "makes an iterator for each loop: the data set, or a function."
    )


class Broken(Examples):
    """Its ninth example cannot be read, with an error of its own."""

    def __getitem__(self, i):
        if i == 8:
            raise OSError("truncated picture 8")
        return super().__getitem__(i)


def broken_grain():
    import grain

    return grain.MapDataset.source(Broken()).batch(4).to_iter_dataset()


def broken_grain_loader():
    import grain

    return grain.DataLoader(
        data_source=Broken(),
        sampler=grain.samplers.IndexSampler(len(Broken()), shuffle=False, num_epochs=1),
        operations=[grain.transforms.Batch(4)],
    )


def checked(row):
    if row["id"] == 8:
        raise OSError("truncated picture 8")
    return row


def broken_tf_data():
    import tensorflow as tf

    def read(i):
        tf.debugging.assert_less(i, tf.constant(8, i.dtype), "truncated picture 8")
        return {"id": i}

    return tf.data.Dataset.range(11).map(read).batch(4)


def broken_loader(**options):
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(Broken(), batch_size=4, **options)


class BrokenCounter(Counter):
    def __iter__(self):
        for batch in super().__iter__():
            if self.count == 12:
                raise OSError("truncated picture 8")
            yield batch


BROKEN = {
    "own": ("numpy", BrokenCounter, "a BrokenCounter"),
    "function": ("numpy", lambda: BrokenCounter, "a BrokenCounter"),
    "Grain": ("grain", broken_grain, "a Grain IterDataset"),
    "Grain DataLoader": ("grain", broken_grain_loader, "a Grain DataLoader"),
    "Hugging Face": (
        "datasets",
        lambda: hugging_face().map(checked).batch(4),
        "a Hugging Face IterableDataset",
    ),
    "tf.data": ("tensorflow", broken_tf_data, "a tf.data.Dataset"),
    "torchdata": ("torchdata", broken_loader, "a StatefulDataLoader"),
    "torchdata, workers": ("torchdata", lambda: broken_loader(num_workers=2), "a StatefulDataLoader"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX, of the workers that PyTorch forks
def test_a_broken_example_names_the_source_the_batch_and_the_repair(kind):
    needs, make, name = BROKEN[kind]
    pytest.importorskip(needs)
    stream, seen, states = fb.data.Stream(make()), [], []

    def train():
        for tick in fb.loop(stream, until=fb.at(epochs=1)):
            seen.append(tick.step)
            states.append(stream.state())

    with pytest.raises(fb.data.ExampleError) as caught:
        train()
    cause = caught.value.__cause__
    assert type(cause).__name__ == ("InvalidArgumentError" if kind == "tf.data" else "OSError")
    before, _, after = str(caught.value).partition(f"{type(cause).__name__}: ")
    assert before == f"cannot read batch 3 of the Stream of {name}, in pass 0: "
    assert "truncated picture 8" in after and after.endswith(
        ". A stream is read in order and cannot go past it: mend the example, or leave it out in the source, "
        "then go on from the last save."
    )
    assert caught.value.source == f"the Stream of {name}"
    assert seen == [1, 2] and stream.state() == states[-1]
    assert multiprocessing.active_children() == []


ROWS = {
    "Grain": (
        "grain",
        lambda: grain_map().to_iter_dataset(),
        "batches is the Grain IterDataset, which gives single examples: no step of it makes batches. "
        "Batch them: dataset.batch(32). If it gives batches already, pass fb.data.Stream(lambda: "
        "iter(...)).",
    ),
    "Hugging Face": (
        "datasets",
        hugging_face,
        "the Hugging Face IterableDataset gives single examples: batch['half'] (), batch['id'] (), "
        "batch['x'] (3,), without an axis of examples that all share. Batch them: dataset.batch(32).",
    ),
    "tf.data": (
        "tensorflow",
        lambda: tf_examples(),
        "the tf.data.Dataset gives single examples: batch['half'] (), batch['id'] (), batch['x'] (3,), "
        "without an axis of examples that all share. Batch them: dataset.batch(32).",
    ),
}


def tf_examples():
    from tests.data.streams_of import tf_data

    return tf_data().unbatch()


@pytest.mark.parametrize("kind", ROWS)
def test_examples_are_not_taken_for_batches(kind):
    needs, make, text = ROWS[kind]
    pytest.importorskip(needs)
    for source in (make(), make):
        with pytest.raises(TypeError) as caught:
            list(fb.loop(fb.data.Stream(source), until=fb.at(steps=1)))
        assert str(caught.value) == text
    plain = make() if kind != "Hugging Face" else make().with_format("numpy")
    with pytest.raises(TypeError, match="gives single examples"):  # without a stream too
        list(fb.loop(plain, until=fb.at(steps=1)))


def test_a_plain_data_set_that_gives_lists_is_told_of_its_lists():
    pytest.importorskip("datasets")
    with pytest.raises(TypeError, match=r"batch\['id'\] is a list of 4, which is no array. Use np.asarray"):
        list(fb.loop(hugging_face().batch(4), until=fb.at(steps=1)))


def test_an_example_with_a_string_is_not_taken_for_a_batch():
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"name": ["a", "b", "c"], "label": [0, 1, 2]}).to_iterable_dataset()
    with pytest.raises(TypeError) as caught:
        list(fb.loop(fb.data.Stream(table), until=fb.at(steps=1)))
    assert str(caught.value) == (
        "the Hugging Face IterableDataset gives single examples: batch['label'] (), batch['name'] (), "
        "without an axis of examples that all share. Batch them: dataset.batch(32)."
    )


SCRIPT = """
import numpy as np, grain
import fourbeat as fb

class Numbers:
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return {"x": np.float32(i)}

print("run")
batches = grain.MapDataset.source(Numbers()).batch(4).to_iter_dataset()
batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=1))
BEGIN
"""
UNGUARDED = """
for each in (batches, fb.data.Stream(batches), fb.data.Stream(lambda: batches)):
    try:
        list(fb.loop(each, until=fb.at(steps=2)))
    except RuntimeError as error:
        print(error)
"""


def test_workers_that_would_run_the_script_again_are_not_started(tmp_path):
    pytest.importorskip("grain")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace("BEGIN", UNGUARDED))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    line = 1 + script.read_text().splitlines().index("        list(fb.loop(each, until=fb.at(steps=2)))")
    text = (
        f"the Grain IterDataset has worker processes, and each of them runs {script} again up to its end: "
        "line "
        f'{line} is not under if __name__ == "__main__":. Put what trains there, or into a function that is '
        "called "
        "there."
    )
    assert done.stdout.splitlines() == ["run", text, text, text], done.stderr
    assert done.returncode == 0
