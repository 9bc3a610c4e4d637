"""The laws over meshes of 1, 2, 4 and 8 devices, in a process that has eight; and what is said there."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests import quick_programs
from tests.oracles import metrics_by_others


@pytest.fixture(scope="module")
def seen():
    environment = {**os.environ, "XLA_FLAGS": quick_programs.flags(devices=8), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.shard.on_eight_devices"],
        cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def runs(seen):
    """Each run over a mesh, beside that of its kind without one: `(name, run, expected)`."""
    return [
        (name, run, seen["runs"][name.split(" over ")[0] + " over no mesh"])
        for name, run in seen["runs"].items()
    ]


def test_every_mesh_trains_the_same_state(runs):
    assert len(runs) == 5
    for name, run, expected in runs:
        assert run["rates"][-1] == expected["rates"][-1]
        if len(run["losses"]) == 6:
            # XLA may take the larger of NaN and 0 to be 0, so the loss of a bad step can be anything
            losses = [np.delete(each["losses"], 2) for each in (run, expected)]
            np.testing.assert_allclose(*losses, rtol=1e-6, atol=1e-6, err_msg=name)
        for value, other in zip(run["values"], expected["values"], strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-6, err_msg=name)


def test_scores_and_predictions_do_not_depend_on_the_mesh(runs):
    for name, run, expected in runs:
        assert expected["scores"][1] > 0
        np.testing.assert_allclose(run["scores"], expected["scores"], rtol=1e-6, atol=1e-6, err_msg=name)
        if run["judged"] is not None:
            for part in ("score", "predicted"):
                values = [each["judged"][part] for each in (run, expected)]
                np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6, err_msg=name)
    assert sum(run["judged"] is not None for _, run, _ in runs) == 2


def test_a_metric_over_eight_devices_is_its_oracle(seen):
    wanted = metrics_by_others.expected(metrics_by_others.examples(75))
    assert set(seen["scored"]) == set(metrics_by_others.WAYS_TO_KEEP)
    for name, score in seen["scored"].items():
        difference = metrics_by_others.largest_difference(score, wanted[name])
        assert difference <= metrics_by_others.ROWS[name].rtol, (name, difference)


def test_a_nan_on_one_device_is_skipped_on_all_and_named(runs):
    for name, run, _ in runs:
        assert run["guard"] == [1, 3, 5], name
        place = 5 if name == "cnn in microbatches over no mesh" else 9  # that batch is in another order
        assert run["examples"][:2] == [place, -1], name
        assert np.isfinite(np.concatenate(run["values"])).all()


def test_each_function_is_compiled_once(runs):
    for name, run, _ in runs:
        assert run["compilations"] == [1, 1], name
        assert run["judged"] is None or run["judged"]["compilations"] == 2, name  # of 16 examples and of 5


def test_every_leaf_stays_where_it_lay(runs):
    for name, run, _ in runs:
        assert run["stays"], name


def test_members_are_spread_over_the_mesh_and_never_meet(seen):
    members = seen["members"]
    assert members["collectives"] == []
    assert members["compilations"] == [1, 1] and members["stays"]
    assert members["kernel"] == [[1, 3, 2], 8]
    assert members["steps"] == [5] * 7 + [4]
    for part in ("values", "scores", "predicted"):
        for value, other in zip(*members[part], strict=True):
            leaves = zip(value, other, strict=True) if part == "values" else [(value, other)]
            for leaf, expected in leaves:
                np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-6)


def test_memory_is_constant(runs):
    for name, run, _ in runs:
        assert len(set(run["live"])) == 1, name


def test_a_state_is_never_whole_on_one_device(seen):
    made = seen["created"]
    assert made["same"] and made["same static"] and made["as one that was moved"]
    assert made["largest"] == made["kernel bytes"] // 8
    here, whole = made["state bytes"]
    assert whole / 8 < here < whole / 7.9
    assert made["needed"][:2] == [here, 16 * 512 * 4 // 8]


def test_the_program_that_makes_a_state_needs_no_more_than_a_device_s_part(seen):
    here, _ = seen["created"]["state bytes"]
    assert here <= seen["created"]["of the program"] < 1.5 * here


def test_a_checkpoint_restores_onto_any_mesh_and_goes_on_bit_equal(seen):
    runs = {name: each for name, each in seen["restored"].items() if name != "reads"}
    assert len(runs) == 3
    for name, each in runs.items():
        assert all(each.values()), name
    assert "ends" in seen["restored"]["fsdp=8"]


def test_nothing_is_read_from_the_devices_between_marks(seen):
    assert seen["restored"]["reads"] == 0


def test_a_model_may_say_itself_how_it_is_split(seen):
    alone, with_others = seen["told by the model"]
    assert [line.split("  ")[0] for line in alone[1:5]] == [
        "down/bias",
        "down/kernel",
        "up/bias",
        "up/kernel",
    ]
    assert ["P(None, 'tensor')" in line for line in alone[1:5]] == [False, False, False, True]
    assert "P('tensor')" in with_others[2] and "P(None, 'tensor')" in with_others[4]


@pytest.fixture(scope="module")
def gradients(seen):
    return seen["gradients"]


def test_gradients_are_those_of_one_device(gradients):
    over_meshes = [name for name in gradients if "one device" not in name and "normed" not in name]
    assert len(over_meshes) == 7
    for name in over_meshes:
        run, expected = gradients[name], gradients[name.split(" over ")[0] + " over one device"]
        np.testing.assert_allclose(run["loss"], expected["loss"], rtol=1e-6, err_msg=name)
        for value, other in zip(run["gradient"], expected["gradient"], strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-6, err_msg=name)


def test_a_device_computes_its_share(gradients):
    whole = gradients["block over one device"]["flops"]
    for name, times in (("fsdp=8", 1), ("sequence=8", 1), ("data=8 in 4 microbatches", 4)):
        # a loop counts once
        assert times * 8 * gradients[f"block over {name}"]["flops"] < 1.05 * whole, name


def test_the_collectives_are_those_that_one_expects(gradients):
    found = {name.removeprefix("block over "): Counter(run["collectives"]) for name, run in gradients.items()}
    assert found["one device"] == {}
    # attention and the MLP each have one sum over the devices, forward and backward
    assert found["tensor=8"] == {"all-reduce": 4}
    assert found["fsdp=8"]["all-gather"] >= 8  # of the eight parameters


def test_a_gradient_is_reduced_once_a_step_where_no_row_sees_another(gradients):
    def large(name):
        """The sums of more than a few numbers: by whether they stand in the loop, their numbers."""
        reduced = gradients[f"{name} in 4 microbatches"]["reduced"]
        return {where: [num for at, num in reduced if at == where and num > 4] for where, _ in reduced}

    # of the parameters, of the loss and of its weight
    assert large("block over data=8") == {"once": [16_384 + 2]}
    assert large("linear over data=2") == large("linear over data=4") == {"once": [8 + 2]}
    # over fsdp each microbatch is summed, so that no device has to keep a whole gradient; over data once
    assert large("linear over data=2, fsdp=2") == {"in the loop": [8 + 1], "once": [8 + 2]}
    # batch statistics are those of all rows, and so are the gradients of each microbatch
    normed = large("normed over data=2")
    assert normed["once"] == [] and sum(normed["in the loop"]) > 3 * 8 + 8 + 8 + 8 * 2 + 2


def test_inputs_and_values_of_aux_are_the_same_over_a_mesh(seen):
    one_device, mesh = seen["given"]["seen"]
    for value, expected in zip(mesh, one_device, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)
    assert one_device[0] > 0 and one_device[1] > 0
    # on each of four devices the state and the inputs are whole, and a quarter of the columns of 16 rows
    parameters, numbers = 4 * (3 * 2 + 2), 4 * (4 + 1)
    columns, inputs = 16 * 4 * (3 + 1 + 1) // 4, parameters + 4
    table = "bytes a device on the mesh of data=4"
    assert seen["given"]["memory"] == [parameters + numbers, columns + inputs, table]


def test_members_over_a_mesh_split_their_microbatches_too(seen):
    alone, over_mesh = seen["members in microbatches"]
    for value, other in zip(over_mesh, alone, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-6)


def test_a_step_without_a_mesh_names_the_leaf_that_lies_elsewhere(seen):
    moved, started_anew = seen["recompiled"]["texts"]
    whole = "lay on the mesh of data=8 as P()"
    assert f"state.opt_state[0].mu['w'] {whole} and now lies on the mesh of data=8 as P('data')" in moved
    assert f"state.metrics.sums {whole} and now lies on cpu:0, where JAX put it" in started_anew
    assert seen["recompiled"]["compilations"] == 3


def test_the_table_of_a_state_has_a_line_for_each_parameter(seen):
    assert seen["created"]["table"] == TABLE


TABLE = """\
parameter        shape        spec             bytes a device
down/bias        (8,)         P()                        32 B
down/kernel      (1024, 8)    P('fsdp')                4.1 kB
norm/bias        (1024,)      P('fsdp')                 512 B
norm/scale       (1024,)      P('fsdp')                 512 B
up/bias          (1024,)      P('fsdp')                 512 B
up/kernel        (512, 1024)  P(None, 'fsdp')        262.1 kB
in all                                               267.8 kB
the whole state                                        1.1 MB"""
TOLD = {
    "most has no rows": (
        "WholeBatchWarning: the weight tells of 8 examples, and most of the batch has no such rows "
        "(batch['edges'] (20, 2), batch['nodes'] (9, 3), batch['weight'] (8,)), so every device of the "
        "mesh (data=8) computes the whole of it. Put the examples into arrays of one leading axis, such "
        "as padded graphs that are stacked."
    ),
    "idle axis": (
        "WholeBatchWarning: the 2 devices along the axis 'tensor' of the mesh (data=4, tensor=2) compute "
        "the same: rows of a batch are split over data, and no array of the state over 'tensor'. Name "
        "the axis data or fsdp, for rows, or split parameters over it, beats.init(..., "
        "shard=fourbeat.shard.by_path({...}))."
    ),
    "an axis in a constraint": "nothing",
    "an axis in a shard_map": "nothing",
    "no sequence": (
        "WholeBatchWarning: no column of the batch (batch['label'] (16,), batch['x'] (16, 3)) has a "
        "second axis that is a multiple of 2, so the devices along the axis 'sequence' of the mesh "
        "(data=4, sequence=2) compute the same. Pad the columns to such a length, or use a mesh without "
        "that axis."
    ),
    "explicit axes": (
        "ValueError: jax.set_mesh has set a mesh with Explicit axes (data=8), under which a step over a "
        "mesh does not trace. Leave jax.set_mesh out: mesh= says where a step runs. Or set a mesh with "
        "Auto axes, such as fourbeat.mesh(data=8)."
    ),
    "on one device": (
        "ValueError: the state lies on cpu:0, and the step is compiled for the mesh of data=8. Create "
        "the state there, beats.init(make_model, mesh=mesh, shard=...), or copy it there, "
        "fourbeat.shard.place(state, mesh, rules)."
    ),
    "rows": (
        "ValueError: the batch has 30 examples, which do not divide over the 8 shares of the mesh "
        "(data=8; rows are split over data). Use a batch size of 24 or 32, and remainder='drop' or 'pad' "
        "for a short last batch. Rows that fill it up would count in batch statistics."
    ),
    "few rows": (
        "ValueError: the batch has 3 examples, which do not divide over the 8 shares of the mesh "
        "(data=8; rows are split over data). Use a batch size of 8, and remainder='drop' or 'pad' for a "
        "short last batch. Rows that fill it up would count in batch statistics."
    ),
    "no common axis": (
        "WholeBatchWarning: nothing tells the rows of the batch (batch['a'] (4,), batch['b'] (5,)), so "
        "it is not split, and every device of the mesh (data=8) computes the whole of it. Give all "
        "columns one leading axis, or add a column 'weight' of one value an example."
    ),
    "pattern": (
        "ValueError: the pattern 'wheel' of by_path matches no parameter. Near it are 'w'. A '*' stands "
        "for any part of a path, slashes too."
    ),
    "dimension": (
        "ValueError: state.params['w'] of shape (3, 2) cannot be split: its dimension 1 of length 2 is "
        "not a multiple of 8, the size of the axis 'data'. Give it another rule, or make that length a "
        "multiple of 8."
    ),
    "axis": (
        "ValueError: state.params['w'] is to be split over the axis 'tensor', which the mesh of data=8 "
        "does not have. Give the mesh such an axis, or the parameter another rule."
    ),
    "entries": (
        "ValueError: state.params['b'] of shape (2,) is to be split as P(None, 'data'), which has 2 "
        "entries for 1 dimension. Give at most one for each."
    ),
    "spec": (
        "TypeError: the spec of 'b' is 'data'; expected a jax.sharding.PartitionSpec, a tuple such as "
        "(None, 'tensor'), or rules such as fourbeat.shard.fsdp()."
    ),
    "no fsdp": (
        "ValueError: the rules split parameters over the axis 'fsdp', which the mesh of data=8 does not "
        "have. Use fourbeat.mesh(fsdp=...) or another rule."
    ),
    "metadata": (
        "TypeError: metadata() reads what nnx.with_partitioning says, and this model is no NNX module. "
        "Use fourbeat.shard.by_path or fsdp."
    ),
    "members": (
        "ValueError: 6 members do not divide over the axis 'replicas' of the mesh of replicas=8. Use a "
        "multiple of 8 members."
    ),
    "sizes": (
        "ValueError: cannot lay data=3 over 8 devices: the sizes multiply to 3. One of them may be -1: "
        "as many as are left. For fewer devices pass them: devices=jax.devices()[:3]."
    ),
    "size": ("ValueError: data is 0; expected a number of devices from 1 on, or -1."),
    "two open": (
        "ValueError: data and fsdp are all -1, as many devices as are left. Give all but one of them."
    ),
    "open": ("ValueError: data is -1, as many devices as are left, and 3 does not divide 8 devices."),
    "names": (
        "ValueError: the mesh has the axes x=2, y=4, and nothing tells over which of them the rows of a "
        "batch are split. Name those axes data or fsdp, as fourbeat.mesh(data=, fsdp=) does."
    ),
    "no mesh": ("TypeError: mesh is 8; expected a jax.sharding.Mesh, such as fourbeat.mesh(data=8)."),
    "rules alone": (
        "ValueError: shard is fsdp(min_size=16,384, axis='fsdp') and there is no mesh to split over. "
        "Pass mesh=fourbeat.mesh(...)."
    ),
    "a class": (
        "TypeError: model is the class Block. Pass a model that is made of it, Block(...); or a function "
        "without arguments that makes one, lambda: Block(...)."
    ),
    "compiled": (
        "TypeError: model is PjitFunction, a compiled or wrapped function. Pass the function that it was "
        "made of: init itself compiles what makes a model over a mesh."
    ),
    "needs a seed": (
        "TypeError: make_linear, which is to make the model, is called without arguments and needs 'seed'. "
        "Write lambda: make_linear(...)."
    ),
    "closed over": (
        "WholeArrayWarning: the function that makes the model holds 1 large array that it did not make: "
        "large float32[512, 1024] of 2.1 MB. Each is whole on one device, and copied into the program "
        "that makes the state. Make it inside the function; or build the model outside and pass the "
        "model itself, which is then laid out from where it is."
    ),
    "moved": (
        "ValueError: state.params['w'] lies on the mesh of fsdp=8 as P(), and this step was compiled for "
        "a state in which it is split as P('fsdp'). Another program for it would be compiled in silence. "
        "Copy it to where it lay: state.replace keeps each leaf's place, and fourbeat.shard.place(state, "
        "mesh, rules) lays a whole state out."
    ),
    "replaced": ("nothing"),
}


@pytest.mark.parametrize("what", TOLD)
def test_what_is_wrong_is_said_with_its_repair(seen, what):
    assert seen["told"][what] == TOLD[what]


def test_a_state_that_does_not_fit_is_refused_with_the_numbers(seen):
    text = seen["told"].pop("memory")
    assert text.startswith(
        "MemoryLimitError: the state does not fit: each device would hold 17.6 TB of it and has "
    )
    assert "mesh data=8, replicated()). In all the state is 17.6 TB. Split it over more devices" in text
    assert set(seen["told"]) == set(TOLD)
