import gzip
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from fourbeat.data import mnist as mnist_function
from fourbeat.data import mnist_digits
from fourbeat.data.mnist_digits import divide_by_255, image_to_float, mnist

FILES = Path(mnist_digits.__file__).parent / "mnist_files"
BYTES = np.arange(256, dtype=np.uint8)
IN_NUMPY = BYTES.astype(np.float32) / 255


def test_the_known_facts():
    train, test = mnist()
    images = train.columns["image"]
    assert images.shape == (60000, 28, 28, 1) and test.columns["image"].shape == (10000, 28, 28, 1)
    assert images.dtype == np.uint8
    # The mean and deviation that half the world's MNIST code normalises by.
    counts = np.bincount(images.ravel(), minlength=256) / images.size
    mean = counts @ (BYTES / 255)
    assert round(float(mean), 4) == 0.1307
    assert round(float(np.sqrt(counts @ (BYTES / 255 - mean) ** 2)), 4) == 0.3081
    assert np.bincount(train.columns["label"]).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert np.bincount(test.columns["label"]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert train.columns["label"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@pytest.mark.parametrize("resident", [True, False])
def test_a_batch_has_the_bits_of_numpys_division(resident):
    _, test = mnist()
    batch = jax.jit(dict)(test.batches(32, shuffle=True, resident=resident)[3])
    examples = np.random.RandomState([0, 0]).permutation(10000)[96:128]
    expected = test.columns["image"][examples].astype(np.float32) / 255
    assert np.asarray(batch["image"]).tobytes() == expected.tobytes()
    assert batch["image"].dtype == np.float32 and batch["image"].shape == (32, 28, 28, 1)
    assert batch["label"].dtype == np.int32
    assert np.array_equal(batch["label"], test.columns["label"][examples])
    assert batch["weight"].tolist() == [1.0] * 32


@pytest.mark.parametrize("wrap", [lambda function: function, jax.jit], ids=["eager", "compiled"])
def test_the_division_is_exact_for_every_byte(wrap):
    assert np.asarray(wrap(divide_by_255)(BYTES)).tobytes() == IN_NUMPY.tobytes()


def test_the_division_is_exact_whichever_product_a_compiler_fuses():
    high, rest = np.float32(1 / 256), np.float32(1 / 255 - 1 / 256)
    values = BYTES.astype(np.float64)  # holds both products and their sum without rounding
    once = (values * float(high) + values * float(rest)).astype(np.float32)
    rounded_rest = (values.astype(np.float32) * rest).astype(np.float64)
    twice = (values * float(high) + rounded_rest).astype(np.float32)
    assert np.array_equal(once, IN_NUMPY) and np.array_equal(twice, IN_NUMPY)


def test_a_second_call_gives_the_same_objects():
    assert mnist_function is mnist
    first, second = mnist(), mnist()
    assert first[0] is second[0] and first[1] is second[1]
    assert first[0]._transforms[0].function is image_to_float
    with pytest.raises(ValueError, match="read-only"):
        first[0].columns["image"][0] = 0


@pytest.fixture
def directory(tmp_path):
    for path in FILES.glob("*.gz"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_a_directory_of_files_with_or_without_gz(directory):
    name = "t10k-images-idx3-ubyte"
    (directory / name).write_bytes(gzip.decompress((directory / f"{name}.gz").read_bytes()))
    (directory / f"{name}.gz").unlink()
    for part, packaged in zip(mnist(directory), mnist(), strict=True):
        assert np.array_equal(part.columns["image"], packaged.columns["image"])
        assert np.array_equal(part.columns["label"], packaged.columns["label"])


REPAIR = "Get the file anew, or call mnist() for the files that come with fourbeat."


def test_a_missing_file_is_named(directory):
    path = directory / "train-labels-idx1-ubyte.gz"
    path.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        mnist(str(directory))
    assert str(caught.value) == f"the MNIST file {path} is missing. {REPAIR}"


def test_damaged_bytes_are_named(directory):
    path = directory / "train-labels-idx1-ubyte.gz"
    labels = bytearray(gzip.decompress(path.read_bytes()))
    labels[5000] ^= 1
    path.write_bytes(gzip.compress(labels))
    with pytest.raises(ValueError) as caught:
        mnist(directory)
    assert str(caught.value) == (
        f"the MNIST file {path} is damaged: the sha256 of its decompressed bytes is "
        "c15022051061477875417ea021704671349bf92b2d8fdd0f80591b441b0c5f97, expected "
        f"65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5. {REPAIR}"
    )


def test_a_damaged_packaged_file_says_to_reinstall(directory, monkeypatch):
    path = directory / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    monkeypatch.setattr(mnist_digits, "_PACKAGED", directory)
    with pytest.raises(ValueError) as caught:
        mnist()
    assert str(caught.value) == (
        f"the MNIST file {path} is damaged: Compressed file ended before the end-of-stream marker "
        "was reached. Reinstall fourbeat (pip install --force-reinstall fourbeat)."
    )
