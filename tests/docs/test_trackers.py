"""The trackers' lines on the page of loggers log without a network; what they wrote is read back."""

import json
import struct
import sys
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

import fourbeat as fb
from fourbeat.runs.named_loggers import NamedLoggers
from tests.docs.blocks import ROOT, blocks_of

BLOCKS = {
    block.title: block for block in blocks_of((ROOT / "docs" / "logging.md").read_text()) if block.title
}
LOGGED = {1: {"loss": 0.5, "accuracy": 0.25}, 2: {"loss": 0.25, "accuracy": 0.5}}
pytestmark = pytest.mark.filterwarnings("default")  # what the libraries warn of is their own


def logger_of(title, made, /, **options):
    """The logger that the page's block makes; it is five lines long."""
    lines = BLOCKS[title].code.splitlines()
    assert len(lines[lines.index("") + 1 :]) == 5
    namespace = {"__name__": "__page__"}
    exec(BLOCKS[title].code, namespace)
    return namespace[made](**options)


def named(name, run):
    """The logger of the flag `--log`, of a run in a project."""
    run.mkdir(parents=True)
    logger = NamedLoggers([name]).make(run, {"learning_rate": 0.1, "log": [name]})
    assert repr(logger) == f"Several(Tracker({name!r}))"
    return logger


def logged_by(logger):
    """Logs as a loop does, with whatever a logger fails at raised."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* failed: ")
        several = fb.loggers.Several(logger)
        for step, values in LOGGED.items():
            several.log(step, {name: np.float32(value) for name, value in values.items()})
        figure = Figure()
        figure.subplots().plot([1, 2])
        several.figure(2, "curve", figure)
        several.close()


def test_wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    logged_by(logger_of("W&B", "WandB", project="mnist"))
    logged_by(named("wandb", tmp_path / "mnist" / "run"))
    wandb.teardown()  # its own process writes
    assert_wandb_has_all(*tmp_path.glob("wandb/offline-run-*"))
    assert_wandb_has_all(*tmp_path.glob("mnist/run/wandb/offline-run-*"))


def assert_wandb_has_all(run):
    seen = {}
    for record in records_of_wandb(*run.glob("*.wandb")):
        items = {
            item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
        }
        if items:
            seen.setdefault(items["_step"], {}).update(items)
    assert {step: {name: seen[step][name] for name in LOGGED[step]} for step in seen} == LOGGED
    assert seen[2]["curve._type"] == "image-file"
    assert len(list(run.glob("files/media/images/curve*.png"))) == 1


def records_of_wandb(file):
    """The messages of a `.wandb` file: blocks of 32 KiB with parts of records, as of a LevelDB log."""
    from wandb.proto import wandb_internal_pb2

    content, place, message = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left_in_block = 32_768 - place % 32_768
        if left_in_block < 7:
            place += left_in_block
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        message += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(message)
            message = b""


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    logger = logger_of("MLflow", "MLflow", run_name="page")
    logged_by(logger)
    logged_by(named("mlflow", tmp_path / "mnist" / "run"))
    by_name = (tmp_path / "mnist" / "run" / "mlflow.id").read_text().strip()
    client = mlflow.MlflowClient()
    for run, figure in ((logger.run.info.run_id, "curve-2.png"), (by_name, "curve.png")):
        for name in LOGGED[1]:
            assert {metric.step: metric.value for metric in client.get_metric_history(run, name)} == {
                step: values[name] for step, values in LOGGED.items()
            }
        assert [file.path for file in client.list_artifacts(run)] == [figure]
    again = NamedLoggers(["mlflow"]).make(tmp_path / "mnist" / "run", {})  # a run that goes on goes on there
    again.close()
    assert len(client.search_runs(["0"])) == 2
    assert client.get_run(by_name).data.params["learning_rate"] == "0.1"


def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)  # it reads its directory when it is imported
    pytest.importorskip("trackio")
    logged_by(logger_of("trackio", "Trackio", project="mnist", name="page"))
    logged_by(named("trackio", tmp_path / "mnist" / "run"))
    from trackio.sqlite_storage import SQLiteStorage

    for run in ("page", "run"):
        seen = {}
        for line in SQLiteStorage.get_logs("mnist", run):
            seen.setdefault(line["step"], {}).update(line)
        assert {step: {name: seen[step][name] for name in LOGGED[step]} for step in seen} == LOGGED
        assert seen[2]["curve"]["_type"] == "trackio.image"
