"""The recipes by name. A name costs nothing; loading its recipe loads JAX."""

import importlib
from types import ModuleType
from typing import Literal, NamedTuple


class Recipe(NamedTuple):
    """Where a recipe lies, and what it models.

    Attributes:
      module: its file's name.
      flags: the name of the class of its flags.
      models: what `fourbeat evaluate` and `fourbeat predict` take its runs for.
        "digits": the recipe has make_beats, make_state, make_batches (the last of these of the test set),
        make_test_metrics, and predicts the logits of digits from images of 28 x 28; the higher a
        checkpoint's score, the better. "text": it has make_beats, make_state, read_files, make_windows,
        make_metrics, and predicts by going on with a text; the lower a score, the better. None: neither.
    """

    module: str
    flags: str
    models: Literal["digits", "text"] | None = None

    def load(self) -> tuple[ModuleType, type]:
        """The recipe's module and the class of its flags."""
        module = importlib.import_module(f"fourbeat.recipes.{self.module}")
        return module, getattr(module, self.flags)


RECIPES = {
    "mnist-cnn": Recipe("mnist_cnn", "MnistCNN", "digits"),
    "mnist-resnet": Recipe("mnist_resnet", "MnistResNet", "digits"),
    "linear-regression": Recipe("linear_regression", "LinearRegression"),
    "char-gpt": Recipe("char_gpt", "CharGPT", "text"),
}
