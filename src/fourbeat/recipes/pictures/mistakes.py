"""The page of a run's worst mistakes: pictures that are scored and taken for something else."""

import base64
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fourbeat.distributed import speaks
from fourbeat.recipes.picture_files import read_picture
from fourbeat.recipes.pictures.decoding import plain
from fourbeat.recipes.probabilities import softmax
from fourbeat.runs import copies
from fourbeat.runs.printing import printable
from fourbeat.runs.records import naming
from fourbeat.runs.report import MISTAKES
from fourbeat.types import Object

MOST_SHOWN = 60
_UNSURE_SHOWN = 12  # right ones, where there is no mistake
_MOST_PAIRS = 10
_SIDE = 160  # pixels, of a picture on the page
_SMALL = 64  # pixels, up to which a picture is kept as it is, and drawn larger

_PAGE = Path(__file__).with_name("mistakes_page.html")


def write_mistakes(
    run: Path,
    files: Sequence[Path],
    labels: np.ndarray,
    logits: np.ndarray,
    classes: Sequence[str],
    *,
    part: Literal["test", "valid"],
    step: int,
) -> Path:
    """Writes the page of the worst mistakes into the directory of a run; returns its path.

    The worst is the one whose own class is held for the least likely. Where nothing is wrong, the page shows
    the pictures that the model was least sure of.

    Args:
      run: its directory.
      files: the pictures that are scored.
      labels: int of shape (pictures,).
      logits: of shape (pictures, classes).
      classes: their names.
      part: that of the pictures.
      step: that of the weights.
    """
    probabilities = softmax(logits)
    own, taken_for = probabilities[np.arange(len(labels)), labels], probabilities.argmax(axis=1)
    name_of = lambda places, at: classes[int(places[at])]
    wrong = np.flatnonzero(taken_for != labels)
    shown = np.flatnonzero(taken_for == labels) if not len(wrong) else wrong
    shown = shown[np.argsort(own[shown], kind="stable")][: MOST_SHOWN if len(wrong) else _UNSURE_SHOWN]
    whose = f"{len(labels):,} {'test' if part == 'test' else 'held-out'} pictures"
    summary = (
        f"With the weights after step {step:,}, {len(wrong):,} of {whose} are taken for another class: "
        f"{100 * (1 - len(wrong) / len(labels)):.2f} % are right."
    )
    worst = f"The worst {len(shown)}" if len(shown) < len(wrong) else f"All {len(wrong)}, the worst first"
    heading = worst if len(wrong) else "Nothing is wrong; these are the least sure"
    cards = [
        _card(files[at], name_of(labels, at), own[at], name_of(taken_for, at), probabilities[at].max())
        for at in map(int, shown)
    ]
    contents = {
        "TITLE": f"Mistakes of {html.escape(printable(copies.shown(run)))}",
        "SUMMARY": summary,
        "PAIRS": _pairs(labels[wrong], taken_for[wrong], classes),
        "HEADING": heading,
        "CARDS": "".join(cards),
    }
    page = re.sub("@@([A-Z]+)@@", lambda place: contents[place[1]], _PAGE.read_text("utf-8"))
    file = run / MISTAKES
    if speaks():  # of several processes one
        with naming(file):
            file.write_text(page, encoding="utf-8")
    return file


def _pairs(labels: np.ndarray, taken_for: np.ndarray, classes: Sequence[str]) -> str:
    """Which classes are taken for which, the most frequent first."""
    if not len(labels):
        return ""
    pairs, counts = np.unique(np.stack([labels, taken_for], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_PAIRS]
    name = lambda place: f"<b>{html.escape(printable(classes[place]))}</b>"
    said = [
        f"<li>{counts[at]:,} times {name(pairs[at][0])} taken for {name(pairs[at][1])}</li>" for at in order
    ]
    return f'<h2>Taken for each other</h2>\n<ul class="pairs">{"".join(said)}</ul>\n'


def _card(file: Path, label: str, own: float, taken_for: str, highest: float) -> str:
    rows = [] if label == taken_for else [_row("wrong", f"taken for {taken_for}", highest)]
    rows.append(_row("right", f"is {label}", own))
    name = html.escape(printable(f"{file.parent.name}/{file.name}"))
    told = f'<span class="name">{name}</span>{"".join(rows)}'
    return f"<figure>{_drawn(file)}<figcaption>{told}</figcaption></figure>\n"


def _row(kind: str, said: str, probability: float) -> str:
    bar = f'<span class="bar"><span style="width: {100 * probability:.1f}%"></span></span>'
    words = f"<span>{html.escape(printable(said))}</span><span>{probability:.3f}</span>"
    return f'<span class="row {kind}">{words}{bar}</span>'


def _drawn(file: Path) -> str:
    """The picture itself, in the page."""
    from PIL import ImageOps

    def read(opened: Object) -> tuple[bytes, bool]:
        shown = plain(ImageOps.exif_transpose(opened))
        shown, is_small = shown.convert("RGB" if shown.mode != "L" else "L"), max(shown.size) <= _SMALL
        if not is_small:
            shown.thumbnail((_SIDE, _SIDE))
        data = io.BytesIO()
        shown.save(data, "PNG" if is_small else "JPEG", **({} if is_small else {"quality": 85}))
        return data.getvalue(), is_small

    try:
        data, is_small = read_picture(file, read)
    except ValueError as error:  # it was there when the run began
        return f'<p class="faint">{html.escape(printable(error))}</p>'
    kind = "png" if is_small else "jpeg"
    pixels = ' class="pixels"' if is_small else ""
    return f'<img{pixels} alt="" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
