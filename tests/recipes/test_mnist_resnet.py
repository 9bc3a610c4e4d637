"""The residual network on MNIST, on tiny budgets."""

import functools
import itertools
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.compiling import compile
from fourbeat.recipes import mnist_resnet
from fourbeat.recipes.mnist_resnet import MnistResNet
from fourbeat.runs import Interrupted
from tests.kinds import assert_bit_equal

FLAGS = {"steps": 7, "batch_size": 32, "width": 2}
PIXELS, LABELS = (fb.data.mnist()[1].columns[name][:100] for name in ("image", "label"))
IMAGES = PIXELS.astype(np.float32) / 255


@pytest.fixture(scope="module", autouse=True)
def little_data():
    """160 images to train on, 5 steps an epoch; 96 held out, 3 batches; 100 to test. One program for all."""
    train, test = fb.data.mnist()
    beats = mnist_resnet.make_beats(MnistResNet(**FLAGS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist_resnet, "HELD_OUT", 96)
        patch.setattr(fb.data, "mnist", lambda: (train[:256], test[:100]))
        patch.setattr(mnist_resnet, "make_beats", lambda config: beats)
        compiled = functools.cache(lambda step, options: compile(step, compiler_options=dict(options)))
        patch.setattr(
            fb,
            "compile",
            lambda step, *, mesh, compiler_options: compiled(step, tuple(compiler_options.items())),
        )
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`(directory, state)` of a run that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, mnist_resnet.train(MnistResNet(out=out, **FLAGS))


def moved(image, shift=(0, 0), angle=0, scale=1):
    return np.asarray(mnist_resnet.moved(image, *(jnp.array(x, jnp.float32) for x in (shift, angle, scale))))


def test_a_shift_by_whole_pixels_is_exact_and_zeros_come_in():
    shifts = itertools.product(range(-3, 4), (-9, 0, 9))
    for image, (down, right) in zip(IMAGES, shifts, strict=False):
        padded = np.pad(image[..., 0], 9)
        expected = padded[9 - down : 37 - down, 9 - right : 37 - right, None]
        np.testing.assert_array_equal(moved(image, (down, right)), expected)


def test_every_move_is_that_of_scipy():
    random = np.random.RandomState(0)
    for image in IMAGES[:20]:
        shift, angle, scale = random.uniform(-4, 4, 2), random.uniform(-3, 3), random.uniform(0.5, 2)
        # SciPy takes the way back as well: from a place in the result to that in the image
        back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
        offset = 13.5 - back @ (13.5 + shift)
        expected = ndimage.affine_transform(image[..., 0], back, offset, order=1, mode="grid-constant")
        np.testing.assert_allclose(moved(image, shift, angle, scale)[..., 0], expected, atol=2e-5)
    anticlockwise = moved(IMAGES[0], angle=np.pi / 2)
    np.testing.assert_allclose(anticlockwise, np.rot90(IMAGES[0]), atol=1e-5)
    assert moved(IMAGES[0], scale=1.3).sum() > 1.5 * IMAGES[0].sum()  # 1.3 ** 2 is 1.69


def test_the_moves_fill_their_limits():
    bar = np.zeros((400, 28, 28, 1), np.float32)
    bar[:, 12:16, 6:22] = 1
    images = np.asarray(mnist_resnet.augment({"image": bar}, jax.random.key(0))["image"], np.float64)[..., 0]
    mass = images.sum(axis=(1, 2))
    row, column = (np.einsum(f"nrc,{axis}->n", images, np.arange(28)) / mass for axis in "rc")
    down, right = (np.arange(28) - middle[:, None] for middle in (row, column))
    height, slope, width = (
        np.einsum("nrc,nr,nc->n", images, *by) / mass
        for by in ((down**2, right**0), (down, right), (down**0, right**2))
    )
    angle = np.arctan2(2 * slope, width - height) / 2  # of the longer axis of the bar
    measured = {"down": row - 13.5, "right": column - 13.5, "angle": angle, "scale": np.sqrt(mass / 64) - 1}
    limits = {"down": 2, "right": 2, "angle": 0.2, "scale": 0.1}
    for name, limit in limits.items():
        ends = [measured[name].min(), measured[name].max()]
        np.testing.assert_allclose(ends, [-limit, limit], rtol=0.06, err_msg=name)
    related = np.corrcoef(list(measured.values())) - np.eye(4)
    assert np.abs(related).max() < 0.2  # each is drawn for itself


def test_only_images_to_train_on_are_moved_and_each_step_anew():
    train_batches, *others = mnist_resnet.make_batches(MnistResNet(**FLAGS))
    for batches in others:
        pixels = 255 * np.asarray(batches[0]["image"])
        np.testing.assert_allclose(pixels, pixels.round(), atol=1e-4)  # the bytes of the files still
    batch, again, next_epoch = (np.asarray(train_batches[step]["image"]) for step in (0, 0, 5))
    np.testing.assert_array_equal(batch, again)
    assert not np.isin(next_epoch.sum(axis=(1, 2, 3)), batch.sum(axis=(1, 2, 3))).any()


def test_weight_decay_is_of_kernels_alone(whole):
    config = MnistResNet(**FLAGS, learning_rate=0.5, weight_decay=0.25)
    params = whole[1].params
    tx = mnist_resnet.make_optimizer(config)
    update, zeros = jax.jit(tx.update), jax.tree.map(np.zeros_like, params)
    _, state = update(zeros, tx.init(params), params)  # warm-up: one step of a rate of 0
    updates, _ = update(zeros, state, params)
    names = {path[-1].key for path, _ in jax.tree.leaves_with_path(params)}
    assert names == {"kernel", "scale", "bias"}
    for (path, param), update in zip(
        jax.tree.leaves_with_path(params), jax.tree.leaves(updates), strict=True
    ):
        expected = -0.125 * param if path[-1].key == "kernel" else jnp.zeros_like(param)
        np.testing.assert_allclose(update, expected, rtol=1e-6)


def test_a_run_prints_and_writes_what_it_promises_and_can_be_evaluated_and_predict(whole, tmp_path, capsys):
    path, state = whole
    files = {"config.json", "metrics.jsonl", "result.json", "curves.png", "confusion_matrix.png"}
    assert {file.name for file in path.iterdir()} == {*files, "summary.json", "checkpoints", "lock"}
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 7, 7]
    # what was learnt, against NumPy's own count on the plain model
    logits = np.asarray(state.model(IMAGES))
    right = int((logits.argmax(-1) == LABELS).sum())
    assert lines[-1]["test_accuracy"] == pytest.approx(right / 100, abs=1e-6)
    main(["evaluate", str(path), "--step", "latest"])
    assert f"test accuracy {right / 100:.4f}\n" in capsys.readouterr().out
    Image.fromarray(PIXELS[3, :, :, 0]).save(tmp_path / "digit.png")
    main(["predict", str(path), str(tmp_path / "digit.png"), "--json", "--step", "latest"])
    [said] = json.loads(capsys.readouterr().out)["predictions"]
    np.testing.assert_allclose(said["probabilities"], jax.nn.softmax(logits[3]), rtol=1e-4, atol=1e-6)
    mnist_resnet.train(MnistResNet(out=path, resume="latest", **FLAGS))
    assert capsys.readouterr().out.startswith(f"{path} is finished, nothing to do   result loss ")


def test_stopped_twice_it_goes_on_and_ends_with_the_same_bits(whole, tmp_path, monkeypatch, capsys):
    path, state = whole
    out = tmp_path / "run"
    to_go_on = f"saved; to go on:\nfourbeat train mnist-resnet --resume {out}"
    with monkeypatch.context() as patch:
        signal_in_evaluation(patch)
        with pytest.raises(Interrupted) as caught:
            mnist_resnet.train(MnistResNet(out=out, **FLAGS))
    assert (str(caught.value), caught.value.signal) == (f"stopped at step 5, {to_go_on}", signal.SIGTERM)
    assert not (out / "metrics.jsonl").exists()
    mnist_resnet.train(MnistResNet(out=out, resume="latest", max_seconds=1e-6, **FLAGS))
    assert f"stopped at step 5, {to_go_on}\n" in capsys.readouterr().out  # its evaluation is made up for
    mnist_resnet.train(MnistResNet(out=out, resume="latest", max_seconds=1e-6, save_every=1, **FLAGS))
    assert fb.Checkpoints(out / "checkpoints", mode="max").steps == (5, 6)
    resumed = mnist_resnet.train(MnistResNet(out=out, resume="latest", **FLAGS))
    printed = capsys.readouterr().out
    assert "going on from step 6" in printed and "no longer" not in printed
    assert_bit_equal(resumed, state)
    for name in ("metrics.jsonl", "result.json"):
        assert (out / name).read_text() == (path / name).read_text()


def signal_in_evaluation(patch):
    """SIGTERM to this process during the second batch of the first evaluation."""
    counter = itertools.count(1)
    real = fb.data.Batches.__getitem__

    def getitem(batches, step):
        if batches.num_examples == 96 and next(counter) == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(batches, step)

    patch.setattr(fb.data.Batches, "__getitem__", getitem)
