"""Several processes train on one global order of the data, of which each reads its own rows alone."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.data import trained_over_processes as program
from tests.distributed import processes

SCRIPT = Path(program.__file__)


def found_by(what, num, devices, folder):
    outputs = processes.succeed(
        SCRIPT, num, folder, devices=devices, kill_after_s=170, arguments=[what, folder.parent]
    )
    lines = [next(line for line in output.splitlines() if line.startswith("FOUND ")) for output in outputs]
    return [json.loads(line.removeprefix("FOUND ")) for line in lines]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes with two devices found."""
    return found_by("kinds", 2, 2, tmp_path_factory.mktemp("two") / "of")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """What each of four processes with one device found, on several meshes."""
    return found_by("meshes", 4, 1, tmp_path_factory.mktemp("four") / "of")


@pytest.fixture(scope="module")
def one():
    """What this process finds alone, on one device."""
    return program.all_kinds(None), program.scored(None)


def whole(shares):
    """An array of the parts that several processes hold of it, some of them the same ones."""
    parts = {tuple(at): np.array(part) for held in shares for at, part in held}
    shape = np.max([np.add(at, part.shape) for at, part in parts.items()], axis=0)
    array = np.full(shape, np.nan)
    for at, part in parts.items():
        array[tuple(slice(begin, begin + size) for begin, size in zip(at, part.shape, strict=True))] = part
    return array


def params(found):
    return {name: whole([each["params"][name] for each in found]) for name in found[0]["params"]}


def own_ids(found):
    """How often each example lies in the rows of a process, each share of it counted once."""
    shares = [{tuple(at): part for at, part in held} for held in found["ids"]]
    return Counter(number for held in shares for part in held.values() for number in part)


def of_kind(found, name):
    return [each["kinds"][name] for each in found]


def test_parameters_are_those_of_one_process(one, two, four):
    for name, alone in one[0].items():
        for value, expected in zip(
            params(of_kind(two, name)).values(), params([alone]).values(), strict=True
        ):
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6, err_msg=name)
    for mesh in four[0]:
        for name in four[0][mesh]["kinds"]:
            found = params(of_kind([each[mesh] for each in four], name))
            for value, expected in zip(found.values(), params([one[0][name]]).values(), strict=True):
                np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6, err_msg=f"{mesh} {name}")


def test_parameters_are_the_same_bits_however_four_devices_are_shared_out(two, four):
    for mesh in ("data", "data and fsdp"):
        for name in four[0][mesh]["kinds"]:
            here, there = params(of_kind(two, name)), params(of_kind([each[mesh] for each in four], name))
            assert {key: value.tobytes() for key, value in here.items()} == {
                key: value.tobytes() for key, value in there.items()
            }, (mesh, name)


def test_an_mlp_learns_mnist_as_in_one_process(two, four):
    alone = program.mnist(None)
    shared = [[each["mnist"] for each in two], [each["data"]["mnist"] for each in four]]
    for found in shared:
        for name, expected in params([alone]).items():
            np.testing.assert_allclose(params(found)[name], expected, rtol=0, atol=1e-6, err_msg=name)
        assert [each["scores"] for each in found] == [alone["scores"]] * len(found)
    assert alone["scores"]["accuracy"] > 0.7
    here, there = map(params, shared)
    assert all(here[name].tobytes() == there[name].tobytes() for name in here)


def test_the_order_of_the_examples_is_that_of_one_process(one, two, four):
    for name, alone in one[0].items():
        expected = [whole([batch]).tolist() for batch in alone["ids"]]
        for found in [two, *([each[mesh] for each in four] for mesh in four[0])]:
            if name in found[0]["kinds"]:
                batches = zip(*(each["ids"] for each in of_kind(found, name)), strict=True)
                assert [whole(shares).tolist() for shares in batches] == expected, name


def test_each_process_decodes_its_own_rows_alone(one, two, four):
    for name, alone in one[0].items():
        decoded = [Counter(dict(each["decoded"])) for each in of_kind(two, name)]
        if name != "workers" and not name.startswith("ragged"):  # threads read on beyond the end
            assert sum(decoded, Counter()) == Counter(dict(alone["decoded"])), name
            if alone["ids"]:
                assert decoded == [own_ids(each) for each in of_kind(two, name)] or not alone["decoded"], name
    assert [len(each["decoded"]) for each in of_kind(two, "read-whole")] == [11, 11]
    for mesh in four[0]:  # along the axis `tensor` two processes have the same rows
        for each in of_kind([each[mesh] for each in four], "examples"):
            assert Counter(dict(each["decoded"])) == own_ids(each), mesh


def test_scores_and_outputs_are_the_same_in_every_process(one, two, four):
    expected = one[1]
    for found in [two, [each["tensor"] for each in four]]:
        for each in (each["scored"] for each in found):
            for name in ("scores", "scores of resident", "scores within a loop"):
                assert each[name]["loss"] == pytest.approx(expected[name]["loss"], abs=1e-6)
                assert each[name] == found[0]["scored"][name]
            np.testing.assert_allclose(each["outputs"], expected["outputs"], rtol=0, atol=1e-6)
    assert [each["scored"]["outputs of a file"] for each in two] == [two[0]["scored"]["outputs"]] * 2
    for task in ("decoded for scores", "decoded for outputs"):
        decoded = [Counter(dict(each["scored"][task])) for each in two]
        assert sum(decoded, Counter()) == Counter(dict(expected[task]))
        assert max(map(len, decoded)) <= 12


def test_iterables_that_say_whose_they_are_train_as_one_process_does(two):
    step, start = program.begun(None)
    lists = [program.plain(range(8 * i, 8 * i + 8)) for i in range(3)]
    alone = program.trained(step, start(), lists, {}, num_steps=3)
    given = [each["given"] for each in two]
    for name in ("local list", "local blocks", "local generator", "global list", "global generator"):
        for value, expected in zip(
            params([each[name] for each in given]).values(), params([alone]).values(), strict=True
        ):
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6, err_msg=name)
        if name != "local blocks":
            batches = zip(*(each[name]["ids"] for each in given), strict=True)
            assert [whole(shares).tolist() for shares in batches] == [
                whole([ids]).tolist() for ids in alone["ids"]
            ]
    assert given[0]["examples"] == [8, 16, 24]  # of all processes
    evaluated = program.fb.evaluator(program.beats)(start(), lists)["loss"]
    for scores in given[0]["scores"] + given[1]["scores"]:
        assert scores["loss"] == pytest.approx(evaluated, abs=1e-6)
    predicted = program.fb.predictor(program.beats)(start(), lists)
    np.testing.assert_allclose(given[1]["outputs"], predicted, rtol=0, atol=1e-6)
    by_hand = program.params(step(start(), lists[0])[0])
    np.testing.assert_allclose(params([given[0]["by hand"]])["w"], params([by_hand])["w"], rtol=0, atol=1e-6)


ERRORS = {
    "not said": "TypeError: nothing says whether the list gives every one of the 2 processes the same "
    "batches or each its own part, and a wrong guess would train on other data in silence. Say it: "
    "fourbeat.data.local_batches(batches), where each process reads examples of its own; or "
    "fourbeat.data.global_batches(batches), where all read the same. Data that is read by number, "
    "fourbeat.data.Examples(source).batches(...), needs neither.",
    "outputs of local": "ValueError: these batches are local, so the entries of a prediction would be in the "
    "order of no data. Use batches by number, fourbeat.data.Examples(source).batches(...), or "
    "fourbeat.data.global_batches(...).",
    "unlike": "ValueError: batch 1 of the list is not the same in process 1 as in process 0, and "
    "global_batches takes the same batches in every process. Shuffle with the same seed everywhere. If each "
    "process reads examples of its own, use fourbeat.data.local_batches(...).",
    "of unlike size": "ValueError: batch 1 of the list_iterator has another form in process 1 than in "
    "process 0: batch['id'] (8,), batch['x'] (8, 3), where that has batch['id'] (4,), batch['x'] (4, 3). "
    "Every process needs the same columns, types and sizes: drop or pad a short last batch, "
    "fourbeat.data.padded(...).",
    "shorter": "ValueError: the pass over the list_iterator ended after 2 batches in process 0, and went on "
    "in others; global_batches takes the same batches in every process. Give every process the same data; "
    "or, if each reads examples of its own, use fourbeat.data.local_batches(...).",
    "shorter in evaluation": "ValueError: the pass over the list_iterator ended after 2 batches in process "
    "0, and went on in others: an evaluation would miss examples. Give every process as many batches, with "
    "examples of weight 0 in those that fill up; or evaluate by number, "
    "fourbeat.data.Examples(source).batches(...).",
    "other seeds": "ValueError: the batches differ between the processes: process 0 has Batches(3 steps of "
    "8, shuffle=True, seed=0, remainder='pad', on the host) of 22 examples, and process 1 has Batches(3 "
    "steps of 8, shuffle=True, seed=1, remainder='pad', on the host) of 22 examples. Give every process the "
    "same data, seed, order and batch size.",
    "without a mesh": "ValueError: local batches of the list are a part of a global one, and nothing says "
    "which rows they are. Give the loop the mesh: fourbeat.loop(batches, start=state.step, ...), of a state "
    "that lies on it, or fourbeat.loop(batches, mesh=mesh, ...).",
    "does not divide": "ValueError: a local batch of 3 examples does not divide over the 2 shares that this "
    "process holds of the mesh (data=4). Use a batch size that is a multiple of 2, and drop or pad a short "
    "last batch: fourbeat.data.padded(...).",
    "a part of the devices": "ValueError: the mesh (data=2) has no device of process 1, one of 2, and every "
    "process takes part in a step over a mesh. Use a mesh of all devices, such as fourbeat.mesh(data=-1). "
    "For work of one process alone, such as an evaluation on one device, use no mesh.",
    "stream of one process": "ValueError: this state of a stream was saved by 1 process, each at a place in "
    "its own part of the examples, and it is to go on in 2 processes. Where a place lies in other parts is "
    "not known. Go on with 1 process; or begin a new run with a stream of its own. Data that is read by "
    "number, fourbeat.data.Examples(source).batches(...), and fourbeat.data.global_batches(stream) go on "
    "with any number of processes.",
}


def test_what_would_diverge_or_hang_is_an_error_in_every_process(two):
    for name, text in ERRORS.items():
        assert [each["given"][name] for each in two] == [text, text], name
    for each in two:
        assert each["given"]["not said in evaluation"] == ERRORS["not said"]
        by_hand = each["given"]["by hand, unlike"]
        assert by_hand.startswith(
            "ValueError: the batches of call 1 of the step differ between the processes: "
        )


def test_a_local_pass_ends_for_all_at_once_with_a_warning(two):
    text = (
        "the pass over the list_iterator ended after 2 batches in process 1, and went on in others: what is "
        "left there is not read. Give every process as many batches."
    )
    assert [each["given"]["uneven"] for each in two] == [[2, [text]]] * 2


def test_reading_whole_batches_in_every_process_is_said_once(two):
    text = (
        "each of the 2 processes reads the whole of every batch. Let each read its own rows alone: "
        "fourbeat.loop(batches, start=state.step) or fourbeat.loop(batches, mesh=mesh)."
    )
    assert [each["given"]["read whole"] for each in two] == [[text]] * 2


def test_a_local_stream_keeps_the_place_of_each_process(two):
    for first, each in zip((0, 100), two, strict=True):
        given, later, saved = each["given"]["stream"]
        numbers = [[number for _, part in batch for number in part] for batch in given + later]
        assert numbers == [list(range(first + 4 * i, first + 4 * i + 4)) for i in (1, 2, 3)]
        assert saved == two[0]["given"]["stream"][2]  # one text in all of them
        assert len(json.loads(saved)["places"]) == 2
