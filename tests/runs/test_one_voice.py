"""A run of two real processes: the result of one, one directory, one voice, and stops that all agree on."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import fourbeat as fb
from fourbeat import runs
from fourbeat.cli import main
from tests.distributed import processes

LINE = ("train", "linear-regression", "--steps", "60", "--log-every", "20")


@dataclasses.dataclass(frozen=True)
class Config:
    out: Path
    steps: int = 12
    batch_size: int = 8
    resume: str | None = None
    max_seconds: float | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Judge:
    """Asks for the end on some processes."""

    held: fb.EarlyStopping
    should_stop: bool = dataclasses.field(metadata={"static": True})


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.out = nnx.Linear(784, 8, rngs=rngs), nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, image):
        return self.out(nnx.relu(self.hidden(image.reshape(image.shape[0], -1))))


def loss_fn(model, batch):
    loss = optax.softmax_cross_entropy_with_integer_labels(model(batch["image"]), batch["label"])
    return loss, {}


def train(config, each_tick=lambda run, tick, stopping: stopping, marks=(), save=None):
    """A loop as a user writes it: mnist's MLP, an evaluation every 4 steps, early stopping."""
    data, _ = fb.data.mnist()
    batches = data[:96].batches(config.batch_size, shuffle=True)
    valid = data[96:128].batches(8)
    beats = fb.four_beats(loss_fn, optax.sgd(0.05))
    mesh = runs.training_mesh(config.batch_size)
    step, evaluate = fb.compile(beats.train_step, mesh=mesh), fb.evaluator(beats)
    look, stopping = fb.every(steps=4), fb.EarlyStopping(patience=1_000, divergence=1e9)
    with runs.RunDirectory.open("mlp", config, score="eval_loss", mode="min") as run:
        state, stopping = run.restore(beats.init(MLP(nnx.Rngs(0)), mesh=mesh), stopping)
        loop = run.loop(batches, start=state.step, marks=[look, *marks], save=save)
        for tick in (bar := fb.progress(loop)):
            state, _ = step(state, tick.batch)
            if look in tick:
                scores = evaluate(state, loop.interruptible(valid))
                if not loop.unfinished:
                    run.log(tick.step, {"eval": scores})
                    bar.show(loss=scores["loss"])
                    runs.say_scores(tick.step, eval=scores)
                    print("a line of the recipe's own")
            stopping = each_tick(run, tick, stopping)
            run.save(tick, state, stopping)
        if run.is_complete:
            run.figure(tick.step, "curves", runs.figures.curves(run.history()))
            run.finish({"loss": run.history()[-1]["eval_loss"]})
            runs.show_end(run)
    return run, state


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]


SCRIPT = """
    import json, os, signal, sys
    from pathlib import Path
    import fourbeat as fb
    from fourbeat import runs
    from fourbeat.cli import main
    from tests.runs import test_one_voice as of_one
    from tests.runs.test_one_voice import Config, Judge, leaves, train

    def run_of_stop(path):
        return fb.Checkpoints(path / "checkpoints").latest

    folder, seen = Path(sys.argv[1]), {}
    index = int(os.environ["JAX_PROCESS_ID"])
    told = (folder / f"told-{index}").open("w")

    # errors of flags: one line, by process 0; the same status everywhere
    statuses = []
    for wrong in (("--num-points", "33"), ("--bogus", "1"), ("--steps", "0"), ("--resume", "nowhere")):
        try:
            main([*of_one.LINE, *wrong])
        except SystemExit as end:
            statuses.append(end.code)
    seen["statuses"] = statuses
    print("errors end", file=sys.stderr)

    main([*of_one.LINE, "--out", str(folder / "line")])

    run, state = train(Config(folder / "whole"))
    seen["path"], seen["history"] = str(run.path), [sorted(line) for line in run.history()]
    seen["params"] = [leaf.tolist() for leaf in leaves(state)]

    # what is written of a model
    predict = lambda model, batch: model(batch["image"])
    fb.models.save_weights(folder / "weights.safetensors", state)
    example = {"image": fb.data.mnist()[1][:8].columns["image"]}
    fb.models.save(folder / "model", state, predict=predict, example=example)

    # a directory that is named for the time is the same
    os.chdir(folder)
    with runs.RunDirectory.open("named", Config(None)) as run:
        seen["named"] = str(run.path)

    # process 1 alone is signalled
    def signalled(run, tick, stopping):
        if index == 1 and tick.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return stopping

    try:
        run, _ = train(Config(folder / "stopped", steps=2_000), signalled)
    except runs.Interrupted as stop:
        seen["stopped"] = [str(stop), stop.signal]
    steps = 4 + run_of_stop(folder / "stopped")
    run, state = train(Config(folder / "stopped", steps=steps, resume="latest"))
    seen["went_on"] = [steps, len(run.history()), *[leaf.tolist() for leaf in leaves(state)]]

    # marks in seconds, saves in seconds, an end in seconds
    second, fallen = fb.every(seconds=0.2), []

    def timed(run, tick, stopping):
        if second in tick:
            fallen.append(tick.step)
        return stopping

    run, state = train(Config(folder / "timed", steps=1_000_000, max_seconds=1.5), timed, [second], second)
    seen["timed"] = [int(state.step), *fallen]

    # a tree of process 1 alone ends all in the same tick
    def judged(run, tick, stopping):
        return Judge(stopping, index == 1) if tick.step == 5 else stopping

    run, state = train(Config(folder / "judged"), judged)
    seen["judged"] = int(state.step)

    told.write(json.dumps(seen))
    told.close()

    # an exception of process 1 alone
    def fails(run, tick, stopping):
        if index == 1 and tick.step == 3:
            raise RuntimeError("the disk of process 1 is gone")
        return stopping

    train(Config(folder / "failed", steps=100_000), fails)
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """`(folder, ended, told)`: where they ran, how each ended, what each says of what it saw."""
    folder = tmp_path_factory.mktemp("two")
    ended = processes.run(SCRIPT, 2, folder / "processes", arguments=[folder], kill_after_s=170)
    for each in ended:
        print(each.output, each.errors)
    return folder, ended, [json.loads((folder / f"told-{index}").read_text()) for index in range(2)]


def lines_of(text):
    return [line for line in text.splitlines() if "[Gloo]" not in line]


def test_every_process_knows_the_run_and_one_writes_it(two):
    folder, _, told = two
    assert told[0] == told[1]
    first = told[0]
    assert first["path"] == str(folder / "whole")
    assert [len(line) for line in first["history"]] == [2, 2, 2]
    assert [path.name for path in (folder / "runs" / "named").iterdir()] == [Path(first["named"]).name]
    assert sorted(path.name for path in (folder / "whole").iterdir()) == [
        "checkpoints", "config.json", "curves.png", "lock", "metrics.jsonl", "result.json", "summary.json",
    ]  # fmt: skip
    assert [line["step"] for line in runs.Run.read(folder / "whole").history] == [4, 8, 12]


def test_the_result_is_that_of_one_process(two, tmp_path):
    folder, _, (first, _) = two
    main([*LINE, "--out", str(tmp_path / "line")])
    alone, together = (runs.Run.read(path / "line") for path in (tmp_path, folder))
    assert together.result == pytest.approx(alone.result, abs=1e-6)
    assert [line["train_loss"] for line in together.history] == pytest.approx(
        [line["train_loss"] for line in alone.history], abs=1e-6
    )
    _, state = train(Config(tmp_path / "whole"))
    for ours, theirs in zip(leaves(state), first["params"], strict=True):
        np.testing.assert_allclose(np.array(theirs), ours, atol=1e-6, rtol=0)
    model, _ = fb.models.load_weights(MLP(nnx.Rngs(1)), folder / "weights.safetensors")
    image = fb.data.mnist()[1][:4].columns["image"]
    predicted = fb.models.load(folder / "model").predict({"image": image})
    np.testing.assert_allclose(predicted, state.model(image), atol=1e-3, rtol=1e-5)
    np.testing.assert_allclose(predicted, model(image), atol=1e-3, rtol=1e-5)


def test_one_process_speaks(two):
    _, (first, second), told = two
    assert told[0]["statuses"] == [2, 2, 2, 2]
    errors = [line for line in lines_of(first.errors) if line.startswith("fourbeat: ")]
    assert errors[:4] == [
        "fourbeat: --num-points is 33, and 2 devices of 2 processes cannot share it evenly. Give 32 or 34.",
        "fourbeat: Unrecognized options: --bogus, 1 (see fourbeat train linear-regression --help)",
        "fourbeat: --steps is 0; give a whole number of at least 1 and below 2147483648.",
        "fourbeat: --resume nowhere: there is no run of linear-regression in that directory.",
    ]
    assert "step    12   eval loss" in first.output and first.output.count("a line of the recipe's own") > 3
    assert lines_of(second.output) == []
    before_the_failure = lines_of(second.errors.partition("Traceback")[0])
    assert before_the_failure == ["errors end"]


def test_a_signal_on_one_process_stops_all_and_the_run_goes_on(two, tmp_path):
    folder, _, (first, _) = two
    text, number = first["stopped"]
    steps, num_lines, *params = first["went_on"]
    stopped = steps - 4
    assert number == 15 and text.startswith(f"stopped at step {stopped}, saved; to go on:")
    _, state = train(Config(tmp_path / "unbroken", steps=steps))
    for ours, theirs in zip(leaves(state), params, strict=True):
        np.testing.assert_allclose(np.array(theirs), ours, atol=1e-5, rtol=0)
    history = [line["step"] for line in runs.Run.read(folder / "stopped").history]
    assert history == list(range(4, steps + 1, 4)) and num_lines == len(history)


def test_marks_saves_and_ends_in_seconds_fall_at_the_same_steps(two):
    folder, _, (first, _) = two
    last, *fallen = first["timed"]
    assert fallen and fallen[-1] <= last < 1_000_000
    assert fb.Checkpoints(folder / "timed" / "checkpoints").latest == last


def test_a_tree_of_one_process_ends_all_in_the_same_tick(two):
    assert two[2][0]["judged"] == 5


def test_an_exception_of_one_process_ends_all_with_its_text(two):
    _, (first, second), _ = two
    assert second.status == 1 and first.status == 75
    assert "RuntimeError: the disk of process 1 is gone" in first.errors
    assert "RuntimeError: the disk of process 1 is gone" in second.errors
