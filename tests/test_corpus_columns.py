"""Conditions (`where`) and weights by the columns of records, on output as datatrove writes it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from functools import reduce
from itertools import pairwise

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lingraft.corpus import Corpus, CorpusSettings, build_corpus, column_lines, identity_of, look_at
from lingraft.corpus.document_weight import DocumentWeight
from lingraft.corpus.where import OPERATORS, parse_condition
from lingraft.errors import CorpusError
from lingraft.store import Draft

DOCUMENTS = 200
ROWS = [
    {
        "text": f"सुबह बच्चे नदी की ओर चलते हैं, संख्या {number} {'और ' * (number % 7)}",
        "id": f"<urn:uuid:{number}>",
        "metadata": {
            "url": f"https://example.org/{number}",
            "language": "hi",
            "language_score": None if number % 50 == 49 else (number % 10) / 10 + 0.05,
            "minhash_cluster_size": [1, 2, 4, 6, 500, 2000, None][number % 7],
        },
    }
    for number in range(DOCUMENTS)
]
GOOD = [row for row in ROWS if (row["metadata"]["language_score"] or 0) >= 0.5]
FINEWEB_2_STEPS = {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}


def flat(rows):
    """Return records in the form of FineWeb-2, whose columns are not nested."""
    return [{"text": row["text"], "id": row["id"], **row["metadata"]} for row in rows]


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return str(path)


def built(folder, source, **settings):
    """Build a corpus of a source; return it and the notes."""
    draft = Draft(folder / "corpus")
    draft.folder.mkdir(parents=True)
    content = {"sources": source, "heldout_share": 0.1, **settings}
    build_corpus(CorpusSettings.model_validate(content), "hi", draft)
    return Corpus.open(draft.folder), draft.notes


@pytest.mark.parametrize("name", ["datatrove.jsonl.gz", "datatrove.parquet", "flat.parquet"])
def test_a_condition_drops_documents_and_counts_them(tmp_path, name):
    """By nested columns of datatrove's output or flat ones; nulls are dropped and counted apart."""
    is_flat = name.startswith("flat")
    path = write(tmp_path / name, flat(ROWS) if is_flat else ROWS)
    column = "language_score" if is_flat else "metadata.language_score"
    corpus, notes = built(tmp_path, {"path": path, "where": f"{column} >= 0.5"})
    kept = sorted([*corpus.documents("train"), *corpus.documents("heldout")])
    assert kept == sorted(row["text"] for row in GOOD)
    dropped = {reason: count["documents"] for reason, count in notes["dropped"].items()}
    assert dropped == {"by where": 200 - len(GOOD) - 4, "by where (null)": 4}
    [source] = notes["sources"]
    assert source["read"]["documents"] == 200
    assert source["read"]["bytes"] == sum(len(row["text"].encode()) for row in ROWS)


def test_a_document_occurs_in_training_as_often_as_its_weight_says(tmp_path):
    """By the steps of FineWeb-2; a null is 1, held-out text counts once, outside of training."""
    weight = {"column": "metadata.minhash_cluster_size", "steps": FINEWEB_2_STEPS}
    source = {"path": write(tmp_path / "a.jsonl.gz", ROWS), "weight": weight}
    corpus, notes = built(tmp_path, source)
    factors = {1: 1, 2: 2, 4: 3, 6: 5, 500: 8, 2000: 1, None: 1}
    expected = {row["text"]: factors[row["metadata"]["minhash_cluster_size"]] for row in ROWS}
    train, heldout = Counter(corpus.documents("train")), Counter(corpus.documents("heldout"))
    assert set(heldout.values()) == {1}
    assert not train.keys() & heldout.keys()
    assert {**train, **{text: expected[text] for text in heldout}} == expected
    [source] = notes["sources"]
    assert source["kept"]["train"]["documents"] == len(train)
    assert source["repeated"]["documents"] == train.total() - len(train)
    assert notes["weights"] == {"weighted": 200, "null": 28, "above_max": 0}
    # The copies of a document are far apart: any prefix is a fair sample.
    order = list(corpus.documents("train"))
    for text in (text for text, count in train.items() if count == 8):
        places = [place for place, found in enumerate(order) if found == text]
        distances = [after - before for before, after in pairwise(places)]
        assert len(order) / 16 < min(distances) <= max(distances) < len(order) / 4


def test_without_weights_the_same_documents_are_held_out(tmp_path):
    """A weight changes the training text only, so that results stay comparable."""
    path = write(tmp_path / "a.jsonl.gz", ROWS)
    plain, _ = built(tmp_path / "plain", path)
    weight = {"column": "metadata.minhash_cluster_size", "max": 3}
    weighted, notes = built(tmp_path / "weighted", {"path": path, "weight": weight})
    assert list(plain.documents("heldout")) == list(weighted.documents("heldout"))
    assert notes["weights"]["above_max"] == sum(
        (row["metadata"]["minhash_cluster_size"] or 0) > 3 for row in ROWS
    )
    assert max(Counter(weighted.documents("train")).values()) == 3


def test_a_fraction_of_a_weight_is_a_probability(tmp_path):
    """Of 800 documents of weight 0.25, a quarter is used, the same ones in every order."""
    rows = [{"text": f"वाक्य {number} यहाँ है", "w": 0.25} for number in range(800)]
    source = {"path": write(tmp_path / "a.jsonl.gz", rows), "weight": "w"}
    corpus, notes = built(tmp_path / "one", source)
    used = corpus.counts("train").documents + corpus.counts("heldout").documents
    assert 150 < used < 250
    assert notes["dropped"]["of weight 0"]["documents"] == 800 - used
    source["path"] = write(tmp_path / "b.jsonl.gz", rows[::-1])
    again, _ = built(tmp_path / "two", source)
    assert list(again.documents("train")) == list(corpus.documents("train"))


@pytest.mark.parametrize("weights", [(0, 1), (1, 0), (0, None), (0, 0.0001, 1)])
def test_a_copy_of_a_document_of_weight_0_is_kept(tmp_path, weights):
    """In either order: only a document that is kept makes its copies duplicates."""
    rows = [{"text": row["text"], "w": 1} for row in ROWS]
    rows += [{"text": "एक ही वाक्य", "w": weight} for weight in weights]
    source = {"path": write(tmp_path / "a.jsonl.gz", rows), "weight": "w"}
    corpus, _ = built(tmp_path, source)
    kept = [*corpus.documents("train"), *corpus.documents("heldout")]
    assert kept.count("एक ही वाक्य") == 1


def test_a_limit_and_shares_count_the_copies(tmp_path):
    """The limit bounds the weighted text, and two weighted sources get their shares of it."""
    rows = [{"text": f"{'क' * 50} {number}", "w": 4} for number in range(300)]
    others = [{"text": f"{'ख' * 50} {number}", "w": 1} for number in range(300)]
    sources = [
        {"path": write(tmp_path / "a.jsonl.gz", rows), "document_weight": "w", "weight": 1},
        {"path": write(tmp_path / "b.jsonl.gz", others), "document_weight": "w", "weight": 1},
    ]
    _, notes = built(tmp_path / "shares", sources)
    first, second = (
        source["kept"]["train"]["bytes"] + source.get("repeated", {"bytes": 0})["bytes"]
        for source in notes["sources"]
    )
    assert abs(first - second) < 4 * 170
    corpus, notes = built(
        tmp_path / "limit", sources[0] | {"weight": None}, limit={"bytes": "50 kB"}
    )
    assert 49_000 < corpus.counts("train").bytes <= 50_000
    for source in notes["sources"]:
        ends = [*source["kept"].values(), *source["dropped"].values()]
        assert sum(end["documents"] for end in ends) == source["read"]["documents"]


@pytest.mark.parametrize(
    ("settings", "rows", "expected"),
    [
        (
            {"where": "language_score >= 0.9"},
            ROWS,
            'a.jsonl.gz:1: no column "language_score"; the columns are text, id, metadata.url, met',
        ),
        (
            {"where": "language_score >= 0.9"},
            ROWS,
            "minhash_cluster_size; write metadata.language_score in where: language_score >= 0.9",
        ),
        (
            {"where": "score > 1 and text != ''"},
            [{"text": "a", "score": 2}, {"text": "b", "score": "high"}],
            "a.jsonl.gz:2: column \"score\" is 'high', not a number; correct where: score > 1",
        ),
        (
            {"where": "score > 0.5"},
            [{"text": "a", "score": "0,93"}],
            "is '0,93', not a number; write the column with decimal points, as where: score",
        ),
        (
            {"where": "score == 'x'"},
            [{"text": "a", "score": [1]}],
            'a.jsonl.gz:1: column "score" is a list, not text; correct where: score == "x", or',
        ),
        (
            {"weight": "size"},
            [{"text": "a", "n": 2}],
            'no column "size"; the columns are text, n; name one of them in weight: size',
        ),
        (
            {"weight": "size"},
            [{"text": "a", "size": -1}],
            'a.jsonl.gz:1: column "size" is -1, and a weight is a finite number of',
        ),
        (
            {"where": "n > 5"},
            [{"text": "a", "n": 2}, {"text": "b", "n": None}],
            "a.jsonl.gz are dropped (1 by where, 1 by where (null)); relax the settings",
        ),
    ],
)
def test_a_column_that_does_not_fit_is_named(tmp_path, settings, rows, expected):
    """One line with file, line, column and the columns that exist; so is a source without text."""
    path = write(tmp_path / "a.jsonl.gz", rows)
    with pytest.raises(CorpusError) as caught:
        built(tmp_path, {"path": path, **settings})
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_file_has_no_columns(tmp_path):
    """A condition on it is an error, and not ignored."""
    (tmp_path / "a.txt").write_text("एक\nदो\n", encoding="utf-8")
    settings = CorpusSettings.model_validate(
        {"sources": {"path": str(tmp_path / "a.txt"), "where": "x > 1"}}
    )
    with pytest.raises(
        CorpusError, match=r"a \.txt file has no column 'x'; remove where and weight"
    ):
        look_at(settings, "hi")


def test_a_sample_says_what_a_condition_and_a_weight_do(tmp_path):
    """Before a run; a condition that drops all text is an error then."""
    path = write(tmp_path / "a.jsonl.gz", ROWS)
    source = {
        "path": path,
        "where": "metadata.language_score >= 0.5",
        "weight": {"column": "metadata.minhash_cluster_size", "steps": FINEWEB_2_STEPS},
    }
    [line] = column_lines(CorpusSettings.model_validate({"sources": source}))
    dropped = 200 - len(GOOD)
    assert line.startswith(
        f"{path}: where metadata.language_score >= 0.5, weight metadata.minhash_cluster_size: "
        f"drops {dropped} of 200 documents ({dropped / 2:g}%), 4 of them by a null, "
        f"{len(GOOD)} documents count as "
    )
    source["where"] = "metadata.language_score > 2"
    with pytest.raises(CorpusError, match=r"where .* > 2 drops all 200 documents, 4 of them by a"):
        column_lines(CorpusSettings.model_validate({"sources": source}))


def test_a_sample_ends_at_the_limit_of_the_source(tmp_path):
    """The counts are those of the records that a run reads, the first ones of the first files."""
    write(tmp_path / "a.jsonl.gz", [{"text": f"पहला {n}", "s": n % 2} for n in range(10)])
    write(tmp_path / "b.jsonl.gz", [{"text": f"दूसरा {n}", "s": 0} for n in range(10)])
    source = {"path": str(tmp_path / "*.gz"), "where": "s == 1", "limit": {"documents": 3}}
    [line] = column_lines(CorpusSettings.model_validate({"sources": source}))
    _, notes = built(tmp_path, source)
    assert notes["sources"][0]["read"]["documents"] == 7
    assert line.endswith(": where s == 1: drops 4 of 7 documents (57.1%)")


def test_keys_change_only_with_what_changes_the_text(tmp_path):
    """Not for a recipe without the settings, and not with the spaces of a condition."""
    path = write(tmp_path / "a.jsonl.gz", ROWS)

    def identity(**settings):
        source = {"path": path, **settings}
        return identity_of(CorpusSettings.model_validate({"sources": source}), "hi")

    plain = identity()
    assert not {"where", "document_weight"} & plain["sources"][0].keys()
    assert identity(where="a >= 1") == identity(where="a>=1.0")
    assert identity(where="a >= 1") != identity(where="a > 1") != plain
    assert identity(weight="a") == identity(document_weight={"column": "a"})
    assert identity(weight="a") != identity(weight={"column": "a", "max": 2}) != plain


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a>=1", "a >= 1"),
        ("a = .5", "a == 0.5"),
        ("meta.x-y <> 'it''s'", None),
        ("a <> 'b\"c'", "a != 'b\"c'"),
        ("a > 1 AND b != true and c <= -2e3", "a > 1 and b != true and c <= -2000"),
        ("भाषा == 'hi'", 'भाषा == "hi"'),
        ("a > 1 or b > 1", None),
        ("a >", None),
        ("> 1", None),
        ("a > b", None),
        ("a < true", None),
        ("(a > 1)", None),
        ("__import__('os')", None),
        ("a > 1; b", None),
        ("a > 1e999", None),
        ("", None),
    ],
)
def test_the_grammar_of_a_condition(written, meant):
    """Comparisons joined by `and`, which are written again in one form; all else is refused."""
    if meant is None:
        with pytest.raises(ValidationError, match="expected COLUMN >= VALUE"):
            CorpusSettings.model_validate({"sources": {"path": "a.jsonl", "where": written}})
        return
    condition = parse_condition(written)
    assert str(condition) == meant
    assert parse_condition(meant) == condition


@settings(max_examples=40)
@given(st.floats(allow_nan=False, allow_infinity=False), st.text("abc'", max_size=5))
def test_a_condition_is_read_again_as_it_was_written(number, text):
    """Also tiny and huge numbers: the written form is part of the key."""
    condition = parse_condition(f'x.y < {number!r} and z == "{text}"')
    assert parse_condition(str(condition)) == condition
    assert condition.comparisons[0].value == number


@pytest.mark.parametrize(
    ("condition", "record", "expected"),
    [
        ("a > 1", {"a": "2.5"}, True),
        ("a > 1", {"a": ""}, None),
        ("a != 1", {"a": float("nan")}, None),
        ("a != 'x'", {"a": None}, None),
        ("a > 1 and b > 1", {"a": None, "b": 0}, False),
        ("a > 1 and b > 1", {"a": None, "b": 2}, None),
        ("a.b == 1", {"a": None}, None),
        ("a.b == 1", {"a.b": 1, "a": {"b": 2}}, True),
        ("a >= '2026-01-31'", {"a": datetime(2026, 2, 1, tzinfo=UTC)}, True),
        ("a == true", {"a": "True"}, True),
        ("a >= 0.9", {"a": 10**400}, True),
        ("a >= 0.9", {"a": -(10**400)}, False),
    ],
)
def test_values_are_compared_as_in_sql(condition, record, expected):
    """A null decides nothing; text of a CSV file is a number where one is expected."""
    assert parse_condition(condition).holds(record, "a.csv:1") is expected


NUMBERS, NAMES = st.sampled_from([None, -2.25, 0, 0.5, 1, 3]), st.sampled_from([None, "hi", "Ω"])
COMPARISONS = st.one_of(
    st.tuples(st.just("a"), st.sampled_from(list(OPERATORS)), st.sampled_from([-1, 0, 0.5, 3])),
    st.tuples(st.just("t"), st.sampled_from(list(OPERATORS)), st.sampled_from(["hi", "m", "Ω"])),
)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"a": NUMBERS, "t": NAMES}), min_size=1, max_size=20),
    st.lists(COMPARISONS, min_size=1, max_size=3),
)
def test_a_condition_keeps_the_records_that_pyarrow_keeps(records, comparisons):
    """Conditions select the rows of a table that the filter of pyarrow selects, nulls included."""
    written = " and ".join(f"{name} {sign} {value!r}" for name, sign, value in comparisons)
    condition = parse_condition(written)
    kept = [record for record in records if condition.holds(record, "x.jsonl:1")]
    parts = [OPERATORS[sign](ds.field(name), value) for name, sign, value in comparisons]
    schema = pa.schema([("a", pa.float64()), ("t", pa.string())])
    table = pa.Table.from_pylist(records, schema)
    selected = table.filter(reduce(lambda one, other: one & other, parts))
    assert selected.to_pylist() == kept


@pytest.mark.parametrize("steps", [{}, {1: -1}, {1: 101}, {float("nan"): 1}])
def test_steps_are_weights(steps):
    """None at all, or one outside of 0 to 100, is refused."""
    with pytest.raises(ValidationError):
        DocumentWeight(column="a", steps=steps)


def test_a_value_below_the_first_step_has_the_weight_1():
    """Steps may leave out the documents that occur once."""
    weight = DocumentWeight(column="n", steps={2: 3, 10: 0})
    values = [weight.weight_of({"n": value}, "a:1") for value in (0, 1, 2, 9.5, 10, 11, None)]
    assert values == [1, 1, 3, 3, 0, 0, None]


@pytest.mark.parametrize(
    "source",
    [
        {"miniature": {"stories": 5}, "where": "x > 1"},
        {"path": "a.jsonl", "weight": "a", "document_weight": "b"},
    ],
)
def test_settings_that_contradict_are_refused(source):
    """The miniature has no columns, and a document has one weight."""
    with pytest.raises(ValidationError):
        CorpusSettings.model_validate({"sources": source})


def test_held_out_sources_have_no_weight():
    """Held-out documents count once, so the setting would be ignored."""
    with pytest.raises(ValidationError, match="weight has no meaning in heldout"):
        CorpusSettings.model_validate(
            {"sources": "a.jsonl", "heldout": {"path": "b.jsonl", "weight": "n"}}
        )
