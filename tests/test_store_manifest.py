"""The manifest of a stage output reads back as written; changes to it or a file are found."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.errors import StoreError
from lingraft.store.manifest import MANIFEST, Manifest, checksums, find_damage, output_damage

NAMES = st.text("abcä/", min_size=1, max_size=6).filter(
    lambda name: not name.startswith("/") and not name.endswith("/") and "//" not in name
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
NOTES = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)
relaxed = settings(max_examples=30, deadline=None)


def output(folder: Path, notes: dict | None = None, **files: bytes) -> Manifest:
    """Write files and their manifest."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = Manifest("stage", "key", {"version": 1}, checksums(folder), notes or {}, 1.5, "now")
    manifest.write(folder)
    return manifest


@relaxed
@given(NOTES, NOTES)
def test_a_manifest_reads_back_equal(tmp_path_factory, key_fields, notes):
    """Whatever the settings and notes are, they are the same after the file."""
    folder = tmp_path_factory.mktemp("output")
    written = Manifest("stage", "key", key_fields, {"a": (1, "f" * 64)}, notes, 0.25, "now")
    written.write(folder)
    read = Manifest.read(folder)
    assert replace(read, seal="") == written
    assert output_damage(folder) == f"{folder / 'a'} is missing"


@pytest.mark.parametrize(
    "field", ["stage", "key", "question", "files", "notes", "seconds", "created"]
)
def test_every_field_is_sealed(tmp_path, field):
    """A manifest in which one field was changed is not valid."""
    output(tmp_path, {"n": 1}, a=b"x")
    data = json.loads((tmp_path / MANIFEST).read_text())
    other = {"seconds": 9.0, "question": {"version": 2}, "files": {"a": [1, "0" * 64]}, "notes": {}}
    (tmp_path / MANIFEST).write_text(json.dumps({**data, field: other.get(field, "other")}))
    with pytest.raises(
        StoreError, match=r"manifest\.json: not a valid manifest \(checksum differs\)"
    ):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"files": 3}', "[" * 3000, "\x00"])
def test_a_file_that_is_no_manifest_says_what_to_do(tmp_path, content):
    """However it was broken, the error names the file and says to remove the folder."""
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(StoreError, match="remove the folder and run again"):
        Manifest.read(tmp_path)
    assert "not a valid manifest" in output_damage(tmp_path)


@relaxed
@given(st.binary(min_size=1, max_size=200), st.data())
def test_one_changed_byte_is_found(tmp_path_factory, content, data):
    """A file of the same size with another byte has another checksum."""
    folder = tmp_path_factory.mktemp("output")
    manifest = output(folder, None, a=content, b=b"other")
    assert find_damage(folder, manifest.files) == ""
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[place] ^= data.draw(st.integers(1, 255))
    (folder / "a").write_bytes(flipped)
    assert find_damage(folder, manifest.files).endswith(
        "changed since it was written (checksum differs)"
    )
    (folder / "a").write_bytes(content)
    assert find_damage(folder, manifest.files) == ""


@relaxed
@given(st.binary(max_size=50), st.binary(min_size=1, max_size=9))
def test_more_or_fewer_bytes_are_found_without_reading(tmp_path_factory, content, more):
    """Sizes are compared before any file is read, the first file that differs is named."""
    folder = tmp_path_factory.mktemp("output")
    manifest = output(folder, None, a=content, b=b"x")
    (folder / "a").write_bytes(content + more)
    expected = f"{folder / 'a'} has {len(content + more)} bytes, expected {len(content)}"
    assert find_damage(folder, manifest.files) == expected
    (folder / "a").unlink()
    assert find_damage(folder, manifest.files) == f"{folder / 'a'} is missing"


def test_checksums_name_files_in_folders_by_their_relative_path(tmp_path):
    """The manifest of an output with folders is the same wherever the output lies."""
    for root in (tmp_path / "one", tmp_path / "two"):
        (root / "deep" / "er").mkdir(parents=True)
        (root / "deep" / "er" / "x.bin").write_bytes(b"123")
        (root / "y").write_bytes(b"")
    assert checksums(tmp_path / "one") == checksums(tmp_path / "two")
    assert {name: size for name, (size, _) in checksums(tmp_path / "one").items()} == {
        "deep/er/x.bin": 3,
        "y": 0,
    }


def test_a_large_file_is_trusted_by_size_and_time(tmp_path):
    """From `trusted_from` bytes on, a file is read again only where size, time or inode changed."""
    manifest = output(tmp_path, None, large=b"0123456789")
    path = tmp_path / "large"
    assert find_damage(tmp_path, manifest.files, trusted_from=5) == ""
    before = path.stat()
    path.write_bytes(b"0123456780")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert "checksum differs" in find_damage(tmp_path, manifest.files, trusted_from=5)
