"""UTF-16 and UTF-32 without a byte order mark are refused where a file is opened."""

from __future__ import annotations

import gzip
import json

import pytest

from lingraft.corpus import CorpusSettings, build_corpus
from lingraft.errors import CorpusError
from lingraft.store import Draft

RUSSIAN = [f"Утром дети идут к реке, номер {number}." for number in range(100)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".txt.gz"])
def test_wide_encodings_without_a_mark_are_refused_by_name(tmp_path, encoding, ending):
    """Russian in UTF-16 is valid UTF-8 with NULs: the message has the command to convert it."""
    lines = (
        [json.dumps({"text": line}, ensure_ascii=False) for line in RUSSIAN]
        if "json" in ending
        else RUSSIAN
    )
    content = "\n".join(lines).encode(encoding)
    path = tmp_path / f"ru{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    name = encoding.replace("-le", "LE").replace("-be", "BE").upper()
    with pytest.raises(CorpusError, match=rf"NUL.*iconv -f {name} -t UTF-8"):
        build_corpus(CorpusSettings.model_validate({"sources": str(path)}), "ru", Draft(tmp_path))
