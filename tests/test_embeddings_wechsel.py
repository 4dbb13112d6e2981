"""Rows from bilingual word vectors: readers, alignment, mixtures, and identity by file content."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from lingraft.checkpoint import Checkpoint, InitRequest, embedding_names
from lingraft.embeddings import INITS
from lingraft.embeddings.wechsel import rotate, token_vectors
from lingraft.embeddings.word_vectors import WordVectors, read_word_vectors
from lingraft.errors import ModelError
from lingraft.tokenizer import open_tokenizer
from tests.models import ARCHITECTURES, extended_tokenizer
from tests.small_bases import sentencepiece

ENGLISH = (
    "river",
    "apple",
    "bird",
    "children",
    "letter",
    "farmer",
    "daughter",
    "tree",
    "green",
    "red",
    "long",
    "small",
    "sings",
    "reads",
    "walk",
    "morning",
    "brother",
    "tall",
    "old",
    "gave",
    "her",
    "his",
    "from",
    "the",
)
TARGET = tuple(word[::-1] for word in ENGLISH)
SURFACES = (" rev", " zq")


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> InitRequest:
    root = tmp_path_factory.mktemp("wechsel")
    folder = ARCHITECTURES["llama"].build(root / "source")
    splice = extended_tokenizer(folder, root / "tokenizer", SURFACES)
    checkpoint = Checkpoint.open(folder)
    matrix = checkpoint.tensor(embedding_names(checkpoint).input[0])
    return InitRequest(
        matrix, splice, "input", source_folder=folder, tokenizer_folder=root / "tokenizer"
    )


def vectors_of(words: tuple[str, ...], width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(words), width)).astype(np.float32)


def write(path: Path, words: tuple[str, ...], vectors: np.ndarray, *, head: bool = True) -> Path:
    """Write word vectors in the form that the name asks for."""
    if path.suffix == ".npz":
        np.savez(path, words=np.array(words), vectors=vectors)
    elif path.suffix == ".safetensors":
        save_file({"vectors": vectors}, path, metadata={"words": json.dumps(words)})
    else:
        lines = [
            f"{word} {' '.join(map(repr, map(float, row)))}"
            for word, row in zip(words, vectors, strict=True)
        ]
        text = "\n".join([*([f"{len(words)} {vectors.shape[1]}"] if head else []), *lines]) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.vec", "b.txt", "c.vec.gz", "d.npz", "e.safetensors"])
def test_every_file_format_is_read(name: str, tmp_path: Path) -> None:
    """Each format gives the same words and numbers; with a limit, the first ones."""
    vectors = vectors_of(ENGLISH)
    read = read_word_vectors(write(tmp_path / name, ENGLISH, vectors), 10)
    assert tuple(read.words) == ENGLISH[:10]
    assert np.array_equal(read.vectors_WE, vectors[:10])


def test_a_header_is_optional(tmp_path: Path) -> None:
    """A file without a header line gives its first word, too."""
    path = write(tmp_path / "a.vec", ENGLISH, vectors_of(ENGLISH), head=False)
    assert read_word_vectors(path, 100).words[0] == "river"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.vec",
            b"2 3\none 1 2 3\ntwo 1 2\n",
            "line 3: 2 numbers for 'two', 3 for the words before",
        ),
        ("a.vec", b"one 1 x\n", "line 1"),
        ("a.vec", b"", "0 words"),
        ("a.npz", b"no archive", "a.npz"),
        ("a.vec", b"one 1 nan\n", "'one' is not finite"),
        ("a.bin", b"", "got '.bin'"),
        ("a.safetensors", b"x", "cannot be"),
    ],
)
def test_damaged_vectors_are_reported_in_one_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    """The error names the file, what was found and what was expected."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as raised:
        read_word_vectors(tmp_path / name, 10)
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


def reading_error(path: Path) -> str:
    """Return the error of reading a file of vectors, "" without one."""
    try:
        read_word_vectors(path, 10)
    except ModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_archive_is_reported_in_one_line(save: Any, tmp_path: Path) -> None:
    """Whichever byte is damaged, and wherever the file ends, there is no other error."""
    path = tmp_path / "a.npz"
    save(path, words=np.array(["a", "bc"]), vectors=np.ones((2, 3), np.float32))
    sound = path.read_bytes()
    errors = []
    for place in range(len(sound)):
        for damaged in (sound[:place], sound[:place] + b"\xfe" + sound[place + 1 :]):
            path.write_bytes(damaged)
            errors.append(reading_error(path))
    reported = list(filter(None, errors))
    assert len(reported) > len(sound)
    assert all(error.startswith(f"{path}: ") and "\n" not in error for error in reported)


@pytest.mark.parametrize("name", ["a.vec", "b.txt.gz", "c.npz", "d.safetensors"])
def test_a_file_with_fewer_vectors_than_it_states_is_not_read_as_whole(
    name: str, tmp_path: Path
) -> None:
    """A text file that was cut between two lines, or an array with fewer rows, is an error.

    Reading fewer words than a text file still has is none.
    """
    vectors = vectors_of(ENGLISH)
    path = write(tmp_path / name, ENGLISH, vectors)
    if path.suffix in {".vec", ".gz"}:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        cut = b"".join(text.splitlines(keepends=True)[:12])
        path.write_bytes(gzip.compress(cut) if path.suffix == ".gz" else cut)
        assert len(read_word_vectors(path, 11).words) == 11
    elif path.suffix == ".npz":
        np.savez(path, words=np.array(ENGLISH), vectors=vectors[:11])
    else:
        save_file({"vectors": vectors[:11]}, path, metadata={"words": json.dumps(ENGLISH)})
    with pytest.raises(ModelError, match=r"\b11\b.*\b24\b|24 words.*\b11,"):
        read_word_vectors(path, 12 if path.suffix in {".vec", ".gz"} else 11)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    """An array of objects, which would be unpickled, is an error."""
    np.savez(
        tmp_path / "a.npz", words=np.array(["a", None], dtype=object), vectors=np.zeros((2, 2))
    )
    with pytest.raises(ModelError, match=r"a.npz: cannot be read"):
        read_word_vectors(tmp_path / "a.npz", 10)


def test_a_tokens_vector_is_the_mean_over_its_words(request_: InitRequest) -> None:
    """Each occurrence of the token in a word counts 1 / rank of the word, as in a slow loop."""
    space = WordVectors(ENGLISH, vectors_of(ENGLISH))
    tokenizer = open_tokenizer(request_.source_folder)
    ids, vectors = token_vectors(space, tokenizer)
    for token_id, vector in zip(ids, vectors, strict=True):
        total, weight = np.zeros(8), 0.0
        for rank, word in enumerate(ENGLISH, 1):
            times = tokenizer.encode([" " + word])[0].count(token_id)
            total += times / rank * space.vectors_WE[rank - 1]
            weight += times / rank
        np.testing.assert_allclose(vector.numpy(), total / weight, rtol=1e-5, atol=1e-6)


def settings(tmp_path: Path, **more: object) -> dict:
    vectors = vectors_of(ENGLISH)
    return {
        "source_vectors": str(write(tmp_path / "en.vec", ENGLISH, vectors)),
        "target_vectors": str(write(tmp_path / "xx.npz", TARGET, vectors)),
        **more,
    }


def test_rows_mix_the_nearest_source_tokens(request_: InitRequest, tmp_path: Path) -> None:
    """Rows equal a slow loop over cosines; a token in no word gets its subtoken mean, counted."""
    made = INITS.parse({"wechsel": settings(tmp_path, neighbours=3, temperature=0.2)}).rows(
        request_
    )
    assert made.origin_counts == {
        "mixture of tokens with similar words": 1,
        "fallback: in no word with a vector, subtoken mean": 1,
    }
    (number,) = [i for i, origin in enumerate(made.origins) if origin.startswith("mixture")]
    token = request_.splice.added[number]
    ids, vectors = token_vectors(
        WordVectors(ENGLISH, vectors_of(ENGLISH)), open_tokenizer(request_.source_folder)
    )
    wanted_ids, wanted = token_vectors(
        WordVectors(TARGET, vectors_of(ENGLISH)), request_.target_tokenizer
    )
    cosines = torch.cosine_similarity(wanted[wanted_ids.index(token.id)][None], vectors).tolist()
    best = sorted(range(len(ids)), key=lambda i: -cosines[i])[:3]
    weights = torch.tensor([cosines[i] / 0.2 for i in best]).softmax(dim=0)
    expected = sum(float(w) * request_.matrix[ids[i]] for w, i in zip(weights, best, strict=True))
    torch.testing.assert_close(made.rows[number], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(
        made.rows,
        INITS.parse({"wechsel": settings(tmp_path, neighbours=3, temperature=0.2)})
        .rows(dataclasses.replace(request_, scratch={}))
        .rows,
    )


def test_a_dictionary_rotates_one_space_onto_the_other(tmp_path: Path) -> None:
    """Word pairs undo a rotation of the vectors; too few pairs are an error with their number."""
    vectors = vectors_of(ENGLISH)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))
    source, target = (
        WordVectors(ENGLISH, vectors),
        WordVectors(TARGET, (vectors @ rotation).astype(np.float32)),
    )
    pairs = list(zip(ENGLISH, TARGET, strict=True))
    np.testing.assert_allclose(
        rotate(source, target, pairs, "pairs.txt").vectors_WE, vectors, atol=1e-5
    )
    with pytest.raises(
        ModelError, match=r"pairs.txt: 3 of its 4 pairs have a vector on both sides"
    ):
        rotate(source, target, [*pairs[:3], ("x", "y")], "pairs.txt")


def test_vectors_of_two_spaces_need_a_dictionary(request_: InitRequest, tmp_path: Path) -> None:
    """Different widths are an error with both; a dictionary line without a pair with its number."""
    chosen = settings(tmp_path)
    write(tmp_path / "xx.npz", TARGET, vectors_of(TARGET, width=5))
    with pytest.raises(ModelError, match=r"of 8 numbers.*of 5"):
        INITS.parse({"wechsel": chosen}).rows(dataclasses.replace(request_, scratch={}))
    (tmp_path / "pairs.txt").write_text("river\trevir\nalone\n")
    with pytest.raises(ModelError, match=r"pairs.txt, line 2"):
        INITS.parse({"wechsel": {**chosen, "dictionary": str(tmp_path / "pairs.txt")}}).rows(
            dataclasses.replace(request_, scratch={})
        )


def test_the_identity_follows_the_files_and_not_their_paths(tmp_path: Path) -> None:
    """Content changes the identity, a path does not; a missing file is an error at once."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = (
        INITS.parse({"wechsel": settings(tmp_path / name)}) for name in ("first", "second")
    )
    assert first.identity() == second.identity() != first.chosen()
    write(tmp_path / "second" / "en.vec", ENGLISH, vectors_of(ENGLISH, seed=5))
    assert first.identity() != second.identity()
    (tmp_path / "second" / "en.vec").unlink()
    with pytest.raises(ModelError, match=r"en.vec: cannot be read"):
        second.identity()
    for cls in INITS:
        if not {field for field, info in cls.model_fields.items() if info.is_required()}:
            chosen = cls().chosen()[cls.name]
            assert chosen.items() <= cls().identity()[cls.name].items()


def test_an_unknown_token_is_near_to_nothing(tmp_path: Path) -> None:
    """Words that the tokenizer cannot write give no vector to "<unk>", whose row has no meaning."""
    data = sentencepiece()
    data["model"]["byte_fallback"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    tokenizer = open_tokenizer(tmp_path)
    words = ("cat", "नदी", "村")
    assert 0 in tokenizer.encode(["नदी"])[0]
    ids, vectors = token_vectors(WordVectors(words, vectors_of(words)), tokenizer)
    assert len(ids) == len(vectors)
    assert 0 not in ids
    assert set(tokenizer.encode([" cat"])[0]) <= set(ids)
