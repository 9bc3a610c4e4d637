"""What a network is compared with: the commonest class or the mean, and gradient boosting."""

from typing import Any

import numpy as np

from fourbeat.recipes.columns.layout import MISSING, OTHER, Target

_MOST_CATEGORIES = 254  # what gradient boosting takes
_FEW_NUMBERS = 200_000  # of a table that one thread is faster for: several wait for each other at each node


def baselines(
    batch: dict[str, np.ndarray],
    labels: np.ndarray,
    train_rows: np.ndarray,
    test_rows: np.ndarray,
    target: Target,
    seed: int,
) -> dict[str, np.ndarray]:
    """What each predicts of the test rows: probabilities of shape (rows, classes), or numbers.

    Gradient boosting has the settings of scikit-learn, takes missing values as they are, and categories as
    categories, the 253 most frequent of a column told apart. Both are fitted to the rows to train on alone.

    Args:
      batch: the columns that the network reads, of all rows.
      labels: of all rows.
      train_rows: the places of the rows to train on.
      test_rows: those of the rows to predict.
      target: what is predicted.
      seed: of gradient boosting.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # scikit-learn needs it too

    x, is_category = _inputs(batch)
    options: dict[str, Any] = {"categorical_features": is_category, "random_state": seed}
    models: dict[str, Any] = {
        "boosting": HistGradientBoostingRegressor(**options),
        "constant": DummyRegressor(),
    }
    if target.classes:
        has_pairs = np.bincount(labels[train_rows]).min() > 1  # it may hold rows out, of each class
        options["early_stopping"] = "auto" if has_pairs else False
        boosting = HistGradientBoostingClassifier(**options)
        models = {"boosting": boosting, "constant": DummyClassifier(strategy="prior")}
    predicted = {}
    with threadpool_limits(1 if x.size < _FEW_NUMBERS else None):
        for name, model in models.items():
            model.fit(x[train_rows], labels[train_rows])
            predict = model.predict_proba if target.classes else model.predict
            predicted[name] = np.asarray(predict(x[test_rows]))
    return predicted


def _inputs(batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All columns as one array, and which of them are categories."""
    numbers = batch.get("numbers", np.zeros((len(next(iter(batch.values()))), 0), np.float32))
    categories = batch.get("categories", np.zeros((len(numbers), 0), np.int32))
    limited = np.where(categories < _MOST_CATEGORIES, categories, OTHER).astype(np.float32)
    x = np.concatenate([numbers, np.where(categories == MISSING, np.nan, limited)], axis=1)
    return x, np.arange(x.shape[1]) >= numbers.shape[1]
