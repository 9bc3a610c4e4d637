"""Several processes write one checkpoint, and any number of them reads it."""

import json
import re
import socket
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.checkpoints import Checkpoints
from fourbeat.checkpoints.position_sums import position_sum, total
from tests.checkpoints.several_processes import host_tree
from tests.distributed import processes

KEYS = jax.random.split(jax.random.key(1), 4)


def whole_tree():
    """The tree of the processes, on this one."""
    tree = {
        name: value if axes is None else jnp.asarray(value) for name, (value, axes) in host_tree().items()
    }
    return {**tree, "keys": KEYS}


def assert_same(restored, tree):
    for name, leaf in tree.items():
        values = [jax.random.key_data(each) if name == "keys" else each for each in (restored[name], leaf)]
        assert type(restored[name]) is type(leaf), name
        assert np.asarray(values[0]).tobytes() == np.asarray(values[1]).tobytes(), name


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of two processes that have saved, and what each has seen."""
    root = tmp_path_factory.mktemp("several")
    with Checkpoints(root / "one") as checkpoints:
        checkpoints.save(1, whole_tree())
    script = Path(__file__).with_name("several_processes.py")
    printed = processes.succeed(script, 2, root / "processes", devices=2, arguments=[root])
    return root, [json.loads(output.splitlines()[-1]) for output in printed]


def test_processes_save_and_restore_together(ended):
    _, seen = ended
    for each in seen:
        assert each["steps"] == [[2, 3, 4], 4, 2]
        assert each["part"] == [["tree['new']"], 11]
        assert each["instead"] == 3
    assert seen[1]["warned"] == []
    (warned,) = seen[0]["warned"]
    assert re.fullmatch(
        r"step 4 in ROOT/kept/step-4-save-4 is damaged: (process 1: )?arrays/ocdbt.process_1/d/\w+ is not as "
        r"it was written: its sha256 differs.\nStep 3 was restored instead.",
        warned,
    )


def test_what_fails_on_one_process_is_told_on_both(ended):
    host = socket.gethostname()
    full = "Raise the limit on the size of a file (`ulimit -f`), then save again."
    missing = "there is no checkpoint of step 99 in ROOT/kept: it has 2, 3, 4."
    told = [
        "ValueError: cannot restore step 4 of ROOT/kept: it is not of the same tree as `like`.",
        "step 5 was not saved: tree['own'] has one value on process 0 and another on process 1. Save what is "
        "equal on all: an array over a mesh of all devices, or what fb.distributed.gather gives.",
        "step 5 was not saved: process 0 saves tree['own'] float64[0] on each process, and process 1 saves "
        "tree['own'] float64[1] on each process. Let every process save the same tree, placed in the same "
        "way.",
        "step 5 was not saved: process 0 saves step 5 in ROOT/kept, and process 1 saves step 6 in ROOT/kept. "
        "Let all make the same saves in one order.",
        f"step 1 was not saved: process 1, on {host}, does not see in /proc/self/cwd/run the folder that "
        f"process 0 has made there, on {host}. Every process writes its part of a checkpoint: give a "
        "directory on a file system that all share.",
    ]
    for index, each in enumerate(ended[1]):
        errors = each["errors"]
        other = "" if index == 0 else "process 0: "
        assert errors[0] == f"FileNotFoundError: {other}{missing}"
        own = [
            text.replace("step 5 was", "step 6 was") if index and "one order" in text else text
            for text in told
        ]
        assert errors[1] == own[0]
        assert errors[2:6] == [f"NotTogetherError: {text}" if "was" in text else text for text in own[1:]]
        other = "" if index == 1 else "process 1: "
        before = (
            f"CheckpointError: step 5 was not saved in ROOT/kept: {other}OSError: [Errno 27] File too large"
        )
        assert errors[6].startswith(before) and errors[6].endswith(
            f"\nThe newest whole one is of step 4. {full}"
        )


def test_one_process_restores_what_two_have_saved(ended):
    root, _ = ended
    checkpoints, tree = Checkpoints(root / "kept"), whole_tree()
    assert_same(checkpoints.restore(tree, 3), {**tree, "step": 3})
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else leaf
              for name, leaf in tree.items()}  # fmt: skip
    assert_same(checkpoints.restore(shapes, 3), {**tree, "step": 3})


def test_a_kill_at_any_change_of_the_disk_leaves_a_whole_checkpoint(ended):
    root, _ = ended
    images, tree, steps = sorted((root / "images").iterdir()), whole_tree(), []
    for image in images:
        checkpoints = Checkpoints(image)
        restored = checkpoints.restore(tree)
        steps.append(restored["step"])
        assert restored["step"] == (3 if checkpoints.latest == 1 else 2)
        assert_same(restored, {**tree, "step": restored["step"]})
    assert len(images) > 10 and steps.count(3) > 5 and steps.count(2) > 0


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.int8, np.float64, np.complex128, np.bool_])
def test_a_position_sum_is_that_of_any_parts(dtype):
    array = np.round(np.random.default_rng(0).standard_normal((6, 5, 4))).astype(dtype)
    whole = position_sum(array)
    for axis, cut in ((0, 2), (1, 3), (2, 1)):
        first, second = np.split(array, [cut], axis)
        start = [0, 0, 0]
        start[axis] = cut
        sums = position_sum(first, [0, 0, 0], array.shape), position_sum(second, start, array.shape)
        assert total(sums) == whole
    boxes = [(i, j, k) for i in range(6) for j in range(5) for k in range(4)]
    ones = [position_sum(array[i : i + 1, j : j + 1, k : k + 1], (i, j, k), array.shape) for i, j, k in boxes]
    assert total(ones) == whole
    assert (
        position_sum(array[::-1]) != whole
        and position_sum(array.reshape(4, 6, 5).transpose(1, 2, 0)) != whole
    )


def test_a_position_sum_tells_each_flipped_bit():
    array = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    whole, bits = position_sum(array), array.view(np.uint8)
    for flip in np.random.default_rng(1).integers(array.nbytes * 8, size=64):
        bits[flip // 8] ^= 1 << flip % 8
        assert position_sum(array) != whole
        bits[flip // 8] ^= 1 << flip % 8
    assert position_sum(array) == whole
