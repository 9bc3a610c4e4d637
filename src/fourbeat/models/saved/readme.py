"""The README of a saved model: how to run it with JAX alone, and read its weights with NumPy alone."""

from fourbeat.models.saved.signature import PROGRAM, WEIGHTS, Array, Signature
from fourbeat.models.tensor_files import DTYPES

_TEXT = """# A model saved by fourbeat

## What goes in and out

{table}

`batch` is any number of examples from 1 on.{classes}{preprocessing}

## Read the weights with NumPy alone

```python
{reader}
```

## Run it with JAX alone

```python
from pathlib import Path

from jax import export

program = export.deserialize(bytearray(Path("{program}").read_bytes()))
columns = {columns}
outputs = program.call(weights, columns)
print(outputs)
```

For many calls, compile it once for each number of examples: `run = jax.jit(program.call)`.{platforms}
The file is for JAX {jax} and those after it (`jax.export` promises half a year).

`signature.json` says all of this to a program, and has the sha256 of each file.
"""
_READER = """import json
from pathlib import Path
{imports}
import numpy as np

data = Path("{weights}").read_bytes()
begin = 8 + int.from_bytes(data[:8], "little")
header = json.loads(data[8:begin])
header.pop("__metadata__")
dtypes = {dtypes}
weights = {{}}
for name, entry in header.items():
    first, last = entry["data_offsets"]
    array = np.frombuffer(data[begin + first : begin + last], dtypes[entry["dtype"]])
    weights[name] = array.reshape(entry["shape"])"""


def readme_of(signature: Signature) -> str:
    """The text of the README."""
    rows = [("in", name, each) for name, each in signature.inputs.items()]
    rows += [("out", name, each) for name, each in signature.outputs.items()]
    table = ["| | name | dtype | shape |", "|---|---|---|---|"]
    table += [f"| {way} | `{name}` | {each.dtype} | {_shape(each)} |" for way, name, each in rows]
    used = {each.dtype for each in signature.weights.values()}
    dtypes = {code: name for code, name in DTYPES.items() if name in used}
    is_plain = all(not name.startswith(("bfloat", "float8")) for name in dtypes.values())
    names = ", ".join(signature.preprocessing)
    of_classes = f" The classes are, in their order: {', '.join(signature.classes or ())}."
    return _TEXT.format(
        table="\n".join(table),
        classes=of_classes if signature.classes else "",
        preprocessing=f" The program begins with the preprocessing: {names}." if names else "",
        reader=_READER.format(
            imports=""
            if is_plain
            else "\nimport ml_dtypes  # gives NumPy the name of bfloat16; JAX brings it",
            weights=WEIGHTS,
            dtypes=dtypes,
        ),
        program=PROGRAM,
        columns=_columns(signature),
        platforms=f" It runs on {', '.join(signature.platforms)}.",
        jax=signature.versions["jax"],
    )


def _shape(each: Array) -> str:
    return f"({', '.join(map(str, each.shape))}{',' if len(each.shape) == 1 else ''})"


def _columns(signature: Signature) -> str:
    def zeros(each: Array) -> str:
        shape = tuple(2 if length == "batch" else length for length in each.shape)
        return f"np.zeros({shape}, {each.dtype!r})"

    return "{" + ", ".join(f"{name!r}: {zeros(each)}" for name, each in signature.inputs.items()) + "}"
