"""The store: whole or absent, safe when two race; and choices whose settings all count."""

from __future__ import annotations

import errno
import json
import os
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from safetensors.numpy import save_file

from lingraft.cli.doctor import verify_store
from lingraft.errors import RecipeError, StoreError
from lingraft.registry import Choice, Registry
from lingraft.splice import AddedToken, Splice, Vocabulary, identity_splice
from lingraft.store import (
    Draft,
    Manifest,
    Stage,
    Store,
    digest,
    digests,
    link_or_copy,
    lock,
    manifest,
    output_damage,
)

REPEATED = "corpus: half of it is a repetition; remove duplicates"

KINDS: Registry[Choice] = Registry("test method", Choice)


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
    return lambda draft: draft.path("output.txt").write_text(text)


def test_a_warning_is_printed_at_once_and_kept_once(tmp_path, capsys):
    """A warning goes to standard error at once and into the manifest; notes cannot replace it."""
    store, stage = Store(tmp_path), Stage("corpus", 1, {})

    def make(draft):
        draft.warn(REPEATED)
        assert REPEATED in capsys.readouterr().err
        draft.note({"documents": 3, "warnings": ["corpus: short", REPEATED]})

    notes = Manifest.read(store.build(stage, make)).notes
    assert notes == {"documents": 3, "warnings": [REPEATED, "corpus: short"]}
    assert capsys.readouterr().err == "warning: corpus: short\n"


def test_only_the_first_of_several_processes_prints_a_warning(tmp_path, capsys):
    """The other processes of a launcher keep a warning without printing it."""
    draft = Draft(tmp_path, is_first=False)
    draft.warn("training: one step")
    assert (draft.notes, capsys.readouterr().err) == ({"warnings": ["training: one step"]}, "")


def test_an_output_is_built_once(tmp_path):
    """The same key finds the same folder; another setting, version, name or input does not."""
    store, made = Store(tmp_path), []
    stage = Stage("count", 1, {"size": 3}, {"text": "abc"})

    def make(draft):
        made.append(1)
        write("3")(draft)

    assert store.build(stage, make) == store.build(stage, make) == store.folder(stage)
    assert made == [1]
    others = [
        Stage("count", 1, {"size": 4}, {"text": "abc"}),
        Stage("count", 2, {"size": 3}, {"text": "abc"}),
        Stage("sum", 1, {"size": 3}, {"text": "abc"}),
        Stage("count", 1, {"size": 3}, {"text": "abd"}),
    ]
    assert len({other.key for other in [stage, *others]}) == 5


def test_a_failed_stage_leaves_nothing(tmp_path):
    """Neither draft nor output is left if building fails; the next attempt starts from nothing."""
    store, stage = Store(tmp_path), Stage("count", 1, {})

    def fail(draft):
        draft.path("half.txt").write_text("half")
        raise ValueError

    with pytest.raises(ValueError):
        store.build(stage, fail)
    assert not store.has(stage)
    assert list((tmp_path / "drafts").iterdir()) == []
    store.build(stage, write("whole"))
    assert store.has(stage)


def flipped(path):
    """Flip one bit; size and time stay as they were."""
    state, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


DAMAGES = {
    "shorter": lambda folder: (folder / "output.txt").write_text("wh"),
    "empty": lambda folder: (folder / "output.txt").write_text(""),
    "same size": lambda folder: (folder / "output.txt").write_text("WHOLE"),
    "bit flip": lambda folder: flipped(folder / "output.txt"),
    "gone": lambda folder: (folder / "output.txt").unlink(),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "empty manifest": lambda folder: (folder / "manifest.json").write_text(""),
    "manifest": lambda folder: flipped(folder / "manifest.json"),
    "notes": lambda folder: (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace('"notes": {}', '"notes": {"tokens": 7}')
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_output_is_named_and_built_again(tmp_path, damage, capsys):
    """If a file differs from the manifest, one line names it and the output is built again."""
    stage = Stage("count", 1, {})
    folder = Store(tmp_path).build(stage, write("whole"))
    assert Store(tmp_path).has(stage)
    DAMAGES[damage](folder)
    store = Store(tmp_path)
    assert not store.has(stage)
    assert (store.build(stage, write("again")) / "output.txt").read_text() == "again"
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    name = "manifest.json" if "manifest" in damage or damage == "notes" else "output.txt"
    assert str(folder / name) in line
    assert line.endswith("building count again\n")
    assert store.has(stage)
    assert left_over(tmp_path) == []


def test_what_changes_under_a_store_that_is_open_is_found(tmp_path):
    """A verified output is verified again if size or time of a file changed."""
    store, stage = Store(tmp_path), Stage("count", 1, {})
    folder = store.build(stage, write("whole"))
    link_or_copy(folder / "output.txt", tmp_path / "run" / "output.txt")
    (tmp_path / "run" / "output.txt").write_text("WHOLE")  # a hard link: an edit in a run folder
    assert not store.has(stage)


def test_a_large_file_is_read_again_when_asked(tmp_path, monkeypatch):
    """From `TRUSTED_FROM` bytes on, unchanged size, times and inode are trusted.

    Reading all files finds changes that these hide, as on a failing disk.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(manifest, "TRUSTED_FROM", 4)
    monkeypatch.setattr(digests, "CACHED_FROM", 4)
    folder = Store(tmp_path).build(Stage("count", 1, {}), write("whole"))
    flipped(folder / "output.txt")
    (hashed,) = (tmp_path / "cache" / "lingraft" / "digests").iterdir()
    sha256, _, links = hashed.read_text().split()
    hashed.write_text(f"{sha256} {(folder / 'output.txt').stat().st_ctime_ns} {links}")
    assert output_damage(folder, trusted_from=4) == ""
    assert [finding.verdict for finding in verify_store(tmp_path)] == ["bad", "ok"]
    assert "checksum differs" in output_damage(
        folder, trusted_from=4
    )  # what was found is not forgotten
    (folder / "output.txt").write_text("WHOLE")
    assert "checksum differs" in output_damage(folder, trusted_from=4)


def test_a_folder_without_stored_outputs_is_not_verified(tmp_path):
    """A wrong --store must not look like one that is whole."""
    with pytest.raises(StoreError, match="no stored output is there; name another store"):
        verify_store(tmp_path / "elsewhere")


def test_a_linked_source_that_changed_unseen_is_refused(tmp_path):
    """An output may link to a user's file; if that file has changed, nothing is built from it."""
    weights, stage = tmp_path / "weights", Stage("source", 1, {})
    weights.write_text("weights")

    def link(draft):
        draft.path("model/weights").symlink_to(weights)

    Store(tmp_path).build(stage, link)
    flipped(weights)
    with pytest.raises(
        StoreError, match=r"weights: content changed but size and time did not; download it again"
    ):
        Store(tmp_path).build(stage, link)
    weights.write_text("weights")
    assert Store(tmp_path).has(stage)


def left_over(root):
    """Return what no finished work should leave: locks, drafts, progress."""
    return [path for kind in ("locks", "drafts", "work") for path in (root / kind).glob("*")]


def test_what_a_killed_process_left_is_removed(tmp_path):
    """Building removes old drafts, free locks and the progress of finished stages; others stay."""
    store, stage, other = Store(tmp_path), Stage("count", 1, {}), Stage("count", 2, {})
    store.build(stage, write("whole"))
    (store.scratch_dir(stage) / "progress").write_text("9")
    for draft in (f"count-{stage.key}-12345678", f"count-{other.key}-broken12"):
        (tmp_path / "drafts" / draft).mkdir(parents=True)
    (tmp_path / "locks" / f"x-{stage.key}.lock").write_text("")
    (store.scratch_dir(other) / "progress").write_text("9")
    with lock(tmp_path / "locks" / "held-1.lock"):
        (tmp_path / "drafts" / "held-1-abcdefgh").mkdir()
        store.build(stage, write("never"))
        assert sorted(path.name for path in left_over(tmp_path)) == sorted(
            ["held-1.lock", "held-1-abcdefgh", f"count-{other.key}"]
        )
    store.build(other, write("other"))
    assert left_over(tmp_path) == []


def test_a_full_disk_names_the_place_and_the_way_out(tmp_path):
    """No room is one line, and nothing half-written stays."""
    store, stage = Store(tmp_path), Stage("count", 1, {})

    def fill(draft):
        raise OSError(errno.ENOSPC, "No space left on device", str(draft.folder / "big"))

    with pytest.raises(StoreError, match=r"no space left on the disk .* --store"):
        store.build(stage, fill)
    assert not store.has(stage)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_outputs_have_the_mode_that_the_umask_says(tmp_path, mask, mode):
    """Each file of an output has the mode of the umask; linked files of the user keep theirs."""
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"the user's")
    own.chmod(0o600)

    def fill(draft):
        save_file({"x": np.zeros(2)}, draft.path("model/model.safetensors"))
        draft.path("model/config.json").write_text("{}")
        os.link(own, draft.path("model/linked.safetensors"))
        draft.path("model/named.safetensors").symlink_to(own)

    before = os.umask(mask)
    try:
        folder = Store(tmp_path / "store").build(Stage("count", 1, {}), fill)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {
        "model.safetensors": mode,
        "config.json": mode,
        "manifest.json": mode,
        "linked.safetensors": 0o600,
        "named.safetensors": 0o600,
    }


def test_recipes_that_differ_anywhere_differ_in_key():
    """A field of a base class keeps the settings of the subclass, nested ones too."""
    variants = [
        "plain",
        "tuned",
        {"tuned": {"depth": 2}},
        {"tuned": {"inner": "tuned"}},
        {"tuned": {"inner": {"tuned": {"depth": 5}}}},
    ]
    keys = [digest(Holder(method=variant).model_dump(mode="json")) for variant in variants]
    assert len(set(keys)) == len(keys)
    for variant in variants:
        dumped = Holder(method=variant).model_dump(mode="json")
        assert Holder.model_validate(dumped) == Holder(method=variant)


def test_an_unknown_method_lists_the_known_ones():
    """The nearest name is offered."""
    with pytest.raises(RecipeError, match="no test method called 'tunde'; did you mean 'tuned'"):
        KINDS.parse("tunde")


@given(
    st.integers(1, 40),
    st.lists(st.binary(min_size=1, max_size=6), max_size=8, unique=True),
    st.data(),
)
def test_a_splice_survives_its_json(size, surfaces, data):
    """Kept runs, added tokens with their pieces, and dropped ids come back as they were."""
    pieces = st.lists(st.integers(0, size - 1), min_size=1, max_size=4).map(tuple)
    dropped = data.draw(st.sets(st.integers(0, size - 1)))
    staying = [i for i in range(size) if i not in dropped]
    added = tuple(
        AddedToken(len(staying) + i, surface, data.draw(pieces), i)
        for i, surface in enumerate(surfaces)
    )
    splice = Splice(size, dict(enumerate(staying)), added, tuple(sorted(dropped)))
    assert Splice.from_json(json.loads(splice.dumps())) == splice
    assert splice.is_extension == (not dropped)


@pytest.mark.parametrize(
    "broken",
    [
        lambda: Splice(2, {0: 0}),
        lambda: Splice(1, {0: 0}, (AddedToken(2, b"a", (0,)),)),
        lambda: Splice(1, {0: 0}, (AddedToken(1, b"a", ()),)),
        lambda: Splice(1, {0: 0}, (AddedToken(1, b"a", (7,)),)),
        lambda: Splice(2, {0: 0, 1: 0}),
    ],
)
def test_a_splice_that_names_ids_twice_or_never_is_refused(broken):
    """Every target id comes from one place, every source id goes to one, every piece exists."""
    with pytest.raises(ValueError):
        broken()


def test_the_lowest_id_of_a_surface_is_its_id():
    """Surfaces that occur twice belong to the first; special tokens have none."""
    vocabulary = Vocabulary((b"a", None, b"b", b"a"), {1: "<s>"})
    assert vocabulary.ids == {b"a": 0, b"b": 2}
    assert identity_splice(4).target_size == len(vocabulary)


def test_a_fallback_byte_is_the_id_of_a_surface_that_no_other_token_has():
    """Llama-2 has a byte and a piece for each ASCII character, and writes the piece."""
    vocabulary = Vocabulary((b"a", b"\n", b"b", b"a"), fallback={0, 1})
    assert vocabulary.ids == {b"a": 3, b"\n": 1, b"b": 2}
    assert vocabulary.fallback_ids == {b"a": 0, b"\n": 1}
