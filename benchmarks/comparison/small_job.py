"""The small job that each library does in its own words: its data, its clock, and what it says at the end.

It needs NumPy alone, since each library is run in an environment of its own.
"""

import hashlib
import json
import os
import sys
import time

import numpy as np

NUM_FEATURES, NUM_HIDDEN, NUM_CLASSES, BATCH_SIZE, RATE = 20, 32, 10, 32, 1e-2
clock: list[float] = []  # CPU seconds of this process at the end of each epoch


def data():
    """Training inputs and labels, then those of validation, whose last batch holds 2 of 64 examples."""
    random = np.random.RandomState(0)
    x = random.standard_normal((2130, NUM_FEATURES)).astype(np.float32)
    y = (x @ random.standard_normal((NUM_FEATURES, NUM_CLASSES))).argmax(-1).astype(np.int32)
    if os.environ.get("WITH_NAN"):
        x[700, 3] = np.nan
    times = int(
        os.environ.get("TIMES", "1")
    )  # long epochs, so that what ends one costs little beside its steps
    return np.tile(x[:2000], (times, 1)), np.tile(y[:2000], times), x[2000:], y[2000:]


def arguments():
    """The directory of the run, and the epoch to train to."""
    return os.path.abspath(sys.argv[1]), int(sys.argv[2])


def end_of_epoch():
    """To be called at the end of each epoch."""
    clock.append(time.process_time())


def finish(params, score):
    """Prints what the run ends with.

    Args:
      params: kernels and biases of both layers: (20, 32), (32,), (32, 10), (10,).
      score: the mean loss over the validation examples, as the library computes it.
    """
    arrays = [np.asarray(array, np.float32) for array in params]
    shapes = [array.shape for array in arrays]
    assert shapes == [(20, 32), (32,), (32, 10), (10,)], shapes
    first, first_bias, second, second_bias = (array.astype(np.float64) for array in arrays)
    _, _, x, y = data()
    logits = np.maximum(x @ first + first_bias, 0) @ second + second_bias
    exact = np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(y)), y])
    said = {
        "digest": hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest(),
        "finite": bool(all(np.isfinite(array).all() for array in arrays)),
        "score": float(score),
        "exact": float(exact),
        "clock": clock,
    }
    print("\n" + json.dumps(said))
