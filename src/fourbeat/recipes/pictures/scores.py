"""What is measured on pictures that are held out, and `fourbeat evaluate`: a run's scores on them."""

from pathlib import Path

import fourbeat as fb
from fourbeat import runs
from fourbeat.recipes.pictures.picture_set import held_out_pictures
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Step, load


def make_held_out_metrics(num_classes: int) -> fb.metrics.Collection:
    """Loss and accuracy, precision and recall of each class, and which classes are taken for which.

    The balanced accuracy is the mean of the recalls, in which a rare class counts as much as a common one.
    """
    return fb.metrics.Collection(
        loss=fb.metrics.Mean("loss"),
        accuracy=fb.metrics.Accuracy(),
        balanced_accuracy=fb.metrics.Recall(num_classes=num_classes, absent="skip"),
        precision=fb.metrics.Precision(num_classes=num_classes, average=None),
        recall=fb.metrics.Recall(num_classes=num_classes, average=None),
        confusion=fb.metrics.ConfusionMatrix(num_classes=num_classes),
    )


def evaluate(run: Path, step: Step, *, as_json: bool) -> None:
    """Prints loss, accuracy, and precision and recall of each class, on the pictures that the run held out.

    Args:
      run: its directory.
      step: which checkpoint.
      as_json: one JSON object instead of tables.
    """
    trained = load(run, step, mode="max")
    recipe, config = trained.recipe, trained.config
    data, part = held_out_pictures(run, Path(config.directory), config.size, config.classes, config.workers)
    batches = recipe.scored_batches(config, data)
    metrics = make_held_out_metrics(len(config.classes))
    scores = fb.evaluator(trained.beats, metrics)(recipe.averaged(trained.state), batches)
    group = "test" if part == "test" else "held out"
    if as_json:
        print_json(trained, examples=len(data), classes=config.classes, **scores)
        return
    say_run(trained, f"{len(data):,} {group.replace(' ', '-')} pictures")
    examples = scores["confusion"].sum(axis=1).round().astype(int)
    columns = {"precision": scores["precision"], "recall": scores["recall"], "examples": examples}
    runs.show_by_class(config.classes, **columns)
    runs.say(runs.in_words(group, {n: scores[n] for n in ("loss", "accuracy", "balanced_accuracy")}))
