"""What is measured on the test set, and `fourbeat evaluate`: a run's scores on it."""

from pathlib import Path

import fourbeat as fb
from fourbeat import runs
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Step, load


def make_test_metrics() -> fb.metrics.Collection:
    """Loss and accuracy, precision and recall of each digit, and which digits are taken for which."""
    return fb.metrics.Collection(
        loss=fb.metrics.Mean("loss"),
        accuracy=fb.metrics.Accuracy(),
        precision=fb.metrics.Precision(num_classes=10, average=None),
        recall=fb.metrics.Recall(num_classes=10, average=None),
        confusion=fb.metrics.ConfusionMatrix(num_classes=10),
    )


def evaluate(run: Path, step: Step, *, as_json: bool) -> None:
    """Prints loss, accuracy, and precision and recall of each class, on the whole test set.

    Args:
      run: its directory.
      step: which checkpoint.
      as_json: one JSON object instead of tables.
    """
    trained = load(run, step, mode="max")
    test_batches = trained.recipe.make_batches(trained.config)[-1]
    scores = fb.evaluator(trained.beats, make_test_metrics())(trained.state, test_batches)
    num_examples = test_batches.num_examples
    if as_json:
        print_json(trained, examples=num_examples, **scores)
        return
    say_run(trained, f"{num_examples:,} test examples")
    examples = scores["confusion"].sum(axis=1).round().astype(int)
    runs.show_by_class(precision=scores["precision"], recall=scores["recall"], examples=examples)
    runs.say(f"test loss {scores['loss']:.4f}", f"test accuracy {scores['accuracy']:.4f}")
