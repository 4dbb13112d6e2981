"""Files are written atomically: complete or absent, with the user's mode, without leftovers."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from lingraft.store import (
    DiskError,
    atomic_file,
    atomic_folder,
    disk_errors,
    link_or_copy,
    remove_drafts,
    replace_folder,
    temporary_folder,
    write_files,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path):
    """Readers see the previous content until the block ends, then the new one; no draft is left."""
    path = tmp_path / "new folder" / "page.html"
    write_files({path: "old"})
    with atomic_file(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert (path.read_text(), names(path.parent)) == ("new", ["page.html"])


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_a_failure_changes_nothing_and_leaves_nothing(tmp_path, writer):
    """If the block raises, the target keeps its content and the draft is removed."""
    target = tmp_path / "target"
    if writer is atomic_folder:
        target.mkdir()
    (target if writer is atomic_file else target / "file").write_text("old")

    def fails() -> None:
        with writer(target) as draft:
            (draft if writer is atomic_file else draft / "file").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert names(tmp_path) == ["target"]
    assert (target if writer is atomic_file else target / "file").read_text() == "old"


def test_several_files_are_written_or_none(tmp_path, monkeypatch):
    """If the disk is full at the second file, the first keeps its content.

    The message names no other location.
    """
    first, second = tmp_path / "a", tmp_path / "b"
    write_files({first: "old", second: b"old"})
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name.startswith(".draft-b"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        DiskError,
        match=r"b: no space left on the disk \(.* free\); free some; finished work is kept",
    ):
        write_files({first: "new", second: "new"})
    assert (first.read_text(), second.read_text(), names(tmp_path)) == ("old", "old", ["a", "b"])


def test_a_folder_replaces_the_previous_one(tmp_path):
    """Files of the previous folder are gone, and so is the draft."""
    for name in ("old", "new"):
        with atomic_folder(tmp_path / "model") as draft:
            (draft / name).write_text(name)
    assert (names(tmp_path), names(tmp_path / "model")) == (["model"], ["new"])


def test_a_folder_that_cannot_take_its_place_leaves_the_previous_one(tmp_path):
    """If the rename fails, the previous folder is put back."""
    (tmp_path / "model").mkdir()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", tmp_path / "model")
    assert names(tmp_path) == ["model"]


def test_everything_is_flushed_before_the_rename(tmp_path, monkeypatch):
    """Files and folders are on the disk before they are renamed; linked files are there already."""
    flushed = []
    monkeypatch.setattr(
        os, "fsync", lambda number: flushed.append(str(Path(f"/proc/self/fd/{number}").readlink()))
    )
    (tmp_path / "stored").write_text("stored")
    with atomic_folder(tmp_path / "out") as draft:
        (draft / "model").mkdir()
        (draft / "model" / "config.json").write_text("{}")
        link_or_copy(tmp_path / "stored", draft / "linked")
    drafted = {
        Path(path).relative_to(draft).as_posix()
        for path in flushed
        if Path(path).is_relative_to(draft)
    }
    assert drafted == {".", "model", "model/config.json"}
    assert flushed[-1] == str(tmp_path)


def test_a_file_system_that_cannot_flush_folders_is_written_to(tmp_path, monkeypatch):
    """Some network file systems refuse to flush a folder; a file that cannot flush is an error."""

    def refuse(descriptor: int) -> None:
        if refused(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    refused = stat.S_ISDIR
    write_files({tmp_path / "a": "new"})
    refused = stat.S_ISREG
    with pytest.raises(OSError, match="Invalid argument"):
        write_files({tmp_path / "b": "new"})
    assert names(tmp_path) == ["a"]


def test_a_file_has_the_mode_of_the_umask(tmp_path):
    """A library that creates its files with 0600 does not decide who may read them."""
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "weights") as draft:
            draft.chmod(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "weights").stat().st_mode & 0o777 == 0o640


def test_links_share_the_file_and_copies_do_not(tmp_path, monkeypatch):
    """A hard link where the file system has them, else a copy; a second link leaves no draft."""
    (tmp_path / "stored").write_text("weights")
    (tmp_path / "alias").symlink_to("stored")
    target = tmp_path / "run" / "weights"
    assert link_or_copy(tmp_path / "alias", target)
    assert link_or_copy(tmp_path / "alias", target)
    assert target.samefile(tmp_path / "stored")
    assert not target.is_symlink()

    def refuse(*_paths: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert not link_or_copy(tmp_path / "alias", target)
    assert not target.samefile(tmp_path / "stored")
    assert (target.read_text(), names(target.parent)) == ("weights", ["weights"])


def test_drafts_of_killed_processes_are_removed_by_target(tmp_path):
    """Only drafts of the named target are removed, files and folders; without a name, all."""
    (tmp_path / ".draft-a-01234567").mkdir()
    for name in (".draft-a-89abcdef", ".draft-a-b-01234567", ".draft-a", "a"):
        (tmp_path / name).write_text("")
    remove_drafts(tmp_path, "a")
    assert names(tmp_path) == [".draft-a", ".draft-a-b-01234567", "a"]
    remove_drafts(tmp_path)
    assert names(tmp_path) == [".draft-a", "a"]


@pytest.mark.parametrize(
    "text", ["I/O error: No space left on device (os error 28)", "File too large"]
)
def test_a_full_disk_is_recognised_in_the_text_of_other_libraries(tmp_path, text):
    """A full disk is an error of their own in safetensors and tokenizers."""
    with (
        pytest.raises(DiskError, match=r"packing: .*: no space left on the disk"),
        disk_errors(tmp_path, "packing"),
    ):
        raise RuntimeError(text)


def test_an_input_that_may_not_be_read_is_not_called_unwritable(tmp_path):
    """Another location for the store would not help."""
    path = tmp_path / "model.bin"
    path.touch()
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with (
        pytest.raises(DiskError, match=r"model\.bin: cannot be read .*change its permissions$"),
        disk_errors(tmp_path),
    ):
        path.read_bytes()


def test_other_errors_pass_unchanged(tmp_path):
    """An error that is not about the disk is not translated."""
    with pytest.raises(RuntimeError, match="shape"), disk_errors(tmp_path):
        raise RuntimeError("shape")
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "missing").read_text()


def test_without_any_folder_for_temporary_files(tmp_path, monkeypatch):
    """Where neither TMPDIR nor /tmp can be written, one line says so, in place of a traceback."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with pytest.raises(DiskError, match=r"^TMPDIR: no folder for temporary files can be written; "):
        temporary_folder()
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path)])
    assert temporary_folder() == tmp_path


def test_a_device_or_a_pipe_is_not_replaced(tmp_path):
    """A file that is renamed to /dev/null would take its place, for every program."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DiskError, match="pipe: is a device or a pipe, and a file would replace it"):
        write_files({tmp_path / "pipe": "text"})
    with (
        pytest.raises(DiskError, match="pipe: is a device or a pipe, and a file would replace it"),
        atomic_file(tmp_path / "pipe", option="--gguf"),
    ):
        pass
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
def test_a_file_system_without_files_is_named():
    """In /proc, no file can be created, which the system calls a missing file."""
    with (
        pytest.raises(DiskError, match=r"^/proc: cannot be written \(no file .* with --gguf"),
        atomic_file(Path("/proc/x.gguf"), option="--gguf"),
    ):
        pass
