"""Text as sequences of tokens, and the order in which they are drawn."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.corpus import Counts
from lingraft.errors import CorpusError, StoreError, TokenizerError
from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks
from lingraft.packing.epoch_order import permutation
from lingraft.packing.mixture import IGNORED, Mixture
from lingraft.packing.pack import pack_corpus, pack_texts
from lingraft.packing.shards import Shard, covered_bytes
from lingraft.store import Draft
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.separators import separators_of
from lingraft.workers import EXECUTORS, Workers
from tests.conftest import ENGLISH, HINDI
from tests.training_cases import packed, two_streams


def texts_of(sentences: tuple[str, ...]) -> list[str]:
    return [f"{sentence} {i}" for i in range(15) for sentence in sentences]


def test_every_token_is_predicted_once_and_no_text_is_lost(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Sequences overlap by one token; their predicted tokens are the documents with separators."""
    blocks = packed(tiny_model, tmp_path, HINDI)
    tokenizer = open_tokenizer(tiny_model)
    expected = [
        i
        for ids in tokenizer.encode(texts_of(HINDI))
        for i in [tokenizer.bos_id, *ids, tokenizer.eos_id]
    ]
    sequences = [blocks.sequence(i) for i in range(len(blocks))]
    predicted = np.concatenate([sequence[1:] for sequence in sequences])
    assert [int(sequences[0][0]), *predicted.tolist()] == expected
    assert all(a[-1] == b[0] for a, b in pairwise(sequences))


def test_only_the_last_sequence_is_short(tiny_model: Path, tmp_path: Path) -> None:
    """All sequences are full except the last one."""
    lengths = packed(tiny_model, tmp_path, HINDI).spans[:, 1]
    assert set(lengths[:-1]) == {32}
    assert 0 < lengths[-1] <= 32


@pytest.mark.parametrize("block", [2, 7, 32, 100_000])
def test_bytes_and_documents_add_up(tiny_model: Path, tmp_path: Path, block: int) -> None:
    """The bytes and documents of all sequences are those of the text, for every block size."""
    blocks = packed(tiny_model, tmp_path, HINDI, block_size=block)
    texts = texts_of(HINDI)
    assert (
        blocks.spans[:, 2].sum()
        == blocks.summary.bytes
        == sum(len(text.encode()) for text in texts)
    )
    assert blocks.spans[:, 3].sum() == blocks.summary.documents == len(texts)


def test_the_bytes_of_a_sequence_are_those_of_its_tokens(tiny_model: Path, tmp_path: Path) -> None:
    """If a tokenizer changes no text, a sequence covers the surfaces of its predicted tokens."""
    blocks = packed(tiny_model, tmp_path, HINDI + ENGLISH)
    surfaces = open_tokenizer(tiny_model).vocabulary.surfaces
    for i in range(len(blocks)):
        assert blocks.spans[i, 2] == sum(
            len(surfaces[token] or b"") for token in blocks.sequence(i)[1:]
        )


def test_bytes_add_up_where_the_tokenizer_puts_a_space_before_the_text(
    assets: Path, tmp_path: Path
) -> None:
    """SentencePiece's dummy space is not counted as a byte of the text."""
    blocks = packed(assets / "models" / "stories260K-hf", tmp_path, HINDI + ENGLISH)
    assert blocks.summary.bytes == sum(len(text.encode()) for text in texts_of(HINDI + ENGLISH))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 200))
def test_a_documents_bytes_are_shared_without_remainder(sizes: list[int], total: int) -> None:
    """Each token covers zero bytes or more, and together they cover the document."""
    shares = covered_bytes(np.array(sizes), total)
    assert shares.sum() == total
    assert (shares >= 0).all()


def test_documents_can_be_cut_instead(tiny_model: Path, tmp_path: Path) -> None:
    """With `layout: documents` a sequence is a document, cut; every dropped byte is counted."""
    blocks = packed(tiny_model, tmp_path, HINDI, layout="documents")
    summary = blocks.summary
    assert len(blocks) == 60
    assert blocks.spans[:, 1].max() <= 32
    assert summary.bytes + summary.dropped_bytes == sum(
        len(text.encode()) for text in texts_of(HINDI)
    )
    assert summary.dropped_tokens > 0


def test_the_number_of_documents_in_a_batch_of_text_changes_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Packed text depends on the documents only, not on the size of the batches."""
    tokenizer, texts = open_tokenizer(tiny_model), texts_of(HINDI)
    for name, step in (("one", 1), ("seven", 7)):
        (tmp_path / name).mkdir()
        batches = [texts[i : i + step] for i in range(0, len(texts), step)]
        pack_texts(batches, tokenizer, PackingSettings(block_size=32), tmp_path / name)
    assert all(
        (tmp_path / "one" / file).read_bytes() == (tmp_path / "seven" / file).read_bytes()
        for file in ("blocks.bin", "rows.bin", "blocks.json")
    )


class Documents:
    """A corpus of 2,500 short documents, which can stop early."""

    language = "hi"
    has_chats = False

    def __init__(self, until: int = 2500) -> None:
        self.until = until

    def counts(self, _split: str) -> Counts:
        return Counts(documents=2500)

    def batches(self, _split: str, documents: int) -> Iterator[list[str]]:
        for first in range(0, 2500, documents):
            if first >= self.until:
                raise KeyboardInterrupt
            yield [f"{HINDI[i % 4]} {i}" for i in range(first, min(first + documents, 2500))]


def pack(corpus: Any, model: Path, folder: Path, **how: Any) -> list[bytes]:
    folder.mkdir()
    pack_corpus(corpus, open_tokenizer(model), PackingSettings(block_size=32), Draft(folder), **how)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_who_tokenises_changes_nothing(executor: str, tiny_model: Path, tmp_path: Path) -> None:
    """Two processes, or two tasks of a Ray cluster, pack the same bytes as one process."""
    two = pack(Documents(), tiny_model, tmp_path / "two", workers=Workers(2, executor))
    assert two == pack(Documents(), tiny_model, tmp_path / "one")


def test_packing_goes_on_where_it_was_stopped(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards from before a stop are read again, and the result is that of an undisturbed run."""
    (tmp_path / "work").mkdir()
    with pytest.raises(KeyboardInterrupt):
        pack(Documents(until=2000), tiny_model, tmp_path / "stopped", scratch_dir=tmp_path / "work")
    kept = sorted(path.name for path in (tmp_path / "work").iterdir())
    assert kept == ["shard-000000.npz", "shard-000001.npz"]
    whole = pack(Documents(), tiny_model, tmp_path / "whole")
    written: list[Path] = []
    monkeypatch.setattr(Shard, "write", lambda _self, path: written.append(path))
    assert (
        pack(Documents(), tiny_model, tmp_path / "resumed", scratch_dir=tmp_path / "work") == whole
    )
    assert [path.name for path in written] == ["shard-000002.npz"]


def test_a_damaged_shard_is_tokenised_again(tiny_model: Path, tmp_path: Path) -> None:
    """A stored shard that was cut off or changed never ends in the packed text, nor in an error."""
    work = tmp_path / "work"
    work.mkdir()
    whole = pack(Documents(), tiny_model, tmp_path / "whole", scratch_dir=work)
    cut, changed, empty = sorted(work.iterdir())
    intact = cut.read_bytes()
    cut.write_bytes(intact[:-100])
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    empty.write_bytes(b"")
    assert pack(Documents(), tiny_model, tmp_path / "again", scratch_dir=work) == whole
    assert cut.read_bytes() == intact


def test_memory_does_not_grow_with_the_text(tiny_model: Path, tmp_path: Path) -> None:
    """Packing three times the text takes the same memory, once the first run has filled caches."""
    tokenizer, peaks = open_tokenizer(tiny_model), {8: [], 24: []}
    batch = [f"{i}" for i in range(250)]
    for number, times in enumerate((8, 8, 24)):
        folder = tmp_path / str(number)
        folder.mkdir()
        tracemalloc.start()
        pack_texts((batch for _ in range(times)), tokenizer, PackingSettings(block_size=32), folder)
        peaks[times].append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks[24]) < 1.2 * min(peaks[8])


def test_a_model_without_a_separator_is_refused(tiny_model: Path) -> None:
    """Without BOS and EOS the error names the files and settings that decide."""
    tokenizer = open_tokenizer(tiny_model)
    without = replace(tokenizer, config={})
    with pytest.raises(TokenizerError, match=r"names no BOS or EOS token.*tokenizer_config\.json"):
        separators_of(without)
    with pytest.raises(TokenizerError, match="names no EOS token"):
        separators_of(replace(tokenizer, config={"bos_token": "<s>"}), "bos-eos")
    assert separators_of(tokenizer, "eos").ids(tokenizer) == (None, 319)


def test_no_text_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    """A corpus without text is an error."""
    with pytest.raises(CorpusError, match="no text to train on"):
        pack_texts([["", ""]], open_tokenizer(tiny_model), PackingSettings(), tmp_path)


@pytest.mark.parametrize("file", ["blocks.bin", "rows.bin", "blocks.json"])
def test_packed_text_that_is_cut_short_is_refused(
    tiny_model: Path, tmp_path: Path, file: str
) -> None:
    """A truncated file is detected when the folder is opened."""
    packed(tiny_model, tmp_path, HINDI)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) // 64 * 32])
    with pytest.raises(StoreError, match="remove the folder"):
        Blocks.open(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 0.9])
def test_replay_has_its_share_of_the_bytes(tiny_model: Path, tmp_path: Path, share: float) -> None:
    """Over many sequences, replay has its share of the bytes, spread evenly."""
    text = two_streams(tiny_model, tmp_path)
    mixture = Mixture.of([(text.target, 1.0)], text.replay.blocks, share)
    measures = mixture.measures(0, 20_000)
    assert measures[measures[:, 0] == 1, 2].sum() / measures[:, 2].sum() == pytest.approx(
        share, abs=0.002
    )
    gaps = np.diff(np.flatnonzero(measures[:, 0]))
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


@given(st.integers(0, 5000), st.integers(1, 100), st.floats(0, 0.95))
def test_a_position_is_a_function_of_seed_and_position(
    first: int, count: int, share: float
) -> None:
    """Positions drawn at once or in parts are the same; an epoch has each sequence once."""
    mixture = Mixture.of([(_Sized(37, 100), 1.0)], _Sized(11, 60), share, 7)  # type: ignore[list-item, arg-type]
    replayed, rows = mixture.draw(0, first + count)
    again = mixture.draw(first, count)
    assert np.array_equal(replayed[first:], again[0])
    assert np.array_equal(rows[first:], again[1])
    own = rows[replayed == 0]
    for epoch in range(len(own) // 37):
        assert sorted(own[epoch * 37 : (epoch + 1) * 37]) == list(range(37))


class _Sized:
    """Stands for blocks where only their size matters."""

    def __init__(self, rows: int, size: int) -> None:
        self.rows_, self.summary = rows, type("S", (), {"bytes": rows * size})

    def __len__(self) -> int:
        return self.rows_


def test_a_later_phase_goes_on_where_the_earlier_one_ended(
    tiny_model: Path, tmp_path: Path
) -> None:
    """With offsets, a mixture continues both streams without repeating a sequence."""
    text = two_streams(tiny_model, tmp_path)
    whole = Mixture.of([(text.target, 1.0)], text.replay.blocks, 0.3, 5)
    used = whole.offsets_after(10)
    later = whole.with_replay(0.0, used)
    assert sum(used) == 10
    drawn = [row for other, row in zip(*whole.draw(0, 10), strict=True) if not other]
    assert not set(drawn) & set(later.draw(0, 10)[1])
    assert later.offsets_after(10) == (used[0] + 10, used[1])


def test_labels_are_the_next_tokens_and_bos_is_given(tiny_model: Path, tmp_path: Path) -> None:
    """A label is the next token; BOS and the padding of short sequences are not predicted."""
    blocks = packed(tiny_model, tmp_path, HINDI)
    batch = Mixture.of([(blocks, 1.0)], seed=3).batch(0, len(blocks))
    inner = batch.labels[:, :-1]
    known = inner != IGNORED
    assert (inner[known] == batch.inputs[:, 1:][known]).all()
    assert blocks.summary.before not in batch.labels
    assert (batch.inputs == blocks.summary.before).any()
    assert (batch.labels != IGNORED).sum() == batch.tokens - (blocks.summary.documents - 1)
    assert (batch.bytes, batch.target_documents) == (blocks.summary.bytes, 60)


def test_shuffles_do_not_depend_on_the_machine() -> None:
    """The permutation is fixed: a change would silently change every run."""
    assert permutation(8, 1, 2, 3).tolist() == [7, 0, 4, 1, 2, 5, 6, 3]
    assert len({tuple(permutation(20, seed)) for seed in range(50)}) == 50
