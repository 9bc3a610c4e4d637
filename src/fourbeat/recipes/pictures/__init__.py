"""What a run on pictures reads and can do: folders or a list, scores, predictions, its worst mistakes."""

from fourbeat.recipes.pictures.decoding import default_workers
from fourbeat.recipes.pictures.finding import EXPECTED
from fourbeat.recipes.pictures.mistakes import write_mistakes
from fourbeat.recipes.pictures.network import network_for
from fourbeat.recipes.pictures.picture_set import PictureSet, read_pictures
from fourbeat.recipes.pictures.predictions import predict
from fourbeat.recipes.pictures.scores import evaluate, make_held_out_metrics

__all__ = [
    "EXPECTED",
    "PictureSet",
    "default_workers",
    "evaluate",
    "make_held_out_metrics",
    "network_for",
    "predict",
    "read_pictures",
    "write_mistakes",
]
