"""A program on four devices: methods made pure under `shard_map`. It prints what a test looks at, as JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import fourbeat as fb


class Statistics:
    def __init__(self):
        self.n, self.mean, self.name = 0, 0.0, "statistics"
        self.weight, self.rows, self.bins = jnp.zeros(2), jnp.zeros((8, 2)), np.zeros(4, np.float32)
        self.a, self.b = {"seen": 1.0}, {"seen": 2.0}

    def push(self, x):
        self.n += 1
        self.mean += (jax.lax.pmean(x.mean(), "data") - self.mean) / self.n
        grads = jax.grad(lambda w: ((x @ w - 1.0) ** 2).mean())(self.weight)
        self.weight = self.weight - 0.1 * jax.lax.pmean(grads, "data")
        self.rows = self.rows + x
        self.bins[self.n] += jax.lax.psum(x.sum(), "data")
        self.a, self.b = self.b, self.a
        self.a["seen"] += self.n
        return x * self.mean


def main():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    obj = Statistics()
    a, b = obj.a, obj.b
    F = fb.functionalize(obj)
    x = np.arange(16, dtype=np.float32).reshape(8, 2) / 16
    state = F.init(x, axis_sizes={"data": 4})
    spec_of = [P("data") if path == "rows" else P() for path in state]
    specs = jax.tree.unflatten(jax.tree.structure(state), spec_of)
    push = jax.jit(
        jax.shard_map(
            F.push, mesh=mesh, in_specs=(specs, P("data")), out_specs=(P("data"), specs), check_vma=False
        )
    )
    state = jax.device_put(state, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))
    outs = []
    for step in range(3):
        out, state = push(state, x + step)
        outs.append(np.asarray(out).tolist())
    F.commit(state)
    print(
        json.dumps(
            {
                "devices": [len(state[path].sharding.device_set) for path in ("n", "rows", "weight")],
                "shard": state["rows"].addressable_shards[0].data.shape,
                "outs": outs,
                "n": obj.n,
                "mean": obj.mean,
                "weight": obj.weight.tolist(),
                "rows": obj.rows.tolist(),
                "bins": obj.bins.tolist(),
                "seen": [obj.a["seen"], obj.b["seen"]],
                "same": [obj.a is b, obj.b is a],
                "compilations": push._cache_size(),
            }
        )
    )


if __name__ == "__main__":
    main()
