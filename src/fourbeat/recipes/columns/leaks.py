"""What a column alone tells of the target, so that one which gives it away is named before training."""

import warnings
from typing import Any

import numpy as np

from fourbeat.recipes.columns.kinds import Task
from fourbeat.recipes.columns.values import Values

GIVES_AWAY = 0.97
"""A column that alone tells so much of the target is named."""

_MOST_ROWS = 20_000  # more rows would tell the same, and take longer
_NUM_FOLDS = 3
_LEAVES_A_CLASS, _LEAVES = 4, 64


def alone(values: Values, is_number: bool, labels: np.ndarray, task: Task, seed: int) -> float:
    """How well a column alone predicts the target of rows that it was not fitted to, at most 1.

    A small tree is fitted to numbers, and the commonest class (the mean) of each category to categories, on
    two thirds of the rows for the last third, in turn. A missing value is a value like others.

    Args:
      values: the column.
      is_number: whether it is learnt from as a number.
      labels: classes or numbers, of shape (rows,).
      task: which they are.
      seed: of the thirds, and of the rows that are looked at where there are very many.

    Returns:
      Balanced accuracy of classes; R2 of numbers, or the square of Spearman's rank correlation where that is
      larger.

    >>> x = np.arange(90.0)
    >>> alone(Values("x", "number", x), True, np.exp(x), "regression", seed=0)
    1.0
    """
    random = np.random.RandomState([seed])
    drawn = random.permutation(len(labels))[:_MOST_ROWS]
    drawn = drawn[np.argsort(labels[drawn], kind="stable")]  # so that each third has its share of each class
    labels, values = labels[drawn], values.at(drawn)
    fold = np.arange(len(labels)) % _NUM_FOLDS
    predicted = np.zeros(len(labels))
    for number in range(_NUM_FOLDS):
        is_held_out = fold == number
        fit_and_predict = _of_numbers if is_number else _of_categories
        predicted[is_held_out] = fit_and_predict(values, labels, ~is_held_out, task)
    if task == "classification":
        return float(np.mean([np.mean(predicted[labels == each] == each) for each in np.unique(labels)]))
    r2 = 1 - np.mean((predicted - labels) ** 2) / max(np.var(labels), 1e-300)
    return float(max(r2, _rank_correlation(values, labels) ** 2 if is_number else 0.0))


def _of_numbers(values: Values, labels: np.ndarray, is_fitted: np.ndarray, task: Task) -> np.ndarray:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    assert values.numbers is not None
    x = values.numbers[:, None].astype(np.float32)
    tree: Any = DecisionTreeRegressor(max_leaf_nodes=_LEAVES, random_state=0)
    if task == "classification":
        most = _LEAVES_A_CLASS * len(np.unique(labels))
        tree = DecisionTreeClassifier(max_leaf_nodes=most, class_weight="balanced", random_state=0)
    return tree.fit(x[is_fitted], labels[is_fitted]).predict(x[~is_fitted])


def _of_categories(values: Values, labels: np.ndarray, is_fitted: np.ndarray, task: Task) -> np.ndarray:
    places = values.as_words[0] + 1
    num_places = places.max() + 1
    if task == "regression":
        overall = labels[is_fitted].mean()
        count = np.bincount(places[is_fitted], minlength=num_places)
        total = np.bincount(places[is_fitted], labels[is_fitted] - overall, minlength=num_places)
        return (overall + total / np.maximum(count, 1))[places[~is_fitted]]
    num_classes = int(labels.max()) + 1
    pair = places[is_fitted].astype(np.int64) * num_classes + labels[is_fitted]
    # each class counts as much as another, as in the balanced accuracy
    share = 1 / np.maximum(np.bincount(labels[is_fitted], minlength=num_classes), 1)
    different, place = np.unique(pair, return_inverse=True)
    count = np.bincount(place) * share[different % num_classes]
    by_count = np.argsort(count, kind="stable")  # the largest comes last, and stays
    likeliest = np.zeros(num_places, np.int64)
    likeliest[different[by_count] // num_classes] = different[by_count] % num_classes
    return likeliest[places[~is_fitted]]


def _rank_correlation(values: Values, labels: np.ndarray) -> float:
    from scipy.stats import spearmanr

    assert values.numbers is not None
    is_there = ~values.is_missing
    if is_there.mean() < 0.9:  # the order of a few rows says little of all
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one value everywhere has no order
        ranked: Any = spearmanr(values.numbers[is_there], labels[is_there])
        return float(np.nan_to_num(ranked.statistic))
