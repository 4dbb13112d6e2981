"""Initialisations: properties of every registered method, then the rows of each method."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from lingraft.checkpoint import Checkpoint, embedding_names
from lingraft.embeddings import INITS, EmbeddingInit, InitRequest
from lingraft.embeddings.align import count_aligned_pieces
from lingraft.embeddings.matching_pursuit import matching_pursuit
from lingraft.embeddings.sparsemax import mix_rows, sparsemax
from lingraft.errors import ModelError
from lingraft.recipe.schema import EmbeddingSettings
from lingraft.splice import AddedToken, Splice, identity_splice
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from tests.conftest import ENGLISH, HINDI
from tests.models import (
    ARCHITECTURES,
    IDS,
    SURFACES,
    MemoryCorpus,
    extended_tokenizer,
    write_tokenizer,
)
from tests.small_bases import BASES

DTYPES = ("float32", "bfloat16", "float16")


@pytest.fixture(scope="module", params=["llama", "gemma"])
def source(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Splice]:
    """Return a model, untied or tied, the extended tokenizer, and the splice."""
    root = tmp_path_factory.mktemp(request.param)
    folder = ARCHITECTURES[request.param].build(root / "source")
    return folder, root / "tokenizer", extended_tokenizer(folder, root / "tokenizer")


def request_of(
    source: tuple[Path, Path, Splice], side: str = "input", dtype: str = "float32", seed: int = 0
) -> InitRequest:
    folder, tokenizer, splice = source
    checkpoint = Checkpoint.open(folder)
    names = embedding_names(checkpoint)
    matrices = {
        "input": checkpoint.tensor(names.input[0]),
        "output": checkpoint.tensor((names.output or names.input)[0]),
    }
    matrix, other = (
        matrices[which][: splice.source_size].to(getattr(torch, dtype))
        for which in (side, "output" if side == "input" else "input")
    )
    return InitRequest(
        matrix,
        splice,
        side,
        names.tied,
        None if names.tied else other,
        folder,
        tokenizer,
        MemoryCorpus(),
        seed,
    )


VARIANTS = [
    {"mean": {"weights": weights}}
    for weights in ("characters", "position", "first", "last", "merges")
]


@pytest.fixture(scope="session")
def donor_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of another architecture and width that has some of the added tokens."""
    folder = ARCHITECTURES["gpt-j"].build(tmp_path_factory.mktemp("others") / "donor")
    write_tokenizer(folder, SURFACES[3:4])
    return resized(folder, IDS + 1)


def resized(folder: Path, rows: int) -> Path:
    """Resize a model to a number of rows."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(params=[*INITS.names(), *VARIANTS], ids=str)
def method(request: pytest.FixtureRequest, donor_folder: Path) -> EmbeddingInit:
    """Return every registered method with its default settings, and variants."""
    if request.param == "focus":
        pytest.importorskip("gensim", reason="focus needs gensim: pip install 'lingraft[focus]'")
    settings = {"donor": {"model": str(donor_folder)}, "wechsel": word_vectors(donor_folder.parent)}
    return INITS.parse(
        {request.param: settings[request.param]}
        if str(request.param) in settings
        else request.param
    )


def word_vectors(folder: Path) -> dict[str, str]:
    """Write vectors for the words of a few sentences in both languages."""
    for name, text in (("en", ENGLISH), ("hi", HINDI)):
        words = sorted({word for line in text for word in line.split()})
        lines = (f"{word} {len(word)} {i % 7} 1" for i, word in enumerate(words))
        (folder / f"{name}.vec").write_text("\n".join(lines), encoding="utf-8")
    return {"source_vectors": str(folder / "en.vec"), "target_vectors": str(folder / "hi.vec")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["input", "output"])
def test_every_added_token_gets_a_finite_row_with_an_origin(
    method: EmbeddingInit, side: str, dtype: str, source: tuple[Path, Path, Splice]
) -> None:
    """Rows for any matrix and dtype are finite float32, have origins, and are reproducible."""
    request = request_of(source, side, dtype)
    before = request.matrix.clone()
    made = method.rows(request)
    assert made.rows.shape == (len(SURFACES), request.matrix.shape[1])
    assert made.rows.dtype == torch.float32
    assert bool(made.rows.isfinite().all())
    assert len(made.origins) == len(SURFACES)
    assert all(made.origins)
    assert sum(made.origin_counts.values()) == len(SURFACES)
    assert torch.equal(request.matrix, before)
    assert torch.equal(method.rows(request).rows, made.rows)


def test_every_method_names_its_reference(method: EmbeddingInit) -> None:
    """Every method has a reference, a docstring, and settings that survive a recipe."""
    assert method.reference
    assert type(method).__doc__
    assert INITS.parse(method.chosen()) == method


def test_random_follows_the_matrix_and_the_seed(source: tuple[Path, Path, Splice]) -> None:
    """`random` has the matrix's mean and deviation; rows differ between seeds and between sides."""
    made = INITS.parse("random").rows(request_of(source))
    matrix = request_of(source).matrix
    assert made.notes["deviation"] == pytest.approx(float(matrix.std()), rel=1e-5)
    assert float(made.rows.std()) == pytest.approx(float(matrix.std()), rel=0.2)
    assert not torch.equal(made.rows, INITS.parse("random").rows(request_of(source, seed=1)).rows)
    assert not torch.equal(made.rows, INITS.parse("random").rows(request_of(source, "output")).rows)


def test_random_token_copies_a_row(source: tuple[Path, Path, Splice]) -> None:
    """Each row of `random_token` is one of the source's."""
    request = request_of(source)
    for row in INITS.parse("random_token").rows(request).rows:
        assert bool((request.matrix[:IDS] == row).all(dim=1).any())


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("characters", (1.0, 1 / 3, 1 / 3, 1 / 3)),
        ("position", (1, 1 / 2, 1 / 3, 1 / 4)),
        ("first", (1, 0, 0, 0)),
        ("last", (0, 0, 0, 1)),
        ("merges", (1 / 2, 1 / 8, 1 / 8, 1 / 4)),
    ],
)
def test_weights_of_pieces(
    weights: str, expected: tuple[float, ...], source: tuple[Path, Path, Splice]
) -> None:
    """Every weighting of a space and the three bytes of a letter gives its weighted mean."""
    folder, root, _ = source
    tokenizer = root.parent / f"chain-{weights}"
    chain = [b"\xe0\xa4", "क".encode(), " क".encode()]
    write_tokenizer(tokenizer)
    data = open_tokenizer(tokenizer).family.with_tokens(chain)
    (tokenizer / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    pieces = tuple(open_tokenizer(folder).encode([" क"])[0])
    assert len(pieces) == 4
    ids = open_tokenizer(tokenizer).vocabulary.ids
    spelled = zip(chain, (pieces[1:3], pieces[1:], pieces), strict=True)
    splice = identity_splice(
        IDS, [AddedToken(ids[surface], surface, ids_of) for surface, ids_of in spelled]
    )
    request = dataclasses.replace(request_of(source), splice=splice, tokenizer_folder=tokenizer)
    row = INITS.parse({"mean": {"weights": weights}}).rows(request).rows[-1]
    total = sum(
        request.matrix[piece].double() * weight
        for piece, weight in zip(pieces, expected, strict=True)
    )
    torch.testing.assert_close(row, (total / sum(expected)).float(), rtol=1e-6, atol=1e-7)


def test_merges_that_stop_early_are_counted(source: tuple[Path, Path, Splice]) -> None:
    """If the merges do not produce the token, the reached tokens count equally: a fallback."""
    made = INITS.parse({"mean": {"weights": "merges"}}).rows(request_of(source))
    assert any(origin.startswith("fallback") for origin in made.origins)


def test_mean_resizing_equals_transformers(source: tuple[Path, Path, Splice]) -> None:
    """Rows have the mean and the small deviation of transformers' own resizing."""
    request = request_of(source)
    tokens = tuple(AddedToken(IDS + i, b"x", (1,)) for i in range(2000))
    made = (
        INITS.parse("mean_resizing")
        .rows(dataclasses.replace(request, splice=identity_splice(IDS, tokens)))
        .rows
    )
    model = AutoModelForCausalLM.from_pretrained(source[0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = model.resize_token_embeddings(IDS + 2000, mean_resizing=True).weight[IDS:].detach()
    torch.testing.assert_close(made.mean(dim=0), theirs.mean(dim=0), rtol=0, atol=1e-6)
    assert float(made.std(dim=0).mean()) == pytest.approx(float(theirs.std(dim=0).mean()), rel=0.05)


def test_calibrated_gives_input_rows_the_norm_of_the_script(
    source: tuple[Path, Path, Splice],
) -> None:
    """Separate input rows get the median norm; output and tied rows do not."""
    characters = INITS.parse({"mean": {"weights": "characters"}})
    for side in ("input", "output"):
        request = request_of(source, side)
        made = INITS.parse("calibrated").rows(request)
        if side == "output" or request.tied:
            assert torch.equal(made.rows, characters.rows(request).rows)
            assert ("one matrix" in made.notes["rescaled"]) == request.tied
            continue
        hindi = [
            number
            for number, token in enumerate(request.splice.added)
            if not token.surface.isascii()
        ]
        pieces = sorted(
            {piece for number in hindi for piece in request.splice.added[number].pieces}
        )
        norm = float(request.matrix[pieces].norm(dim=1).median())
        torch.testing.assert_close(made.rows[hindi].norm(dim=1), torch.full((len(hindi),), norm))
        assert made.origin_counts == {
            "fallback: subtoken mean at the norm of its pieces": len(hindi),
            "subtoken mean at the norm of the script": 1,
        }  # the base has only Latin tokens
        assert made.notes["norms"]["Devanagari"] == {
            "norm": pytest.approx(norm),
            "rows": len(pieces),
        }
        mean = INITS.parse("mean").rows(request).rows
        torch.testing.assert_close(
            torch.cosine_similarity(made.rows, mean), torch.ones(len(SURFACES))
        )


def test_calibrated_takes_the_norm_from_the_script_where_there_is_one(
    source: tuple[Path, Path, Splice],
) -> None:
    """With enough source rows in the script, they alone determine the norm."""
    request = request_of(source)
    if request.tied:
        pytest.skip("tied rows are not rescaled")
    latin = identity_splice(
        IDS, [AddedToken(IDS, b"zqx", tuple(open_tokenizer(source[0]).encode(["zqx"])[0]))]
    )
    made = INITS.parse("calibrated").rows(dataclasses.replace(request, splice=latin))
    surfaces = request.source_tokenizer.vocabulary.surfaces
    ids = [
        i
        for i, surface in enumerate(surfaces)
        if surface and re.fullmatch(rb" ?[A-Za-z]+", surface)
    ]
    assert made.notes["norms"]["Latin"]["rows"] == len(ids)
    assert float(made.rows.norm()) == pytest.approx(
        float(request.matrix[ids].norm(dim=1).median()), rel=1e-6
    )
    assert made.origins == ("subtoken mean at the norm of the script",)


def test_calibrated_is_the_default() -> None:
    """`calibrated` is the default of both sides; a method named without a side applies to both."""
    assert EmbeddingSettings() == EmbeddingSettings.model_validate("calibrated")
    assert EmbeddingSettings().input == EmbeddingSettings().output == INITS.parse("calibrated")
    both = EmbeddingSettings.model_validate({"mean": {"weights": "first"}})
    assert both.input == both.output == INITS.parse({"mean": {"weights": "first"}})
    assert EmbeddingSettings.model_validate({"input": "mean"}).output == INITS.parse("calibrated")
    assert EmbeddingSettings.model_validate(both.model_dump(mode="json")) == both


def test_each_script_has_its_own_norm(source: tuple[Path, Path, Splice]) -> None:
    """Each token gets the norm of its script; a part of a character, that of the main script."""
    request = request_of(source)
    if request.tied:
        pytest.skip("tied rows are not rescaled")
    words = [b"zqx", "नदी".encode(), "कि".encode(), b"\xe0\xa4"]
    splice = identity_splice(
        IDS, [AddedToken(IDS + i, word, (70 + i, 90 + i)) for i, word in enumerate(words)]
    )
    made = INITS.parse("calibrated").rows(dataclasses.replace(request, splice=splice))
    norms = made.notes["norms"]
    assert set(norms) == {"Latin", "Devanagari"}
    expected = [norms["Latin"]["norm"], *[norms["Devanagari"]["norm"]] * 3]
    torch.testing.assert_close(made.rows.norm(dim=1), torch.tensor(expected))


@pytest.mark.parametrize(
    ("word", "script"),
    [
        ("ᐃᓄᒃ", "Unified Canadian Aboriginal Syllabics"),
        ("𑄌𑄋", "Chakma"),
        ("ᥖᥭᥰ", "Tai Le"),
        ("𐓏𐓘", "Osage"),
        ("\U00011f12\U00011f13", "another script"),  # Kawi: Unicode 15, later than the registry
    ],
)
def test_any_script_has_its_own_norm(
    source: tuple[Path, Path, Splice], word: str, script: str
) -> None:
    """Words of a script without source rows get the norm of their pieces, not that of Latin."""
    request = request_of(source)
    if request.tied:
        pytest.skip("tied rows are not rescaled")
    words = [b"zqx", b"the", word.encode()]
    splice = identity_splice(
        IDS, [AddedToken(IDS + i, word, (70 + i, 90 + i)) for i, word in enumerate(words)]
    )
    made = INITS.parse("calibrated").rows(dataclasses.replace(request, splice=splice))
    norm = float(request.matrix[[72, 92]].norm(dim=1).median())
    assert float(made.rows[2].norm()) == pytest.approx(norm)
    assert made.origins[2] == "fallback: subtoken mean at the norm of its pieces"
    assert made.notes["norms"][script] == {"norm": pytest.approx(norm), "rows": 2}


def test_align_takes_the_pieces_that_the_text_has(source: tuple[Path, Path, Splice]) -> None:
    """Subtokens aligned with a token are averaged by frequency; an unseen token is counted."""
    folder, root, _ = source
    tokenizer = root.parent / "aligned"
    splice = extended_tokenizer(folder, tokenizer, ("zq", "zzq"))
    texts = ("zq a zq", "the zq")
    request = dataclasses.replace(
        request_of(source), splice=splice, tokenizer_folder=tokenizer, corpus=MemoryCorpus(texts)
    )
    made = INITS.parse("align").rows(request)
    pieces = open_tokenizer(folder).encode(["zq"])[0]
    assert made.origins == ("aligned pieces", "fallback: not in the text, subtoken mean")
    torch.testing.assert_close(made.rows[0], request.matrix[pieces].mean(dim=0))
    assert made.notes == {}


def test_alignment_equals_a_slow_one(source: tuple[Path, Path, Splice]) -> None:
    """Counts of aligned source ids equal those of a loop over byte positions."""
    folder, root, _ = source
    extended_tokenizer(folder, root.parent / "slow", (" the r", "ren", "zq"))
    before, after = open_tokenizer(folder), open_tokenizer(root.parent / "slow")
    everything = set(range(after.size))
    texts = list(MemoryCorpus().texts)
    counts, skipped = count_aligned_pieces(iter([texts[:3], texts[3:]]), before, after, everything)
    expected: dict[int, dict[int, int]] = {}
    for text in texts:
        owners = [
            [
                place
                for place, i in enumerate(t.encode([text])[0])
                for _ in t.vocabulary.surfaces[i] or b""
            ]
            for t in (before, after)
        ]
        ids = [t.encode([text])[0] for t in (before, after)]
        for mine, theirs in sorted(set(zip(*owners, strict=True))):
            under = expected.setdefault(ids[1][theirs], {})
            under[ids[0][mine]] = under.get(ids[0][mine], 0) + 1
    assert skipped == 0
    assert counts == expected


def unigram_data() -> dict[str, Any]:
    """Return a Unigram without byte fallback that knows ASCII letters and a few words."""
    words = ["▁", "▁the", "▁river", "▁is", *"abcdefghijklmnopqrstuvwxyz."]
    vocab = [["<unk>", 0.0], *([word, -2.0 - len(word) / 10] for word in words)]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": metaspace,
        "post_processor": None,
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": False},
    }


def bpe_data() -> dict[str, Any]:
    """Return a SentencePiece BPE without byte fallback."""
    data = BASES["SentencePiece BPE"]()
    return {**data, "model": {**data["model"], "byte_fallback": False}}


def slow_owners(tokenizer: ModelTokenizer, text: str) -> tuple[list[int], list[int]]:
    """Return the ids of a text, and for each of its bytes the place of the token that owns it.

    Known tokens are found by their surfaces, and unknown ones own what is between these.
    """
    (ids,) = tokenizer.encode([text])
    surfaces = tokenizer.vocabulary.surfaces
    pattern = b""
    for i in ids:
        pattern += b"(.+?)" if i == tokenizer.family.unknown else b"(%b)" % re.escape(surfaces[i])
    match = re.fullmatch(pattern, f" {text}".encode())
    assert match is not None
    return ids, [place for place, part in enumerate(match.groups()) for _ in part]


@pytest.mark.parametrize("data", [unigram_data(), bpe_data()], ids=["Unigram", "BPE"])
def test_unknown_characters_are_aligned_like_any_text(data: dict[str, Any], tmp_path: Path) -> None:
    """An unknown token covers the text that it stands for, which the target may know in part."""
    known = "कि"
    extended = copy.deepcopy(data)
    vocab = extended["model"]["vocab"]
    if isinstance(vocab, list):
        vocab += [[character, -3.0] for character in known]
    else:
        vocab |= {character: len(vocab) + i for i, character in enumerate(known)}
    tokenizers = []
    for name, content in (("source", data), ("target", extended)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        tokenizers.append(open_tokenizer(tmp_path / name))
    source, target = tokenizers
    texts = ["the river", "the नदी is किx", "नकि the ि", "कि", "xनx river. नकिन"]
    counts, skipped = count_aligned_pieces(iter([texts]), source, target, set(range(target.size)))
    expected: dict[int, dict[int, int]] = {}
    for text in texts:
        source_ids, source_owners = slow_owners(source, text)
        target_ids, target_owners = slow_owners(target, text)
        for mine, theirs in sorted(set(zip(source_owners, target_owners, strict=True))):
            under = expected.setdefault(target_ids[theirs], {})
            under[source_ids[mine]] = under.get(source_ids[mine], 0) + 1
    assert skipped == 0
    assert counts == expected


def test_methods_that_read_text_need_a_corpus(
    source: tuple[Path, Path, Splice],
) -> None:
    """Without a corpus, a method that reads text raises an error that says what to do."""
    request = dataclasses.replace(request_of(source), corpus=None)
    for cls in INITS:
        if cls.needs_corpus and cls.name != "focus":
            with pytest.raises(ModelError, match="there is none; give the argument `texts`"):
                cls().rows(request)


@pytest.mark.parametrize("spread", [0.01, 0.3, 3.0])
def test_sparsemax_is_the_projection_onto_the_simplex(spread: float) -> None:
    """Weights equal those of a full sort, whether few or nearly all scores have weight."""
    scores = (
        torch.randn((20, 1000), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        * spread
    )
    weights, places = sparsemax(scores)
    dense = torch.zeros_like(scores).scatter_(1, places, weights)
    for row, got in zip(scores, dense, strict=True):
        ordered = row.sort(descending=True).values
        excess = ordered.cumsum(0) - 1
        support = int((torch.arange(1, 1001) * ordered > excess).sum())
        torch.testing.assert_close(got, (row - excess[support - 1] / support).clamp(min=0))
    torch.testing.assert_close(dense.sum(dim=1), torch.ones(20, dtype=torch.float64))


def test_focus_mixes_anchors_that_occur_in_the_text(source: tuple[Path, Path, Splice]) -> None:
    """A row is a convex mixture of rows of tokens in the text; a rare token is counted."""
    pytest.importorskip("gensim", reason="focus needs gensim: pip install 'lingraft[focus]'")
    folder, root, _ = source
    tokenizer = root.parent / "focus"
    splice = extended_tokenizer(folder, tokenizer, ("zq", "zzq"))
    texts = ("the zq", "a zq is the", "the bird a zq")
    request = dataclasses.replace(
        request_of(source),
        splice=splice,
        tokenizer_folder=tokenizer,
        corpus=MemoryCorpus(texts * 10),
    )
    made = INITS.parse({"focus": {"vector_size": 16, "min_count": 5}}).rows(request)
    assert made.origins == ("mixture of anchors", "fallback: too rare in the text, subtoken mean")
    seen = sorted({i for ids in open_tokenizer(tokenizer).encode(texts) for i in ids if i < IDS})
    anchors = request.matrix[seen]
    solution = torch.linalg.lstsq(anchors.T.double(), made.rows[0].double()).solution
    assert float(solution.sum()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(
        anchors.T.double() @ solution, made.rows[0].double(), rtol=0, atol=1e-6
    )


def test_focus_trains_on_all_of_a_long_document(source: tuple[Path, Path, Splice]) -> None:
    """One document gives the vectors of its parts of 10,000 tokens: gensim drops none of it."""
    word2vec = pytest.importorskip("gensim.models.word2vec")
    target = open_tokenizer(source[1])
    ids = target.encode(["the bird sees a child" + " the river is red" * 3000])[0]
    limit = word2vec.MAX_WORDS_IN_BATCH
    parts = [ids[begin : begin + limit] for begin in range(0, len(ids), limit)]
    texts = list(map(target.decode, parts))
    assert target.encode(texts) == parts
    assert len(parts) > 1
    method = INITS.parse({"focus": {"vector_size": 8, "epochs": 1, "min_count": 1}})
    trained = []
    for corpus in (["".join(texts)], texts):
        request = dataclasses.replace(request_of(source), corpus=MemoryCorpus(tuple(corpus)))
        trained.append(method.train(request))
    assert trained[0][0] == trained[1][0]
    assert np.array_equal(trained[0][1], trained[1][1])


def given_vectors(source: tuple[Path, Path, Splice]) -> tuple[list[str], list[list[float]]]:
    """Return names and vectors of three anchors and of added tokens that equal the first anchor."""
    added = [token.id for token in request_of(source).splice.added]
    names = [str(i) for i in (0, 1, 2, *added)]
    return names, [
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
        *([[1.0, 0.0, 0.0]] * len(added)),
    ]


def test_focus_with_given_vectors(source: tuple[Path, Path, Splice], tmp_path: Path) -> None:
    """With vectors from a word2vec file, a token gets the row of the anchor with its vector."""
    pytest.importorskip("gensim", reason="focus needs gensim: pip install 'lingraft[focus]'")
    request = request_of(source)
    lines = [
        f"{name} {' '.join(map(str, vector))}"
        for name, vector in zip(*given_vectors(source), strict=True)
    ]
    (tmp_path / "vectors.txt").write_text(f"{len(lines)} 3\n" + "\n".join(lines) + "\n")
    made = INITS.parse({"focus": {"vectors": str(tmp_path / "vectors.txt")}}).rows(request)
    for row in made.rows:
        torch.testing.assert_close(row, request.matrix[0])
    (tmp_path / "vectors.txt").write_text("1 3\nword 1 2 3\n")
    with pytest.raises(ModelError, match=r"vectors.txt: the words of these vectors are not token"):
        INITS.parse({"focus": {"vectors": str(tmp_path / "vectors.txt")}}).rows(request_of(source))


def test_focus_with_given_vectors_needs_no_gensim(
    source: tuple[Path, Path, Splice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors in safetensors are read without gensim."""
    monkeypatch.setitem(sys.modules, "gensim", None)
    names, vectors = given_vectors(source)
    path = tmp_path / "vectors.safetensors"
    save_file(
        {"vectors": torch.tensor(vectors, dtype=torch.float16)}, path, {"words": json.dumps(names)}
    )
    request = request_of(source)
    for row in INITS.parse({"focus": {"vectors": str(path)}}).rows(request).rows:
        torch.testing.assert_close(row, request.matrix[0])
    save_file({"vectors": torch.tensor(vectors)}, path, {"words": json.dumps(["the", *names[1:]])})
    with pytest.raises(ModelError, match="the words of these vectors are not token ids"):
        INITS.parse({"focus": {"vectors": str(path)}}).rows(request_of(source))


NUMBERS = np.array([[1, 2], [3, 4]], dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.txt", b"3 2\n1 0.1 0.2\n2 0.3 0.4\n", "cannot be read.*end of input.*replace"),
        ("short.bin", b"2 2\n1 " + NUMBERS.tobytes()[:8] + b"2 \0", "cannot be read.*replace"),
        ("header.txt", b"two 2\n1 0.1 0.2\n", "cannot be read.*replace"),
        ("nan.txt", b"2 2\n1 0.1 nan\n2 0.3 0.4\n", "the vector of '1' is not finite"),
        ("nan.bin", b"1 2\n7 " + np.full(2, np.nan, np.float32).tobytes(), "'7' is not finite"),
        ("other.txt", b"2 2\n1 0.1 0.2\n90000 0.3 0.4\n", "id 90000 is outside the 32\\d ids"),
        ("negative.bin", b"1 2\n-1 " + NUMBERS.tobytes()[:8], "id -1 is outside the 32\\d ids"),
    ],
    ids=lambda value: value if str(value)[-4:] in {".txt", ".bin"} else "",
)
def test_vectors_that_cannot_be_used_are_an_error(
    source: tuple[Path, Path, Splice], tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """A damaged word2vec file, and one of another tokenizer, is named with what is wrong."""
    pytest.importorskip("gensim", reason="focus needs gensim: pip install 'lingraft[focus]'")
    (tmp_path / name).write_bytes(content)
    method = INITS.parse({"focus": {"vectors": str(tmp_path / name)}})
    with pytest.raises(ModelError, match=rf"{re.escape(name)}: .*{message}") as raised:
        method.rows(request_of(source))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["vectors.npz", "vectors.safetensors"])
def test_ids_of_another_tokenizer_are_an_error_in_every_format(
    source: tuple[Path, Path, Splice], tmp_path: Path, name: str
) -> None:
    """Ids are checked in files that are read without gensim, too."""
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, words=np.array(["1", "90000"]), vectors=NUMBERS)
    else:
        save_file({"vectors": torch.tensor(NUMBERS)}, path, {"words": '["1", "90000"]'})
    with pytest.raises(ModelError, match=r"id 90000 is outside the 32\d ids"):
        INITS.parse({"focus": {"vectors": str(path)}}).rows(request_of(source))


def test_pursuit_finds_sparse_combinations() -> None:
    """A combination of three shared rows is recovered exactly, with its weights."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn((200, 64), generator=generator)
    places = torch.stack([torch.randperm(200, generator=generator)[:3] for _ in range(10)])
    weights = torch.tensor([1.0, -0.5, 0.7])
    wanted = (shared[places] * weights[:, None]).sum(dim=1)
    found, got = matching_pursuit(wanted, shared, max_terms=3)
    dense = torch.zeros((10, 200)).scatter_(1, found, got.float())
    expected = torch.zeros((10, 200)).scatter_(1, places, weights.expand(10, 3))
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-5)


def test_a_donor_with_the_sources_own_rows_gives_combinations_back(
    source: tuple[Path, Path, Splice], tmp_path: Path
) -> None:
    """If the donor is the source and a row is a sum of two shared rows, the new row is that sum."""
    folder, _, _ = source
    donor = Path(shutil.copytree(folder, tmp_path / "donor"))
    write_tokenizer(donor, ("zq",))
    resized(donor, IDS + 1)
    matrix = Checkpoint.open(donor).tensor(embedding_names(Checkpoint.open(donor)).input[0])
    model = AutoModelForCausalLM.from_pretrained(donor)
    with torch.no_grad():
        model.get_input_embeddings().weight[IDS] = matrix[70] + 2 * matrix[90]
    model.save_pretrained(donor)
    splice = identity_splice(
        IDS, [AddedToken(IDS, b"zq", (1, 2)), AddedToken(IDS + 1, b"zzq", (1, 2))]
    )
    request = dataclasses.replace(request_of(source), splice=splice)
    made = INITS.parse({"donor": {"model": str(donor), "max_terms": 2}}).rows(request)
    torch.testing.assert_close(
        made.rows[0], request.matrix[70] + 2 * request.matrix[90], rtol=0, atol=1e-5
    )
    assert made.origins[1].startswith("fallback: the donor has no such token")


def test_zero_rows_of_a_donor_are_unknown_tokens(
    source: tuple[Path, Path, Splice], tmp_path: Path
) -> None:
    """A zero row gives the subtoken mean, counted; shared zero rows are in no combination."""
    folder, _, _ = source
    donor = Path(shutil.copytree(folder, tmp_path / "donor"))
    write_tokenizer(donor, ("zq", "ren"))
    resized(donor, IDS + 2)
    model = AutoModelForCausalLM.from_pretrained(donor)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            module.weight[[0, 1, IDS]] = 0.0
            module.weight[IDS + 1] = 3 * module.weight[70]
    model.save_pretrained(donor)
    splice = identity_splice(
        IDS, [AddedToken(IDS, b"zq", (70, 90)), AddedToken(IDS + 1, b"ren", (1, 2))]
    )
    for side in ("input", "output"):
        request = dataclasses.replace(request_of(source, side), splice=splice)
        made = INITS.parse({"donor": {"model": str(donor), "max_terms": 2}}).rows(request)
        assert made.origins == (
            "fallback: the donor's row is zero, subtoken mean",
            "donor's combination of shared tokens",
        )
        assert torch.equal(made.rows[0], INITS.parse("mean").rows(request).rows[0])
        torch.testing.assert_close(made.rows[1], 3 * request.matrix[70], rtol=0, atol=1e-5)


def test_focus_compares_vectors_by_their_angle() -> None:
    """Similarity is the cosine: the lengths of static vectors change no mixture."""
    generator = torch.Generator().manual_seed(0)
    added, anchors, matrix = (
        torch.randn(shape, generator=generator) for shape in ((4, 6), (9, 6), (12, 5))
    )
    sources = [3, 1, 11, 0, 7, 5, 2, 8, 10]
    expected = mix_rows(added, anchors, matrix, sources)
    lengths = torch.rand(9, 1, generator=generator) * 10 + 0.1
    assert torch.allclose(
        mix_rows(added * 7, anchors * lengths, matrix, sources), expected, atol=1e-5
    )
