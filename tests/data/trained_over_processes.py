"""Trains on every kind of data, in one process or as one of several, and prints what it read and learned.

python trained_over_processes.py OUT
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax

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
        "does not divide": (examples().batches(6, remainder="drop"), {}),
    }


def begun(mesh):
    step = fb.compile(beats.train_step, mesh=mesh, on_recompile="ignore")
    return step, lambda: beats.init(model, mesh=mesh) if mesh is not None else beats.init(model())


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
    host = jax.tree.map(np.asarray, state.params)
    return {"params": {name: np.asarray(value).tolist() for name, value in host.items()}}


def all_kinds(mesh, names=None):
    step, start = begun(mesh)
    return {
        name: trained(step, start(), batches, options)
        for name, (batches, options) in kinds().items()
        if names is None or name in names
    }
