"""Settings of a corpus: short forms, contradictions, languages and the identity."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lingraft.corpus import CorpusSettings, Source, identity_of, is_domain, parse_language
from lingraft.errors import CorpusError, RecipeError
from lingraft.store import digest


def corpus(**recipe: object) -> CorpusSettings:
    return CorpusSettings.model_validate(recipe)


@pytest.mark.parametrize(
    ("written", "field", "meant"),
    [
        ("text/hi.jsonl.gz", "path", "text/hi.jsonl.gz"),
        ("text/hi.parquet", "path", "text/hi.parquet"),
        ("./owner/name", "path", "./owner/name"),
        ("~/text", "path", "~/text"),
        ("text/*", "path", "text/*"),
        ("a/b/c", "path", "a/b/c"),
        ("owner/name", "hub", "owner/name"),
        ("uonlp/CulturaX", "hub", "uonlp/CulturaX"),
        ("hf:owner/data.jsonl", "hub", "owner/data.jsonl"),
    ],
)
def test_a_source_is_written_as_a_string(written, field, meant, tmp_path, monkeypatch):
    """A path where it looks like one, `owner/name` and `hf:owner/name` for the hub."""
    monkeypatch.chdir(tmp_path)
    [source] = corpus(sources=written).sources
    assert getattr(source, field) == meant
    assert [name for name in ("path", "hub", "miniature") if getattr(source, name)] == [field]


def test_what_exists_is_a_path(tmp_path, monkeypatch):
    """`owner/name` is a folder where there is one; `hf:` says otherwise."""
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert corpus(sources="owner/name").sources[0].path == "owner/name"
    assert corpus(sources="hf:owner/name").sources[0].hub == "owner/name"


def test_one_source_or_several_in_any_form():
    """A string, a mapping and a list of both are read, and read again after writing."""
    settings = corpus(
        sources=["a.txt", {"hub": "x/y", "limit": {"bytes": "10MB"}}, "miniature"],
        heldout={"path": "b"},
        language_check=True,
    )
    assert [source.label for source in settings.sources] == ["a.txt", "hf:x/y/train", "miniature"]
    assert settings.sources[1].limit.bytes == 10_000_000
    assert CorpusSettings.model_validate(json.loads(settings.model_dump_json())) == settings
    assert corpus(sources="a", language_check=False).language_check is None


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"sources": []}, "at least 1 item"),
        ({"sources": {}}, "exactly one of path, hub, preset and miniature; got none"),
        ({"sources": {"path": "a", "hub": "b/c"}}, "got path and hub"),
        ({"sources": {"hub": "name"}}, "'name' is not a data set id; expected owner/name"),
        (
            {"sources": {"path": "a", "revision": "main"}},
            "revision has no meaning for a source with path",
        ),
        (
            {"sources": {"hub": "a/b", "document_unit": "file"}},
            "document_unit has no meaning for a source with hub",
        ),
        ({"sources": {"path": "a", "weight": 0}}, "greater than 0"),
        ({"sources": {"path": "a", "colour": 1}}, "colour"),
        (
            {"sources": [{"path": "a", "weight": 1}, "b.txt"]},
            "b.txt has no weight, but others do",
        ),
        ({"sources": "a", "limit": {}}, "set documents, bytes, or both"),
        (
            {"sources": "a", "heldout": {"path": "b", "weight": 1}},
            "weight has no meaning in heldout",
        ),
        (
            {"sources": "a", "heldout": "b", "heldout_share": 0.1},
            "heldout and heldout_share exclude each other",
        ),
        ({"sources": "a", "heldout_share": 0.9}, "less than or equal to 0.5"),
        ({"sources": "a", "min_characters": 9, "max_characters": 8}, "max_characters 8 is below"),
    ],
)
def test_contradictions_are_refused(recipe, expected):
    """A setting that is unknown, impossible, or would be ignored is an error that says so."""
    with pytest.raises(ValidationError, match=re.escape(expected)):
        corpus(**recipe)


@pytest.mark.parametrize(
    ("tag", "canonical"),
    [
        ("hi", "hi"),
        ("HI", "hi"),
        ("hin", "hi"),
        ("zh-hant", "zh-Hant"),
        ("pt_br", "pt-BR"),
        ("sr-latn-rs", "sr-Latn-RS"),
        ("yue", "yue"),
        ("iw", "he"),
        ("sat-olck", "sat-Olck"),
        ("domain:law", "domain:law"),
        ("domain:A.b-1", "domain:A.b-1"),
    ],
)
def test_languages_are_bcp47_tags_or_domains(tag, canonical):
    """Any registered language is accepted, in any case, and returned in canonical form."""
    assert parse_language(tag) == canonical
    assert parse_language(canonical) == canonical
    assert is_domain(canonical) == tag.startswith("domain:")


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("hindi", "did you mean hi?"),
        ("Portugese", "did you mean pt?"),
        ("klingon", "did you mean tlh?"),
        ("en-", "did you mean en?"),
        ("hi-hi", "did you mean hi?"),
        ("xx", "not in the registry"),
        ("qaa", "domain:NAME"),
        ("", "not a well-formed"),
        ("x-mine", "not a well-formed"),
        ("domain:", "domain:NAME"),
        ("domain:a b", "letters, digits"),
        ("हिन्दी", "expected a tag such as hi"),
    ],
)
def test_what_is_no_language_is_refused(tag, expected):
    """The message has the tag, what is expected, and the nearest language if there is one."""
    with pytest.raises(RecipeError) as error:
        parse_language(tag)
    assert expected in str(error.value)
    assert repr(tag) in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(max_size=12))
def test_parsing_a_language_gives_a_language_or_an_error_of_ours(tag):
    """No string makes the parser fail otherwise, and what it returns is a fixed point."""
    try:
        canonical = parse_language(tag)
    except RecipeError:
        return
    assert parse_language(canonical) == canonical


def test_identity_is_of_content_and_not_of_names(tmp_path):
    """The identity depends on bytes, language and settings, not on file names."""
    for name, text in (("a.txt", "one\n"), ("moved.txt", "one\n"), ("b.txt", "two\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    base = identity_of(corpus(sources=str(tmp_path / "a.txt")), "hi")
    assert identity_of(corpus(sources=str(tmp_path / "moved.txt")), "hi") == base
    assert identity_of(corpus(sources=str(tmp_path / "a.txt"), heldout_share=0.01), "hi") == base
    others = [
        identity_of(corpus(sources=str(tmp_path / "b.txt")), "hi"),
        identity_of(corpus(sources=str(tmp_path / "a.txt")), "ta"),
        identity_of(corpus(sources="miniature"), "hi"),
    ]
    others += [
        identity_of(corpus(sources={"path": str(tmp_path / "a.txt"), **more}), "hi")
        for more in (
            {"document_unit": "file"},
            {"weight": 1},
            {"limit": {"documents": 5}},
            {"text_field": "body"},
        )
    ]
    others += [
        identity_of(corpus(sources=str(tmp_path / "a.txt"), **more), "hi")
        for more in (
            {"seed": 1},
            {"heldout_share": 0.02},
            {"heldout": str(tmp_path / "b.txt")},
            {"heldout_bytes": 9},
            {"min_characters": 2},
            {"max_characters": 9},
            {"language_check": True},
            {"limit": {"bytes": 9}},
        )
    ]
    assert len({digest(identity) for identity in [base, *others]}) == len(others) + 1
    with pytest.raises(CorpusError, match="did you mean"):
        identity_of(corpus(sources=str(tmp_path / "aa.txt")), "hi")


COMMIT = "0123456789abcdef" * 2 + "01234567"


def hub_identity(*, streaming, **settings):
    source = {"hub": "x/y", "revision": COMMIT, "streaming": streaming}
    return identity_of(corpus(sources=source, **settings), "hi")


def test_a_pinned_hub_source_has_an_identity_without_the_network():
    """The identity of a pinned data set holds its commit, and not how all of it is read."""
    streamed = hub_identity(streaming=True)
    assert streamed == hub_identity(streaming=False)
    assert streamed["sources"][0]["revision"] == COMMIT
    assert Source(hub="x/y", config="hi").label == "hf:x/y/hi/train"


def test_streaming_enters_the_identity_where_it_changes_the_text():
    """With a limit, streamed and downloaded data sets give other documents: two identities."""
    limit = {"documents": 10}
    assert hub_identity(streaming=True, limit=limit) != hub_identity(streaming=False, limit=limit)
