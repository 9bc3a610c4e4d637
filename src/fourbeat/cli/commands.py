"""The commands: plain functions whose arguments and docstrings tyro makes into flags and help."""

from collections.abc import Callable
from typing import Annotated

import tyro

from fourbeat.recipes import linear_regression, mnist_cnn

Recipe = (
    Annotated[mnist_cnn.MnistCNN, tyro.conf.subcommand("mnist-cnn")]
    | Annotated[linear_regression.LinearRegression, tyro.conf.subcommand("linear-regression")]
)


def train(recipe: tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[Recipe]]) -> Callable:
    """Trains a recipe, and writes its run directory."""
    if isinstance(recipe, mnist_cnn.MnistCNN):
        return lambda: mnist_cnn.train(recipe)
    return lambda: linear_regression.train(recipe)


COMMANDS: dict[str, Callable] = {"train": train}
