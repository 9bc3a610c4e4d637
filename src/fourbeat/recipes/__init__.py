"""Whole training loops, a file each, and the one table of them. Importing the table loads no JAX."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """Where the parts of a recipe lie, each as `module.name` of this package; each is loaded when it is used.

    Attributes:
      config: the dataclass of its flags.
      train: `train(config)` trains, and writes a run.
      evaluate: `evaluate(run, step, as_json=)` prints the scores of a run; None where there is none.
      predict: `predict(run, files, step, as_json=)` prints what a run predicts of files; None where there
        is none.
      export: `export(run, step)` gives what `fourbeat export` writes of a run; None where there is none.
    """

    config: str
    train: str
    evaluate: str | None = None
    predict: str | None = None
    export: str | None = None

    def load(self, part: str) -> Any:
        """A part by its name here, such as "train"; loading it loads JAX."""
        home, _, name = getattr(self, part).rpartition(".")
        return getattr(importlib.import_module(f"{__name__}.{home}"), name)

    @property
    def module(self) -> ModuleType:
        """The module of its flags."""
        return importlib.import_module(f"{__name__}.{self.config.rpartition('.')[0]}")

    @property
    def file(self) -> Path:
        """The recipe's own file, which is found without loading it."""
        return Path(__file__).parent / f"{self.config.rpartition('.')[0]}.py"


RECIPES = {
    "mnist-cnn": Recipe(
        "mnist_cnn.MnistCNN", "mnist_cnn.train", "digits.evaluate", "digits.predict", "exporting.digits"
    ),
    "mnist-resnet": Recipe(
        "mnist_resnet.MnistResNet",
        "mnist_resnet.train",
        "digits.evaluate",
        "digits.predict",
        "exporting.digits",
    ),
    "linear-regression": Recipe(
        "linear_regression.LinearRegression", "linear_regression.train", export="exporting.line"
    ),
    "char-gpt": Recipe(
        "char_gpt.CharGPT", "char_gpt.train", "text.evaluate", "text.predict", "exporting.text"
    ),
    "images": Recipe(
        "images.Images", "images.train", "pictures.evaluate", "pictures.predict", "exporting.pictures"
    ),
    "tokens": Recipe(
        "tokens.Tokens", "tokens.train", "corpus.evaluate", "corpus.predict", "exporting.corpus"
    ),
    "table": Recipe("table.Table", "table.train", "columns.evaluate", "columns.predict", "exporting.table"),
}
