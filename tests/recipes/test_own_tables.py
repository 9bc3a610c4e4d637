"""The recipe for tables of one's own, on tables of scikit-learn with categories and holes made."""

import csv
import functools
import importlib.util
import json
import shlex
import shutil

import jax
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
from sklearn import datasets, metrics
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

import fourbeat as fb
from fourbeat.cli import main
from fourbeat.compiling import compile
from fourbeat.recipes import table
from fourbeat.recipes.columns import prepare, show
from fourbeat.recipes.columns.layout import Layout
from fourbeat.recipes.columns.parts import num_repeated, parts_of
from fourbeat.recipes.plain import table as plain
from fourbeat.recipes.table import Table
from tests.kinds import assert_bit_equal

TINY = {"steps": 6, "eval_every": 2, "batch_size": 64, "width": 8, "blocks": 1, "seed": 3}


def write(path, columns):
    """A CSV file of columns by name; None is an empty cell."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return path


def patients():
    """scikit-learn's diabetes, with categories, truths, a few-valued number, dates and holes."""
    x, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    random = np.random.RandomState(0)
    places = random.randint(3, size=len(y))
    bmi = [f"{value:.1f}" if random.rand() > 0.1 else None for value in x[:, 2]]
    clinic = [["Ulm", "Bonn", "Köln"][place] if random.rand() > 0.1 else "?" for place in places]
    target = [str(int(value)) if row % 40 else None for row, value in enumerate(y)]
    return {
        "patient": [f"P{row:04d}" for row in range(len(y))],
        "age": x[:, 0].astype(int).tolist(),
        "sex": np.where(x[:, 1] > 1, "m", "f").tolist(),
        "bmi": bmi,
        "clinic": clinic,
        "ward": (places + 1).tolist(),
        "smokes": random.choice(["true", "false"], len(y)).tolist(),
        "seen": [f"2024-{1 + row % 12:02d}-{1 + row % 28:02d}" for row in range(len(y))],
        "ltg": x[:, 8].round(3).tolist(),
        "country": ["DE"] * len(y),
        "remark": [None] * len(y),
        "progression": target,
    }


@pytest.fixture(scope="module")
def patients_csv(tmp_path_factory):
    return write(tmp_path_factory.mktemp("patients") / "patients.csv", patients())


@pytest.fixture(scope="module")
def wine_csv(tmp_path_factory):
    data = datasets.load_wine()
    columns = {name: data.data[:, place].tolist() for place, name in enumerate(data.feature_names[:4])}
    columns["cultivar"] = [["Barolo", "Grignolino", "Barbera"][label] for label in data.target]
    return write(tmp_path_factory.mktemp("wine") / "wine.csv", columns)


@pytest.fixture(scope="module", autouse=True)
def one_program():
    """Runs of one layout share their compiled programs."""
    with pytest.MonkeyPatch.context() as patch:
        of_layout = table.beats_of
        patch.setattr(table, "beats_of", functools.cache(of_layout))
        patch.setattr(fb, "compile", functools.cache(lambda step: compile(step)))
        patch.setattr(fb, "evaluator", functools.cache(fb.evaluator))
        patch.setattr(fb, "predictor", functools.cache(fb.predictor))
        with threadpool_limits(1):  # threads of gradient boosting wait for each other on so few rows
            yield


@pytest.fixture(scope="module")
def whole(patients_csv, tmp_path_factory):
    """`(directory, state)` of a regression that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, table.train(Table(patients_csv, "progression", out=out, **TINY))


@pytest.fixture(scope="module")
def classified(wine_csv, tmp_path_factory):
    """`(directory, state)` of a classification."""
    out = tmp_path_factory.mktemp("classified") / "run"
    return out, table.train(Table(wine_csv, "cultivar", out=out, **TINY))


def best_of(path, state):
    return fb.Checkpoints(path / "checkpoints", mode="min").restore({"state": state}, "best", partial=True)[
        0
    ]["state"]


def by_hand(layout, columns, rows):
    """What the model is to read of some rows, from the words of the file."""
    texts = {
        name: [None if word in (None, "?") else str(word) for word in column]
        for name, column in columns.items()
    }
    numbers = []
    for name in ("age", "bmi", "seen", "ltg"):
        kept = [texts[name][row] for row in rows]
        if name == "seen":
            kept = [(np.datetime64(word) - np.datetime64("1970-01-01")).astype(int) for word in kept]
        numbers.append([np.nan if word is None else float(word) for word in kept])
    categories = []
    for category in layout.categories:
        kept = [texts[category.name][row] for row in rows]
        index = {word: place + 2 for place, word in enumerate(category.words)}
        categories.append([0 if word is None else index.get(word, 1) for word in kept])
    return np.array(numbers, np.float32).T, np.array(categories, np.int32).T


def test_each_column_is_found_for_what_it_is(patients_csv):
    prepared = prepare(Table(patients_csv, "progression"))
    kinds = {known.values.name: known.kind for known in prepared.known}
    assert kinds == {
        "patient": "identifier", "age": "number", "sex": "category", "bmi": "number", "clinic": "category",
        "ward": "category", "smokes": "category", "seen": "number", "ltg": "number", "country": "constant",
        "remark": "empty",
    }  # fmt: skip
    assert prepared.num_without_target == 12 and len(prepared.labels) == 430
    asked = Table(patients_csv, "ward", number=("ward",), drop=("age",), category=("seen", "patient"))
    with pytest.raises(ValueError, match=r"^--number ward: that is the target. Name another column.$"):
        prepare(asked)
    asked = Table(patients_csv, "smokes", number=("ward",), drop=("age",), category=("seen", "patient"))
    prepared = prepare(asked)
    kinds = {known.values.name: known.kind for known in prepared.known}
    assert (kinds["ward"], kinds["age"]) == ("number", "dropped")
    assert (kinds["seen"], kinds["patient"], kinds["progression"]) == ("category", "category", "number")
    assert prepared.layout.target.classes == ("false", "true")
    assert prepare(Table(patients_csv, "ward")).layout.target.classes == ("1", "2", "3")
    assert prepare(Table(patients_csv, "ward", task="regression")).layout.target.task == "regression"


def test_what_the_model_reads_is_what_stands_in_the_file_and_knows_the_rows_to_train_on_alone(patients_csv):
    columns = patients()
    prepared = prepare(Table(patients_csv, "progression", seed=3))
    rows = np.array([row for row, word in enumerate(columns["progression"]) if word is not None])
    numbers, categories = by_hand(prepared.layout, columns, rows)
    np.testing.assert_array_equal(prepared.batch["numbers"], numbers)
    np.testing.assert_array_equal(prepared.batch["categories"], categories)
    train = numbers[prepared.parts.train].astype(np.float64)
    for place, number in enumerate(prepared.layout.numbers):
        low, centre, high = np.nanquantile(train[:, place], [0.25, 0.5, 0.75])
        np.testing.assert_allclose([number.centre, number.scale], [centre, (high - low) / 1.349], rtol=1e-5)
        assert number.has_missing == (number.name == "bmi")
    for category in prepared.layout.categories:
        seen = [columns[category.name][row] for row in rows[prepared.parts.train]]
        counts = {str(word): seen.count(word) for word in set(seen) if word != "?"}
        assert list(category.words) == sorted(counts, key=lambda word: (-counts[word], word))
    labels = np.array([float(columns["progression"][row]) for row in rows])[prepared.parts.train]
    target = prepared.layout.target
    np.testing.assert_allclose([target.mean, target.std], [labels.mean(), labels.std()], rtol=1e-6)


def test_numbers_are_scaled_and_bent_and_say_where_they_are_missing(whole):
    path, state = whole
    layout, model = Layout.read(path), state.model
    numbers = np.array([[50, 25.5, 19_800, 4.5], [1e9, np.nan, 19_800, -1e9]], np.float32)
    centre, scale = (
        np.array([getattr(each, name) for each in layout.numbers]) for name in ("centre", "scale")
    )
    far = (np.where(np.isnan(numbers), centre, numbers) - centre) / scale
    expected = np.column_stack([far / np.sqrt(1 + (far / 3) ** 2), [0, 1]])
    np.testing.assert_allclose(model.scaling(numbers), expected, rtol=2e-3, atol=2e-3)
    assert np.abs(expected).max() > 2.99


def test_the_parts_have_their_share_of_each_class_and_every_row_once():
    labels = np.random.RandomState(1).permutation(np.repeat([0, 1, 2, 3], [100, 60, 21, 1]))
    parts = parts_of(labels, valid=0.2, test=0.1, is_classes=True, seed=5)
    assert sorted(np.concatenate(parts)) == list(range(182))
    assert [len(part) for part in parts] == [128, 36, 18]
    for label, size in enumerate((100, 60, 21)):
        counts = [int((labels[part] == label).sum()) for part in parts]
        np.testing.assert_allclose(counts, np.array([0.7, 0.2, 0.1]) * size, atol=1.5)
    assert 3 in labels[parts.train]  # a class of one row is learnt
    other = parts_of(labels, valid=0.2, test=0.1, is_classes=True, seed=6)
    assert not np.array_equal(parts.test, other.test)
    numbers = np.random.RandomState(0).lognormal(size=400)
    parts = parts_of(numbers, valid=0.25, test=0.25, is_classes=False, seed=0)
    quarters = np.searchsorted(np.quantile(numbers, [0.25, 0.5, 0.75]), numbers[parts.test])
    np.testing.assert_allclose(np.bincount(quarters), 25, atol=1)


def test_repeated_rows_are_counted_as_by_hand():
    random = np.random.RandomState(0)
    rows = random.choice([0.0, 1.0, np.nan], (60, 3))
    parts = parts_of(random.rand(60), valid=0.3, test=0.3, is_classes=False, seed=0)
    known = {str(rows[row]) for row in parts.train}
    expected = tuple(sum(str(rows[row]) in known for row in part) for part in parts[1:])
    assert num_repeated(rows, parts) == expected and 0 < sum(expected) < 36


def shown(capsys, monkeypatch, asked, width="20"):
    monkeypatch.setenv("COLUMNS", width)
    show(prepare(asked), seed=0)
    return capsys.readouterr().out


def test_a_table_is_shown_whole_before_training(patients_csv, capsys, monkeypatch):
    asked = Table(patients_csv, "progression", seed=3)
    said = shown(capsys, monkeypatch, asked)
    assert said == shown(capsys, monkeypatch, asked, "200")
    lines = [line.split() for line in said.splitlines()]
    assert said.splitlines()[:2] == [
        f"{patients_csv}   430 rows, 12 columns",
        "target progression: regression, numbers from 25 to 346",
    ]
    assert lines[2] == ["column", "kind", "missing", "different", "alone"]
    assert lines[3] == [
        "patient",
        "identifier",
        "430",
        "left",
        "out:",
        "a",
        "different",
        "value",
        "in",
        "each",
        "row",
    ]
    num_holes = sum(word is None for row, word in enumerate(patients()["bmi"]) if row % 40)
    assert lines[6][:3] == ["bmi", "number", str(num_holes)]
    assert lines[12] == ["country", "constant", "1", "left", "out"]
    assert lines[13] == ["remark", "empty", "430", "0", "left", "out"]
    assert said.splitlines()[-1] == (
        "rows: 302 to train on, 64 to choose by, 64 to test on; 12 without a target left out"
    )
    assert "leak?" not in said


def test_columns_that_give_the_target_away_are_named_and_strong_ones_are_not(tmp_path, capsys, monkeypatch):
    data = datasets.load_iris()
    random = np.random.RandomState(0)
    names = np.array(["a", "b", "c"])[data.target]
    columns = {name: data.data[:, place].tolist() for place, name in enumerate(("sl", "sw", "pl", "pw"))}
    columns |= {
        "code": [["x", "y", "z"][label] for label in data.target],
        "order": (10.0 * data.target + random.rand(150)).tolist(),
        "its body": [random.rand() if label == 1 else None for label in data.target],
        "boat": ["b" if label == 1 else None for label in data.target],
        "noise": random.randint(4, size=150).tolist(),
        "kind": names.tolist(),
    }
    file = write(tmp_path / "iris.csv", columns)

    def leaks(target, **flags):
        lines = shown(capsys, monkeypatch, Table(file, target, **flags)).splitlines()
        return [line for line in lines if line.startswith("leak?")]

    def told(name, target="kind", score="balanced accuracy"):
        return (
            f"leak? {name} alone gives {target} away ({score} 1.0000 of rows that it was not fitted to). "
            f"Unless it is known before {target} is, leave it out: --drop {shlex.quote(name)}"
        )

    assert leaks("kind") == [told("code"), told("order")]  # and not petal width, of 0.96
    assert leaks("kind", drop=("code", "order")) == []
    columns["kind"] = (data.target == 1).tolist()  # where a value is missing tells it
    write(file, columns)
    assert {told("its body"), told("boat")} <= set(leaks("kind"))
    columns["cubed"] = (data.data[:, 2] ** 3).tolist()
    write(file, columns)
    assert leaks("pl", drop=("code", "order")) == [told("cubed", "pl", "R2")]


ERRORS = {  # what is written, the flags, what is said
    "empty": (b"", "--target y", "{file} is empty."),
    "a header": (b"x,y\n", "--target y", "{file} has no rows: it names its columns, and that is all."),
    "ragged": (
        b'x,y\n"1\n2",3\n4,5,6\n',
        "--target y",
        '{file}, line 4: expected 2 values, got 3. Mend the line; a value that holds the delimiter stands '
        'between two ".',
    ),
    "ragged under a comment": (
        b"# made by hand\nx,y\n1,2\n3\n",
        "--target y",
        "{file}, line 4: expected 2 values, got 1. Mend the line; a value that holds the delimiter stands "
        'between two ".',
    ),
    "latin": (
        b"x,y\na,b\n\xe4,b\n",
        "--target y",
        "{file}, line 3: byte e4 is not UTF-8. Save the file as UTF-8: iconv -f latin1 -t utf-8.",
    ),
    "latin names": (
        b"x\xe4,y\na,b\n",
        "--target y",
        "{file}, line 1: byte e4 is not UTF-8. Save the file as UTF-8: iconv -f latin1 -t utf-8.",
    ),
    "a picture": (
        b"\x89PNG\r\n\x1a\n\0\0",
        "--target y",
        "{file} is no CSV or Parquet file: it begins with bytes 89 50 4e 47.",
    ),
    "cut Parquet": (
        b"PAR1" + b"a" * 20,
        "--target y",
        "{file} is damaged: Parquet magic bytes not found in footer. Either the file is corrupted or this is "
        "not a parquet file.",
    ),
    "twice": (
        b"x,x,y\n1,2,3\n",
        "--target y",
        "{file} has two columns with the name 'x'. Give each a name of its own.",
    ),
    "no target": (
        b"x,price\n" + b"1,2\n" * 30,
        "",
        "--target is missing. Name the column to predict; {file} has 'x', 'price'.",
    ),
    "another target": (
        b"x,price\n" + b"1,2\n" * 30,
        "--target prize",
        "--target prize: {file} has no such column. Did you mean 'price'? It has 'x', 'price'.",
    ),
    "another column": (
        b"x,price\n" + b"1,2\n" * 30,
        "--target price --drop weight",
        "--drop weight: {file} has no such column. It has 'x', 'price'.",
    ),
    "one class": (
        b"x,y\n" + b"1,a\n2,a\n" * 15,
        "--target y",
        "{file}: the target 'y' is 'a' in all of its 30 rows. There is nothing to learn from one value.",
    ),
    "no values of the target": (
        b"x,y\n" + b"1,\n" * 30,
        "--target y",
        "{file}: no row has a value of the target 'y'.",
    ),
    "few rows": (
        b"x,y\n" + b"1,a\n2,b\n" * 4,
        "--target y",
        "{file} has 8 rows with a value of 'y'; at least 20 are needed, to train on, to choose by "
        "and to test on.",
    ),
    "names": (
        b"x,y\n" + b"".join(b"%d,n%d\n" % (n % 3, n) for n in range(40)),
        "--target y",
        "{file}: the target 'y' has 40 different values in 40 rows, which are no classes. Name another "
        "target.",
    ),
    "dates": (
        b"x,y\n" + b"1,2020-01-01\n2,2020-01-02\n" * 15,
        "--target y",
        "{file}: the target 'y' holds dates; it is to be classes or numbers.",
    ),
    "words as numbers": (
        b"x,y\n" + b"1,a\n2,b\n" * 15,
        "--target y --task regression",
        "--task regression: the target 'y' holds no numbers, but such as 'a'. Leave --task out.",
    ),
    "words as a number": (
        b"x,y\n" + b"u,a\nv,b\n" * 15,
        "--target y --number x",
        "--number x: the column holds no numbers in {file}, such as 'u'.",
    ),
    "infinite": (
        b"x 1,y\n" + b"1,a\ninf,b\n" * 15,
        "--target y",
        "{file}: column 'x 1' is infinite, or too large for float32, in 15 of 30 rows, first in row 2: inf. "
        "Leave the cell empty where the value is missing, or leave the column out: --drop 'x 1'.",
    ),
    "nothing to learn from": (
        b"x,z,y\n" + b"1,,a\n1,,b\n" * 15,
        "--target y",
        "{file} has no column to learn 'y' from: x (constant), z (empty).",
    ),
    "no rows left": (
        b"x,y\n" + b"1,a\n2,b\n" * 15,
        "--target y --valid 0.5 --test 0.5",
        "--valid 0.5 and --test 0.5 leave no rows to train on.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ERRORS)
def test_every_wrong_table_is_one_line(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content, flags, said = ERRORS[kind]
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        main(["train", "table", "table.csv", *flags.split()])
    lines = [line for line in capsys.readouterr().err.splitlines() if "loading JAX" not in line]
    assert (stop.value.code, lines) == (2, [f"fourbeat: {said.format(file='table.csv')}"])
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]  # no run was begun


def test_without_the_extra_it_says_what_to_install(wine_csv, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "sklearn" else find_spec(name, *more)
    )
    text = r"^the recipe table needs scikit-learn, which is not installed: pip install 'fourbeat\[table\]'$"
    with pytest.raises(ImportError, match=text):
        prepare(Table(wine_csv, "cultivar"))


def test_semicolons_decimal_commas_blanks_and_marks_are_read_as_other_files_are(tmp_path):
    random = np.random.RandomState(0)
    x, words = random.rand(40).round(3), random.choice(["u", "v"], 40)
    lines = [f"{value}".replace(".", ",") + f" ; {word}; {'?' if n % 5 else 7.5 * n}" for n, (value, word) in
             enumerate(zip(x, words, strict=True))]  # fmt: skip
    file = tmp_path / "t.csv"
    file.write_text(
        "\ufeff# from a sensor, a day\n" + "\n".join(["x; w ;y", *lines]).replace("7.5", "7,5"),
        encoding="utf-8",
    )
    prepared = prepare(Table(file, "w"))
    known = {each.values.name: each for each in prepared.known}
    assert list(known) == ["x", "y"] and prepared.layout.target.classes == ("u", "v")
    np.testing.assert_allclose(known["x"].values.numbers, x)
    assert int(known["y"].values.is_missing.sum()) == 32


def test_numbers_that_no_float_holds_and_times_are_told_apart(tmp_path):
    places = np.arange(40)
    columns = {
        "post": 2**60 + places,
        "author": 2**60 + places % 3,
        "time": pyarrow.array(places.astype(np.int32), pyarrow.time32("s")),
        "tags": [["a"]] * 40,
        "y": places % 2,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    known = {each.values.name: each for each in prepare(Table(tmp_path / "t.parquet", "y")).known}
    kinds = {name: each.kind for name, each in known.items()}
    assert kinds == {"post": "identifier", "author": "category", "time": "number", "tags": "unreadable"}
    assert sorted(known["author"].values.words) == [str(2**60 + place) for place in range(3)]


def test_a_huge_category_is_cut_with_a_line(tmp_path, capsys, monkeypatch):
    words = [f"w{number // 2}" for number in range(6_000)] + [f"once{number}" for number in range(94_000)]
    columns = {"c": words, "x": np.random.RandomState(0).rand(100_000).tolist(), "y": ["a", "b"] * 50_000}
    asked = Table(write(tmp_path / "t.csv", columns), "y")
    prepared = prepare(asked)
    (category,) = prepared.layout.categories
    assert len(category.words) == 1_000 and prepared.batch["categories"].max() == 1_001
    show(prepared, seed=0)
    assert (
        "c has 97,000 different values: the 1,000 most frequent ones that two or more rows to train on have "
        "are told apart, and the others are one\n"
    ) in capsys.readouterr().out


def test_the_scores_and_both_baselines_are_those_of_scikit_learn(classified, wine_csv, capsys):
    path, state = classified
    prepared = prepare(Table(wine_csv, "cultivar", seed=3))
    train, _, test = prepared.parts
    best = best_of(path, state)
    x, y = prepared.batch["numbers"], prepared.labels
    likely = np.asarray(jax.nn.softmax(outputs(best, x[test])))
    raw = np.loadtxt(wine_csv, delimiter=",", skiprows=1, usecols=range(4), dtype=np.float32)
    boosting = HistGradientBoostingClassifier(random_state=3).fit(raw[train], y[train])
    constant = DummyClassifier(strategy="prior").fit(raw[train], y[train])
    main(["evaluate", str(path), "--json"])
    said = json.loads(capsys.readouterr().out)
    compared = {
        "test": likely,
        "boosting": boosting.predict_proba(raw[test]),
        "constant": constant.predict_proba(raw[test]),
    }
    for name, probabilities in compared.items():
        scores = said if name == "test" else said[name]
        chosen = probabilities.argmax(1)
        assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(y[test], chosen))
        assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y[test], chosen))
        assert scores["log_loss"] == pytest.approx(metrics.log_loss(y[test], probabilities), rel=1e-4)
    result = json.loads((path / "result.json").read_text())
    assert result == {name: said[name] for name in ("accuracy", "balanced_accuracy", "log_loss")}
    main(["evaluate", str(path)])
    printed = capsys.readouterr().out
    assert [line.split()[-1] for line in printed.splitlines()[2:5]] == [
        f"{each:.4f}"
        for each in (said["log_loss"], said["boosting"]["log_loss"], said["constant"]["log_loss"])
    ]
    assert "The network is worse than gradient boosting: accuracy " in printed


def outputs(state, numbers, categories=None):
    """The logits or numbers of the plain model."""
    model = state.model
    model.eval()
    batch = {"numbers": numbers} if categories is None else {"numbers": numbers, "categories": categories}
    return model(batch)


def test_a_category_reaches_gradient_boosting_as_one(patients_csv):
    from fourbeat.recipes.columns import baselines

    prepared = prepare(Table(patients_csv, "progression", seed=3))
    columns, (train, _, test) = patients(), prepared.parts
    rows = [row for row, word in enumerate(columns["progression"]) if word is not None]
    numbers, categories = by_hand(prepared.layout, columns, rows)
    x = np.column_stack([numbers, np.where(categories == 0, np.nan, categories)])
    is_category = [False] * 4 + [True] * 4
    model = HistGradientBoostingRegressor(categorical_features=is_category, random_state=3)
    expected = model.fit(x[train], prepared.labels[train]).predict(x[test])
    given = baselines(prepared.batch, prepared.labels, train, test, prepared.layout.target, 3)
    np.testing.assert_allclose(given["boosting"], expected, rtol=1e-6)
    np.testing.assert_allclose(given["constant"], prepared.labels[train].mean(), rtol=1e-6)


def test_predictions_are_those_of_the_plain_model_whatever_the_order_and_the_kind_of_file(
    whole, tmp_path, capsys
):
    path, state = whole
    columns = patients()
    columns["clinic"][0], columns["smokes"][1], columns["age"][2] = "Trier", "TRUE", None
    del columns["progression"], columns["remark"], columns["patient"]
    new = {name: columns[name] for name in reversed(columns)}
    lower = {**columns, "smokes": [word.lower() for word in columns["smokes"]]}
    numbers, categories = by_hand(Layout.read(path), lower, range(442))
    expected = np.asarray(outputs(best_of(path, state), numbers, categories))
    file = write(tmp_path / "new.csv", new)
    main(["predict", str(path), str(file), "--json"])
    (said,) = json.loads(capsys.readouterr().out)["files"]
    np.testing.assert_allclose(said["predictions"], expected, rtol=1e-5)
    assert said["notes"] == [
        "age is missing in 1 of 442 rows, and in none that the run was trained on: it is read as "
        f"{Layout.read(path).numbers[0].centre:.6g}",
        "clinic has a value that the run has not learnt by itself in 1 of 442 rows",
    ]
    stored = pyarrow.csv.read_csv(file, convert_options=pyarrow.csv.ConvertOptions(null_values=["", "?"]))
    pyarrow.parquet.write_table(stored, tmp_path / "new.parquet")
    main(["predict", str(path), str(tmp_path / "new.parquet"), "--to", str(tmp_path / "to.parquet")])
    out = capsys.readouterr().out
    assert out.splitlines()[3].split() == ["row", "progression"]
    assert out.splitlines()[4].split() == ["1", f"{said['predictions'][0]:.6g}"]
    assert len(out.splitlines()) == 25 and out.endswith(f"written to {tmp_path / 'to.parquet'}\n")
    written = pyarrow.parquet.read_table(tmp_path / "to.parquet")
    assert written.column_names == ["file", "row", "predicted progression"]
    np.testing.assert_array_equal(written["predicted progression"], said["predictions"])
    del new["bmi"]
    write(file, new)
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(path), str(file), str(tmp_path / "none.csv")])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"fourbeat: {file} lacks 1 of the columns that the run has learnt from: 'bmi'.",
        f"fourbeat: cannot read {tmp_path / 'none.csv'}: No such file or directory.",
    ]


def test_classes_are_predicted_with_their_probabilities(classified, wine_csv, tmp_path, capsys):
    path, state = classified
    main(["predict", str(path), str(wine_csv), "--to", str(tmp_path / "to.csv")])
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "row", "cultivar", "probability", "Barbera", "Barolo", "Grignolino",
    ]  # fmt: skip
    written = pyarrow.csv.read_csv(tmp_path / "to.csv")
    raw = np.loadtxt(wine_csv, delimiter=",", skiprows=1, usecols=range(4), dtype=np.float32)
    likely = np.asarray(jax.nn.softmax(outputs(best_of(path, state), raw)))
    for place, name in enumerate(("Barbera", "Barolo", "Grignolino")):
        np.testing.assert_allclose(written[f"probability {name}"], likely[:, place], rtol=1e-5)
    names = np.array(["Barbera", "Barolo", "Grignolino"])[likely.argmax(1)]
    assert written["predicted cultivar"].to_pylist() == names.tolist()


def test_the_exported_folder_takes_what_stands_in_a_file_and_says_how(whole, tmp_path, capsys):
    path, state = whole
    main(["export", str(path), "--to", str(tmp_path / "a")])
    assert capsys.readouterr().out.splitlines()[-1] == "largest difference to fb.predictor: 0"
    loaded = fb.models.load(tmp_path / "a")
    layout, notes = Layout.read(path), loaded.signature.notes
    numbers, categories = by_hand(layout, patients(), range(1, 30))
    given = loaded.predict({"numbers": numbers, "categories": categories})
    np.testing.assert_allclose(given, outputs(best_of(path, state), numbers, categories), rtol=1e-5)
    assert [each["name"] for each in notes["numbers"]] == ["age", "bmi", "seen", "ltg"]
    assert notes["categories"][1] == {
        "name": "clinic",
        "type": "text",
        "words": list(layout.categories[1].words),
    }
    assert notes["numbers"][1]["centre"] == layout.numbers[1].centre


def test_stopped_twice_it_goes_on_with_the_same_bits_and_refuses_another_file(
    whole, patients_csv, tmp_path, capsys
):
    path, state = whole
    out, file = tmp_path / "run", tmp_path / "moved.csv"
    shutil.copy(patients_csv, file)
    config = Table(file, "progression", out=out, resume="latest", max_seconds=1e-6, **TINY)
    table.train(config)
    to_go_on = f"stopped at step 1, saved; to go on:\nfourbeat train table --resume {out}\n"
    assert capsys.readouterr().out.endswith(to_go_on)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"Bonn", b"Berlin", 1))
    with pytest.raises(
        ValueError, match=r"^the file is not as it was when the run .*run began: its sha256 or"
    ):
        table.train(config)
    file.write_bytes(content)
    table.train(config)
    assert fb.Checkpoints(out / "checkpoints", mode="min").latest == 2
    main(["train", "table", "--resume", str(out)])  # its own flags are the defaults, the file too
    printed = capsys.readouterr().out
    assert "going on from step 2" in printed and "changed on resume" not in printed
    best = best_of(out, state)
    assert f"\nscored with the weights after step {int(best.step)}, the best by its loss\n" in printed
    assert_bit_equal(best, best_of(path, state))
    resumed = fb.Checkpoints(out / "checkpoints").restore({"state": state}, partial=True)[0]["state"]
    assert_bit_equal(resumed, state)
    for name in ("metrics.jsonl", "result.json"):
        assert (out / name).read_text() == (path / name).read_text()


@pytest.mark.parametrize("kind", ["whole", "classified"])
def test_plain_it_gives_the_same_bits(kind, request, patients_csv, wine_csv, tmp_path, capsys):
    path, state = request.getfixturevalue(kind)
    file, target = {"whole": (patients_csv, "progression"), "classified": (wine_csv, "cultivar")}[kind]
    main(["new", "table", str(tmp_path / "train.py"), "--plain"])
    assert "fourbeat" not in (tmp_path / "train.py").read_text()
    capsys.readouterr()
    model = plain.train(file, target, **TINY)
    printed = capsys.readouterr().out.splitlines()
    result = json.loads((path / "result.json").read_text())
    name = "accuracy" if kind == "classified" else "rmse"
    assert printed[-2] == f"test {name} {result[name]:.4f}"
    plain.save(model, tmp_path / "parameters.npz")
    learnt = dict(np.load(tmp_path / "parameters.npz"))
    best = best_of(path, state)
    for tree in (best.params, best.rest):
        for place, leaf in jax.tree.leaves_with_path(tree):
            place = jax.tree_util.keystr(place, simple=True, separator=".")
            if "dropout" not in place:
                assert_bit_equal(learnt.pop(place), leaf)
    assert not learnt
