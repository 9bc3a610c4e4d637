"""Two processes save and restore together, for test_several_processes.py; each prints what it met."""

import json
import os
import resource
import shutil
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import fourbeat as fb
from fourbeat.checkpoints import CheckpointError, Checkpoints

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def host_tree():
    """By name: the value, and the mesh axes that cut it; None for what each process has alone."""
    values = np.random.default_rng(0).standard_normal((8, 4, 6))
    return {
        "rows": (values.astype(np.float32), ("data",)),
        "columns": (values[0].astype(jnp.bfloat16), (None, "tensor")),
        "both": (values[:, :, 0].astype(np.float16), ("tensor", "data")),
        "whole": (values[0, 0].astype(np.float32), ()),
        "number": (np.int32(-7), ()),
        "bytes": (values[:, 0, :4].astype(np.int8), (("data", "tensor"),)),
        "flags": (values[:, 0, 0] > 0, ("data",)),
        "none": (np.zeros((0, 3), np.float32), ()),
        "step": (3, None),
        "name": ("a name", None),
        "own": (values[1], None),
    }


def placed(mesh):
    def place(value, axes):
        if axes is None:
            return value
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.make_array_from_callback(np.shape(value), sharding, lambda at: value[at])

    tree = {name: place(np.asarray(value) if axes is not None else value, axes)
            for name, (value, axes) in host_tree().items()}  # fmt: skip
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    keys = jax.jit(lambda: jax.random.split(jax.random.key(1), 4), out_shardings=sharding)()
    return {**tree, "keys": keys}


def bits(leaf):
    """The bits of a leaf, of each of its parts on this process."""
    if isinstance(leaf, jax.Array):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return [np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards]
    return [leaf.tobytes() if isinstance(leaf, np.ndarray) else leaf]


def assert_same(restored, tree):
    assert restored.keys() == tree.keys()
    for name, leaf in tree.items():
        assert type(restored[name]) is type(leaf), name
        assert bits(restored[name]) == bits(leaf), name
        if isinstance(leaf, jax.Array):
            assert (restored[name].dtype, restored[name].sharding) == (leaf.dtype, leaf.sharding), name


def told_by(work):
    """The error of `work`, as a text."""
    try:
        work()
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def keep_images(directory, images):
    """At each change of the directory that this process makes, copies it: as a kill there would leave it."""
    count = [0]

    def hook(event, arguments):
        path = str(arguments[0]) if arguments else ""
        writes = event == "open" and "w" in str(arguments[1])
        if (writes or event in CHANGES) and path.startswith(str(directory)):
            count[0] += 1
            copy = images / f"{fb.distributed.process_index()}-{count[0]}"
            shutil.copytree(directory, copy, ignore_dangling_symlinks=True, dirs_exist_ok=True)

    sys.addaudithook(lambda event, arguments: hook(event, arguments) if count[0] >= 0 else None)
    return lambda: count.__setitem__(0, -1)


def main(root):
    fb.distributed.initialize()
    index, seen = fb.distributed.process_index(), {}
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    tree = placed(mesh)

    # Saved while a program with collectives runs on the main thread, and the tree is used up at once.
    add = jax.jit(lambda x: x + jnp.sum(x) * 0, donate_argnums=0)
    busy, used_up = add(tree["rows"] + 0), placed(mesh)
    checkpoints = Checkpoints(root / "kept", keep_last=2, keep_best=1, mode="max")
    checkpoints.save(1, used_up, score=0.5)
    for leaf in used_up.values():
        if isinstance(leaf, jax.Array):
            leaf.delete()
    for _ in range(50):
        busy = add(busy)
    checkpoints.wait()
    assert_same(checkpoints.restore(tree), tree)
    for step, score in ((2, 0.9), (3, 0.1), (4, 0.2)):
        checkpoints.save(step, {**tree, "step": step}, score=score)
    checkpoints.wait()
    seen["steps"] = [checkpoints.steps, checkpoints.latest, checkpoints.best]
    assert checkpoints.restore(tree, "best")["step"] == 2

    # What one process wrote; into another tree; a part.
    assert_same(Checkpoints(root / "one").restore(tree), tree)
    part, mismatch = checkpoints.restore({"whole": tree["whole"], "new": tree["number"]}, partial=True)
    assert bits(part["whole"]) == bits(tree["whole"])
    seen["part"] = [mismatch.missing, len(mismatch.extra)]
    other = {**tree, "whole": tree["rows"]}
    seen["errors"] = [
        told_by(lambda: checkpoints.restore(tree, 99)).replace(str(root), "ROOT"),
        told_by(lambda: checkpoints.restore(other)).splitlines()[0].replace(str(root), "ROOT"),
    ]

    # What fails on one process fails on both, and leaves what was there.
    def save(step, tree, directory=root / "kept"):
        with Checkpoints(directory, keep_last=2, asynchronous=False) as checkpoints:
            checkpoints.save(step, tree)

    def save_on_a_full_disk():
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        if index == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, limit[1]))
        try:
            save(5, tree)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    own = root / f"machine-{index}"
    own.mkdir()
    os.chdir(own)
    before = sorted(os.listdir(root / "kept"))
    fb.distributed.barrier("looked")
    for work in (
        lambda: save(5, {**tree, "own": np.float32(index)}),
        lambda: save(5, {**tree, "own": np.zeros(index)}),
        lambda: save(5 + index, tree),
        lambda: save(1, tree, "/proc/self/cwd/run"),  # one path, and a disk for each process
        save_on_a_full_disk,
    ):
        seen["errors"].append(told_by(work).replace(str(root), "ROOT"))
        fb.distributed.barrier("failed")
        assert sorted(os.listdir(root / "kept")) == before
        fb.distributed.barrier("looked again")

    # A flipped bit: the save before is taken on both.
    if index == 0:
        parts = (root / "kept").glob("step-4*/arrays/ocdbt.process_1/d/*")
        newest = max(parts, key=lambda path: path.stat().st_size)
        newest.write_bytes(bytes([newest.read_bytes()[0] ^ 1]) + newest.read_bytes()[1:])
    fb.distributed.barrier("flipped")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        seen["instead"] = checkpoints.restore(tree)["step"]
    seen["warned"] = [str(warning.message).replace(str(root), "ROOT") for warning in warned]

    # Images of the disk at each change that a process makes, while a save takes the place of another.
    images = root / "images"
    with Checkpoints(root / "killed", asynchronous=False) as killed:
        killed.save(1, tree)
        stop = keep_images(root / "killed", images)
        killed.save(2, {**tree, "step": 2})
        stop()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
