"""`fourbeat predict`: files of every kind, and the digits of MNIST under every conversion."""

import gzip
import json
import os
import struct
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.data.readers.picture_formats import SUFFIXES
from fourbeat.recipes.digits.images import read_images
from fourbeat.recipes.digits.normalising import to_digit
from tests.recipes.picture_folders import NO_PICTURE

DIGITS = fb.data.mnist()[1].columns["image"][:12, :, :, 0]


def write_idx(path, array):
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())
    return path


def on_page(digit, paper, ink, size=(640, 480)):
    """A digit written with ink on a large sheet of coloured paper."""
    page = Image.new("L", size, 0)
    page.paste(Image.fromarray(digit).resize((224, 224), Image.Resampling.BICUBIC), (300, 40))
    share = np.asarray(page)[..., None] / 255
    return Image.fromarray((np.array(paper) * (1 - share) + np.array(ink) * share).astype(np.uint8))


def transparent(digit, ink):
    large = Image.fromarray(digit).resize((90, 90), Image.Resampling.BICUBIC)
    picture = Image.new("RGBA", (120, 200), (0, 0, 0, 0))
    picture.paste(Image.new("RGBA", (90, 90), (*ink, 255)), (10, 50), large)
    return picture


FITTED = ", fitted into 28 x 28"
PICTURES = {  # name: (picture of a digit, what is said of it)
    "as it is.png": (Image.fromarray, ""),
    "inverted.png": (lambda d: Image.fromarray(255 - d), "28 x 28 L: dark on light inverted"),
    "16 bits.png": (
        lambda d: Image.fromarray(d.repeat(3, 0).repeat(3, 1).astype(np.uint16) * 257),
        "84 x 84 I;16: fitted into 28 x 28",
    ),
    "palette.png": (lambda d: on_page(d, (0, 0, 0), (90, 250, 90)).quantize(16), "640 x 480 P: "),
    "two colours.png": (lambda d: Image.fromarray(d.repeat(4, 0).repeat(4, 1) < 128), "112 x 112 1: "),
    "paper.jpg": (
        lambda d: on_page(d, (240, 230, 200), (20, 30, 160)),
        "640 x 480 RGB: dark on light inverted, ground made black" + FITTED,
    ),
    "grey on grey.JPEG": (
        lambda d: on_page(d, (90, 90, 90), (160, 160, 160)),
        "640 x 480 RGB: ground made black" + FITTED,
    ),
    "black on nothing.png": (
        lambda d: transparent(d, (0, 0, 0)),
        "120 x 200 RGBA: dark on light inverted" + FITTED,
    ),
    "white on nothing.png": (
        lambda d: transparent(d, (255, 255, 255)),
        "120 x 200 RGBA: fitted into 28 x 28",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_becomes_the_digit_of_mnist_and_that_is_said(name, tmp_path):
    make, said = PICTURES[name]
    likeness = []
    for digit in DIGITS:
        make(digit).save(tmp_path / name)
        [image], problems = read_images([tmp_path / name])
        assert not problems
        assert image.conversion.startswith(said) and bool(image.conversion) == bool(said)
        assert image.pixels.dtype == np.uint8 and image.pixels.shape == (28, 28)
        likeness.append(np.corrcoef(image.pixels.ravel(), digit.ravel())[0, 1])
        if name in ("as it is.png", "inverted.png"):
            np.testing.assert_array_equal(image.pixels, digit)
    assert np.mean(likeness) > 0.9


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    upright = on_page(DIGITS[0], (255, 255, 255), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation: to be turned by 90 degrees clockwise
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    (turned, plain), _ = read_images([tmp_path / "turned.png", tmp_path / "upright.png"])
    np.testing.assert_array_equal(turned.pixels, plain.pixels)


def test_thin_strokes_and_one_pixel_fit_too():
    for shape, ink in (((1, 1), None), ((5, 300), np.s_[2, 10:290]), ((28, 28), np.s_[3, 4])):
        page = np.zeros(shape, np.uint8)
        if ink is None:
            assert to_digit(page)[0] is None
        else:
            page[ink] = 200
            digit, _ = to_digit(page)
            assert digit is not None and digit.any() and digit.shape == (28, 28)


def test_the_probabilities_are_those_of_the_plain_model_whatever_the_file(trained_run, tmp_path, capsys):
    path, states = trained_run
    for place, digit in enumerate(DIGITS):
        Image.fromarray(digit).save(tmp_path / f"{place:02d}.png")
    (tmp_path / "notes.txt").write_text("left out")
    file = write_idx(tmp_path / "digits-idx3-ubyte", DIGITS)
    main(["predict", str(path), str(tmp_path), str(file), "--json", "--step", "latest"])
    said = json.loads(capsys.readouterr().out)
    assert (said["run"], said["step"]) == (str(path), 4)
    rows = said["predictions"]
    names = [f"{tmp_path}/{place:02d}.png" for place in range(12)] + [f"{file}[{k}]" for k in range(12)] * 2
    assert [row["image"] for row in rows] == names
    expected = jax.nn.softmax(states[4].model(DIGITS[..., None].astype(np.float32) / 255))
    for row, wanted in zip(rows, [*expected] * 3, strict=True):
        np.testing.assert_allclose(row["probabilities"], wanted, rtol=1e-4, atol=1e-6)
        assert row["digit"] == wanted.argmax() and row["conversion"] is None
    assert [row["probabilities"] for row in rows[:12]] == [row["probabilities"] for row in rows[12:24]]
    main(["predict", str(path), str(file), "--step", "latest", "--json"])
    alone = json.loads(capsys.readouterr().out)["predictions"]
    assert alone == rows[12:24]  # company changes nothing


def test_the_table_shows_each_image_and_what_was_converted(trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, states = trained_run
    Image.fromarray(255 - DIGITS[0]).save("[b]dark.png")
    write_idx(tmp_path / "one", DIGITS[:1])
    main(["predict", str(path), "[b]dark.png", "one"])
    first, said, header, *rows = capsys.readouterr().out.splitlines()
    assert first == f"{path}   step 2   under 0 to 9: probability in percent"
    assert said == "[b]dark.png: 28 x 28 L: dark on light inverted"
    assert header.split() == ["image", "digit", "probability", *map(str, range(10))]
    expected = jax.nn.softmax(states[2].model(DIGITS[:1, :, :, None].astype(np.float32) / 255))[0]
    percents = [f"{100 * p:.0f}" for p in expected if p >= 0.005]
    for row, name in zip(rows, ("[b]dark.png", "one[0]"), strict=True):
        assert row.split() == [name, str(expected.argmax()), f"{expected.max():.4f}", *percents]


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_zeros_and_ones_are_black_and_white(bits, tmp_path):
    """Not a picture of 1/255 of the brightness, which a model takes for an empty one."""
    ones = (DIGITS > 127).astype(np.uint8)
    expected = ones[0] * np.uint8(255)
    path = tmp_path / "ones.png"
    Image.fromarray(ones[0].astype({1: bool, 8: np.uint8, 16: np.uint16}[bits])).save(path)
    [image], problems = read_images([path])
    assert not problems
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.conversion == (
        "" if bits == 1 else f"28 x 28 {'L' if bits == 8 else 'I;16'}: ones made white"
    )
    images, problems = read_images([write_idx(tmp_path / "ones-idx3", ones)])
    assert not problems and {image.conversion for image in images} == {"ones made white"}
    np.testing.assert_array_equal(images[0].pixels, expected)


def test_a_dim_digit_is_brightened_and_one_of_8_bits_in_16_is_no_darker(tmp_path):
    dim = DIGITS[0] // 8
    [image], _ = read_images([write_idx(tmp_path / "dim-idx3", dim[None])])
    assert image.conversion == "brightened" and image.pixels.max() == 255
    assert np.corrcoef(image.pixels.ravel(), DIGITS[0].ravel())[0, 1] > 0.99
    Image.fromarray(DIGITS[0].astype(np.uint16)).save(tmp_path / "wide.png")
    [image], _ = read_images([tmp_path / "wide.png"])
    np.testing.assert_array_equal(image.pixels, DIGITS[0])


BLANK = {
    "1.png": Image.new("1", (30, 30), 1),
    "L.png": Image.new("L", (28, 28), 0),
    "I;16.png": Image.fromarray(np.full((28, 28), 40_000, np.uint16)),
    "RGB.jpg": Image.new("RGB", (50, 40), (200, 10, 10)),
    "RGBA.png": Image.new("RGBA", (28, 28), (255, 255, 255, 0)),
    "LA.png": Image.new("LA", (28, 28), (7, 255)),
    "P.png": Image.new("L", (28, 28), 9).quantize(4),
    "noise.png": Image.fromarray(np.random.RandomState(0).randint(190, 200, (60, 60)).astype(np.uint8)),
}


def test_a_blank_picture_is_refused_in_each_format(tmp_path):
    for name, picture in BLANK.items():
        picture.save(tmp_path / name)
    write_idx(tmp_path / "idx3", np.stack([DIGITS[0], np.zeros((28, 28), np.uint8)]))
    images, problems = read_images([tmp_path])
    alike = "shows nothing: every pixel is alike."
    expected = {str(tmp_path / name): f"{tmp_path / name} {alike}" for name in BLANK}
    expected[str(tmp_path / "noise.png")] = (
        f"{tmp_path / 'noise.png'} shows nothing: its greys are 190 to 199."
    )
    expected[str(tmp_path / "idx3")] = f"{tmp_path / 'idx3'}[1] {alike}"
    assert (images, problems) == ([], expected)


def test_a_folder_names_every_bad_file_and_goes_on(trained_run, tmp_path, capsys):
    path, _ = trained_run
    for name, digit in (("a.png", DIGITS[0]), ("z.png", DIGITS[1])):
        Image.fromarray(digit).save(tmp_path / name)
    (tmp_path / "b.png").write_text("digit")
    (tmp_path / "c.jpg").symlink_to("nowhere")
    (tmp_path / "d-idx3").write_bytes(b"\0\0\x08\x03")
    os.mkfifo(tmp_path / "e.png")
    (tmp_path / "notes.txt").write_text("left out")
    (tmp_path / "._a.png").write_text("left out")  # as some systems leave them
    problems = {
        "b.png": f"{tmp_path}/b.png {NO_PICTURE}",
        "c.jpg": f"cannot read {tmp_path}/c.jpg: No such file or directory.",
        "d-idx3": f"{tmp_path}/d-idx3 ends inside its header: 3 dimensions need a header of 16 bytes, and "
        "the file has 4. Get the file anew.",
        "e.png": f"cannot read {tmp_path}/e.png: it is no file.",
    }
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(path), str(tmp_path), "--json"])
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert [row["image"] for row in said["predictions"]] == [f"{tmp_path}/a.png", f"{tmp_path}/z.png"]
    assert said["not_read"] == {f"{tmp_path}/{name}": text for name, text in problems.items()}
    assert (stop.value.code, err) == (2, "".join(f"fourbeat: {text}\n" for text in problems.values()))
    with pytest.raises(SystemExit):
        main(["predict", str(path), str(tmp_path)])
    out, err = capsys.readouterr()
    assert err.count("\n") == 4 and f"{tmp_path}/z.png" in out


def peak_of(code, *args):
    """What a process of its own prints, and the most memory that it held, in MiB."""
    measured = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from fourbeat.recipes.digits.images import read_images\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"{code}\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", measured, *map(str, args)], capture_output=True, text=True, check=True
    )
    *lines, size = done.stdout.splitlines()
    return lines, int(size)


def test_a_bomb_is_refused_in_little_memory(tmp_path):
    header = struct.pack(">HBB3I", 0, 8, 3, 1, 28, 28)
    with gzip.open(tmp_path / "long-idx3.gz", "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(300):
            file.write(bytes(2**20))
    Image.new("1", (13_000, 13_000), 0).save(tmp_path / "large.png")
    (tmp_path / "claims-idx3").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1))
    (tmp_path / "many-idx3").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2**31, 28, 28))
    (tmp_path / "dims-idx3").write_bytes(struct.pack(">HBB70I", 0, 8, 70, *[1] * 70) + b"\1")
    lines, size = peak_of("for text in read_images([Path(sys.argv[1])])[1].values(): print(text)", tmp_path)
    limit = "at most 40,000,000 are read. Make it smaller."
    assert lines == [
        f"{tmp_path}/claims-idx3 has 4,294,967,295 x 4,294,967,295 pixels; {limit}",
        f"{tmp_path}/dims-idx3 holds uint8 of shape ({', '.join('1' * 70)}); images are uint8 of shape "
        "(images, height, width).",
        f"{tmp_path}/large.png has 13,000 x 13,000 pixels; {limit}",
        f"{tmp_path}/long-idx3.gz has trailing bytes: uint8 of shape (1, 28, 28) needs 800 bytes with its "
        "header, and the file has more. Get the file anew.",
        f"{tmp_path}/many-idx3 holds 2,147,483,648 images of 28 x 28, 1,683,627,180,032 bytes; at most "
        "1,073,741,824 are read. Cut it into several files.",
    ]
    assert size < 60


def test_every_bad_file_is_one_line_and_status_2(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    on_page(DIGITS[0], (0, 0, 0), (255, 255, 255)).save("whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:-2000])
    (tmp_path / "text.png").write_text("digit")
    (tmp_path / "nothing").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    Image.new("L", (40, 40), 7).save("blank.png")
    write_idx(tmp_path / "labels", np.arange(3, dtype=np.uint8))
    write_idx(tmp_path / "none-idx3", np.zeros((0, 28, 28), np.uint8))
    (tmp_path / "cut-idx3").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2, 28, 28))
    wanted = "images are uint8 of shape (images, height, width)."
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"recipe": "mnist-cnn", "flags": {}}')
    texts = {
        "missing.png": "cannot read missing.png: No such file or directory.",
        "cut.jpg": "cannot read cut.jpg as an image: image file is truncated (20 bytes not processed).",
        "text.png": f"text.png {NO_PICTURE}",
        "nothing": f"nothing {NO_PICTURE}",
        "folder": f"the folder folder holds no image: no {', '.join(SUFFIXES)} or idx3 file.",
        "blank.png": "blank.png shows nothing: every pixel is alike.",
        "labels": f"labels holds uint8 of shape (3,); {wanted}",
        "none-idx3": f"none-idx3 holds uint8 of shape (0, 28, 28); {wanted}",
        "cut-idx3": "cut-idx3 is too short: uint8 of shape (2, 28, 28) needs 1584 bytes with its header, and "
        "the file has 16. Get the file anew.",
    }
    for name, text in texts.items():
        with pytest.raises(SystemExit) as stop:
            main(["predict", "run", name])
        out, err = capsys.readouterr()
        if name == "cut.jpg":  # how many bytes were left is Pillow's affair
            assert err.startswith("fourbeat: cannot read cut.jpg as an image: image file is truncated")
            assert err.count("\n") == 1
        else:
            assert err == f"fourbeat: {text}\n"
        assert (stop.value.code, out) == (2, "")
    with pytest.raises(SystemExit):
        main(["predict", "run"])
    assert capsys.readouterr().err == "fourbeat: predict needs images: fourbeat predict RUN FILE...\n"
