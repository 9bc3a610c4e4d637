"""Runs as their files, for what reads them."""

import json


def write_run(
    path, lines, *, flags=None, score=("eval_accuracy", "max"), begun="2026-01-01T00:00:00+00:00", **more
):
    """Writes `config.json` and `metrics.jsonl` of a run; `summary` in `more` is its summary."""
    path.mkdir(parents=True)
    named = None if score is None else {"name": score[0], "mode": score[1]}
    summary = more.pop("summary", None)
    config = {"recipe": "a-recipe", "begun": begun, "flags": flags or {}, "score": named, **more}
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if summary is not None:
        (path / "summary.json").write_text(json.dumps(summary))
    return path
