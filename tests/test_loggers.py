"""Loggers: read back by other programs' readers, whole after a kill, and never an end of training."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import fourbeat as fb
from fourbeat import loggers
from fourbeat.runs import figures
from tests.kinds import assert_bit_equal

VALUES = {
    "loss": jnp.float32(0.25),
    "steps": 3,
    "half": jnp.bfloat16(1.5),
    "recall": np.array([1.0, 0.5]),
    "eval": {"accuracy": np.float64(0.75)},
    "matrix": np.eye(2),
    "text": "no curve",
}


def events_of(directory):
    read = EventAccumulator(str(directory))
    read.Reload()
    return read


def test_json_lines_holds_every_value_and_adds_to_what_is_there(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    for step in (jnp.int32(10), 20):
        logger = loggers.JsonLines(path)
        logger.log(step, VALUES)
        logger.close()
    plain = {
        "loss": 0.25,
        "steps": 3,
        "half": 1.5,
        "recall": [1.0, 0.5],
        "eval": {"accuracy": 0.75},
        "text": "no curve",
    }
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": step, **plain, "matrix": [[1, 0], [0, 1]]} for step in (10, 20)]


def test_tensorboard_reads_back_every_scalar_and_figure(tmp_path):
    logger = loggers.TensorBoard(tmp_path / "deep" / "board")
    logger.log(jnp.int32(10), VALUES)
    logger.log(20, {"loss": 0.125})
    logger.figure(20, "confusion", figures.confusion_matrix(np.eye(2)))
    second = loggers.TensorBoard(logger.directory)  # of the same second, beside the first
    second.log(30, {"loss": 0.0625})
    second.close()
    read = events_of(logger.directory)  # not closed: each call is there already
    assert read.Tags()["scalars"] == ["loss", "steps", "half", "recall/0", "recall/1", "eval/accuracy"]
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [
        (10, 0.25),
        (20, 0.125),
        (30, 0.0625),
    ]
    assert [read.Scalars(name)[0].value for name in ("half", "recall/1", "eval/accuracy")] == [1.5, 0.5, 0.75]
    [image] = read.Images("confusion")
    assert (image.step, image.encoded_image_string[:4]) == (20, b"\x89PNG")
    assert image.width > 500
    assert len(list(logger.directory.iterdir())) == 2
    logger.close()


def test_a_killed_process_loses_nothing(tmp_path):
    code = (
        "import os, signal, sys; from fourbeat import loggers\n"
        f"board, lines = loggers.TensorBoard({str(tmp_path)!r}), loggers.JsonLines({str(tmp_path / 'm')!r})\n"
        "both = loggers.Several(board, lines)\n"
        "for step in range(1, 31): both.log(step, {'loss': 1 / step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert [event.step for event in events_of(tmp_path).Scalars("loss")] == list(range(1, 31))
    assert [json.loads(line)["loss"] for line in (tmp_path / "m").read_text().splitlines()] == [
        1 / n for n in range(1, 31)
    ]


def test_json_lines_writes_figures_beside_its_file(tmp_path):
    logger = loggers.JsonLines(tmp_path / "metrics.jsonl")
    logger.figure(7, "fit", figures.fitted_line(np.zeros(2), np.ones(2), weight=1.0, bias=0.0))
    assert (tmp_path / "fit-7.png").read_bytes()[:4] == b"\x89PNG"


class Broken:
    """A logger of a user's whose server is away."""

    def __init__(self):
        self.calls = 0

    def log(self, step, values):
        self.calls += 1
        raise ConnectionError("no server")

    figure = log

    def close(self):
        raise ConnectionError("no server")

    def __repr__(self):
        return "Broken()"


def test_of_several_a_broken_one_warns_once_and_the_others_go_on(tmp_path):
    broken, lines = Broken(), loggers.JsonLines(tmp_path / "m")
    several = loggers.Several(broken, lines)
    with pytest.warns(UserWarning, match="Training goes on") as warned:
        _ = several.log(1, {"loss": 1.0}), several.log(2, {"loss": 0.5}), several.close()
    assert [str(warning.message) for warning in warned] == [
        "Broken() failed: ConnectionError: no server. Training goes on; it is called again each time, "
        "without a further warning."
    ]
    assert warned[0].filename == __file__
    assert broken.calls == 2
    assert len((tmp_path / "m").read_text().splitlines()) == 2


@pytest.mark.parametrize("kind", ["JsonLines", "TensorBoard"])
def test_ours_warn_once_when_they_fail_and_write_again_when_they_can(kind, tmp_path):
    logger = getattr(loggers, kind)(tmp_path / "log")
    bad = {"value": object()}
    with pytest.warns(UserWarning, match="Training goes on") as warned:
        _ = logger.log(1, bad), logger.log(2, bad), logger.figure(2, "no-figure", None)
    assert len(warned) == 1
    assert str(warned[0].message).startswith(f"{kind}({str(tmp_path / 'log')!r}) failed: TypeError: ")
    assert warned[0].filename == __file__
    logger.log(3, {"value": 1.0})
    if kind == "JsonLines":
        assert (tmp_path / "log").read_text() == '{"step": 3, "value": 1.0}\n'
    else:
        assert [event.step for event in events_of(tmp_path / "log").Scalars("value")] == [3]
    logger.close()


def going_on(logger_at):
    """Logs up to step 6, is stopped, goes on from a checkpoint of step 2, and from one of step 4."""
    for start, steps in ((0, (2, 4, 6)), (2, (4, 6, 8)), (4, (6, 8))):
        logger = logger_at()
        logger.cut_after(jnp.int32(start))
        for step in steps:
            logger.log(step, {"loss": start + 1 / step})
        logger.close()  # writes nothing


EXPECTED = [(2, 1 / 2), (4, 2 + 1 / 4), (6, 4 + 1 / 6), (8, 4 + 1 / 8)]


def test_json_lines_takes_back_what_comes_again(tmp_path):
    path = tmp_path / "m"
    going_on(lambda: loggers.JsonLines(path))
    assert [
        (line["step"], line["loss"]) for line in map(json.loads, path.read_text().splitlines())
    ] == EXPECTED
    assert os.listdir(tmp_path) == ["m"]


def test_json_lines_takes_back_no_line_of_others_and_half_a_line(tmp_path):
    path = tmp_path / "m"
    others = '# a note\n{"loss": 1.0}\n[1]\n{"step": null}\n'
    path.write_text(f'{others}{{"step": 2}}\n{{"step": 4}}\n{{"step": 3, "lo')
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    loggers.JsonLines(tmp_path / "link").cut_after(3)
    assert path.read_text() == f'{others}{{"step": 2}}\n'
    assert path.stat().st_mode & 0o777 == 0o600 and (tmp_path / "link").is_symlink()


def test_tensorboard_shows_what_comes_again_once(tmp_path):
    going_on(lambda: loggers.TensorBoard(tmp_path))
    shown = [(event.step, event.value) for event in events_of(tmp_path).Scalars("loss")]
    assert shown == [(step, float(np.float32(value))) for step, value in EXPECTED]


def test_of_several_those_that_can_take_back_do_and_the_others_are_named(tmp_path):
    lines = loggers.JsonLines(tmp_path / "m")
    for step in (2, 4):
        lines.log(step, {"loss": 1.0})
    with pytest.warns(loggers.LoggerWarning) as warned:
        loggers.Several(Broken(), lines).cut_after(2)
    assert [str(warning.message) for warning in warned] == [
        "Broken() has no cut_after: it keeps what it was given of steps after 2, which come again."
    ]
    assert warned[0].filename == __file__
    assert [json.loads(line)["step"] for line in (tmp_path / "m").read_text().splitlines()] == [2]


def test_a_full_disk_leaves_no_half_line(tmp_path):
    path = tmp_path / "m"
    logger = loggers.JsonLines(path)
    logger.log(1, {"loss": 1.0})
    whole = path.read_text()
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 5, before[1]))
        with pytest.warns(UserWarning, match="Training goes on"):
            logger.log(2, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == whole
    logger.log(3, {"loss": 1.0})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]


def test_watching_changes_nothing(tmp_path):
    def train(logger):
        beats = fb.four_beats(lambda model, batch: (batch["x"] @ model["w"]) ** 2, optax.adam(0.1))
        state, step = beats.init({"w": jnp.ones(3)}), fb.compile(beats.train_step)
        data = fb.data.Arrays(x=np.random.RandomState(0).randn(20, 3).astype(np.float32))
        log = fb.every(steps=2)
        for tick in fb.loop(data.batches(4, shuffle=True), until=fb.at(steps=10), marks=[log]):
            state, logs = step(state, tick.batch)
            if log in tick and logger is not None:
                logger.log(tick.step, logs)
        return state

    several = loggers.Several(
        Broken(), loggers.JsonLines(tmp_path / "m"), loggers.TensorBoard(tmp_path / "board")
    )
    with pytest.warns(UserWarning, match="no server"):
        watched = train(several)
    several.close()
    assert_bit_equal(watched, train(None))
    steps = [json.loads(line)["step"] for line in (tmp_path / "m").read_text().splitlines()]
    assert (
        steps == [event.step for event in events_of(tmp_path / "board").Scalars("loss")] == [2, 4, 6, 8, 10]
    )
    assert len(jax.tree.leaves(watched)) > 1


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "tensorboardX.event_file_writer", raising=False)
    with pytest.raises(ImportError) as caught:
        loggers.TensorBoard(tmp_path)
    assert str(caught.value) == "TensorBoard needs tensorboardX: pip install 'fourbeat[tensorboard]'"


def test_an_unwritable_place_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    for make in (
        lambda: loggers.JsonLines(tmp_path / "file" / "m"),
        lambda: loggers.TensorBoard(tmp_path / "file"),
    ):
        with pytest.raises(OSError):
            make()
    assert os.listdir(tmp_path) == ["file"]
    assert Path(tmp_path / "file").read_text() == ""
