"""Which pictures a run reads, how it sees them, and what it says of those that it leaves out."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.data.readers.picture_formats import SUFFIXES
from fourbeat.recipes.digits.images import read_images
from fourbeat.recipes.pictures import picture_set, read_pictures
from fourbeat.recipes.pictures.decoding import decoded, look_at
from fourbeat.recipes.pictures.picture_set import held_out_pictures, read_record
from fourbeat.recipes.plain import images as plain
from tests.recipes.picture_folders import NO_PICTURE, digit, write_digits

DOCS = (Path(__file__).parents[2] / "docs" / "own-images.md").read_text()
OPTIONS = {"held_out": 0.25, "seed": 0, "workers": 2}
EXPECTED = "a folder with a folder of pictures for each class, or a CSV file of names and classes"


def test_a_share_of_each_class_is_held_out_and_what_cannot_be_used_is_named(tmp_path, capsys):
    folder = write_digits(tmp_path / "d", {3: 8, 4: 12, 9: 2})
    three, four = folder / "digit 3", folder / "digit 4"
    shutil.copy(three / "000.png", three / "copy.png")
    Image.fromarray(digit(3, 1)).save(three / "same pixels.bmp")
    shutil.copy(three / "002.png", four / "both.png")
    (four / "cut.png").write_bytes((four / "000.png").read_bytes()[:150])
    (four / "text.jpg").write_text("a text")
    (four / "notes.txt").write_text("a text")
    (four / ".hidden").write_text("a text")
    os.mkfifo(four / "pipe.png")
    (four / "more").mkdir()
    (four / "011.png").rename(four / "more" / "011.png")
    (folder / "readme.md").write_text("a text")
    pictures = read_pictures(folder, **OPTIONS)
    assert pictures.classes == ("digit 3", "digit 4", "digit 9") and pictures.size == (32, 32, 1)
    left_out = {each.name: each.why for each in pictures.pictures if each.why}
    truncated = left_out.pop("digit 4/cut.png")
    assert truncated.startswith(f"cannot read {four}/cut.png as an image: ")
    assert left_out == {
        "digit 3/copy.png": "it is a copy of digit 3/000.png",
        "digit 3/same pixels.bmp": "it is a copy of digit 3/001.png",
        "digit 3/002.png": "it is the same picture as digit 4/both.png, of another class",
        "digit 4/both.png": "it is the same picture as digit 3/002.png, of another class",
        "digit 4/text.jpg": f"{four}/text.jpg {NO_PICTURE}",
        "digit 4/notes.txt": f"its name ends in none of {', '.join(SUFFIXES)}",
        "digit 4/pipe.png": f"cannot read {four}/pipe.png: it is no file.",
        "readme.md": "it lies beside the class folders",
    }
    # a quarter of 7, of 12 and of 2, at least one
    assert pictures.counts("valid").tolist() == [2, 3, 1] and pictures.counts("train").tolist() == [5, 9, 1]
    files = {part: set(pictures.files(part)) for part in ("train", "valid")}
    assert not files["train"] & files["valid"] and four / "more" / "011.png" in set.union(*files.values())
    for part in files:
        columns = pictures.part(part).columns
        for file, pixels, label in zip(pictures.files(part), columns["image"], columns["label"], strict=True):
            expected = Image.open(file).resize((32, 32), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(pixels[..., 0], expected)
            assert file.relative_to(folder).parts[0] == pictures.classes[label]
        assert pictures.labels(part).tolist() == columns["label"].tolist()
    again, other = (read_pictures(folder, **{**OPTIONS, "seed": seed}) for seed in (0, 1))
    assert again.pictures == pictures.pictures and other.files("valid") != pictures.files("valid")

    pictures.record(tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 6 and said[0] == "left out: digit 3/002.png: " + left_out["digit 3/002.png"]
    assert said[5] == f"left out: 9 files in all; {tmp_path}/pictures.csv says why of each"
    with (tmp_path / "pictures.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert {name: row["left_out_because"] for name, row in rows.items() if not row["part"]} == {
        **left_out,
        "digit 4/cut.png": truncated,
    }
    assert len(rows) == 22 + 8


def test_pictures_that_changed_are_refused_by_a_run_that_goes_on(tmp_path):
    folder = write_digits(tmp_path / "d", {1: 4, 2: 4})
    read_pictures(folder, **OPTIONS).record(tmp_path)
    read_pictures(folder, **OPTIONS).record(tmp_path)
    (folder / "digit 1" / "000.png").rename(folder / "digit 1" / "new.png")
    Image.fromarray(digit(7, 0)).save(folder / "digit 2" / "003.png")
    with pytest.raises(ValueError) as caught:
        read_pictures(folder, **OPTIONS).record(tmp_path)
    assert str(caught.value) == (
        f"the pictures in {folder} are not those that {tmp_path} began with: 1 new, such as digit 1/new.png; "
        "1 gone, such as digit 1/000.png; 1 changed, such as digit 2/003.png. Put them back, or begin a new "
        "run."
    )
    shutil.rmtree(folder)
    write_digits(folder, {1: 4, 2: 4})
    divided = read_pictures(folder, **{**OPTIONS, "seed": 1})
    with pytest.raises(ValueError, match=r" began with: 2 divided otherwise, such as digit 2/00\d.png\. "):
        divided.record(tmp_path)
    write_digits(folder, {3: 2})
    with pytest.raises(ValueError) as caught:
        read_pictures(folder, **OPTIONS, classes=("digit 1", "digit 2"))
    assert str(caught.value) == (
        f"{folder} and the run differ in the classes digit 3. Give the pictures that it was trained on, or "
        "begin a new run."
    )


def test_data_that_is_divided_already_stays_so_and_a_copy_is_scored_not_trained_on(tmp_path):
    for part, first in (("train", 0), ("val", 20), ("test", 30)):
        write_digits(tmp_path / "d" / part, {1: 6, 2: 6}, first=first)
    shutil.copy(tmp_path / "d/test/digit 1/030.png", tmp_path / "d/train/digit 1/leak.png")
    pictures = read_pictures(tmp_path / "d", **OPTIONS)
    assert [pictures.counts(part).tolist() for part in ("train", "valid", "test")] == [[6, 6]] * 3
    [leak] = [each for each in pictures.pictures if each.why]
    assert leak[:3] == ("train/digit 1/leak.png", "digit 1", "")
    assert leak.why == "it is a copy of test/digit 1/030.png"
    pictures.record(tmp_path)
    scored, part = held_out_pictures(tmp_path, tmp_path / "d", pictures.size, pictures.classes, 2)
    assert part == "test" and scored.columns["label"].tolist() == [0] * 6 + [1] * 6
    np.testing.assert_array_equal(scored.columns["image"], pictures.part("test").columns["image"])
    shutil.rmtree(tmp_path / "d/val")  # then a part of train is held out, and test is for the end
    pictures = read_pictures(tmp_path / "d", **OPTIONS)
    assert [pictures.counts(part).tolist() for part in ("train", "valid", "test")] == [[4, 4], [2, 2], [6, 6]]
    write_digits(tmp_path / "trains", {1: 3})
    (tmp_path / "trains" / "digit 1").rename(tmp_path / "trains" / "train")  # a class of that name
    write_digits(tmp_path / "trains", {2: 3})
    assert read_pictures(tmp_path / "trains", **OPTIONS).classes == ("digit 2", "train")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_list_gives_what_the_folder_gives(delimiter, tmp_path):
    folder = write_digits(tmp_path / "d", {2: 5, 9: 5})
    in_folder = read_pictures(folder, **OPTIONS)
    lines = [["id", "Label", "file_name"]]
    lines += [["7", each.label, f"d/{each.name}"] for each in in_folder.pictures]
    text = "\ufeff" + "".join(delimiter.join(line) + "\r\n" for line in lines) + "\r\n"
    (tmp_path / "list.csv").write_text(text, newline="")
    in_list = read_pictures(tmp_path / "list.csv", **OPTIONS)
    assert (in_list.classes, in_list.files("valid")) == (in_folder.classes, in_folder.files("valid"))
    parts = ["split"] + ["train", "Validation", "test"] * 3 + ["training"]
    text = "".join(delimiter.join([*line, part]) + "\n" for line, part in zip(lines, parts, strict=True))
    (tmp_path / "list.tsv").write_text(text)
    divided = read_pictures(tmp_path / "list.tsv", **OPTIONS)
    assert [each.part for each in divided.pictures] == ["train", "valid", "test"] * 3 + ["train"]


def test_a_list_goes_on_without_what_is_missing_or_damaged_as_a_folder_does(tmp_path, capsys):
    folder = write_digits(tmp_path / "d", {2: 4, 9: 4})
    (folder / "digit 2" / "000.png").write_text("damaged")
    kept = read_pictures(folder, **OPTIONS)
    lines = [f"d/{each.name},{each.label}" for each in kept.pictures]
    lines[1:1], lines[5:5] = ["gone.png,digit 2"], [f"{tmp_path}/off.jpg,digit 9"]
    lines.append(lines[-1])
    (tmp_path / "list.csv").write_text("\n".join(["file,class", *lines]))
    pictures = read_pictures(tmp_path / "list.csv", **OPTIONS)
    pictures.record(tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        f"left out: d/digit 2/000.png: {folder}/digit 2/000.png {NO_PICTURE}",
        f"left out: gone.png: cannot read {tmp_path}/gone.png: No such file or directory.",
        f"left out: {tmp_path}/off.jpg: cannot read {tmp_path}/off.jpg: No such file or directory.",
        "left out: d/digit 9/003.png: the list names it twice",
        f"left out: 4 files in all; {tmp_path}/pictures.csv says why of each",
    ]
    assert pictures.counts("valid").tolist() == kept.counts("valid").tolist() == [1, 1]
    assert set(pictures.files("train")) | set(pictures.files("valid")) == set(kept.files("train")) | set(
        kept.files("valid")
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_first_picture_of_a_file_of_each_kind_is_read_from_folders_and_named_in_the_docs(
    suffix, tmp_path
):
    write_digits(tmp_path, {1: 2, 2: 2})
    shown, other = (Image.fromarray(digit(7, number)).convert("RGB") for number in (0, 1))
    moves = {"save_all": True, "append_images": [other]} if suffix == ".gif" else {}
    file = tmp_path / "digit 1" / f"seven{suffix.upper()}"
    shown.save(file, **moves)
    kept = read_pictures(tmp_path, **OPTIONS)
    assert file in kept.files("train") + kept.files("valid") and not [e for e in kept.pictures if e.why]
    first = digit(7, 0) if suffix in (".png", ".gif", ".bmp") else Image.open(file).convert("L")
    np.testing.assert_allclose(decoded(file, (28, 28, 1))[..., 0], first, atol=1)
    [image], problems = read_images([file])
    np.testing.assert_allclose(image.pixels, first, atol=1)
    assert not problems
    data = fb.data.folder(tmp_path, decode=lambda example: {"label": example["label"]})
    assert len(data) == 5 and data.batches(5)[0]["label"].tolist() == [0, 0, 0, 1, 1]
    assert f" {suffix}" in DOCS.replace("`", " ") and SUFFIXES == plain.SUFFIXES


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    write_digits(tmp_path, {1: 2, 2: 2, 3: 2})
    for place, name in enumerate(("10", "9", "100"), 1):
        (tmp_path / f"digit {place}").rename(tmp_path / name)
    assert read_pictures(tmp_path, **OPTIONS).classes == ("9", "10", "100")


def test_a_name_that_is_no_text_and_one_of_several_lines_are_recorded(tmp_path, capsys):
    write_digits(tmp_path / "d", {1: 2, 2: 2})
    one = tmp_path / "d" / "digit 1"
    (one / "000.png").rename(one / os.fsdecode(b"\xff.png"))
    (one / "001.png").rename(one / 'two\n"lines",.png')
    shutil.copy(tmp_path / "d/digit 2/000.png", tmp_path / "d/digit 2/copy\x1b[31m.png")
    pictures = read_pictures(tmp_path / "d", **OPTIONS)
    pictures.record(tmp_path)
    assert read_record(tmp_path / "pictures.csv") == pictures.pictures
    said = "left out: digit 2/copy\\x1b[31m.png: it is a copy of digit 2/000.png\n"
    assert capsys.readouterr().out == said
    (tmp_path / "pictures.csv").write_text("file,class\na,b\n")
    with pytest.raises(ValueError, match=r"/pictures\.csv is damaged: it is no list of pictures with file, "):
        pictures.record(tmp_path)


GREY = digit(5, 0)
COLOUR = np.stack([GREY, GREY.T, 255 - GREY], axis=-1)
KINDS = {  # a picture of each kind, and the colours that it shows
    "L.png": (Image.fromarray(GREY), GREY),
    "1.png": (Image.fromarray(GREY > 127), np.where(GREY > 127, 255, 0)),
    "I;16.png": (Image.fromarray(GREY.astype(np.uint16) * 257), GREY),
    "RGB.png": (Image.fromarray(COLOUR), COLOUR),
    "P.png": (Image.fromarray(GREY).quantize(256), GREY),
    "LA.png": (Image.fromarray(np.stack([GREY, np.full_like(GREY, 255)], -1), "LA"), GREY),
    "RGBA.png": (
        Image.fromarray(np.concatenate([COLOUR, np.full((28, 28, 1), 0, np.uint8)], -1)),
        np.full((28, 28), 128),
    ),
    "CMYK.jpg": (Image.new("CMYK", (28, 28), (0, 255, 255, 0)), np.array([254, 0, 0]) * np.ones((28, 28, 1))),
    "L.jpg": (Image.new("L", (28, 28), 77), np.full((28, 28), 77)),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_is_seen_as_it_shows(name, tmp_path):
    picture, shown = KINDS[name]
    picture.save(tmp_path / name)
    expected = np.broadcast_to(shown[..., None] if shown.ndim == 2 else shown, (28, 28, 3))
    np.testing.assert_allclose(decoded(tmp_path / name, (28, 28, 3)), expected, atol=1.01)
    grey = expected @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decoded(tmp_path / name, (28, 28, 1))[..., 0], grey, atol=1.6)
    assert look_at(tmp_path / name) == (28, 28, name in ("RGB.png", "RGBA.png", "CMYK.jpg"))


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_palette_of_greys_is_no_colour(pixels, tmp_path):
    for name in ("palette.gif", "palette.png"):
        Image.fromarray(pixels).convert("RGB").quantize(16).save(tmp_path / name)
        looks = look_at(tmp_path / name), plain.choose_size([tmp_path / name])
        assert looks == ((28, 28, pixels is COLOUR), (32, 32, 3 if pixels is COLOUR else 1))


def test_a_photograph_is_turned_and_a_large_one_keeps_its_colours(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation: to be turned by 90 degrees clockwise
    large = Image.fromarray(COLOUR).resize((1200, 800), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", exif=exif, quality=95)
    assert look_at(tmp_path / "large.jpg") == (1200, 800, True)
    turned = ImageOps.exif_transpose(Image.open(tmp_path / "large.jpg"))
    expected = np.asarray(turned.resize((40, 60), Image.Resampling.BILINEAR), np.float32)
    np.testing.assert_allclose(decoded(tmp_path / "large.jpg", (60, 40, 3)), expected, atol=12)
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match=r"its pixels are floating-point numbers, and how bright 1\.0 is"):
        decoded(tmp_path / "float.tiff", (8, 8, 1))


def test_what_memory_does_not_hold_is_decoded_by_workers_to_the_same_batches(tmp_path, monkeypatch):
    write_digits(tmp_path, {1: 12, 2: 9})
    (tmp_path / "digit 1" / "000.png").write_text("damaged")
    held = read_pictures(tmp_path, **OPTIONS)
    monkeypatch.setattr(picture_set, "_IN_MEMORY_BYTES", 0)
    read = read_pictures(tmp_path, **OPTIONS)
    assert isinstance(read.data, fb.data.Examples) and read.pictures == held.pictures
    batches = [
        pictures.part("train").batches(4, shuffle=True, seed=3, workers=2) for pictures in (held, read)
    ]
    for step in range(6):
        one, other = (each[step].materialize() for each in batches)
        for name in ("image", "label"):
            np.testing.assert_array_equal(one[name], other[name])


def wrong_folders(tmp_path):
    """What is given as DIR, and what is said of it."""
    write_digits(tmp_path / "one", {3: 4})
    yield "nowhere", f"there is no folder {tmp_path}/nowhere. Give {EXPECTED}."
    yield (
        "one/digit 3/000.png",
        f"{tmp_path}/one/digit 3/000.png is a file, and no CSV. Give {EXPECTED}.",
    )
    yield (
        "one",
        f"{tmp_path}/one holds one class alone, digit 3. A classifier needs two or more. Give {EXPECTED}.",
    )
    yield (
        "one/digit 3",
        f"{tmp_path}/one/digit 3 holds pictures, such as 000.png, and no folder. Give {EXPECTED}: digit "
        "3/cat/1.png, digit 3/dog/2.png.",
    )
    (tmp_path / "empty").mkdir()
    yield (
        "empty",
        f"{tmp_path}/empty holds no folder. Give {EXPECTED}: empty/cat/1.png, empty/dog/2.png.",
    )
    write_digits(tmp_path / "gap", {3: 4, 4: 4})
    (tmp_path / "gap" / "birds").mkdir()
    no_picture = f"no {', '.join(SUFFIXES)}. Put pictures in, or take the folder away."
    yield "gap", f"the class folder {tmp_path}/gap/birds holds no picture: {no_picture}"
    write_digits(tmp_path / "other", {3: 4, 4: 4})
    (tmp_path / "other" / "birds").mkdir()
    (tmp_path / "other" / "birds" / "1.txt").write_text("a bird")
    yield "other", f"the class folder {tmp_path}/other/birds holds 1 files, and no picture: {no_picture}"
    write_digits(tmp_path / "single", {3: 4, 4: 1})
    needs = "It needs at least two, one to train on and one to hold out."
    yield "single", f"the class digit 4 in {tmp_path}/single has a single picture. {needs}"
    write_digits(tmp_path / "copies", {3: 4, 4: 1})
    shutil.copy(tmp_path / "copies/digit 4/000.png", tmp_path / "copies/digit 4/001.png")
    yield (
        "copies",
        f"the class digit 4 in {tmp_path}/copies has a single picture; 1 left out: it is a copy of digit "
        f"4/000.png. {needs}",
    )
    for label in (3, 4):
        (tmp_path / "damaged" / str(label)).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "damaged" / str(label) / f"{number}.jpg").write_text("text")
    yield (
        "damaged",
        f"none of the 4 pictures in {tmp_path}/damaged can be read: {tmp_path}/damaged/3/0.jpg {NO_PICTURE}",
    )
    write_digits(tmp_path / "divided" / "train", {3: 4, 4: 4})
    write_digits(tmp_path / "divided" / "test", {5: 4})
    yield (
        "divided",
        f"{tmp_path}/divided has no picture to train on of digit 5, which valid or test has. Put some into "
        "train.",
    )


LISTS = {  # a CSV file, and what is said of it
    "a,b,c\n1,2,3\n": " has the columns a, b, c; expected a header with file and class, and split where the "
    "data is divided already.",
    "": " has the columns none; expected a header with file and class, and split where the data is divided "
    "already.",
    "file,class\n": " names no picture. Below its header each line has a file and a class.",
    "file,class\n0.png,a\n\n,b\n": ", line 4: its file is missing. Give each picture a file and a class.",
    "file,class\n0.png\n": ", line 2: its class is missing. Give each picture a file and a class.",
    "file,class,split\n0.png,a,holdout\n": ", line 2: its part is 'holdout'; expected train, valid or test.",
    "file,class\n1.png,a\n2.png,b\n": "none of the 2 pictures in {file} can be read: cannot read "
    "{folder}/1.png: No such file or directory.",
    "file,class\n0.png,a\n1.png,a\n2.png,b\n": "the class a in {file} has a single picture; 1 left out: "
    "cannot read {folder}/1.png: No such file or directory. It needs at least two, one to "
    "train on and one to hold out.",
    "file,class\n0.png,a\n0.png,a\n": " holds one class alone, a. A classifier needs two or more. Give "
    f"{EXPECTED}.",
}


def test_a_wrong_folder_or_list_is_one_line_and_nothing_is_written(tmp_path, capsys, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    wrong = [(tmp_path / name, text) for name, text in wrong_folders(tmp_path)]
    Image.fromarray(GREY).save(tmp_path / "0.png")
    for place, (content, text) in enumerate(LISTS.items()):
        file = tmp_path / f"{place}.csv"
        file.write_text(content)
        text = text if "{file}" in text else f"{{file}}{text}"
        wrong.append((file, text.format(file=file, folder=tmp_path)))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    wrong.append((binary, f"{binary} is no UTF-8 text."))
    for path, text in wrong:
        with pytest.raises(SystemExit) as stop:
            main(["train", "images", str(path)])
        assert (stop.value.code, *capsys.readouterr()) == (2, "", f"fourbeat: {text}\n")
    flags = {
        "": f"DIR is missing; give {EXPECTED}.",
        f"{tmp_path}/gap --size 4 8 1": "--size is 4 8 1; give height, width and channels: sides of at least "
        "8, and 1 channel for grey or 3 for colours.",
        f"{tmp_path}/gap --held-out 1": "--held-out is 1.0; give a finite number above 0 and at most 0.9.",
        f"{tmp_path}/gap --mixup -1": "--mixup is -1.0; give a finite number of at least 0.",
    }
    for given, text in flags.items():
        with pytest.raises(SystemExit) as stop:
            main(["train", "images", *given.split()])
        assert (stop.value.code, *capsys.readouterr()) == (2, "", f"fourbeat: {text}\n")
    assert not list(Path().iterdir())
