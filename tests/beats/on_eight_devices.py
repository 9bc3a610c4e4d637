"""A program on eight devices: trains on 1, 2 and 8 of them, and prints what a test looks at, as JSON."""

import json

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import fourbeat as fb
from fourbeat import guard
from fourbeat.compiling.compilation_monitor import CompilationMonitor
from tests.kinds import KINDS


def train():
    kind = KINDS["dict"]
    batches = []
    for seed in range(4):
        weight = np.random.RandomState(seed).uniform(0, 2, 16).astype(np.float32)
        weight[10:] = 0
        batches.append({**kind.batch(seed, 16), "weight": weight})
    batches[2]["x"][9, 1] = np.nan  # on one device alone
    runs = {}
    for num_devices in (1, 2, 8):
        mesh = Mesh(np.array(jax.devices()[:num_devices]), ("data",))
        split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
        for accumulate in (1, 2, 8):
            schedule = optax.linear_schedule(0.01, 0.1, 5)
            beats = fb.four_beats(
                lambda model, batch: kind.items(model, batch)[0],
                optax.adamw(schedule),
                accumulate=accumulate,
                guard=guard.skip(),
                ema=0.9,
                metrics=fb.metrics.Mean("loss"),
                schedule=schedule,
            )
            state = jax.device_put(beats.init(kind.make(0)), whole)
            step = fb.compile(beats.train_step)
            rates = []
            for batch in batches:
                state, logs = step(state, jax.device_put(batch, split))
                rates.append(float(logs["learning_rate"]))
            seen = [kind.batch(seed, 16) | {"weight": batches[0]["weight"]} for seed in (5, 6)]
            with CompilationMonitor() as underway:
                scores = fb.evaluator(beats)(state, [jax.device_put(batch, split) for batch in seen])
            leaves = jax.tree.leaves((state.params, state.opt_state, state.ema, state.metrics.compute()))
            runs[f"{num_devices} devices, {accumulate} microbatches"] = {
                "values": [np.asarray(leaf, np.float64).ravel().tolist() for leaf in leaves],
                "rates": rates,
                "scores": scores,
                "evaluation_compilations": [name for name, _ in underway.ended].count("eval_step"),
                "guard": [int(n) for n in (state.guard.num_bad, state.guard.step, state.num_updates)],
                "examples": state.guard.examples.tolist(),
                "devices": len(logs["loss"].sharding.device_set),
                "compilations": step.num_compilations,
            }
    return runs


if __name__ == "__main__":
    print(json.dumps(train()))
