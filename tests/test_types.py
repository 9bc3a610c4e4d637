"""The page of types lists what `fourbeat.types` names, and the public signatures use these names."""

import re
import typing
from pathlib import Path

import jax

import fourbeat as fb
from fourbeat import types

ROOT = Path(__file__).parents[1]
NAMES = {
    "Args", "Aux", "Batch", "BatchSource", "Config", "Device", "Figure", "Keywords", "Logs", "LossFn",
    "Model", "Object", "OptState", "Params", "Rest", "Scalar", "State", "StepFunction", "Tree",
}  # fmt: skip


def test_the_page_lists_every_type():
    page = (ROOT / "docs" / "reference" / "types.md").read_text()
    named = {name for name, value in vars(types).items() if name[0].isupper()} - {
        "Any",
        "TYPE_CHECKING",
        "TypeAlias",
        "Callable",
        "Mapping",
    }
    assert named == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == NAMES


def test_the_functions_of_a_step_are_annotated_with_them():
    fields = typing.get_type_hints(fb.TrainState)
    assert (fields["params"], fields["rest"], fields["ema"]) == (
        types.Params,
        types.Rest,
        types.Params | None,
    )
    parts = typing.get_type_hints(fb.Beats)
    assert typing.get_args(parts["train_step"]) == (
        Ellipsis,  # a state, a batch, and inputs by name
        tuple[fb.TrainState, dict[str, jax.Array]],  # types.Logs, which names jax.Array in a text
    )
    assert typing.get_type_hints(fb.four_beats)["loss_fn"] == types.LossFn
    assert typing.get_type_hints(fb.compile)["step"] == types.StepFunction
