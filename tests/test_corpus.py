"""Building a corpus: kept, dropped and held-out documents, their counts and order."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lingraft.corpus import Corpus, CorpusSettings, Counts, build_corpus, identity_of
from lingraft.corpus.cleaning import document_digest
from lingraft.corpus.splits import DocumentHashes
from lingraft.errors import CorpusError, LingraftError, RecipeError, StoreError
from lingraft.store import Draft, Stage, Store


def write_lines(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def build(folder: Path, language: str = "hi", **recipe: object) -> tuple[Corpus, dict]:
    folder.mkdir(parents=True, exist_ok=True)
    draft = Draft(folder)
    build_corpus(CorpusSettings.model_validate(recipe), language, draft)
    return Corpus.open(folder), draft.notes


def texts_of(corpus: Corpus, split: str) -> list[str]:
    return list(corpus.documents(split))


def sentences(count: int, word: str = "वाक्य") -> list[str]:
    return [f"{word} {number} " + "और " * (number % 7) for number in range(count)]


def test_every_document_is_in_one_split_or_has_one_reason(tmp_path):
    """Kept, held-out and dropped documents add up to those read, in number and in bytes."""
    texts = [*sentences(300), *sentences(20), "", "   ", "छोटा", "लंबा " * 100]
    corpus, notes = build(
        tmp_path / "c",
        sources=write_lines(tmp_path / "a.jsonl", texts),
        heldout_share=0.1,
        min_characters=6,
        max_characters=200,
    )
    [source] = notes["sources"]
    assert source["read"] == {
        "documents": len(texts),
        "bytes": sum(len(text.encode()) for text in texts),
    }
    for unit in ("documents", "bytes"):
        ends = [*source["kept"].values(), *source["dropped"].values()]
        assert sum(end[unit] for end in ends) == source["read"][unit]
    assert {reason: cell["documents"] for reason, cell in notes["dropped"].items()} == {
        "duplicate": 20,
        "empty": 2,
        "too short": 1,
        "too long": 1,
    }
    assert sorted(texts_of(corpus, "train") + texts_of(corpus, "heldout")) == sorted(sentences(300))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(st.text(alphabet="ab\u0301 é\n", max_size=4), min_size=1, max_size=40),
    share=st.sampled_from([0.05, 0.5]),
    limit=st.sampled_from([None, {"bytes": 9}, {"documents": 3}]),
)
def test_documents_are_conserved_whatever_they_are(tmp_path_factory, texts, share, limit):
    """For any texts, no document is lost or added, and no two kept documents are equal."""
    folder = tmp_path_factory.mktemp("any")
    path = write_lines(folder / "a.jsonl", texts)
    try:
        corpus, notes = build(folder / "c", sources=path, heldout_share=share, limit=limit)
    except CorpusError:
        distinct = {unicodedata.normalize("NFC", text).strip() for text in texts} - {""}
        assert len(distinct) < 2 or limit is not None
        return
    kept = texts_of(corpus, "train") + texts_of(corpus, "heldout")
    dropped = sum(cell["documents"] for cell in notes["dropped"].values())
    assert len(kept) + dropped == len(texts)
    assert not Counter(kept) - Counter(texts)
    keys = [unicodedata.normalize("NFC", text).strip() for text in kept]
    assert len(keys) == len(set(keys))


def test_the_same_text_is_a_duplicate_in_any_normal_form_and_with_any_outer_space(tmp_path):
    """Duplicates are equal in NFC without outer space; the first is kept as it was read."""
    composed = "caf\u00e9 au lait"
    texts = [unicodedata.normalize("NFD", composed), f" {composed}\n", composed, "another"]
    corpus, notes = build(
        tmp_path / "c", "fr", sources=write_lines(tmp_path / "a.jsonl", texts), heldout_share=0.5
    )
    assert notes["dropped"]["duplicate"]["documents"] == 2
    assert texts[0] in texts_of(corpus, "train") + texts_of(corpus, "heldout")


def test_train_documents_that_are_in_the_held_out_set_are_dropped(tmp_path):
    """Text of the named held-out sources never reaches the train split."""
    train, heldout = sentences(50), [*sentences(5), "नया वाक्य"]
    corpus, notes = build(
        tmp_path / "c",
        sources=write_lines(tmp_path / "a.jsonl", train),
        heldout=write_lines(tmp_path / "b.jsonl", heldout),
    )
    assert sorted(texts_of(corpus, "heldout")) == sorted(heldout)
    assert sorted(texts_of(corpus, "train")) == sorted(train[5:])
    assert notes["dropped"]["in the held-out set"]["documents"] == 5
    assert notes["heldout_sources"][0]["kept"]["heldout"]["documents"] == 6


def test_the_held_out_share_depends_on_content_alone(tmp_path):
    """Neither the seed, nor the order, nor other documents change which documents are held out."""
    texts = sentences(800)
    first, _ = build(
        tmp_path / "1", sources=write_lines(tmp_path / "a.jsonl", texts), heldout_share=0.2
    )
    second, _ = build(
        tmp_path / "2",
        sources=write_lines(tmp_path / "b.jsonl", texts[::-1]),
        heldout_share=0.2,
        seed=9,
    )
    third, _ = build(
        tmp_path / "3",
        sources=write_lines(tmp_path / "d.jsonl", [*texts, *sentences(300, "शब्द")]),
        heldout_share=0.2,
    )
    heldout = set(texts_of(first, "heldout"))
    assert 110 < len(heldout) < 210
    assert (
        heldout == set(texts_of(second, "heldout")) == set(texts_of(third, "heldout")) & set(texts)
    )


def test_heldout_bytes_lowers_the_share_and_leaves_the_rest_to_training(tmp_path):
    """A bound on the held-out bytes is kept, and no document is lost by it."""
    texts = sentences(400)
    path = write_lines(tmp_path / "a.jsonl", texts)
    whole, _ = build(tmp_path / "1", sources=path, heldout_share=0.3)
    corpus, notes = build(tmp_path / "2", sources=path, heldout_share=0.3, heldout_bytes=1000)
    assert 900 < corpus.counts("heldout").bytes <= 1000 < whole.counts("heldout").bytes
    assert set(texts_of(corpus, "heldout")) < set(texts_of(whole, "heldout"))
    assert len(texts_of(corpus, "train") + texts_of(corpus, "heldout")) == len(texts)
    assert notes["dropped"] == {}
    with pytest.raises(
        CorpusError, match="heldout_bytes: 3 is less than the size of the first held-out document"
    ):
        build(tmp_path / "3", sources=path, heldout_bytes=3)


def test_heldout_bytes_bounds_named_sources_too(tmp_path):
    """What is beyond the bound is counted, and still kept out of the train split."""
    path = write_lines(tmp_path / "h.jsonl", sentences(100))
    corpus, notes = build(
        tmp_path / "c",
        sources=write_lines(tmp_path / "a.jsonl", sentences(150)),
        heldout=path,
        heldout_bytes=500,
    )
    assert corpus.counts("heldout").bytes <= 500
    assert (
        notes["dropped"]["beyond heldout_bytes"]["documents"]
        == 100 - corpus.counts("heldout").documents
    )
    assert corpus.counts("train").documents == 50


def test_a_tiny_corpus_still_holds_out_a_document(tmp_path):
    """Where the share of few documents is none, the one nearest to it is held out."""
    corpus, _ = build(
        tmp_path / "c", sources=write_lines(tmp_path / "a.jsonl", ["एक", "दो", "तीन"])
    )
    assert (corpus.counts("train").documents, corpus.counts("heldout").documents) == (2, 1)
    with pytest.raises(CorpusError, match=r"b\.jsonl: only one document is left, .*paragraph"):
        build(tmp_path / "d", sources=write_lines(tmp_path / "b.jsonl", ["एक", "एक"]))


def test_the_order_is_a_shuffle_by_the_seed(tmp_path):
    """The order depends on the seed and not on the order of reading."""
    texts = sentences(500)
    path, turned = (
        write_lines(tmp_path / "a.jsonl", texts),
        write_lines(tmp_path / "b.jsonl", texts[::-1]),
    )
    orders = [
        texts_of(build(tmp_path / name, sources=source, seed=seed)[0], "train")
        for name, source, seed in (("1", path, 0), ("2", turned, 0), ("3", path, 1))
    ]
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0]) == set(orders[2])


def test_any_prefix_of_a_mixture_is_a_fair_sample(tmp_path):
    """If a source is used in part, a prefix of the train split has the shares of all of it."""
    paths = [
        write_lines(tmp_path / f"{word}.jsonl", sentences(2000, word)) for word in ("अआ", "कख")
    ]
    corpus, _ = build(
        tmp_path / "c",
        heldout_share=0.01,
        sources=[{"path": paths[0], "weight": 1}, {"path": paths[1], "weight": 4}],
    )
    texts = texts_of(corpus, "train")
    for part in (texts[: len(texts) // 4], texts[-len(texts) // 4 :]):
        assert 0.14 < sum(text.startswith("अआ") for text in part) / len(part) < 0.26


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0.1, 0.9)])
def test_weights_are_shares_of_the_train_bytes(tmp_path, weights):
    """Shares hold to within one document, and the source that runs out first is used whole."""
    paths = [
        write_lines(tmp_path / "a.jsonl", sentences(400)),
        write_lines(tmp_path / "b.jsonl", ["क" * 90 + str(n) for n in range(300)]),
    ]
    _, notes = build(
        tmp_path / "c",
        sources=[
            {"path": path, "weight": weight} for path, weight in zip(paths, weights, strict=True)
        ],
    )
    used = [source["kept"]["train"]["bytes"] for source in notes["sources"]]
    assert abs(used[0] / sum(used) - weights[0] / sum(weights)) * sum(used) < 300
    whole = [
        source
        for source in notes["sources"]
        if "beyond its source's share" not in source["dropped"]
    ]
    assert len(whole) == 1


def test_a_weighted_source_without_usable_text_is_an_error(tmp_path):
    """No share of nothing holds, and the message names the source and why it gave nothing."""
    paths = [
        write_lines(tmp_path / "a.jsonl", sentences(9)),
        write_lines(tmp_path / "b.jsonl", sentences(9)),
    ]
    with pytest.raises(
        CorpusError, match=r"sources\.1: all documents of .*b\.jsonl are dropped \(9 duplicate"
    ):
        build(tmp_path / "c", sources=[{"path": path, "weight": 1} for path in paths])


def test_a_weighted_source_that_is_all_held_out_is_an_error(tmp_path):
    """The message names the small source, not all sources, and says what to do."""
    ranked = sorted(
        sentences(200), key=lambda text: DocumentHashes.of(document_digest(text), 0).split
    )
    paths = [
        write_lines(tmp_path / "a.jsonl", ranked[1:]),
        write_lines(tmp_path / "b.jsonl", ranked[:1]),
    ]
    with pytest.raises(
        CorpusError, match=r"^sources\.1: all usable documents of .*b\.jsonl are held out.*heldout$"
    ):
        build(tmp_path / "c", sources=[{"path": path, "weight": 1} for path in paths])


def test_without_weights_every_source_is_used_whole(tmp_path):
    """Several sources without weights are simply put together."""
    paths = [
        write_lines(tmp_path / "a.jsonl", sentences(40)),
        write_lines(tmp_path / "b.jsonl", sentences(3, "कख")),
    ]
    corpus, notes = build(tmp_path / "c", sources=paths)
    assert corpus.counts("train").documents + corpus.counts("heldout").documents == 43
    assert [source["source"] for source in notes["sources"]] == paths


@pytest.mark.parametrize(
    ("limit", "unit", "most"),
    [({"documents": 30}, "documents", 30), ({"bytes": "1kB"}, "bytes", 1000)],
)
def test_a_limit_is_never_passed_and_is_a_prefix_of_the_whole(tmp_path, limit, unit, most):
    """A limited corpus is a prefix of the unlimited corpus; the rest is counted."""
    path = write_lines(tmp_path / "a.jsonl", sentences(200))
    whole, _ = build(tmp_path / "1", sources=path)
    corpus, notes = build(tmp_path / "2", sources=path, limit=limit)
    texts = texts_of(corpus, "train")
    assert 0 < getattr(corpus.counts("train"), unit) <= most
    assert texts == texts_of(whole, "train")[: len(texts)]
    assert notes["dropped"]["beyond the limit"]["documents"] == whole.counts(
        "train"
    ).documents - len(texts)


def test_a_limit_of_a_source_takes_its_first_documents(tmp_path):
    """The limit of a source is counted as read, in its own order."""
    path = write_lines(tmp_path / "a.jsonl", sentences(200))
    corpus, notes = build(tmp_path / "c", sources={"path": path, "limit": {"documents": 7}})
    assert notes["sources"][0]["read"]["documents"] == 7
    assert set(texts_of(corpus, "train") + texts_of(corpus, "heldout")) == set(sentences(7))


def test_counts_are_those_of_the_files(tmp_path):
    """counts.json, notes and parquet files agree; characters are code points, bytes UTF-8."""
    corpus, notes = build(
        tmp_path / "c",
        "zh-hant",
        sources=write_lines(tmp_path / "a.jsonl", sentences(2500, "漢字")),
        allow=["wrong_script"],
    )
    for split in ("train", "heldout"):
        texts = texts_of(corpus, split)
        assert corpus.counts(split) == Counts(
            len(texts), sum(map(len, texts)), sum(len(t.encode()) for t in texts)
        )
        assert notes[split]["documents"] == len(texts)
    assert corpus.language == "zh-Hant"
    assert corpus.report["format"] == 1
    file = pq.ParquetFile(corpus.folder / "train.parquet")
    assert file.schema_arrow.names == ["text"]
    assert file.metadata.row_group(0).num_rows == 1000
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert sorted(path.name for path in corpus.folder.iterdir()) == [
        "counts.json",
        "heldout.parquet",
        "train.parquet",
    ]


def test_batches_hold_as_many_documents_as_asked(tmp_path):
    """All batches but the last are full, and together they are the documents in order."""
    corpus, _ = build(tmp_path / "c", sources=write_lines(tmp_path / "a.jsonl", sentences(2300)))
    batches = list(corpus.batches("train", documents=700))
    assert {len(batch) for batch in batches[:-1]} == {700}
    assert [text for batch in batches for text in batch] == texts_of(corpus, "train")
    with pytest.raises(ValueError, match="train and heldout"):
        corpus.counts("test")


def test_a_corpus_is_the_answer_of_a_stage(tmp_path):
    """Built through the store it is made once, and found again by its identity."""
    recipe = CorpusSettings.model_validate(
        {"sources": write_lines(tmp_path / "a.jsonl", sentences(50))}
    )
    stage = Stage("corpus", 1, identity_of(recipe, "hi"))
    store, made = Store(tmp_path / "store"), []
    for _ in range(2):
        folder = store.build(
            stage, lambda draft: (made.append(1), build_corpus(recipe, "hi", draft))[0]
        )
    assert made == [1]
    assert Corpus.open(folder).counts("train").documents > 0


def test_the_miniature_world_is_a_source(tmp_path):
    """`miniature` needs no file and no network."""
    corpus, notes = build(tmp_path / "c", "en", sources={"miniature": {"stories": 300, "seed": 1}})
    assert corpus.counts("train").documents > 100
    assert notes["sources"][0]["source"] == "miniature"


def test_an_empty_corpus_is_an_error_that_lists_the_reasons(tmp_path):
    """Where every document is dropped, the message says how many for which reason."""
    path = write_lines(tmp_path / "a.jsonl", ["", "एक", "एक", "दो"])
    with pytest.raises(CorpusError) as error:
        build(tmp_path / "c", sources=path, min_characters=9)
    assert str(error.value) == (
        f"sources: all documents of {path} are dropped (3 too short, 1 empty); "
        "relax the settings that drop them"
    )
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(CorpusError, match=r"none\.jsonl contains no document"):
        build(tmp_path / "c", sources=str(tmp_path / "none.jsonl"))
    with pytest.raises(
        CorpusError, match=r"heldout: all documents of .* are dropped \(1 too short"
    ):
        build(
            tmp_path / "c",
            sources=write_lines(tmp_path / "b.jsonl", sentences(20)),
            min_characters=4,
            heldout=write_lines(tmp_path / "h.jsonl", ["एक"]),
        )
    with pytest.raises(CorpusError, match="beyond the limit"):
        build(
            tmp_path / "c",
            sources=write_lines(tmp_path / "b.jsonl", sentences(20)),
            limit={"bytes": 2},
        )


def test_the_language_check_drops_what_is_in_another_language(tmp_path):
    """Documents that lingua takes for another language are dropped, above a stated confidence."""
    pytest.importorskip("lingua")
    # Marathi: lingua loads the models of the scripts that occur, and those of Latin take 6 s.
    hindi = [
        "यह एक सुंदर दिन है और हम बाजार जा रहे हैं",
        "मेरे भाई को किताबें पढ़ना बहुत पसंद है",
        "कल बारिश होगी ऐसा लगता है",
    ]
    path = write_lines(
        tmp_path / "a.jsonl", [*hindi, "मला पुस्तके वाचायला खूप आवडतात आणि आज पाऊस पडत आहे"]
    )
    corpus, notes = build(tmp_path / "c", sources=path, language_check=True, heldout_share=0.5)
    assert sorted(texts_of(corpus, "train") + texts_of(corpus, "heldout")) == sorted(hindi)
    assert notes["dropped"]["wrong language"]["documents"] == 1
    with pytest.raises(CorpusError, match="4 wrong language"):
        build(tmp_path / "strict", sources=path, language_check={"min_confidence": 1})
    with pytest.raises(RecipeError, match="domain:law is a domain"):
        build(tmp_path / "d", "domain:law", sources=path, language_check=True)
    with pytest.raises(RecipeError, match="lingua does not support haw"):
        build(tmp_path / "e", "haw", sources=path, language_check=True)


def test_a_language_check_without_lingua_names_the_extra(tmp_path):
    """The message of a missing extra is the command that installs it."""
    code = (
        "import sys; sys.modules['lingua'] = None\n"
        "from lingraft.corpus import LanguageCheck\n"
        "from lingraft.corpus.cleaning import language_filter\n"
        "language_filter(LanguageCheck(), 'hi')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'lingraft[language-id]'" in done.stderr


def test_a_folder_that_is_no_corpus_says_what_it_lacks(tmp_path):
    """Opening anything else, or a damaged corpus, is an error of one line."""
    with pytest.raises(
        CorpusError, match=r"it lacks counts\.json, train\.parquet, heldout\.parquet"
    ):
        Corpus.open(tmp_path)
    corpus, _ = build(tmp_path / "c", sources=write_lines(tmp_path / "a.jsonl", sentences(9)))
    (corpus.folder / "train.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(StoreError, match="remove its folder and run again"):
        texts_of(corpus, "train")
    (corpus.folder / "counts.json").write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match=r"counts\.json: cannot be read"):
        Corpus.open(corpus.folder)


@pytest.mark.parametrize("language", ["ta", "th"])
def test_real_text(tmp_path, assets, language):
    """Real text, held-out text named, gives the documents that plain reading gives."""
    train, heldout = (
        str(assets / "text" / f"{language}.{split}.jsonl.gz") for split in ("train", "heldout")
    )
    corpus, notes = build(tmp_path / "c", language, sources=train, heldout=heldout)
    with gzip.open(train, "rt", encoding="utf-8") as file:
        rows = [json.loads(line)["text"] for line in file]
    assert set(texts_of(corpus, "train")) <= set(rows)
    assert corpus.counts("train").documents > 0.98 * len(rows)
    assert notes["sources"][0]["read"]["documents"] == len(rows)


def test_all_errors_are_one_line(tmp_path):
    """No message of this package breaks the line."""
    for recipe in (
        {"sources": str(tmp_path / "no.txt")},
        {"sources": str(tmp_path / "*.txt")},
        {"sources": str(tmp_path)},
    ):
        with pytest.raises(LingraftError) as error:
            build(tmp_path / "c", **recipe)
        assert "\n" not in str(error.value)
