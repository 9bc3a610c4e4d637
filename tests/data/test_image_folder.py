"""Images in class folders: channels, classes, and what is refused."""

import numpy as np
import pytest

from fourbeat.data import ExampleError, folder

Image = pytest.importorskip("PIL.Image")

GREY = np.arange(6, dtype=np.uint8).reshape(2, 3)
COLOURS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


def palette(transparent):
    image = Image.fromarray(COLOURS).quantize(8)
    if transparent:
        image.info["transparency"] = 0
    return image


KINDS = {
    "grey": (lambda: Image.fromarray(GREY), GREY[..., None]),
    "colours": (lambda: Image.fromarray(COLOURS), COLOURS),
    "transparent": (
        lambda: Image.fromarray(np.concatenate([COLOURS, GREY[..., None]], 2)),
        np.concatenate([COLOURS, GREY[..., None]], 2),
    ),
    "16 bits": (
        lambda: Image.fromarray(GREY.astype(np.uint16) * 300),
        GREY[..., None].astype(np.uint16) * 300,
    ),
    "black and white": (
        lambda: Image.fromarray(GREY).point(lambda value: 255 * (value > 2), "1"),
        255 * (GREY[..., None] > 2).astype(np.uint8),
    ),
    "palette": (lambda: palette(False), np.asarray(palette(False).convert("RGB"))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_the_file(tmp_path, kind):
    make, pixels = KINDS[kind]
    (tmp_path / "a").mkdir()
    make().save(tmp_path / "a" / "1.png")
    image = folder(tmp_path).batches(1)[0]["image"]
    assert image.dtype == pixels.dtype
    assert np.array_equal(image, pixels[None])


def test_classes_are_sorted_and_stay_with_every_part(tmp_path):
    for name in ("dog", "cat", "empty", ".hidden"):
        (tmp_path / name / "deep").mkdir(parents=True)
    for name in ("dog/2.png", "dog/10.PNG", "cat/deep/1.png", "cat/.1.png", ".hidden/1.png"):
        Image.fromarray(GREY).save(tmp_path / name)
    (tmp_path / "readme.txt").write_text("cats and dogs")
    data = folder(tmp_path)
    assert data.classes == ("cat", "dog", "empty")
    assert data.batches(3)[0]["label"].tolist() == [0, 1, 1]
    assert data.split(1)[1].map(lambda batch: batch)[:1].classes == data.classes
    assert repr(data) == f"Folder(3 of the folder {tmp_path.name})"


def test_images_of_unlike_size_are_named_or_decoded(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(GREY).save(tmp_path / "a" / "1.png")
    Image.fromarray(GREY[:, :2]).save(tmp_path / "a" / "2.png")
    with pytest.raises(ExampleError) as caught:
        folder(tmp_path).batches(2)[0]
    assert str(caught.value) == (
        f"example 1 (a/2.png) of the folder {tmp_path.name}: its 'image' has shape (2, 2, 1), where that "
        f"of example "
        "0 has (2, 3, 1): bring them to one shape in decode=, or pad them with "
        "collate=fourbeat.data.pad_to(...)."
    )
    cropped = folder(tmp_path, decode=lambda example: {**example, "image": example["image"][:, :2]})
    assert cropped.batches(2)[0]["image"].shape == (2, 2, 2, 1)


def test_images_of_unlike_depth_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(GREY).save(tmp_path / "a" / "1.png")
    Image.fromarray(GREY.astype(np.uint16)).save(tmp_path / "a" / "2.png")
    with pytest.raises(ExampleError) as caught:
        folder(tmp_path).batches(2)[0]
    assert str(caught.value) == (
        f"example 1 (a/2.png) of the folder {tmp_path.name}: its 'image' has dtype uint16, where that of "
        f"example 0 "
        "has uint8: bring them to one type in decode=."
    )


def test_a_damaged_image_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    noise = np.random.RandomState(0).randint(0, 256, (40, 40), np.uint8)
    for name in ("1.png", "2.png", "3.png"):
        Image.fromarray(noise).save(tmp_path / "a" / name)
    whole = (tmp_path / "a" / "2.png").read_bytes()
    (tmp_path / "a" / "2.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExampleError) as caught:
        folder(tmp_path).batches(3, workers=1)[0]
    assert str(caught.value).startswith(
        f"example 1 (a/2.png) of the folder {tmp_path.name}: cannot read it: "
    )
    assert str(caught.value).endswith(
        "Mend it, or leave it out by its place: data[np.delete(np.arange(len(data)), place)]."
    )
    assert isinstance(caught.value.__cause__, OSError)


def refused(tmp_path):
    for name in ("loose", "none", "other/a", "without/a"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "loose" / "a").mkdir()
    Image.fromarray(GREY).save(tmp_path / "loose" / "1.png")
    (tmp_path / "other" / "a" / "notes.txt").write_text("no image")
    suffixes = ".png, .jpg, .jpeg, .gif, .bmp, .webp, .tif, .tiff, .ppm, .pgm, .pbm, .jp2, .avif"
    return {
        "loose": f"{tmp_path}/loose holds the image 1.png beside class folders; expected a folder for each "
        "class, "
        "and the images in these: loose/cat/1.png, loose/dog/2.png.",
        "none": f"{tmp_path}/none holds no folder; expected a folder for each class, and the images in "
        "these: "
        "none/cat/1.png, none/dog/2.png.",
        "other": f"{tmp_path}/other/a/notes.txt is no image that can be read: its name ends in none of "
        f"{suffixes}. "
        "Move it out of the class folders, or hide it: a name that begins with a dot is passed over.",
        "without": f"{tmp_path}/without holds class folders without an image: a.",
    }


def test_what_holds_no_class_folders_is_refused(tmp_path):
    for name, text in refused(tmp_path).items():
        with pytest.raises(ValueError) as caught:
            folder(tmp_path / name)
        assert str(caught.value) == text
    with pytest.raises(FileNotFoundError):
        folder(tmp_path / "missing")
