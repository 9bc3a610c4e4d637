"""Saves and restores arrays laid out over several devices, for test_checkpoints.py."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fourbeat.checkpoints import Checkpoints


def check_same(restored, tree):
    for name, expected in tree.items():
        leaf = restored[name]
        assert leaf.sharding == expected.sharding and leaf.committed == expected.committed, name
        assert leaf.dtype == expected.dtype, name
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        values = [np.asarray(jax.random.key_data(x) if is_key else x) for x in (leaf, expected)]
        np.testing.assert_array_equal(*values)


def main(directory):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    tree = {
        "split": jax.device_put(jnp.arange(8.0), split),
        "whole": jax.device_put(jnp.arange(3.0), whole),
        "second": jax.device_put(jnp.arange(3.0), jax.devices()[1]),
        "keys": jax.device_put(jax.random.split(jax.random.key(0), 4), split),
        "anywhere": jnp.arange(3.0),
    }
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, tree)
    check_same(checkpoints.restore(tree), tree)
    on_one = {name: jax.device_put(leaf, jax.devices()[0]) for name, leaf in tree.items()}
    check_same(checkpoints.restore(on_one), on_one)


if __name__ == "__main__":
    main(sys.argv[1])
