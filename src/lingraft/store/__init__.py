"""Content-addressed cache of stage outputs, and functions that write files. Imports no torch.

`stage_key` makes the key of a `Stage`. `Store.build` returns the output folder of a stage and
builds it if it is missing or damaged. `atomic_file`, `atomic_folder` and `write_files` write
results that are either complete or absent, `link_or_copy` and `symlink_or_link` reuse files,
`lock` and `try_lock` exclude other processes, `digest`, `file_digest` and `cached_sha256` hash.
"""

from lingraft.store.digests import cached_sha256, digest, file_digest, has_cached_sha256, seed_of
from lingraft.store.disk_errors import (
    DiskError,
    check_creatable,
    check_creatable_file,
    disk_errors,
    temporary_folder,
)
from lingraft.store.files import (
    atomic_file,
    atomic_folder,
    copy_matching,
    fsync,
    link_or_copy,
    remove_drafts,
    replace_folder,
    symlink_or_link,
    write_files,
    write_json,
)
from lingraft.store.locks import lock, try_lock
from lingraft.store.manifest import MANIFEST, Manifest, checksums, find_damage, output_damage
from lingraft.store.paths import expanded, is_folder, is_valid_path, path_exists
from lingraft.store.stage import WARNINGS, Draft, Stage, stage_key
from lingraft.store.store import Store

__all__ = [
    "MANIFEST",
    "WARNINGS",
    "DiskError",
    "Draft",
    "Manifest",
    "Stage",
    "Store",
    "atomic_file",
    "atomic_folder",
    "cached_sha256",
    "check_creatable",
    "check_creatable_file",
    "checksums",
    "copy_matching",
    "digest",
    "disk_errors",
    "expanded",
    "file_digest",
    "find_damage",
    "fsync",
    "has_cached_sha256",
    "is_folder",
    "is_valid_path",
    "link_or_copy",
    "lock",
    "output_damage",
    "path_exists",
    "remove_drafts",
    "replace_folder",
    "seed_of",
    "stage_key",
    "symlink_or_link",
    "temporary_folder",
    "try_lock",
    "write_files",
    "write_json",
]
