"""Python files as tokens and windows, one character at a time: what char-gpt is held against."""

import hashlib

import jax.numpy as jnp
import numpy as np


def write_library(folder):
    """A library of 50 short files with odd characters, empty ones, subfolders and tests; and the folder."""
    for number in range(50):
        name = f"part_{number:02d}.py" if number % 3 else f"package/part_{number:02d}.py"
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        lines = [f"def f{line}(x):\n\treturn x + {line}  # é~\x7f\n" for line in range(number % 7)]
        path.write_text("".join(lines) + "#" * (5 * number % 16), encoding="utf-8")
    (folder / "whole.py").write_text("x = 1234567890 #" * 2)  # two whole windows of 16
    for name in ("tests/test_part.py", "package/test/part.py", "site-packages/x.py", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("left out")
    return folder


def names(folder):
    """Names of the files to learn, and of those held out."""
    learnt, held_out = [], []
    for path in [*folder.rglob("*part_*.py"), folder / "whole.py"]:
        name = str(path.relative_to(folder))
        if path.read_text() and "test" not in name:
            is_held_out = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 20 == 0
            (held_out if is_held_out else learnt).append(name)
    return sorted(learnt), sorted(held_out)


def token(character):
    if character in "\t\n":
        return 2 + "\t\n".index(character)
    return 4 + ord(character) - 32 if 32 <= ord(character) < 127 else 1


def windows(text, context):
    """`(tokens, weights)` of each window, as lists."""
    tokens = [0, *map(token, text)]
    for start in range(0, len(text), context):
        here = tokens[start : start + context + 1]
        empty = context + 1 - len(here)
        yield here + [0] * empty, [1.0] * (len(here) - 1) + [0.0] * empty


def losses(model, text, context):
    """The negative log probability of every character of a text, window by window."""
    found = []
    for tokens, weights in windows(text, context):
        logits = np.asarray(model(jnp.asarray(tokens[:-1])[None])[0], np.float64)
        log_sums = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
        nll = log_sums - logits[np.arange(context), tokens[1:]]
        found.extend(nll[np.asarray(weights) == 1])
    return np.array(found)
