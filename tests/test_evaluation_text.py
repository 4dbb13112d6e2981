"""Evaluation text in the training text: it is found, counted and, where asked for, dropped."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lingraft.corpus import Corpus, CorpusSettings, build_corpus, identity_of, list_files
from lingraft.corpus.contamination import EvaluationIndex, normalised_words
from lingraft.corpus.evaluation_sources import check_searchable
from lingraft.corpus.readers import read_parallel
from lingraft.corpus.source import Limit
from lingraft.errors import CorpusError
from lingraft.pipeline import build_graph
from lingraft.pipeline.evaluation_text import (
    EvaluationText,
    find_evaluation_texts,
    search_training_text,
)
from lingraft.recipe import parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.store import Draft

HINDI = [f"सुबह {number} बच्चे नदी की ओर चलते हैं और {number} नावें देखते हैं" for number in range(60)]
SENTENCES = [f"रात को {number} तारे आकाश में चमकते हैं" for number in range(20)]


@pytest.fixture
def parallel(tmp_path):
    """A file of sentences in English and Hindi."""
    path = tmp_path / "parallel.jsonl"
    rows = [{"en": f"At night {n} stars shine.", "hi": text} for n, text in enumerate(SENTENCES)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def settings(tmp_path):
    """A corpus in which five documents contain a sentence, with other case and punctuation."""
    path = tmp_path / "hi.txt"
    lines = [
        *HINDI[5:],
        *(f"{one} — {two}!" for one, two in zip(HINDI, SENTENCES[:5], strict=False)),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return CorpusSettings.model_validate({"sources": str(path)})


def built(settings: CorpusSettings, folder: Path) -> tuple[Corpus, Draft]:
    draft = Draft(folder)
    draft.folder.mkdir()
    build_corpus(settings, "hi", draft)
    return Corpus.open(folder), draft


def with_evaluation(settings: CorpusSettings, source: dict[str, str]) -> CorpusSettings:
    return CorpusSettings.model_validate({**settings.model_dump(), "decontaminate": source})


def test_evaluation_text_is_found_and_the_setting_of_the_warning_drops_it(
    settings, parallel, tmp_path
):
    """The warning has numbers, an example and the setting, after which nothing is found."""
    corpus, _ = built(settings, tmp_path / "before")
    sentences = read_parallel(str(parallel), ["hi"])["hi"]
    evaluation = EvaluationText("the parallel sentences", "SOURCE", sentences)
    (found,) = find_evaluation_texts(corpus, [evaluation])
    kept = [text for text in corpus.documents("train") if "रात को" in text]
    assert (found.found, found.of, found.documents) == (len(kept), 20, len(kept))
    assert len(kept) >= 3
    assert f"{len(kept)} of 20 texts of the parallel sentences" in found.warning
    assert found.warning.endswith("set decontaminate: [SOURCE]")
    assert found.example in SENTENCES

    chosen = with_evaluation(settings, {"path": str(parallel), "text_field": "hi"})
    cleaned, draft = built(chosen, tmp_path / "after")
    dropped = draft.notes["dropped"]["with evaluation text"]
    assert dropped["documents"] == 5
    (after,) = find_evaluation_texts(cleaned, [evaluation])
    assert (after.found, after.warning) == (0, "")


@pytest.mark.parametrize("content", ["", "रात\n"])
def test_evaluation_text_of_which_nothing_can_be_looked_for_is_an_error(
    settings, tmp_path, content
):
    """An empty file, or one of too short texts, would drop nothing and say nothing."""
    path = tmp_path / "evaluation.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(
        CorpusError, match=r"evaluation\.txt: its [01] documents? cannot be searched for"
    ):
        built(with_evaluation(settings, {"path": str(path)}), tmp_path / "corpus")
    with pytest.raises(
        CorpusError, match=r"evaluation\.txt: its [01] documents? cannot be searched for"
    ):
        check_searchable(with_evaluation(settings, {"path": str(path)}), "hi")


def test_evaluation_text_of_a_language_is_looked_for_in_the_text_of_all(tmp_path, parallel):
    """The replay has the held-out text and the parallel sentences of the target in it."""
    law = [f"क़ानून {number}: {text}" for number, text in enumerate(HINDI)]
    names = {"law": law, "heldout": law[:12], "web": [*HINDI[30:], *law[:30], *SENTENCES]}
    files = {}
    for name, lines in names.items():
        files[name] = tmp_path / f"{name}.txt"
        files[name].write_text("\n".join(lines), encoding="utf-8")
    content = {
        "name": "r",
        "model": "m",
        "target": {"language": "hi", "corpus": str(files["law"]), "heldout": str(files["heldout"])},
        "replay": {"language": "en", "corpus": str(files["web"]), "allow": ["wrong_script"]},
        "evaluation": {"parallel_file": str(parallel)},
    }
    recipe = parse_recipe(Tree(content))
    assert recipe.replay is not None
    texts = {"target": recipe.target, "replay": recipe.replay}
    folders = {}
    for role, text in texts.items():
        folders[role] = tmp_path / role
        folders[role].mkdir()
        build_corpus(text.corpus, text.language, Draft(folders[role]))
    draft = Draft(tmp_path / "check")
    search_training_text(texts, SimpleNamespace(recipe=recipe, folders=folders, draft=draft))
    counts = {}
    for note in draft.notes["evaluation text in training text"]:
        counts[note["language"], note["evaluation"]] = (note["found"], note["of"])
    replayed = len([one for one in Corpus.open(folders["replay"]).documents("train") if one in law])
    assert counts["en", "the held-out text in hi"] == (12, 12)
    assert replayed >= 12
    assert counts["hi", "the held-out text"] == (0, 12)
    assert counts["en", "the parallel sentences in hi"][0] >= 15
    assert counts["en", "the parallel sentences"] == (0, 20)
    assert ("hi", "the held-out text in en") in counts
    (warning,) = [one for one in draft.notes["warnings"] if "of the held-out text in hi" in one]
    assert warning.endswith(f"set decontaminate: [{files['heldout']}]")


def test_few_matches_are_counted_without_a_warning(settings, tmp_path):
    """Below 1% of the evaluation texts there is a number, but no warning."""
    corpus, _ = built(settings, tmp_path / "corpus")
    others = [f"{number} और कोई दूसरा वाक्य है यहाँ" for number in range(1000)]
    text = next(text for text in corpus.documents("train") if "रात को" in text)
    rare = EvaluationText("x", "x", [*others, text.split(" — ")[1]])
    none = EvaluationText("y", "y", others)
    found, absent = find_evaluation_texts(corpus, [rare, none])
    assert (absent.found, absent.of, absent.documents) == (0, 1000, 0)
    assert (found.found, found.of, found.warning) == (1, 1001, "")


def test_the_key_changes_with_evaluation_text_only(settings, parallel):
    """Without the setting a corpus keeps its key; with it, the key follows the file."""
    plain = identity_of(settings, "hi")
    assert "decontaminate" not in plain
    chosen = with_evaluation(settings, {"path": str(parallel), "text_field": "hi"})
    assert parallel in list_files(chosen).states
    first = identity_of(chosen, "hi")
    parallel.write_text(parallel.read_text(encoding="utf-8") * 2, encoding="utf-8")
    assert plain != first != identity_of(chosen, "hi")


def test_an_index_finds_runs_of_words():
    """13 words of a longer text are a match, 12 are none; of a short one, all words are."""
    words = [f"w{number}" for number in range(30)]
    index = EvaluationIndex([" ".join(words), "one two three four five", "too short"])
    assert index.find(" ".join(words[4:17])) == {0}
    assert index.find(" ".join(words[4:16])) == set()
    assert index.find("Zero one, TWO three four five six") == {1}
    assert index.find("one two three four") == set()
    assert index.skipped == {2}


WORD_LISTS = st.lists(st.sampled_from(["a", "b", "ก"]), max_size=24)


@given(
    st.lists(WORD_LISTS, max_size=4), WORD_LISTS, st.integers(0, 60), st.integers(0, 60), st.data()
)
def test_an_index_finds_what_a_comparison_at_each_place_finds(documents, other, start, end, data):
    """All documents with a run in the text are found, and no others, in all kinds of scripts."""
    documents = [[*words, *words, *words] for words in documents]
    chosen = data.draw(st.sampled_from(documents)) if documents else []
    text = [*other, *chosen[start:end], *other]
    expected = set()
    for number, words in enumerate(documents):
        is_unspaced = 2 * words.count("ก") > len(words)
        shortest, length = (20, 50) if is_unspaced else (5, 13)
        length = min(len(words), length)
        if length < shortest:
            continue
        for place in range(len(words) - length + 1):
            run = words[place : place + length]
            if any(text[begin : begin + length] == run for begin in range(len(text))):
                expected.add(number)
    index = EvaluationIndex(map(" ".join, documents))
    assert index.find(" ".join(text)) == expected


def test_only_letters_of_scripts_without_spaces_are_words_of_their_own():
    """A Latin word attached to Chinese text stays a word, and so does a number."""
    assert normalised_words("用iPhone手机2026") == ["用", "iphone", "手", "机", "2026"]


def test_a_preset_of_evaluation_text_needs_its_own_limit():
    """A limit that the user did not set would silently leave evaluation text in training text."""
    content = {"sources": "a.jsonl", "heldout_bytes": 1000, "decontaminate": "wikipedia"}
    with pytest.raises(ValidationError, match="decontaminate: wikipedia has no limit"):
        CorpusSettings.model_validate(content)
    content["decontaminate"] = {"preset": "wikipedia", "limit": {"documents": 7}}
    [source] = CorpusSettings.model_validate(content).resolve("hi").decontaminate
    assert source.limit == Limit(documents=7)


def test_parallel_sentences_are_repaired_as_the_text_is(tmp_path):
    """The column of each language gets the repairs of its text, and no other."""
    path = tmp_path / "p.jsonl"
    path.write_text(
        json.dumps({"en": "cafe\u0301 soft\u00ad", "hi": "न\u00adदी"}), encoding="utf-8"
    )
    cleaning = {"hi": {"strip": ["soft_hyphens"]}, "en": {"normalise": "NFC"}}
    columns = read_parallel(str(path), ["hi"], repaired=settings_of(cleaning))
    assert columns == {"en": ("caf\u00e9 soft\u00ad",), "hi": ("नदी",)}


def settings_of(cleaning, **others):
    settings = {}
    for language, repairs in cleaning.items():
        content = {"sources": "-", "cleaning": repairs, **others}
        settings[language] = CorpusSettings.model_validate(content)
    return settings


def test_parallel_sentences_are_repaired_as_text_in_their_declared_scripts(tmp_path):
    """Zero width spaces separate words in a declared script, such as Khmer next to Hindi."""
    path = tmp_path / "p.jsonl"
    sentence = "खमेर ភាសា\u200bខ្មែរ"
    path.write_text(json.dumps({"en": "Khmer", "hi": sentence}), encoding="utf-8")
    cleaning = {"hi": {"strip": ["invisible"]}}
    columns = read_parallel(str(path), ["hi"], repaired=settings_of(cleaning))
    assert columns["hi"] == (sentence.replace("\u200b", ""),)
    declared = settings_of(cleaning, scripts=["Deva", "Khmr"])
    assert read_parallel(str(path), ["hi"], repaired=declared)["hi"] == (sentence,)


def test_declared_scripts_are_in_the_keys_of_what_is_made_of_parallel_sentences(
    tiny_model, hindi_file, english_file, tmp_path
):
    """Recipes without declared scripts, or without repairs, keep the keys of what is stored."""
    parallel = tmp_path / "p.jsonl"
    parallel.write_text(json.dumps({"en": "a", "hi": "क", "ta": "க"}), encoding="utf-8")
    text = {"language": "hi", "corpus": str(hindi_file), "cleaning": {"strip": ["invisible"]}}
    base = {
        "name": "r",
        "model": str(tiny_model),
        "extra_targets": [{"language": "ta", "corpus": str(english_file)}],
        "vocabulary": {"balance": "premium", "parallel_file": str(parallel)},
        "evaluation": {"parallel_file": str(parallel)},
    }

    def settings(**others):
        graph = build_graph(parse_recipe(Tree({**base, "target": {**text, **others}})))
        nodes = (graph.vocabulary, graph.evaluation_text, graph.evaluation)
        return [node.stage.settings for node in nodes]

    plain, declared = settings(), settings(scripts=["Deva", "Khmr"])
    assert all(one != other for one, other in zip(plain, declared, strict=True))
    unrepaired = settings(cleaning=None), settings(cleaning=None, scripts=["Deva", "Khmr"])
    assert unrepaired[0] == unrepaired[1]
    assert "scripts" not in json.dumps(plain)
