"""Documents, windows and losses of the recipe tokens, one token at a time, in Python and NumPy."""

import sysconfig
from pathlib import Path

import numpy as np

END = 256


def write_library(folder):
    """Beginnings of 26 files of Python's library, a file that is not ASCII, and an empty one; the folder."""
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-f]*.py"))[:26]
    for number, source in enumerate(sources):
        text = source.read_bytes()[: 3 + 13 * number % 61].decode(errors="ignore").encode()
        (folder / f"part_{number:02d}.txt").write_bytes(text)
    (folder / "latin").mkdir()
    (folder / "latin" / "odd.txt").write_bytes("caf\u00e9 \ud55c end".encode())
    (folder / "empty.txt").write_bytes(b"")
    return folder


def documents(folder):
    """The tokens of each document, in their order, each with its end."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    texts = [(folder / name).read_bytes() for name in names]
    return [[*text, END] for text in texts if text]


def parted(found, share=0.05):
    """Documents to learn, and those held out."""
    draws = np.random.default_rng(0).random(len(found)).tolist()
    is_held_out = [draw < share or draw == min(draws) for draw in draws]
    learnt = [document for document, out in zip(found, is_held_out, strict=True) if not out]
    return learnt, [document for document, out in zip(found, is_held_out, strict=True) if out]


def pieces(found, length, end=END):
    """Documents, cut where windows end: `(inputs, tokens)` of each piece, in their order, by window."""
    windows, place = [], 0
    for document in found:
        before = [end, *document[:-1]]
        while document:
            room = length - place % length
            if place % length == 0:
                windows.append([])
            windows[-1].append((before[:room], document[:room]))
            place += len(document[:room])
            before, document = before[room:], document[room:]
    return windows


def losses_alone(forward, window, length):
    """The negative log probability of every token of the pieces of a window, each read alone."""
    found = []
    for inputs, tokens in window:
        padded = np.pad(np.array(inputs, np.int32), (0, length - len(inputs)))
        logits = np.asarray(forward(padded[None])[0], np.float64)[: len(tokens)]
        log_sums = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
        found.extend(log_sums - logits[np.arange(len(tokens)), tokens])
    return found
