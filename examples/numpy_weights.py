"""Weights that fourbeat wrote, read with NumPy alone: no JAX, no Flax, no fourbeat, no safetensors.

    python examples/numpy_weights.py weights.safetensors

The file is the size of a header in 8 bytes, the header as JSON, and the bytes of the arrays. `read` is all
that it takes; copy it.
"""

import argparse
import json
from pathlib import Path

import numpy as np

DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U64": "u8",
    "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?", "C64": "c8",
}  # fmt: skip


def read(file):
    """The arrays of a safetensors file by name; bfloat16 as float32."""
    data = Path(file).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    weights = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        part = data[begin + first : begin + last]
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (np.frombuffer(part, "<u2").astype("<u4") << 16).view("<f4")
        else:
            array = np.frombuffer(part, np.dtype(DTYPES[entry["dtype"]]).newbyteorder("<"))
        weights[name] = array.reshape(entry["shape"])
    return weights


def main():
    """Prints what the file holds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    for name, array in read(parser.parse_args().file).items():
        mean = array.mean() if array.size else float("nan")
        print(f"{name:24} {array.dtype!s:8} {array.shape!s:16} mean {mean:+.4f}")


if __name__ == "__main__":
    main()
