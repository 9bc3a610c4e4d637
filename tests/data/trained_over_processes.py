"""Trains on every kind of data, in one process or as one of several, and prints what it read and learned.

    python trained_over_processes.py kinds|meshes FOLDER

A test imports it too, and trains on the same data in one process.
"""

import collections
import json
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

import fourbeat as fb

NUM, WIDTH, STEPS = 22, 3, 4
decoded = collections.Counter()


def features(number, length=None):
    shape = WIDTH if length is None else (length, WIDTH)
    return np.random.default_rng(number).normal(size=shape).astype(np.float32)


def counted(number):
    decoded[int(number)] += 1
    return {"x": features(number), "id": np.int32(number)}


def of_length(number):
    return 1 + number % 4


def counted_ragged(number):
    decoded[int(number)] += 1
    return {"x": features(number, of_length(number)), "id": np.int32(number)}


def counted_window(window):
    number = int(window["tokens"][0])
    decoded[number] += 1
    return {"x": features(number), "id": np.int32(number)}


def noisy(batch, key):
    return {**batch, "x": batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)}


def loss(model, batch):
    out = jnp.tanh(batch["x"] @ model["w"]).sum(-1)
    return jnp.mean(out.reshape(len(out), -1), -1) ** 2 + model["b"]


beats = fb.four_beats(loss, optax.sgd(0.1), predict=lambda model, batch: batch["x"] @ model["w"])


def model():
    return {"w": jnp.asarray(features(99, 2).T), "b": jnp.zeros(())}


def arrays():
    return fb.data.Arrays(
        x=np.stack([features(number) for number in range(NUM)]), id=np.arange(NUM, dtype=np.int32)
    )


def examples():
    return fb.data.Examples(range(NUM), counted)


def ragged():
    return fb.data.Examples(range(NUM), counted_ragged, collate=fb.data.pad_to(x=(2, 4)))


def kinds():
    """Batches of 8 by name, with the options of the loop."""
    mixed = fb.data.mix(
        {fb.data.Examples(range(10), counted): 0.5, fb.data.Examples(range(10, NUM), counted): 0.5}
    )
    lengths = [of_length(number) for number in range(NUM)]
    windows = fb.data.packed([[number] for number in range(NUM)], 1, decode=counted_window)
    return {
        "arrays": (arrays().batches(8, shuffle=True, seed=3, resident=False), {}),
        "resident": (arrays().batches(8, shuffle=True, seed=3), {}),
        "examples": (examples().batches(8, shuffle=True, seed=3), {}),
        "workers": (examples().batches(8, shuffle=True, seed=3, workers=2), {}),
        "read-whole": (examples().batches(8, shuffle=True, seed=3, resident=True), {}),
        "blocks": (examples().batches(8, shuffle=True, seed=3), {"steps_per_call": 3}),
        "mapped": (examples().map(noisy).batches(8, shuffle=True, seed=3), {}),
        "mixed": (mixed.batches(8, shuffle=True, seed=3), {}),
        "packed": (windows.batches(8, shuffle=True, seed=3), {}),
        "ragged": (ragged().batches(8, shuffle=True, seed=3, workers=2), {}),
        "ragged blocks": (ragged().batches(8, shuffle=True, seed=3), {"steps_per_call": 3}),
        "bucketed": (
            ragged().batches(8, order=fb.data.by_length(lengths, bounds=(2, 4)), shuffle=True, seed=3),
            {},
        ),
    }


def begun(mesh):
    step = fb.compile(beats.train_step, mesh=mesh, on_recompile="ignore")
    if mesh is None:
        return step, lambda: beats.init(model())
    split = {"w": PartitionSpec(None, "tensor")} if "tensor" in mesh.axis_names else {}
    rules = fb.shard.by_path(split) if split else None
    return step, lambda: beats.init(model, mesh=mesh, shard=rules)


def shown(array):
    """The parts of an array that lie here, each with the place where it begins."""
    shards = getattr(array, "addressable_shards", None)
    if shards is None or array.is_fully_replicated:
        return [[[0] * np.ndim(array), np.asarray(array).tolist()]]
    return [[[at.start or 0 for at in shard.index], np.asarray(shard.data).tolist()] for shard in shards]


def trained(step, state, batches, options, num_steps=STEPS, **more):
    """Parameters after some steps, and the ids of what this process gave of each batch."""
    decoded.clear()
    ids = []
    for tick in fb.loop(batches, start=state.step, until=fb.at(steps=num_steps), **options, **more):
        if not options and not getattr(batches, "resident", False):
            ids.append(shown((tick.batch if isinstance(tick.batch, dict) else tick.batch.columns)["id"]))
        state, _ = step(state, tick.batch)
    return {**params(state), "ids": ids, "decoded": sorted(decoded.items())}


def params(state):
    # each process holds a part of what is split over "tensor"
    return {"params": {name: shown(value) for name, value in state.params.items()}}


def all_kinds(mesh, names=None):
    step, start = begun(mesh)
    return {
        name: trained(step, start(), batches, options)
        for name, (batches, options) in kinds().items()
        if names is None or name in names
    }


def mlp():
    w1, w2 = (
        0.05 * np.random.default_rng(seed).normal(size=shape)
        for seed, shape in ((0, (784, 32)), (1, (32, 10)))
    )
    return {"w1": jnp.float32(w1), "b1": jnp.zeros(32), "w2": jnp.float32(w2), "b2": jnp.zeros(10)}


def digits_loss(model, batch):
    hidden = jax.nn.relu(batch["image"].reshape(-1, 784) @ model["w1"] + model["b1"])
    logits = hidden @ model["w2"] + model["b2"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]), {"logits": logits}


def mnist(mesh):
    """Parameters of an MLP after 30 steps on MNIST, and its accuracy on 1,000 images of the test set."""
    train, test = fb.data.mnist()
    metrics = fb.metrics.Collection(accuracy=fb.metrics.Accuracy(labels="label"))
    beats = fb.four_beats(digits_loss, optax.sgd(0.1, momentum=0.9), metrics=metrics)
    state = beats.init(mlp()) if mesh is None else beats.init(mlp, mesh=mesh)
    step = fb.compile(beats.train_step, mesh=mesh)
    batches = train.batches(64, shuffle=True, seed=0, remainder="drop", resident=False)
    for tick in fb.loop(batches, start=state.step, until=fb.at(steps=30)):
        state, _ = step(state, tick.batch)
    return {**params(state), "scores": fb.evaluator(beats)(state, test[:1000].batches(250))}


def scored(mesh, folder=None):
    """Scores and outputs of data whose last batch is short, each with the numbers that were decoded here."""
    _, start = begun(mesh)
    state, batches = start(), examples().batches(8)
    found = {}
    decoded.clear()
    found["scores"] = fb.evaluator(beats)(state, batches)
    found["decoded for scores"] = sorted(decoded.items())
    decoded.clear()
    predict = fb.predictor(beats)
    found["outputs"] = predict(state, batches).tolist()
    found["decoded for outputs"] = sorted(decoded.items())
    loop = fb.loop(batches, start=state.step, until=fb.at(steps=1) | fb.stop_signal(install=False))
    for _ in loop:
        found["scores within a loop"] = fb.evaluator(beats)(state, loop.interruptible(batches))
    if folder is not None:
        found["outputs of a file"] = predict(state, batches, out=Path(folder) / "outputs.npy").tolist()
    found["scores of resident"] = fb.evaluator(beats)(state, arrays().batches(8))
    return found


def plain(numbers):
    return {"x": np.stack([features(number) for number in numbers]), "id": np.array(numbers, np.int32)}


class Counter:
    """An iterator with a state: batches of 4 of its own numbers, without an end."""

    def __init__(self, first):
        self.first, self.at = first, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.at += 1
        return plain([self.first + 4 * self.at + i for i in range(4)])

    def get_state(self):
        return self.at

    def set_state(self, state):
        self.at = state


def error_of(call):
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def given(mesh, process):
    """What iterables of the user's give, and which of them are refused, with two processes."""
    local, same = fb.data.local_batches, fb.data.global_batches
    step, start = begun(mesh)
    state = start()
    found = {}
    whole = [plain(range(8 * i, 8 * i + 8)) for i in range(3)]
    own = [plain(range(8 * i + 4 * process, 8 * i + 4 * process + 4)) for i in range(3)]

    def train(batches, **options):
        return trained(step, start(), batches, options, num_steps=3)

    def over(batches):
        return lambda: list(fb.loop(batches, start=state.step, until=fb.at(epochs=1)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fb.looping.InexactResumeWarning)
        found["local list"] = train(local(own))
        found["local blocks"] = train(local(own), steps_per_call=2)
        found["local generator"] = train(local(each for each in own))
        found["global list"] = train(same(whole))
        found["global generator"] = train(same(each for each in whole))
        found["examples"] = [
            tick.examples for tick in fb.loop(local(iter(own)), until=fb.at(epochs=1), mesh=mesh)
        ]
        found["scores"] = [fb.evaluator(beats)(state, each) for each in (local(own), same(whole))]
        found["outputs"] = fb.predictor(beats)(state, same(whole)).tolist()
        found["outputs of local"] = error_of(lambda: fb.predictor(beats)(state, local(own)))
        found["not said"] = error_of(over(whole))
        found["not said in evaluation"] = error_of(lambda: fb.evaluator(beats)(state, whole))
        found["unlike"] = error_of(over(same([plain(range(process, process + 8))])))
        found["of unlike size"] = error_of(over(local(iter([plain(range(4 + 4 * process))]))))
        found["shorter"] = error_of(over(same(iter(whole[: 2 + process]))))
        found["shorter in evaluation"] = error_of(
            lambda: fb.evaluator(beats)(state, local(iter(own[: 2 + process])))
        )
        found["other seeds"] = error_of(over(examples().batches(8, shuffle=True, seed=process)))
        found["without a mesh"] = error_of(lambda: fb.loop(local(own), until=fb.at(epochs=1)))
        found["does not divide"] = error_of(over(local(iter([plain(range(3))]))))
        found["a part of the devices"] = error_of(lambda: fb.mesh(data=2, devices=jax.devices()[:2]))
        found["by hand, unlike"] = error_of(lambda: step(start(), plain(range(process, process + 8))))
    found["by hand"] = params(step(start(), whole[0])[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", fb.data.UnevenPassWarning)
        ticks = fb.loop(local(iter(own[: 3 - process])), until=fb.at(epochs=1), mesh=mesh)
        found["uneven"] = [len(list(ticks)), [str(each.message) for each in caught]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", fb.shard.WholeBatchWarning)
        for tick in fb.loop(examples().batches(8), until=fb.at(steps=2)):
            step(start(), tick.batch)
        found["read whole"] = [str(each.message) for each in caught]
    stream = local(fb.data.Stream(Counter(100 * process)))
    ids = [shown(tick.batch["id"]) for tick in fb.loop(stream, start=state.step, until=fb.at(steps=2))]
    saved = stream.state()
    later = local(fb.data.Stream(Counter(100 * process))).restore(saved)
    later_ids = [shown(tick.batch["id"]) for tick in fb.loop(later, start=2, until=fb.at(steps=3), mesh=mesh)]
    found["stream"] = [ids, later_ids, saved]
    found["stream of one process"] = error_of(
        lambda: local(fb.data.Stream(Counter(0))).restore(
            same(fb.data.Stream(Counter(0))).state().replace('"step": 0', '"step": 1')
        )
    )
    return found


def main(what, folder):
    fb.distributed.initialize()
    if what == "kinds":
        mesh = fb.mesh(data=-1)
        found = {
            "kinds": all_kinds(mesh),
            "mnist": mnist(mesh),
            "scored": scored(mesh, folder),
            "given": given(mesh, jax.process_index()),
        }
    else:
        found = {
            "data": {"kinds": all_kinds(fb.mesh(data=-1), ["examples", "ragged", "read-whole"])},
            "data and fsdp": {"kinds": all_kinds(fb.mesh(data=2, fsdp=2), ["examples"])},
            "tensor": {
                "kinds": all_kinds(fb.mesh(data=2, tensor=2), ["examples"]),
                "scored": scored(fb.mesh(data=2, tensor=2)),
            },
        }
        found["data"]["mnist"] = mnist(fb.mesh(data=-1))
    print("FOUND", json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
