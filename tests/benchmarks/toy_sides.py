"""Sides of no library: what they take, and whether they learn, is known."""


class Learns:
    """Halves its loss in each unit of work; a round takes `seconds` by its own account."""

    def __init__(self, settings, *, seconds):
        self.loss, self.seconds, self.rounds = 1.0, seconds, 0
        self.facts = {"threads": settings["threads"]}

    def learn(self, amount):
        self.loss /= 2**amount

    def run(self, amount):
        print("a library that prints")
        self.rounds += 1
        return {"seconds": self.seconds * amount * self.rounds, "samples": [self.seconds] * amount}

    def scores(self):
        return {"loss": self.loss}


class LearnsNothing(Learns):
    def learn(self, amount):
        self.loss = float("nan")


class Fails(Learns):
    def learn(self, amount):
        raise ValueError("no such batch")


class Dies(Learns):
    def run(self, amount):
        raise SystemExit(3)


def absent(settings):
    import torch_of_another_world  # noqa: F401
