"""The store: whole or absent, safe when two race; and choices whose settings all count."""

from __future__ import annotations

import errno
import json
import threading
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lingraft.errors import RecipeError, StoreError
from lingraft.measurement import Measurement, read_measurements, write_measurements
from lingraft.registry import Choice, Registry
from lingraft.store import Manifest, Stage, Store, digest
from lingraft.vocabulary import AddedToken, Splice, Vocabulary, identity

KINDS: Registry[Choice] = Registry("test method")


@KINDS.register
class Plain(Choice):
    name: ClassVar[str] = "plain"


@KINDS.register
class Tuned(Choice):
    name: ClassVar[str] = "tuned"
    depth: int = 1
    inner: KINDS.annotation(Choice) = Plain()


class Holder(BaseModel):
    method: KINDS.annotation(Choice)


def write(text):
    return lambda draft: draft.path("answer.txt").write_text(text)


def test_an_answer_is_made_once(tmp_path):
    """The same question finds the same folder; another setting, version, name or input asks anew."""
    store, made = Store(tmp_path), []
    stage = Stage("count", 1, {"size": 3}, {"text": "abc"})

    def make(draft):
        made.append(1)
        write("3")(draft)

    assert store.answer(stage, make) == store.answer(stage, make) == store.folder(stage)
    assert made == [1]
    others = [Stage("count", 1, {"size": 4}, {"text": "abc"}), Stage("count", 2, {"size": 3}, {"text": "abc"}),
              Stage("sum", 1, {"size": 3}, {"text": "abc"}), Stage("count", 1, {"size": 3}, {"text": "abd"})]
    assert len({other.key for other in [stage, *others]}) == 5


def test_a_failed_stage_leaves_nothing(tmp_path):
    """Neither draft nor answer stays behind when making fails; the next try starts afresh."""
    store, stage = Store(tmp_path), Stage("count", 1, {})

    def fail(draft):
        draft.path("half.txt").write_text("half")
        raise ValueError

    with pytest.raises(ValueError):
        store.answer(stage, fail)
    assert not store.has(stage)
    assert list((tmp_path / "drafts").iterdir()) == []
    store.answer(stage, write("whole"))
    assert store.has(stage)


@pytest.mark.parametrize("damage", ["shorter", "gone", "no manifest"])
def test_a_damaged_answer_is_made_again(tmp_path, damage):
    """An answer whose files are not those of its manifest is none, and a whole one takes its place."""
    store, stage = Store(tmp_path), Stage("count", 1, {})
    folder = store.answer(stage, write("whole"))
    if damage == "shorter":
        (folder / "answer.txt").write_text("wh")
    else:
        (folder / ("answer.txt" if damage == "gone" else "manifest.json")).unlink()
    assert not store.has(stage)
    assert (store.answer(stage, write("again")) / "answer.txt").read_text() == "again"


def test_two_that_race_leave_one_whole_answer(tmp_path):
    """Both get the answer of the one that came first; the other's draft is dropped."""
    store, stage, barrier, found = Store(tmp_path), Stage("count", 1, {}), threading.Barrier(2), []

    def make(draft):
        write("same")(draft)
        barrier.wait(timeout=20)

    threads = [threading.Thread(target=lambda: found.append(store.answer(stage, make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [store.folder(stage)] * 2
    assert list((tmp_path / "drafts").iterdir()) == []
    assert Manifest.read(store.folder(stage)).files["answer.txt"][0] == 4


def test_a_full_disk_names_the_place_and_the_way_out(tmp_path):
    """No room is one line, and nothing half-written stays."""
    store, stage = Store(tmp_path), Stage("count", 1, {})

    def fill(draft):
        raise OSError(errno.ENOSPC, "No space left on device", str(draft.folder / "big"))

    with pytest.raises(StoreError, match=r"no room on the disk .* --store"):
        store.answer(stage, fill)
    assert not store.has(stage)


def test_recipes_that_differ_anywhere_differ_in_key():
    """A field of a base class keeps the settings of the subclass, nested ones too."""
    variants = ["plain", "tuned", {"tuned": {"depth": 2}}, {"tuned": {"inner": "tuned"}},
                {"tuned": {"inner": {"tuned": {"depth": 5}}}}]
    keys = [digest(Holder(method=variant).model_dump(mode="json")) for variant in variants]
    assert len(set(keys)) == len(keys)
    for variant in variants:
        dumped = Holder(method=variant).model_dump(mode="json")
        assert Holder.model_validate(dumped) == Holder(method=variant)


def test_an_unknown_method_lists_the_known_ones():
    """The nearest name is offered."""
    with pytest.raises(RecipeError, match="no test method called 'tunde'; did you mean 'tuned'"):
        KINDS.parse("tunde")


@given(st.integers(1, 40), st.lists(st.binary(min_size=1, max_size=6), max_size=8, unique=True), st.data())
def test_a_splice_survives_its_json(size, surfaces, data):
    """Kept runs, added tokens with their pieces, and dropped ids come back as they were."""
    pieces = st.lists(st.integers(0, size - 1), min_size=1, max_size=4).map(tuple)
    dropped = data.draw(st.sets(st.integers(0, size - 1)))
    staying = [i for i in range(size) if i not in dropped]
    added = tuple(AddedToken(len(staying) + i, surface, data.draw(pieces), i) for i, surface in enumerate(surfaces))
    splice = Splice(size, dict(enumerate(staying)), added, tuple(sorted(dropped)))
    assert Splice.from_json(json.loads(splice.dumps())) == splice
    assert splice.is_extension == (not dropped)


@pytest.mark.parametrize("broken", [
    lambda: Splice(2, {0: 0}), lambda: Splice(1, {0: 0}, (AddedToken(2, b"a", (0,)),)),
    lambda: Splice(1, {0: 0}, (AddedToken(1, b"a", ()),)), lambda: Splice(1, {0: 0}, (AddedToken(1, b"a", (7,)),)),
    lambda: Splice(2, {0: 0, 1: 0})])
def test_a_splice_that_names_ids_twice_or_never_is_refused(broken):
    """Every target id comes from one place, every source id goes to one, every piece exists."""
    with pytest.raises(ValueError):
        broken()


def test_the_lowest_id_of_a_surface_is_its_id():
    """Surfaces that occur twice belong to the first; special tokens have none."""
    vocabulary = Vocabulary((b"a", None, b"b", b"a"), {1: "<s>"})
    assert vocabulary.ids == {b"a": 0, b"b": 2}
    assert identity(4).target_size == len(vocabulary)


def test_measurements_come_back_as_they_were(tmp_path):
    """Parquet keeps every field, absent intervals included; CSV is written beside it for people."""
    rows = [Measurement("fertility", "source", 5.5, "tokens/word", "hi", n=9, low=5.0, high=6.0, confidence=0.95),
            Measurement("speed", "adapted", 1.0, "bytes/s", note='a, "b"\n')]
    write_measurements(rows, tmp_path / "m.parquet")
    write_measurements(rows, tmp_path / "m.csv")
    assert read_measurements(tmp_path / "m.parquet") == rows
    assert (tmp_path / "m.csv").read_text().startswith('"metric","subject","value"')
