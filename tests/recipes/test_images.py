"""The recipe for pictures of one's own, on tiny budgets. What it reads: test_pictures.py."""

import base64
import functools
import gzip
import importlib.util
import io
import itertools
import json
import re
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support
from sklearn.utils.class_weight import compute_class_weight

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.compiling import compile
from fourbeat.data.readers.picture_formats import SUFFIXES
from fourbeat.recipes import images
from fourbeat.recipes.images import Images
from fourbeat.recipes.pictures import write_mistakes
from fourbeat.recipes.pictures.decoding import decoded
from fourbeat.runs import Interrupted
from tests.browser import Browser
from tests.kinds import assert_bit_equal
from tests.recipes.picture_folders import NO_PICTURE, digit, write_digits

COUNTS = {0: 20, 1: 40, 7: 10}  # 56 to train on, 3 steps of 16 an epoch; 14 held out
FLAGS = {
    "steps": 5,
    "batch_size": 16,
    "size": (16, 16, 1),
    "width": 2,
    "blocks": 1,
    "eval_every": 3,
}
FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of three digits, one of them also as JPEG in colour, and what is left out."""
    path = write_digits(tmp_path_factory.mktemp("data"), COUNTS)
    Image.fromarray(digit(0, 0)).resize((60, 40)).convert("RGB").save(path / "digit 0" / "large.jpg")
    (path / "digit 0" / "000.png").write_text("damaged")
    return path


@pytest.fixture(scope="module", autouse=True)
def one_program():
    """All runs of the same flags share the program of their step."""
    make_beats, make_batches = functools.cache(images.make_beats), images.make_batches
    steps = functools.cache(lambda step, options: compile(step, compiler_options=dict(options)))
    batches = {}

    def kept(config, pictures):
        key = (config, tuple(pictures.pictures))
        return batches.setdefault(key, make_batches(config, pictures))

    of_call = {"out": None, "resume": None, "max_seconds": None, "log_every": 50, "save_every": None}
    plain = lambda config: images.dataclasses.replace(config, **of_call)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "make_beats", lambda config: make_beats(plain(config)))
        patch.setattr(images, "make_batches", lambda config, pictures: kept(plain(config), pictures))
        patch.setattr(
            fb,
            "compile",
            lambda step, *, mesh, compiler_options: steps(step, tuple(compiler_options.items())),
        )
        yield


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """`(directory, state)` of a run that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, images.train(Images(folder, out=out, **FLAGS))


@pytest.fixture(scope="module")
def held_out(folder, whole):
    """`(files, labels, logits)` of what is held out, by the averaged model as it is."""
    _, pictures = images.read(Images(folder, **FLAGS))
    files = pictures.files("valid")
    pixels = np.stack([decoded(file, (16, 16, 1)) for file in files])
    labels = np.array([pictures.classes.index(file.parent.name) for file in files])
    return files, labels, np.asarray(whole[1].ema_model(pixels.astype(np.float32) / 255))


def test_a_run_writes_what_it_promises_and_says_what_it_chose(folder, whole, held_out, capsys):
    path, _ = whole
    files = {"config.json", "metrics.jsonl", "result.json", "curves.png", "confusion_matrix.png"}
    files |= {"summary.json", "checkpoints", "lock", "pictures.csv", "mistakes.html"}
    assert {file.name for file in path.iterdir()} == files
    flags = json.loads((path / "config.json").read_text())["flags"]
    assert (flags["directory"], flags["classes"]) == (str(folder), ["digit 0", "digit 1", "digit 7"])
    assert (flags["stages"], flags["class_weights"], flags["precision"]) == (2, "balanced", "float32")
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 5, 5]
    _, labels, logits = held_out
    right = (logits.argmax(-1) == labels).mean()
    assert lines[1]["eval_accuracy"] == lines[2]["valid_accuracy"] == pytest.approx(right, abs=1e-6)
    page = (path / "mistakes.html").read_text()  # of the last step, as the scores beside it
    assert (
        f"after step 5, {round(14 * (1 - lines[2]['valid_accuracy']))} of 14 held-out pictures are " in page
    )
    balanced = balanced_accuracy_score(labels, logits.argmax(-1))
    assert lines[1]["eval_balanced_accuracy"] == pytest.approx(balanced, abs=1e-6)
    config, pictures = images.read(Images(folder, **{**FLAGS, "steps": None, "size": None, "width": None}))
    images.say_chosen(config, pictures)
    assert capsys.readouterr().out.splitlines() == [
        "70 pictures of 3 classes: 56 to train on, 14 to evaluate, 0 to test",
        "seen as 32 x 32 in colour (the middle one is 28 x 28); 3 stages of 1 from 32 channels; 600 steps of "
        "16; float32",
        "class weights from 0.583 for digit 1 to 2.33 for digit 7",
    ]
    weights = compute_class_weight("balanced", classes=np.arange(3), y=pictures.labels("train"))
    np.testing.assert_allclose(images.class_weights(pictures.counts("train")), weights, rtol=1e-6)


def test_it_is_evaluated_predicts_and_is_exported_by_its_averaged_weights(
    folder, whole, held_out, tmp_path, capsys, monkeypatch
):
    path, state = whole
    files, labels, logits = held_out
    monkeypatch.chdir(tmp_path)  # the run knows where its pictures are
    main(["evaluate", str(path), "--step", "latest", "--json"])
    said = json.loads(capsys.readouterr().out)
    expected = precision_recall_fscore_support(labels, logits.argmax(-1), labels=range(3), zero_division=0)
    np.testing.assert_allclose(said["precision"], expected[0], atol=1e-6)
    np.testing.assert_allclose(said["recall"], expected[1], atol=1e-6)
    main(["evaluate", str(path), "--step", "latest"])
    first, header, *rows, last = capsys.readouterr().out.splitlines()
    assert first == f"{path}   step 5   14 held-out pictures"
    assert header.split() == ["class", "precision", "recall", "examples"]
    assert [row.rsplit(maxsplit=3)[0] for row in rows] == ["digit 0", "digit 1", "digit 7"]
    assert last.startswith(f"held out loss {said['loss']:.4f} accuracy {said['accuracy']:.4f} balanced_")

    (tmp_path / "some").mkdir()
    Image.fromarray(digit(1, 50)).save(tmp_path / "some" / "a.png")
    (tmp_path / "some" / "._a.png").write_text("passed over")  # as some systems leave them
    (tmp_path / "some" / "notes.txt").write_text("no picture")
    Path("b.png").write_text("damaged")
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(path), str(files[0]), "b.png", "some", "--json", "--step", "latest"])
    out, err = capsys.readouterr()
    text = f"b.png {NO_PICTURE}"
    assert (stop.value.code, err) == (2, f"fourbeat: {text}\n")
    said = json.loads(out)
    assert [row["image"] for row in said["predictions"]] == [str(files[0]), "some/a.png"]
    assert said["not_read"] == {"b.png": text}
    one = said["predictions"][0]
    np.testing.assert_allclose(list(one["probabilities"].values()), jax.nn.softmax(logits[0]), atol=1e-5)
    assert one["class"] == max(one["probabilities"], key=one["probabilities"].get)
    main(["predict", str(path), str(files[0]), "--step", "latest"])
    first, header, row = capsys.readouterr().out.splitlines()
    assert first == f"{path}   step 5   each picture seen as 16 x 16"
    assert row.startswith(f"{files[0]}  {one['class']}  {one['probabilities'][one['class']]:.4f}")
    Path("none").mkdir()
    for given, told in {
        "": "predict needs pictures: fourbeat predict RUN FILE...",
        "none": f"the folder none holds no picture: no {', '.join(SUFFIXES)}.",
    }.items():
        with pytest.raises(SystemExit) as stop:
            main(["predict", str(path), *given.split()])
        assert (stop.value.code, *capsys.readouterr()) == (2, "", f"fourbeat: {told}\n")

    main(["export", str(path), "--to", "out", "--step", "latest"])
    assert capsys.readouterr().out.splitlines()[-1] == "largest difference to fb.predictor: 0"
    loaded = fb.models.load("out")
    assert (loaded.classes, loaded.signature.preprocessing) == (
        ("digit 0", "digit 1", "digit 7"),
        ("to_float",),
    )
    pixels = np.stack([decoded(file, (16, 16, 1)) for file in files])
    np.testing.assert_allclose(loaded.predict({"image": pixels}), logits, atol=1e-5)
    weights = safetensors.numpy.load_file("out/weights.safetensors")
    np.testing.assert_array_equal(weights["linear/kernel"], state.ema["linear"]["kernel"])


def test_a_picture_it_was_scored_on_that_has_changed_is_named(folder, whole, held_out, tmp_path, capsys):
    file = held_out[0][0]
    kept = file.read_bytes()
    try:
        Image.fromarray(digit(3, 0)).save(file)
        with pytest.raises(SystemExit):
            main(["evaluate", str(whole[0])])
        told = f"{file} has changed since {whole[0]} began, and it is scored on it. Put it back."
        assert capsys.readouterr().err == f"fourbeat: {told}\n"
        file.unlink()
        with pytest.raises(SystemExit):
            main(["evaluate", str(whole[0])])
        told = f"{whole[0]} was scored on a picture that is not there any more: cannot read {file}: "
        assert capsys.readouterr().err == f"fourbeat: {told}No such file or directory.\n"
    finally:
        file.write_bytes(kept)


def test_stopped_twice_it_goes_on_without_the_folder_and_ends_with_the_same_bits(
    folder, whole, tmp_path, monkeypatch, capsys
):
    path, state = whole
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        signal_in_evaluation(patch)
        with pytest.raises(Interrupted) as caught:
            images.train(Images(folder, out=out, **FLAGS))
    to_go_on = f"saved; to go on:\nfourbeat train images --resume {out}"
    assert str(caught.value) == f"stopped at step 3, {to_go_on}"
    monkeypatch.chdir(tmp_path)
    main(["train", "images", "--resume", "run", "--max-seconds", "1e-6"])
    assert f"stopped at step 3, {to_go_on}\n".replace(str(out), "run") in capsys.readouterr().out
    main(["train", "images", "--resume", "run", "--max-seconds", "1e-6", "--save-every", "1"])
    main(["train", "images", "--resume", "run"])
    printed = capsys.readouterr().out
    assert "going on from step 4" in printed and "no longer" not in printed
    resumed = fb.Checkpoints(out / "checkpoints", mode="max").restore({"state": state}, partial=True)[0]
    assert_bit_equal(resumed["state"], state)
    for name in ("metrics.jsonl", "result.json", "pictures.csv", "mistakes.html"):
        assert (out / name).read_text().replace(str(out), str(path)).replace(
            "Mistakes of run", f"Mistakes of {path}"
        ) == (path / name).read_text()
    Image.fromarray(digit(0, 99)).save(folder / "digit 0" / "late.png")
    try:
        with pytest.raises(SystemExit):
            main(["train", "images", "--resume", "run", "--steps", "6"])
        assert "began with: 1 new, such as digit 0/late.png. Put them back" in capsys.readouterr().err
    finally:
        (folder / "digit 0" / "late.png").unlink()


def test_plain_it_gives_the_same_bits_without_fourbeat(folder, whole, tmp_path, capsys):
    path, state = whole
    main(["new", "images", str(tmp_path / "train.py"), "--plain"])
    assert "fourbeat" not in (tmp_path / "train.py").read_text()
    own = loaded(tmp_path / "train.py")
    capsys.readouterr()
    flags = {name: value for name, value in FLAGS.items() if name != "blocks"}
    model, classes = own.train(folder, **flags)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"left out: {folder}/digit 0/000.png: cannot identify image file")
    assert said[1] == "56 pictures to train on, 14 held out, seen as (16, 16, 1)"
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()][:2]
    for line, expected in zip(said[2:], lines, strict=True):
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", line)]
        names = ["train_loss", "train_accuracy", "eval_loss", "eval_accuracy", "eval_balanced_accuracy"]
        np.testing.assert_allclose(numbers, [expected[name] for name in names], atol=1e-4)
    assert classes == ["digit 0", "digit 1", "digit 7"]
    own.save(model, tmp_path / "parameters.npz")
    learnt = dict(np.load(tmp_path / "parameters.npz"))
    for tree in (state.ema, state.rest):
        for place, leaf in jax.tree.leaves_with_path(tree):
            name = jax.tree_util.keystr(place, simple=True, separator=".")
            if not name.startswith("dropout"):
                assert_bit_equal(learnt.pop(name), leaf)
    assert not learnt


def loaded(path):
    """A file as a module."""
    spec = importlib.util.spec_from_file_location("own_images", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def signal_in_evaluation(patch):
    """SIGTERM to this process during the first batch of the first evaluation."""
    counter = itertools.count(1)
    real = fb.data.Batches.__getitem__

    def getitem(batches, step):
        if batches.num_examples == 14 and next(counter) == 1:
            signal.raise_signal(signal.SIGTERM)
        return real(batches, step)

    patch.setattr(fb.data.Batches, "__getitem__", getitem)


def test_training_sees_mixes_and_weights_by_class_and_evaluation_neither(folder):
    _, pictures = images.read(Images(folder, **FLAGS))
    config = Images(folder, **FLAGS, mixup=0.2, augment=False, class_weights="balanced")
    mixed, valid = images.make_batches(config, pictures)
    plain = images.make_batches(images.dataclasses.replace(config, mixup=0.0), pictures)[0]
    batch, own = mixed[4].materialize(), plain[4].materialize()
    np.testing.assert_array_equal(batch["label"], own["label"])
    weights = images.class_weights(pictures.counts("train"))
    np.testing.assert_allclose(own["class_weight"], weights[own["label"]])
    np.testing.assert_array_equal(own["target"], np.eye(3)[own["label"]])
    flat, others = (np.asarray(each["image"]).reshape(16, -1) for each in (batch, own))
    partners = set()
    for place in range(16):  # which other picture, and how much of it, gives this mix
        shares = [
            (flat[place] - others[place])
            @ (other - others[place])
            / max(np.sum((other - others[place]) ** 2), 1e-9)
            for other in others
        ]
        rests = [
            np.abs(flat[place] - (1 - share) * others[place] - share * other).max()
            for share, other in zip(shares, others, strict=True)
        ]
        partner = int(np.argmin(rests))
        share = shares[partner]
        assert rests[partner] < 1e-4 and -1e-4 < share < 0.5001
        partners.add(partner)
        if share > 0.01:
            for name in ("target", "class_weight"):
                expected = (1 - share) * own[name][place] + share * own[name][partner]
                np.testing.assert_allclose(batch[name][place], expected, atol=1e-3)
    assert len(partners) > 8
    assert set(valid[0].materialize()) == {"image", "label", "weight"}
    model = lambda image: jnp.log(jnp.array([[0.5, 0.3, 0.2]] * len(image)))
    target = np.array([[0.9, 0.1, 0], [0, 0, 1]], np.float32)
    batch = {
        "image": np.zeros((2, 1)),
        "label": np.array([0, 2]),
        "target": target,
        "class_weight": np.array([2, 3.0]),
    }
    expected = [-2 * (0.9 * np.log(0.5) + 0.1 * np.log(0.3)), -3 * np.log(0.2)]
    np.testing.assert_allclose(images.loss_fn(model, batch)[0], expected, rtol=1e-5)
    del batch["target"]
    np.testing.assert_allclose(images.loss_fn(model, batch)[0], -np.log([0.5, 0.2]), rtol=1e-5)


def test_a_shift_by_whole_pixels_is_exact_in_each_channel_and_a_mirror_too():
    picture = np.random.RandomState(0).rand(9, 12, 3).astype(np.float32)
    shifted = images.moved(picture, jnp.array([2.0, -3.0]), 0.0, 1.0)
    expected = np.pad(picture, ((2, 0), (0, 3), (0, 0)), mode="edge")[:9, 3:]
    np.testing.assert_allclose(shifted, expected, atol=1e-6)
    mirrored = np.asarray(images.flip({"image": np.stack([picture] * 40)}, jax.random.key(0))["image"])
    kinds = [np.array_equal(each, picture) for each in mirrored]
    assert 8 < sum(kinds) < 32
    assert all(
        np.array_equal(each, picture[:, ::-1]) for each, same in zip(mirrored, kinds, strict=True) if not same
    )


def test_the_page_of_mistakes_has_the_worst_first_with_their_pictures(tmp_path):
    names = ["<b>0", "one", "7"]
    folder = tmp_path / "a&b"
    folder.mkdir()
    files = [folder / f"{place}.png" for place in range(4)] + [folder / "large.jpg"]
    for place, file in enumerate(files[:4]):
        Image.fromarray(digit(place, 0)).save(file)
    Image.fromarray(digit(4, 0)).resize((900, 600)).save(files[4])
    labels = np.array([0, 1, 2, 0, 1])
    logits = np.log(
        [[0.1, 0.9, 1e-9], [0.2, 0.7, 0.1], [0.5, 0.1, 0.4], [0.9, 0.05, 0.05], [0.98, 0.01, 0.01]]
    )
    file = write_mistakes(tmp_path, files, labels, logits, names, part="valid", step=1200)
    page = file.read_text()
    assert (
        "<p>With the weights after step 1,200, 3 of 5 held-out pictures are taken for another class: 40.00 % "
        "are right.</p>"
    ) in page
    assert re.findall(r'<span class="name">(.*?)</span>', page) == [
        "a&amp;b/large.jpg", "a&amp;b/0.png", "a&amp;b/2.png",
    ]  # fmt: skip
    rows = re.findall(r'<span class="row (\w+)"><span>(.*?)</span><span>(.*?)</span>', page)
    assert rows[:2] == [("wrong", "taken for &lt;b&gt;0", "0.980"), ("right", "is one", "0.010")]
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)", page)
    ]
    assert [picture.size for picture in pictures] == [(160, 107), (28, 28), (28, 28)]
    np.testing.assert_array_equal(np.asarray(pictures[1]), digit(0, 0))
    assert "1 times <b>&lt;b&gt;0</b> taken for <b>one</b>" in page and "http" not in page
    browser = Browser()
    try:
        for dark in (False, True):
            browser.open(file, width=390, dark=dark)
            seen = browser.value_of(
                "JSON.stringify([...document.images].map((each) => each.naturalWidth)"
                ".concat(document.documentElement.scrollWidth))"
            )
            assert json.loads(seen) == [160, 28, 28, 390]
        assert [each for each in browser.complaints if not each.startswith("data:image/")] == []
    finally:
        browser.close()
    right = np.eye(3)[labels[:2]]
    page = write_mistakes(tmp_path, files[:2], labels[:2], right, names, part="test", step=7).read_text()
    assert "With the weights after step 7, 0 of 2 test pictures are taken for another class: 100.00 %" in page
    assert "Nothing is wrong; these are the least sure" in page and page.count("<figure>") == 2


@pytest.mark.skipif(not FASHION.exists(), reason="the package dataset-fashion-mnist is not installed")
def test_it_learns_clothes(tmp_path, capsys):
    raw = [
        gzip.decompress((FASHION / f"train-{name}-ubyte.gz").read_bytes())
        for name in ("images-idx3", "labels-idx1")
    ]
    pixels = np.frombuffer(raw[0], np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(raw[1], np.uint8, offset=8)
    names = {0: "shirt", 1: "trousers", 7: "sneaker", 8: "bag"}
    for label, name in names.items():
        (tmp_path / "clothes" / name).mkdir(parents=True)
        for place in np.flatnonzero(labels == label)[:60]:
            Image.fromarray(pixels[place]).save(tmp_path / "clothes" / name / f"{place}.png")
    config = Images(
        tmp_path / "clothes", out=tmp_path / "run", steps=60, batch_size=32, size=(16, 16, 1), width=8,
        stages=1, dropout=0.0, augment=False, learning_rate=2e-2, eval_every=60,
    )  # fmt: skip
    images.train(config)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["accuracy"] > 0.8  # 0.25 by chance
