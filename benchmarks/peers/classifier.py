"""What every peer offers: training for so many steps more, and its logits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.jobs import Job


class Classifier(ABC):
    """A side that trains a classifier; `run` goes on from where the last one ended."""

    job: Job

    @abstractmethod
    def run(self, amount: int) -> Mapping[str, Any] | None:
        """Trains for `amount` steps more and returns when the last one is done."""

    @abstractmethod
    def logits(self, inputs: np.ndarray) -> Any:
        """Of inputs as the job holds them, (n, 10), in evaluation mode."""

    def scores(self) -> dict[str, float]:
        """Loss and accuracy on the job's test data."""
        return self.job.scores(self.logits)
