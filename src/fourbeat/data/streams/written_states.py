"""What a source says of its place, as JSON: numbers, text, bytes, arrays and tensors, in any nesting."""

import base64
import importlib
import sys
from typing import Any

import numpy as np

from fourbeat.types import Object

_MARK = "$"


def written(state: Object, where: str) -> Any:
    """The state in types that JSON holds; it shares no memory with the source, which reads on.

    Args:
      state: what `state_dict()` or `get_state()` gave.
      where: how the error names it.

    Raises:
      TypeError: a part of it cannot be written down without pickling it.

    >>> written({"step": 3, "key": b"ab", "pair": (1, None)}, "state")
    {'step': 3, 'key': {'$': 'bytes', 'data': 'YWI='}, 'pair': {'$': 'tuple', 'items': [1, None]}}
    """
    if state is None or type(state) in (bool, int, float, str):
        return state
    if isinstance(state, dict):
        if all(type(key) is str and key != _MARK for key in state):
            return {key: written(value, f"{where}[{key!r}]") for key, value in state.items()}
        items = [
            [written(key, f"a key of {where}"), written(value, f"{where}[{key!r}]")]
            for key, value in state.items()
        ]
        return {_MARK: "dict", "items": items}
    if isinstance(state, list | tuple):
        items = [written(value, f"{where}[{i}]") for i, value in enumerate(state)]
        return items if isinstance(state, list) else {_MARK: "tuple", "items": items}
    if isinstance(state, bytes | bytearray):
        return {_MARK: "bytes", "data": _text(bytes(state))}
    if isinstance(state, np.ndarray | np.generic) and state.dtype.kind in "biufcSU":
        kind = "array" if isinstance(state, np.ndarray) else "scalar"
        return {_MARK: kind, "dtype": state.dtype.str, "shape": state.shape, "data": _text(state.tobytes())}
    for plain in (int, float, str):  # of a class of its own, such as an enum of ints
        if isinstance(state, plain):
            return plain(state)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(state, torch.Tensor):
        data: Any = state.detach().cpu().contiguous()  # pyright: ignore[reportAttributeAccessIssue]
        kept = data.reshape(-1).view(torch.uint8).numpy() if data.numel() else np.zeros(0, np.uint8)
        dtype = str(data.dtype).removeprefix("torch.")
        return {_MARK: "tensor", "dtype": dtype, "shape": [*data.shape], "data": _text(kept.tobytes())}
    raise TypeError(
        f"{where} is a {type(state).__module__}.{type(state).__qualname__}, which cannot be written down. A "
        "state is made of numbers, text, bytes, lists, tuples, dicts, arrays and tensors."
    )


def read_back(state: Object) -> Any:
    """The state that `written` wrote down.

    >>> read_back(written({"rng": np.arange(2), 7: (1, b"x")}, "state"))
    {'rng': array([0, 1]), 7: (1, b'x')}
    """
    if isinstance(state, list):
        return [read_back(value) for value in state]
    if not isinstance(state, dict):
        return state
    kind = state.get(_MARK)
    if kind is None:
        return {key: read_back(value) for key, value in state.items()}
    if kind == "dict":
        return {read_back(key): read_back(value) for key, value in state["items"]}
    if kind == "tuple":
        return tuple(read_back(value) for value in state["items"])
    data = base64.b64decode(state["data"])
    if kind == "bytes":
        return data
    if kind == "tensor":
        return _tensor(data, state["dtype"], state["shape"])
    array = np.frombuffer(data, np.dtype(state["dtype"])).reshape(state["shape"]).copy()
    return array if kind == "array" else array[()]


def _tensor(data: bytes, dtype: str, shape: list[int]) -> Any:
    torch: Any = importlib.import_module("torch")
    if not data:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    kept = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return kept.view(getattr(torch, dtype)).reshape(shape)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
