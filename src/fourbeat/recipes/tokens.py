"""A GPT of your size on your own tokens or text, in packed documents: the whole loop in one file."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

import fourbeat as fb
from fourbeat import runs
from fourbeat.recipes.bad_files import say_left_out
from fourbeat.recipes.corpus import reading, spelling
from fourbeat.recipes.corpus.documents import Corpus, Documents, parted, read_corpus
from fourbeat.recipes.corpus.scores import with_bits
from fourbeat.recipes.corpus.speed import Speed, flops_per_token, in_words, peak_flops, said_of_peak
from fourbeat.recipes.text.generating import generate, windows_of
from fourbeat.recipes.text.gpt import GPT
from fourbeat.runs.printing import printable


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Trains a GPT on token ids or text of your own: a memmap, Parquet, text files."""

    file: Annotated[
        Path | None, *runs.argument("FILE", "ids as .bin, .npy or .parquet, or text: a file or a folder")
    ] = None
    """Ids as .bin or .npy; .parquet of lists of ids or of text; any other file, or a folder, is text."""
    out: Path | None = None
    """The run's own directory; by default runs/tokens/<time>."""
    dtype: Literal["uint16", "uint32"] | None = None
    """Type of the ids of a .bin file; uint16 unless it is given."""
    vocabulary: Annotated[int, runs.at_least(1, below=2**31)] | None = None
    """Ids are below this; by default the largest one in FILE is the last. Text is 256 bytes."""
    document_token: Annotated[int, runs.at_least(0, below=2**31)] | None = None
    """The id that ends a document; by default one of its own, after the vocabulary."""
    tokenizer: Literal["bytes", "none"] | None = None
    """bytes for text, none for ids: FILE says which."""
    checksum: int | None = None
    """Of the tokens of FILE, found when the run begins: a run that goes on refuses others."""
    column: str | None = None
    """The column of a Parquet file; a row is a document."""
    pattern: str = "*"
    """The names of the files of a folder of text; a file is a document."""
    separator: str | None = None
    """What parts documents within a text, such as '<|endoftext|>'."""
    valid: Path | None = None
    """Hold out the documents of this file, and learn all of FILE."""
    hold_out: Annotated[float, runs.above(0, at_most=0.5)] = 0.05
    """The share of the documents of FILE that is held out, by their numbers; one at least."""
    bytes_per_token: Annotated[float, runs.above(0)] | None = None
    """Bytes of text that an id stands for, on average: gives bits a byte for ids."""
    steps: Annotated[int, runs.at_least(1, below=2**31)] = 2_000
    """Training steps."""
    batch_size: Annotated[int, runs.at_least(1)] = 16
    """Windows in a batch."""
    accumulate: Annotated[int, runs.at_least(1)] = 1
    """Microbatches that a batch is cut into: the same update, in the memory of one of them."""
    context: Annotated[int, runs.at_least(1)] = 256
    """Tokens in a window: how far back the model sees."""
    layers: Annotated[int, runs.at_least(1)] = 4
    """Transformer blocks."""
    width: Annotated[int, runs.at_least(1)] = 128
    """Numbers that stand for a token inside the model."""
    heads: Annotated[int, runs.at_least(1)] = 4
    """Attention heads; they share the width."""
    learning_rate: Annotated[float, runs.at_least(0)] = 2e-3
    """The peak of the learning rate: a tenth of the steps warm up to it, then a cosine falls to a tenth."""
    weight_decay: Annotated[float, runs.at_least(0)] = 0.1
    """Weight decay of AdamW."""
    clip_norm: Annotated[float, runs.above(0)] = 1.0
    """Clip gradients to this global norm."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """The dtype that the layers compute in; parameters, losses and normalisation are float32 in any case."""
    seed: Annotated[int, runs.at_least(0, below=2**32)] = 0
    """Seed of the initial values, the order of the data and the samples."""
    peak_flops: Annotated[float, runs.above(0)] | None = None
    """Operations a second at most of the device, for the share of them that is used."""
    prompt: str = ""
    """What the samples continue: text, or ids with spaces between them. By default a document begins."""
    sample_length: Annotated[int, runs.at_least(1)] = 200
    """Tokens to draw for a sample."""
    temperature: Annotated[float, runs.at_least(0)] = 0.8
    """Temperature of the samples: the lower it is, the surer the tokens are; 0 takes the likeliest."""
    top_k: Annotated[int, runs.at_least(1)] | None = None
    """Draw from so many of the likeliest tokens alone."""
    top_p: Annotated[float, runs.above(0, at_most=1)] | None = None
    """Draw from the likeliest tokens alone, as many as have this probability together."""
    stop: str | None = None
    """End a sample before this text, or these ids; a document's end ends it in any case."""
    eval_every: Annotated[int, runs.at_least(1)] = 250
    """Evaluate and draw a sample every so many steps."""
    eval_windows: Annotated[int, runs.at_least(1)] = 256
    """Held-out windows to score while it learns; all of them at the end."""
    log_every: Annotated[int, runs.at_least(1)] = 50
    """Log the loss of the batch every so many steps."""
    log: tuple[str, ...] = ()
    """Log there too: tensorboard, wandb, mlflow, trackio, or module:name of a callable of your own."""
    save_every: Annotated[int, runs.at_least(1)] = 250
    """Save a checkpoint every so many steps."""
    resume: str | None = None
    """Go on with a run: its directory, "best", or "latest": that of --out or else the newest one."""
    max_seconds: Annotated[float, runs.above(0)] | None = None
    """Save and stop after so much time; --resume goes on."""

    @property
    def exact_on_resume(self) -> frozenset[str]:
        """Flags that may change on resume, because training does not depend on them."""
        drawing = {"prompt", "sample_length", "temperature", "top_k", "top_p", "stop"}
        return frozenset({*drawing, "log", "log_every", "save_every", "peak_flops", "bytes_per_token"})

    @property
    def num_tokens(self) -> int:
        """Tokens that the model knows: the vocabulary, and the document token where it is one of its own."""
        return max(self.vocabulary or 0, (self.document_token or 0) + 1)


class Data(NamedTuple):
    """Batches to train on, to evaluate on as it learns, and of all that is held out; and how much that is.

    `left_out` says of each file of a folder that is no text why it is left out.
    """

    train: fb.data.Batches
    valid: fb.data.Batches
    held_out: fb.data.Batches
    num_documents: int
    num_tokens: int
    num_held_out: int
    num_held_out_tokens: int
    left_out: dict[str, str]


def check(config: Tokens) -> None:
    """Raises a ValueError where flags cannot be, or do not fit each other."""
    runs.check_flags(config)
    for parts, whole in (("heads", "width"), ("accumulate", "batch_size")):
        num_parts, size = getattr(config, parts), getattr(config, whole)
        if size % num_parts:
            flag = whole.replace("_", "-")
            raise ValueError(f"--{parts} is {num_parts}, and cannot share out a --{flag} of {size} evenly.")


def read(config: Tokens) -> tuple[Tokens, Corpus]:
    """The corpus of FILE, and the flags with what it says of the tokens.

    Raises:
      ValueError: the file cannot be read, or the flags say something else.
    """
    check(config)
    file = Path(config.file or "")
    corpus = read_file(config, file)
    if config.checksum not in (None, corpus.checksum):
        raise ValueError(
            f"{file} is not what it was when the run began: other documents would be learnt and held out. "
            "Give it back its content, or begin a new run."
        )
    if config.tokenizer not in (None, corpus.tokenizer):
        raise ValueError(f"--tokenizer is {config.tokenizer}, and that of {file} is {corpus.tokenizer}.")
    if config.bytes_per_token is not None and corpus.tokenizer == "bytes":
        raise ValueError(f"{file} is text, whose bytes are counted: leave --bytes-per-token out.")
    found = {
        name: getattr(corpus, name) for name in ("vocabulary", "document_token", "tokenizer", "checksum")
    }
    valid = config.valid if config.valid is None else config.valid.absolute()
    config = dataclasses.replace(config, file=file.absolute(), valid=valid, **found)
    for text in (config.prompt, config.stop or ""):
        encode(config, text)  # raises where it is to be ids, and is not
    return config, corpus


def read_file(config: Tokens, file: Path) -> Corpus:
    """The corpus of a file, read as the flags say."""
    how = {name: getattr(config, name) for name in ("dtype", "column", "pattern", "separator")}
    return read_corpus(file, vocabulary=config.vocabulary, document_token=config.document_token, how=how)


def make_data(config: Tokens, corpus: Corpus | None = None) -> Data:
    """Documents, packed into windows: a window's `tokens` are predicted from the `inputs` before them.

    Every token of every document is predicted once an epoch, the first one from the document token. A token
    sees those before it in its own document alone. Windows are read when they are wanted.

    Args:
      config: flags that `read` gave.
      corpus: what it gave too; by default it is read again.
    """
    corpus = read(config)[1] if corpus is None else corpus
    left_out = dict(corpus.left_out)
    if config.valid is None:
        learnt, held_out = (Documents(corpus, numbers) for numbers in parted(corpus, config.hold_out))
    else:
        other = read_file(config, config.valid)
        if other.tokenizer != corpus.tokenizer:
            raise ValueError(f"{config.valid} and {corpus.name} are not both text, or not both ids.")
        learnt, held_out = (Documents(each, np.arange(len(each.ends))) for each in (corpus, other))
        left_out |= other.left_out
    if learnt.offsets[-1] < config.context:
        raise ValueError(
            f"{corpus.name} has {learnt.offsets[-1]:,} tokens to learn, which do not fill a window of "
            f"{config.context}: give more, or a smaller --context."
        )
    pack = partial(fb.data.packed, length=config.context, cut=True, before=config.document_token)
    windows, held_out_windows = pack(learnt), pack(held_out)
    every = math.ceil(len(held_out_windows) / config.eval_windows)
    sizes = [
        int(number) for each in (learnt, held_out) for number in (len(each.offsets) - 1, each.offsets[-1])
    ]
    return Data(
        windows.batches(config.batch_size, shuffle=True, seed=config.seed, workers=2),
        held_out_windows[::every].batches(config.batch_size),
        held_out_windows.batches(config.batch_size),
        *sizes,
        left_out=left_out,
    )


def loss_fn(model, batch):
    """Cross-entropy of each token; `batch["weight"]` is 0 for padding."""
    tokens = batch["tokens"].astype(jnp.int32)
    logits = model(batch["inputs"].astype(jnp.int32), batch["segment_ids"], batch["positions"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
    return losses, {"byte_share": (tokens < reading.NUM_BYTES).astype(jnp.float32)}


def encode(config: Tokens, text: str) -> np.ndarray:
    """The tokens of a text: its bytes, or the ids that it lists."""
    return spelling.encode(text, tokenizer=config.tokenizer or "", num_tokens=config.num_tokens)


def sample(config: Tokens, model, batch):
    """Goes on with what `prompted` made a batch of: tokens, (texts, sample_length)."""
    return generate(
        model,
        batch,
        num_tokens=config.sample_length,
        num_special=0,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        stop=encode(config, config.stop or ""),
        end=config.document_token,
        filler=spelling.NOT_DRAWN,
    )


def prompted(config: Tokens, texts: Sequence[str]) -> dict:
    """What `sample` continues: the end of each text, read as the beginning of a document."""
    seen = [np.append([config.document_token or 0], encode(config, text)) for text in texts]
    return windows_of(seen, config.context, seed=config.seed)


def text_of(config: Tokens, tokens) -> str:
    """What was drawn, up to what ends it."""
    stop, end = encode(config, config.stop or ""), config.document_token or 0
    drawn = spelling.before_end(np.asarray(tokens), stop=stop, end=end)
    return spelling.decode(drawn, tokenizer=config.tokenizer or "")


def make_metrics(config: Tokens) -> fb.metrics.Collection:
    """What is measured; `scored` gives bits too."""
    byte_share = {"byte_share": fb.metrics.Mean("byte_share")} if config.tokenizer == "bytes" else {}
    return fb.metrics.Collection(
        loss=fb.metrics.Mean("loss"), perplexity=fb.metrics.Perplexity("loss"), **byte_share
    )


def scored(config: Tokens, scores: dict) -> dict:
    """Scores with the loss in bits a byte, or a token where its bytes are not known."""
    return with_bits(scores, bytes_per_token=config.bytes_per_token)


def make_beats(config: Tokens) -> fb.Beats:
    """Forward, loss, gradient, update, as the flags ask for."""
    warmup = max(config.steps // 10, 1)
    peak, steps = config.learning_rate, max(config.steps, warmup + 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, end_value=peak / 10)
    return fb.four_beats(
        loss_fn,
        optax.chain(
            optax.clip_by_global_norm(config.clip_norm),
            optax.adamw(schedule, b2=0.95, weight_decay=config.weight_decay),
        ),
        metrics=make_metrics(config),
        predict=partial(sample, config),
        accumulate=config.accumulate,
        precision=config.precision,
        schedule=schedule,  # for logs["learning_rate"]
    )


def make_state(config: Tokens, beats: fb.Beats, mesh: Mesh | None = None) -> fb.TrainState:
    """The state that training begins with."""
    rngs = nnx.Rngs(config.seed)
    model = GPT(config.num_tokens, config.context, config.width, config.layers, config.heads, rngs=rngs)
    return beats.init(model, key=config.seed, mesh=mesh)


def make_speed(config: Tokens, state: fb.TrainState, num_devices: int) -> tuple[Speed, str]:
    """The stopwatch of training steps, and the line that says what it counts."""
    device = jax.devices()[0]
    peak = config.peak_flops or peak_flops(device, config.precision)
    peak = peak and peak * num_devices
    flops = flops_per_token(state.params, layers=config.layers, width=config.width, context=config.context)
    counted = said_of_peak(flops, peak, device, num_devices, config.precision)
    return Speed(config.batch_size * config.context, flops, peak), counted


def open_run(config: Tokens) -> runs.RunDirectory:
    """The run's directory: a new one, or that of the run to go on with."""
    return runs.RunDirectory.open(
        "tokens",
        config,
        exact=config.exact_on_resume,
        command="fourbeat train tokens",
        score="eval_loss",
        mode="min",
    )


def train(config: Tokens) -> fb.TrainState:
    """Trains, prints, writes the run directory; returns the final state."""
    config, corpus = read(config)
    data = make_data(config, corpus)
    beats = make_beats(config)
    mesh = runs.training_mesh(config.batch_size, num_microbatches=config.accumulate)  # of all processes
    step, evaluate = fb.compile(beats.train_step, mesh=mesh), fb.evaluator(beats)
    draw, prompt = jax.jit(beats.predict_step), prompted(config, [config.prompt])
    log, save = fb.every(steps=config.log_every), fb.every(steps=config.save_every)
    look = fb.every(steps=config.eval_every) | fb.at(steps=config.steps)

    with open_run(config) as run:
        state = run.restore(make_state(config, beats, mesh))
        run.show_model(state)
        if run.is_new:
            say_left_out(data.left_out)
        speed, counted = make_speed(config, state, 1 if mesh is None else mesh.size)
        if not run.is_finished:
            learnt = f"{data.num_tokens:,} tokens in {data.num_documents:,} documents to learn"
            runs.say(f"{learnt}, {data.num_held_out_tokens:,} in {data.num_held_out:,} held out")
            runs.say(counted)
        loop = run.loop(data.train, start=state.step, marks=[log, look], save=save)
        for tick in (bar := fb.progress(loop)):
            state, logs = step(state, tick.batch)
            speed.step(logs)
            if log in tick:
                run.log(tick.step, {"batch": {"loss": logs["loss"]}})
            if look in tick:
                pace = speed.stop(logs)
                scores = evaluate(state, loop.interruptible(data.valid))
                if not loop.unfinished:
                    seen, state = state.pop_metrics()
                    seen, scores = scored(config, seen), scored(config, scores)
                    text = config.prompt + text_of(config, draw(state, prompt)[0])
                    sampled = {"text": text}
                    run.log(tick.step, {"train": seen, "eval": scores, "sample": sampled, "speed": pace})
                    bar.show(train_loss=seen["loss"], eval_loss=scores["loss"])
                    words = [runs.in_words("train", seen), runs.in_words("eval", scores)]
                    runs.say(f"step {tick.step:5d}", *words, *in_words(pace))
                    print(printable(text, keep="\n\t"), end="\n\n")
            run.save(tick, state)
        if run.is_complete:
            report(config, run, beats, state, data)
    return state


def report(config: Tokens, run: runs.RunDirectory, beats: fb.Beats, state: fb.TrainState, data: Data) -> None:
    """Scores all held-out documents; prints, plots, and marks the run as finished."""
    result = scored(config, fb.evaluator(beats)(state, data.held_out))
    last_step = int(state.step)
    run.log(last_step, {"test": result})
    run.figure(last_step, "curves", runs.figures.curves(run.history()))
    run.finish(result)
    runs.show_end(run, "evaluate", "predict", group="held out")
