"""A stranger's checkpoint: it runs nothing, and reads nothing outside of its directory."""

import json
import os
import pickle
import shutil
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tensorstore

from fourbeat.checkpoints import CheckpointError, Checkpoints, CheckpointWarning
from fourbeat.checkpoints.digest import Digest
from fourbeat.checkpoints.folders import entries
from fourbeat.checkpoints.storage import files_in

TREE = {"w": np.arange(1000.0), "b": np.ones(3, np.float32)}
FORBIDDEN = {
    "pickle.find_class",
    "marshal.load",
    "marshal.loads",
    "os.system",
    "os.exec",
    "subprocess.Popen",
    "exec",
}
events: list[tuple] = []
watching = [False]


def _watch(event, arguments):
    if watching[0] and (event in FORBIDDEN or event == "open"):
        events.append((event, arguments))


sys.addaudithook(_watch)  # a hook stays for good: so this one looks only when it is told to


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def folder(tmp_path):
    """A checkpoint in a directory beside a secret of the same shape."""
    (tmp_path / "secret").mkdir()
    np.save(tmp_path / "secret" / "w.npy", np.full(1000, 7.0))
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(1, TREE)
    with Checkpoints(tmp_path / "secret" / "run") as checkpoints:
        checkpoints.save(1, {"w": np.full(1000, 7.0), "b": TREE["b"]})
    return tmp_path / "run" / "step-1-save-1"


def sign(folder):
    """What a stranger would do: write a digest that fits the files."""
    digest = Digest.decode((folder / "digest.json").read_bytes())
    (folder / "digest.json").write_bytes(
        Digest(digest.step, {}, None, digest.leaves, files_in(folder)).encode()
    )


def restore_watched(folder):
    events.clear()
    watching[0] = True
    try:
        return Checkpoints(folder.parent).restore(TREE)
    finally:
        watching[0] = False


def check_events(tmp_path):
    opened = [str(arguments[0]) for event, arguments in events if event == "open"]
    assert not [path for path in opened if path.startswith(str(tmp_path / "secret"))]
    assert not [event for event, _ in events if event in FORBIDDEN - {"exec", "marshal.loads"}]
    assert not (tmp_path / "ran").exists()


def with_pickle_as(*names):
    def attack(folder, tmp_path):
        payload = pickle.dumps(Payload(tmp_path / "ran"))
        for name in names:
            (folder / name).write_bytes(payload)

    return attack


def with_arrays_linked(folder, tmp_path):
    shutil.rmtree(folder / "arrays")
    (folder / "arrays").symlink_to(tmp_path / "secret" / "run" / "step-1-save-1" / "arrays")


def with_file_linked(folder, tmp_path):
    other = tmp_path / "secret" / "run" / "step-1-save-1"
    for path in (other / "arrays").rglob("*"):
        if path.is_file():
            (folder / path.relative_to(other)).unlink(missing_ok=True)
            (folder / path.relative_to(other)).symlink_to(path)


def with_digest_linked(folder, tmp_path):
    (folder / "digest.json").unlink()
    (folder / "digest.json").symlink_to(tmp_path / "secret" / "run" / "step-1-save-1" / "digest.json")


def with_a_pipe(folder, tmp_path):
    os.mkfifo(folder / "arrays" / "pipe")  # opening it would wait for ever


def with_deep_json(folder, tmp_path):
    (folder / "digest.json").write_text("[" * 100_000)


REFUSED = {
    "pickled digest": (with_pickle_as("digest.json"), "digest.json cannot be read: it is no digest"),
    "pickled metadata": (
        with_pickle_as(
            "arrays/_CHECKPOINT_METADATA", "arrays/state/_METADATA", "arrays/state/manifest.ocdbt"
        ),
        "arrays/_CHECKPOINT_METADATA is not as it was written",
    ),
    "more files": (with_pickle_as("arrays/state/_sharding"), "arrays/state/_sharding does not belong to it"),
    "arrays elsewhere": (with_arrays_linked, "arrays is no plain file, but a link or a device"),
    "files elsewhere": (with_file_linked, "is no plain file, but a link or a device"),
    "digest elsewhere": (with_digest_linked, "digest.json is missing, or no plain file"),
    "a pipe": (with_a_pipe, "arrays/pipe is no plain file, but a link or a device"),
    "deep JSON": (with_deep_json, "digest.json cannot be read: it is no digest of a checkpoint"),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_a_hostile_checkpoint_is_refused(attack, folder, tmp_path):
    change, reason = REFUSED[attack]
    change(folder, tmp_path)
    with pytest.raises(CheckpointError, match=reason):
        restore_watched(folder)
    check_events(tmp_path)


SIGNED = {
    "all metadata": ["arrays/_CHECKPOINT_METADATA", "arrays/state/_METADATA", "arrays/state/manifest.ocdbt"],
    "the tree's metadata": ["arrays/state/_METADATA"],
    "the manifest": ["arrays/state/manifest.ocdbt"],
    "a sharding": ["arrays/state/_sharding"],
    "array metadata": ["arrays/array_metadatas/process_0"],
    "the checkpoint's metadata": ["arrays/_CHECKPOINT_METADATA"],
}


@pytest.mark.parametrize("attack", SIGNED)
def test_a_pickle_under_a_fitting_digest_is_not_run(attack, folder, tmp_path):
    (folder / "arrays" / "array_metadatas").mkdir(exist_ok=True)
    with_pickle_as(*SIGNED[attack])(folder, tmp_path)
    sign(folder)
    restored = TREE
    with suppress(CheckpointError):  # where Orbax did not need that file, the values are right
        restored = restore_watched(folder)
    np.testing.assert_array_equal(restored["w"], TREE["w"])
    check_events(tmp_path)


def test_paths_that_lead_out_are_only_names(folder, tmp_path):
    """Orbax's metadata and our digest name leaves by paths outside: nothing there is read."""
    outside = str(tmp_path / "secret" / "run" / "step-1-save-1" / "arrays" / "state" / "leaf_0")
    metadata = folder / "arrays" / "state" / "_METADATA"
    for name in ("../../../../secret/run/step-1-save-1/arrays/state/leaf_0", outside):
        metadata.write_text(metadata.read_text().replace("leaf_0", name.replace("'", "")))
        sign(folder)
        with pytest.raises(CheckpointError, match="Orbax cannot read arrays/"):
            restore_watched(folder)
        check_events(tmp_path)

    content = json.loads((folder / "digest.json").read_text())
    content["files"] = {"../../secret/w.npy": "0" * 64}
    digest = Digest.decode((folder / "digest.json").read_bytes())
    (folder / "digest.json").write_bytes(Digest(1, {}, None, digest.leaves, content["files"]).encode())
    with pytest.raises(CheckpointError, match=r"\.\./\.\./secret/w.npy is missing"):
        restore_watched(folder)
    check_events(tmp_path)


LINK = (
    "step 9 in {run}/step-9-save-9 is damaged: it is a link to {to}, which is not followed: a link could "
    "lead anywhere. Put the folder itself, or a copy, in its place."
)


def test_a_link_is_not_followed_and_not_passed_over_in_silence(folder, tmp_path):
    link, to = folder.with_name("step-9-save-9"), tmp_path / "secret" / "run" / "step-1-save-1"
    link.symlink_to(to)
    (folder.parent / "step-8-save-8.saving").symlink_to(tmp_path / "secret")
    said = LINK.format(run=folder.parent, to=to)
    with Checkpoints(folder.parent, mode="min") as checkpoints:
        assert (checkpoints.steps, checkpoints.latest, checkpoints.best) == ((1,), 1, None)
        for step in ("latest", "best"):
            with pytest.warns(CheckpointWarning) as warned:
                np.testing.assert_array_equal(checkpoints.restore(TREE, step=step)["w"], TREE["w"])
            assert [str(warning.message) for warning in warned] == [f"{said}\nStep 1 was restored instead."]
        with pytest.raises(CheckpointError) as error:
            checkpoints.restore(TREE, step=9)
        assert str(error.value) == f"{said}\nRestore another: 1."
        checkpoints.save(2, TREE)
    assert sorted(path.name for path in folder.parent.iterdir()) == [
        "step-2-save-10", "step-8-save-8.saving", "step-9-save-9",
    ]  # fmt: skip
    assert link.is_symlink() and (tmp_path / "secret" / "w.npy").exists(), "cleaning follows no link"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints.restore(TREE)  # of a link that is older there is nothing to say


@pytest.mark.parametrize("to", ["to a checkpoint", "to nowhere", "a file"])
def test_where_only_a_link_lies_nothing_starts_anew_in_silence(to, folder, tmp_path):
    directory = tmp_path / "moved"
    directory.mkdir()
    link = directory / "step-9-save-9"
    reason = "digest.json is missing, or no plain file."
    if to == "a file":
        link.touch()
    else:
        target = folder if to == "to a checkpoint" else tmp_path / "gone"
        link.symlink_to(target)
        reason = LINK.format(run=directory, to=target).split("is damaged: ")[1]
    checkpoints = Checkpoints(directory)
    for restore in (checkpoints.restore, checkpoints.restore_or):
        with pytest.raises(CheckpointError) as error:
            restore(TREE)
        assert str(error.value) == f"step 9 in {link} is damaged: {reason}\nThere is no other checkpoint."


def test_keys_that_look_like_paths_stay_inside(tmp_path):
    tree = {"../../outside": {"..": np.ones(3)}, "/etc/passwd": np.zeros(2), "a/../b": np.ones(1)}
    with Checkpoints(tmp_path / "deep" / "run") as checkpoints:
        checkpoints.save(1, tree)
    restored = checkpoints.restore(tree)
    np.testing.assert_array_equal(restored["../../outside"][".."], np.ones(3))
    assert os.listdir(tmp_path) == ["deep"] and os.listdir(tmp_path / "deep") == ["run"]
    assert [entry.step for entry in entries(Path(tmp_path / "deep" / "run"))] == [1]


def test_tensorstore_leaves_its_folder_by_no_key(folder):
    """What Orbax's own files may name besides our leaves: TensorStore opens nothing above its root."""
    root = {"driver": "file", "path": f"{folder}/arrays/"}
    store = tensorstore.KvStore.open(root).result()
    assert store.read("commit_success.txt").result().value
    with pytest.raises(ValueError, match="Invalid key"):
        store.read("../digest.json").result()
