"""`fourbeat evaluate` for a corpus: loss, perplexity and bits of its held-out documents."""

import math
from collections.abc import Mapping
from pathlib import Path

import fourbeat as fb
from fourbeat.recipes.telling import print_json, say_run
from fourbeat.recipes.trained import Step, load
from fourbeat.runs.printing import in_words, say
from fourbeat.types import Scalar


def evaluate(run: Path, step: Step, *, as_json: bool) -> None:
    """Prints loss, perplexity, and bits a byte or a token, of all held-out documents.

    Args:
      run: its directory.
      step: which checkpoint.
      as_json: one JSON object instead of a line.
    """
    trained = load(run, step, mode="min")
    recipe, config = trained.recipe, trained.config
    data = recipe.make_data(config)
    scores = recipe.scored(config, fb.evaluator(trained.beats)(trained.state, data.held_out))
    num_documents, num_tokens = data.num_held_out, data.num_held_out_tokens
    if as_json:
        values = {name: float(value) for name, value in scores.items()}
        print_json(trained, documents=num_documents, tokens=num_tokens, **values)
        return
    say_run(trained, f"{num_tokens:,} tokens in {num_documents:,} held-out documents")
    say(in_words("held out", scores))


def with_bits(
    scores: Mapping[str, Scalar], *, bytes_per_token: float | None = None, share: str = "byte_share"
) -> dict[str, Scalar]:
    """Scores with the loss in bits too: a byte where a token's bytes are known, else a token.

    Args:
      scores: with `loss`, in nats a token.
      bytes_per_token: of the text that the ids were.
      share: the score that says how many of the tokens are bytes; it is taken out.

    >>> with_bits({"loss": math.log(2) * 3, "byte_share": 0.75})["bits_per_byte"]
    4.0
    >>> with_bits({"loss": math.log(2) * 3}, bytes_per_token=4)["bits_per_byte"]
    0.75
    >>> with_bits({"loss": math.log(2) * 3})["bits_per_token"]
    3.0
    """
    others = {name: value for name, value in scores.items() if name != share}
    bits = float(scores["loss"]) / math.log(2)
    per_token = float(scores[share]) if share in scores else bytes_per_token
    return (
        {**others, "bits_per_token": bits}
        if per_token is None
        else {**others, "bits_per_byte": bits / per_token}
    )
