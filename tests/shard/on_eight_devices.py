"""A program on eight devices of a CPU: trains kinds over meshes, and prints what tests look at, as JSON."""

import gc
import json
import warnings

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding

import fourbeat as fb
from fourbeat.compiling.compilation_monitor import CompilationMonitor
from tests.kinds import KINDS

MESHES = {
    "no mesh": lambda: None,
    "data=1": lambda: fb.mesh(devices=jax.devices()[:1]),
    "data=2": lambda: fb.mesh(data=2, devices=jax.devices()[:2]),
    "data=4": lambda: fb.mesh(data=4, devices=jax.devices()[:4]),
    "data=8": lambda: fb.mesh(data=8),
    "fsdp=8": lambda: fb.mesh(fsdp=8),
    "data=2, fsdp=4": lambda: fb.mesh(data=2, fsdp=4),
    "data=4, tensor=2": lambda: fb.mesh(data=4, tensor=2),
}
TENSOR = {
    "dict": {"w": (None, "tensor")},
    "transformer": {
        "attention/*/kernel": (None, "tensor"),
        "attention/out/kernel": ("tensor",),
        "head/kernel": ("tensor",),
    },
    "cnn": {"head/kernel": ("tensor",)},
}
NUM_STEPS = 6


def batches_of(kind):
    """Six batches of 16 rows with fractional weights; in the third, one number of one device is not finite."""
    batches = []
    for seed in range(NUM_STEPS):
        weight = np.random.RandomState(seed).uniform(0, 2, 16).astype(np.float32)
        weight[10:] = 0
        batches.append({**kind.batch(seed, 16), "weight": weight})
    if np.issubdtype(batches[2]["x"].dtype, np.floating):
        batches[2]["x"][9, 1] = np.nan
    return batches


def rules_of(name, mesh):
    if "tensor" in mesh.shape:
        return fb.shard.by_path(TENSOR[name])
    return fb.shard.fsdp(min_size=1) if "fsdp" in mesh.shape else fb.shard.replicated()


def beats_of(kind, **options):
    schedule = optax.linear_schedule(0.01, 0.1, 5)

    def loss_fn(model, batch):
        losses, logits = kind.items(model, batch)
        if losses.ndim == 2:
            losses = losses.mean(1)
        return losses, {"logits": logits}

    return fb.four_beats(
        loss_fn,
        optax.adamw(schedule),
        guard=fb.guard.skip(),
        ema=0.9,
        metrics=fb.metrics.Mean("loss"),
        schedule=schedule,
        predict=lambda model, batch: kind.items(model, batch)[1],
        **options,
    )


def trained(name, mesh_name, accumulate=1, steps_per_call=1):
    """One run over a mesh, and what is to be the same on every mesh."""
    kind, mesh = KINDS[name], MESHES[mesh_name]()
    beats = beats_of(kind, accumulate=accumulate)
    placing = {} if mesh is None else {"mesh": mesh, "shard": rules_of(name, mesh)}
    state = beats.init(lambda: kind.make(0), **placing)
    before = [leaf.sharding for leaf in jax.tree.leaves(state)]
    step = fb.compile(beats.train_step, mesh=mesh)
    losses, rates, epochs, live = [], [], [], []
    with CompilationMonitor() as underway:
        for tick in fb.loop(batches_of(kind), until=fb.at(steps=NUM_STEPS), steps_per_call=steps_per_call):
            state, logs = step(state, tick.batch)
            losses.append(float(logs["loss"]))
            rates.append(float(logs["learning_rate"]))
            if tick.step == 4:
                epoch, state = state.pop_metrics()
                epochs.append(epoch["value"])
            if tick.step > 4:
                gc.collect()
                live.append(len(jax.live_arrays()))
    compiled = [each for each, _ in underway.ended].count("train_step")
    seen = [kind.batch(seed, size) for seed, size in ((7, 16), (8, 16), (9, 5))]
    with CompilationMonitor() as underway:
        scores = fb.evaluator(beats)(state, seen[:2])
        scores_of_more = fb.evaluator(beats)(state, seen)
    evaluations = [each for each, _ in underway.ended].count("eval_step")
    predicted = fb.predictor(beats)(state, seen)
    logits_of = lambda leaves: [np.asarray(leaf, np.float64).ravel().tolist() for leaf in leaves]
    return {
        "values": logits_of(jax.tree.leaves((state.params, state.opt_state, state.ema))),
        "paths": [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(state.params)],
        "losses": losses,
        "rates": rates,
        "scores": [
            scores["value"],
            scores_of_more["value"],
            *epochs,
            *state.metrics.compute().ravel().tolist(),
        ],
        "predicted": np.asarray(predicted, np.float64).ravel().tolist(),
        "guard": [int(n) for n in (state.guard.num_bad, state.guard.step, state.num_updates)],
        "examples": state.guard.examples.tolist(),
        "devices": len(logs["loss"].sharding.device_set),
        "compilations": [step.num_compilations, compiled],
        "evaluations": evaluations,
        "stays": before == [leaf.sharding for leaf in jax.tree.leaves(state)] or mesh is None,
        "live": live,
    }


def created():
    """A state that is made over eight devices, beside one that is made by hand on one."""

    class Wide(nnx.Module):
        def __init__(self, rngs):
            self.up = nnx.Linear(512, 1024, rngs=rngs)
            self.norm = nnx.BatchNorm(1024, rngs=rngs)
            self.down = nnx.Linear(1024, 8, rngs=rngs)

        def __call__(self, x):
            return self.down(self.norm(self.up(x)))

    beats = fb.four_beats(lambda model, batch: (model(batch["x"]) ** 2).mean(-1), optax.adamw(1e-3), ema=0.9)
    by_hand = beats.init(Wide(nnx.Rngs(0)))
    mesh = fb.mesh(fsdp=8)
    largest = []
    made = beats.init(lambda: Wide(nnx.Rngs(0)), mesh=mesh, shard=fb.shard.fsdp(min_size=1024))
    for array in jax.live_arrays():
        if isinstance(array.sharding, NamedSharding):
            largest += [shard.data.nbytes for shard in array.addressable_shards]
    same = [
        np.array_equal(np.asarray(one), np.asarray(other))
        for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(by_hand), strict=True)
    ]
    moved = beats.init(Wide(nnx.Rngs(0)), mesh=mesh, shard=fb.shard.fsdp(min_size=1024))
    state_bytes = [
        sum(shard.data.nbytes for leaf in jax.tree.leaves(made) for shard in leaf.addressable_shards[:1]),
        sum(leaf.nbytes for leaf in jax.tree.leaves(by_hand)),
    ]
    batch = {"x": np.ones((16, 512), np.float32)}
    needed = fb.shard.memory(beats, lambda: Wide(nnx.Rngs(0)), batch, mesh=mesh, rules=fb.shard.fsdp(1024))
    return {
        "same": all(same),
        "same static": made.static is by_hand.static,
        "largest": max(largest),
        "kernel bytes": 512 * 1024 * 4,
        "state bytes": state_bytes,
        "as it was": [
            a.sharding == b.sharding
            for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(moved), strict=True)
        ],
        "needed": [needed.state, needed.batch, needed.temporaries],
        "table": fb.shard.table(made),
    }


def told():
    """What errors and warnings say, by what was done."""
    kind = KINDS["dict"]
    beats = beats_of(kind)
    mesh = fb.mesh(data=8)
    state = beats.init(lambda: kind.make(0), mesh=mesh)
    step = fb.compile(beats.train_step, mesh=mesh)
    texts = {}

    def note(what, act):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                act()
            except Exception as error:
                texts[what] = f"{type(error).__name__}: {error}"
                return
        texts[what] = "; ".join(f"{each.category.__name__}: {each.message}" for each in caught) or "nothing"

    large = jax.numpy.ones((512, 1024))
    init = lambda rules, mesh=mesh, make=lambda: kind.make(0): beats.init(make, mesh=mesh, shard=rules)
    note("rows", lambda: step(state, kind.batch(0, 30)))
    note("few rows", lambda: step(state, kind.batch(0, 3)))
    note("on one device", lambda: step(beats.init(kind.make(0)), kind.batch(0, 16)))
    note(
        "no common axis",
        lambda: fb.compile(lambda s, b: (s, {}), mesh=mesh)(state, {"a": np.ones(4), "b": np.ones(5)}),
    )
    split = init(
        fb.shard.fsdp(min_size=1),
        fb.mesh(fsdp=8),
        lambda: {"w": np.ones((8, 2), np.float32), "b": np.ones(2, np.float32)},
    )
    fsdp_step = fb.compile(beats.train_step, mesh=fb.mesh(fsdp=8))
    batch = {"x": np.ones((8, 8), np.float32), "label": np.zeros(8, np.int32)}
    split, _ = fsdp_step(split, batch)
    params = jax.device_put(split.params, NamedSharding(fb.mesh(fsdp=8), jax.sharding.PartitionSpec()))
    import dataclasses

    note("moved", lambda: fsdp_step(dataclasses.replace(split, params=params), batch))
    note("replaced", lambda: fsdp_step(split.replace(params=jax.tree.map(np.asarray, params)), batch))
    note("pattern", lambda: init(fb.shard.by_path({"wheel": ("data",)})))
    note("dimension", lambda: init(fb.shard.by_path({"w": (None, "data")})))
    note("axis", lambda: init(fb.shard.by_path({"w": ("tensor",)})))
    note("entries", lambda: init(fb.shard.by_path({"b": (None, "data")})))
    note("no fsdp", lambda: init(fb.shard.fsdp()))
    note("sizes", lambda: fb.mesh(data=3))
    note("fewer", lambda: fb.mesh(data=2))
    note("two open", lambda: fb.mesh(data=-1, fsdp=-1))
    note("open", lambda: fb.mesh(data=-1, fsdp=3))
    note("names", lambda: fb.compile(beats.train_step, mesh=jax.make_mesh((2, 4), ("x", "y"))))
    note("no mesh", lambda: fb.compile(beats.train_step, mesh=8))
    note("rules alone", lambda: beats.init(kind.make(0), shard=fb.shard.fsdp()))
    note("closed over", lambda: init(None, make=lambda: {"w": 2 * large, "b": jax.numpy.zeros(2)}))
    huge = lambda: {"w": jax.numpy.ones((2**15, 2**25)), "b": jax.numpy.zeros(2)}
    note("memory", lambda: init(None, make=huge))
    return texts


if __name__ == "__main__":
    print(json.dumps({"told": told()}))
