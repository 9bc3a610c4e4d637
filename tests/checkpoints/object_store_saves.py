"""One process or two save to an S3 server and restore from it, for test_object_store.py."""

import json
import sys

import fsspec
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import fourbeat as fb
from fourbeat.checkpoints import Checkpoints


def placed():
    mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    over = lambda *spec: NamedSharding(mesh, PartitionSpec(*spec))
    return {
        "rows": jax.make_array_from_callback((4, 6), over("data"), lambda at: values[at]),
        "whole": jax.make_array_from_callback((4, 6), over(), lambda at: -values[at]),
        "step": 0,
    }


def check(restored, tree, step):
    assert restored["step"] == step
    for name in ("rows", "whole"):
        assert restored[name].sharding == tree[name].sharding
        for part, expected in zip(
            restored[name].addressable_shards, tree[name].addressable_shards, strict=True
        ):
            np.testing.assert_array_equal(part.data, expected.data)


def told_by(work):
    try:
        work()
    except fb.CheckpointError as error:
        return str(error)
    return "no error"


def main(num_processes, url, others):
    if num_processes > 1:
        fb.distributed.initialize()
    tree, files, seen = placed(), fsspec.filesystem("s3"), {}
    if fb.distributed.speaks() and not files.exists("bucket"):
        files.mkdir("bucket")
    scores = {1: 0.9, 2: 0.1, 3: 0.2} if num_processes > 1 else {3: 0.2}
    with Checkpoints(url, keep_best=1, mode="max") as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, {**tree, "step": step}, score=score)
        check(checkpoints.restore(tree), tree, 3)
        check(checkpoints.restore(tree, "best"), tree, min(scores))
        seen["steps"] = [checkpoints.steps, checkpoints.latest]
    if others:
        check(Checkpoints(others).restore(tree), tree, 3)
    refused = Checkpoints("s3://nowhere/run", asynchronous=False)
    seen["refused"] = told_by(lambda: refused.save(1, tree))
    if fb.distributed.speaks():
        there = url.removeprefix("s3://") + "/"
        seen["objects"] = [path.removeprefix(there) for path in files.find(there)]
    print(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
