"""Reading local files: formats give the same documents, errors name file and line."""

from __future__ import annotations

import bz2
import csv
import errno
import gzip
import json
import lzma
import os
import random
import tracemalloc
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from lingraft.corpus import CorpusSettings, Source, build_corpus, identity_of, text_files
from lingraft.corpus.compression import open_compressed
from lingraft.corpus.first_look import look_at
from lingraft.corpus.readers import read_source
from lingraft.corpus.records import read_records
from lingraft.corpus.text_fields import likely_text_field
from lingraft.corpus.text_files import find_files, is_matched
from lingraft.corpus.warc import MalformedRecord
from lingraft.errors import CorpusError
from lingraft.file_kinds import TEXT_KINDS
from lingraft.store import WARNINGS, DiskError, Draft, file_digest

TEXTS = ["नमस्ते दुनिया", "zwei  Wörter ", "line\u2028separator stays inside", "últ\u0301imo"]
COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".xz": partial(lzma.compress, preset=0),  # decompressing takes memory by the preset
    ".bz2": bz2.compress,
}


def parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def arrow_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def warc_record(body: str, kind: str = "conversion", **header: object) -> bytes:
    """Return a record as Common Crawl writes it; `header` changes or removes header lines."""
    content = body.encode()
    lines = {
        "WARC-Type": kind,
        "WARC-Target-URI": "https://example.org/",
        "Content-Length": len(content),
        **header,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"WARC/1.0\r\n{head}\r\n".encode() + content + b"\r\n\r\n"


def wet_bytes(texts: list[str]) -> bytes:
    return warc_record("software: x\r\n", "warcinfo") + b"".join(map(warc_record, texts))


CONTENT = {
    ".txt": lambda: "".join(f"{text}\n" for text in TEXTS).encode(),
    ".jsonl": lambda: "".join(
        json.dumps({"id": 1, "text": text}) + "\n\n" for text in TEXTS
    ).encode(),
    ".json": lambda: json.dumps(
        [{"text": text} for text in TEXTS], ensure_ascii=False, indent=1
    ).encode(),
    ".parquet": lambda: parquet_bytes(pa.table({"id": [1, 2, 3, 4], "text": TEXTS})),
    ".csv": lambda: "".join(["id,text\r\n", *(f'1,"{text}"\r\n' for text in TEXTS)]).encode(),
    ".tsv": lambda: "".join(["text\tid\n", *(f"{text}\t1\n" for text in TEXTS)]).encode(),
    ".arrow": lambda: arrow_bytes(pa.table({"id": [1, 2, 3, 4], "text": TEXTS})),
    ".warc.wet": lambda: wet_bytes(TEXTS),
}


def read(path: object, **more: object) -> list[str]:
    return list(read_source(Source.model_validate({"path": str(path), **more}), "hi"))


def fault(path: object, **more: object) -> str:
    with pytest.raises(CorpusError) as error:
        read(path, **more)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("ending", CONTENT)
def test_every_format_gives_the_same_documents(tmp_path, ending, compression):
    """A text is the same from every file format, plain or compressed in any of the four ways."""
    path = tmp_path / f"text{ending}{compression}"
    path.write_bytes(COMPRESS[compression](CONTENT[ending]()))
    assert read(path) == TEXTS


def test_a_json_file_may_hold_lines(tmp_path):
    """A .json file is a list of objects, or an object a line."""
    path = tmp_path / "a.json"
    path.write_bytes(CONTENT[".jsonl"]())
    assert read(path) == TEXTS


def test_a_cell_of_a_table_is_a_document(tmp_path):
    """A quoted .csv cell may have delimiters, quotes, line ends and 200 KB."""
    long = "word " * 40_000
    path = tmp_path / "a.csv"
    path.write_text(
        f'\ufefftext,id\n"a, ""b""\nc",1\n\n"{long}",2\n,3\n', encoding="utf-8", newline=""
    )
    assert read(path) == ['a, "b"\nc', long, ""]
    assert read(path, text_field="id") == ["1", "2", "3"]


def test_quotation_marks_of_tsv_are_text_unless_cells_are_quoted_with_them(tmp_path):
    """Pandas and csv write tables with tabs that quote as CSV does; other .tsv has no quoting."""
    path = tmp_path / "a.tsv"
    path.write_text('text\n"a" b\n"c"\n', encoding="utf-8")
    assert read(path) == ['"a" b', '"c"']
    texts = ['he said "no" again', "two\nlines", 'a\ttab, "quoted"', "plain"]
    pd.DataFrame({"text": texts, "id": range(4)}).to_csv(path, sep="\t", index=False)
    assert read(path) == texts
    for texts in (["two\nlines", "plain"], ["a\ttab", "plain"], ['said "no"\nnext "x"', "b"]):
        pd.DataFrame({"text": texts, "id": 0}).to_csv(path, sep="\t", index=False)
        assert read(path) == texts
    # A cell that seems quoted among others that are not is text, also behind the first megabyte.
    texts = ['"""Return x."""', '"b" c', '"open', *['"b" c'] * 300_000, '"he said ""no"" again"']
    path.write_text("\n".join(["text", *texts]), encoding="utf-8")
    assert read(path) == texts
    long = "word " * 300_000
    pd.DataFrame({"text": ['"a" b', long, 'c "d"']}).to_csv(path, sep="\t", index=False)
    assert read(path) == ['"a" b', long, 'c "d"']


def test_a_table_may_begin_with_blank_lines_and_have_other_columns_of_one_name(tmp_path):
    """The names of the columns decide the delimiter, and only the named column must be unique."""
    path = tmp_path / "a.csv"
    path.write_text("\n\ntext;note;note;;\na, b;1;2;;\n", encoding="utf-8")
    assert read(path) == ["a, b"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "txt,id\na,1\n",
            ':2: no field "text"; the fields are txt, id; give --text-field txt (in a recipe: ',
        ),
        (
            'text\n"a\nb"\nc,d\n',
            ":4: 2 cells for 1 columns (text); quote the cells that contain the delimiter",
        ),
        ('text,id\na,1\n"b,2\nc,3\n', ":3: not CSV (unexpected end of data)"),
        ("text,id\na,1\n\udce9,2\n", ":3: byte 0xe9 at offset 12 is not UTF-8"),
        ("text,text\na,b\n", ":1: 2 columns are called 'text'; rename all but one"),
    ],
)
def test_a_broken_table_is_placed(tmp_path, content, expected):
    """The place is the file and the first line of the record; records are never joined."""
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert f"{path}{expected}" in fault(path)


def test_tables_in_a_folder_are_read_by_a_pattern_only(tmp_path):
    """A folder of text may have tables of metadata; `FOLDER/*.csv` reads them."""
    (tmp_path / "a.txt").write_text("text\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text("text\ncell\n", encoding="utf-8")
    assert read(tmp_path) == ["text"]
    assert read(tmp_path / "*.csv") == ["cell"]


def test_compressed_files_may_be_put_end_to_end(tmp_path):
    """Several gzip members, zstandard frames, or xz or bzip2 streams in a file are all read."""
    for compression in (".gz", ".zst", ".xz", ".bz2"):
        path = tmp_path / f"a.txt{compression}"
        path.write_bytes(COMPRESS[compression](b"one\ntw") + COMPRESS[compression](b"o\nthree"))
        assert read(path) == ["one", "two", "three"]


def test_a_column_that_occurs_twice_is_refused(tmp_path):
    """Of two columns with the name of the text, none is taken; others may have the same name."""
    arrays = [pa.array(["one"]), pa.array(["two"]), pa.array(["x"]), pa.array(["y"])]
    table = pa.Table.from_arrays(arrays, names=["text", "text", "id", "id"])
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(table))
    assert fault(path) == f"{path}: 2 columns are called 'text'; rename all but one"
    path.write_bytes(parquet_bytes(table.select([0, 2, 3])))
    assert read(path) == ["one"]


def test_no_space_to_unpack_is_no_fault_of_the_file(tmp_path, monkeypatch):
    """A compressed parquet file is unpacked into TMPDIR; if that is full, this is what is told."""
    path = tmp_path / "a.parquet.gz"
    path.write_bytes(gzip.compress(parquet_bytes(pa.table({"text": TEXTS}))))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lingraft.corpus.columnar_files.shutil.copyfileobj", fail)
    with pytest.raises(DiskError, match=r"a\.parquet\.gz is unpacked: .*no space.*TMPDIR"):
        read(path)


@pytest.mark.parametrize("kind", [".bz2", ".xz"])
def test_data_that_compresses_a_million_times_is_not_unpacked_at_once(tmp_path, kind):
    """A file of a few hundred bytes may be gigabytes of text."""
    path = tmp_path / f"a.txt{kind}"
    path.write_bytes(COMPRESS[kind](bytes(2**27)))
    tracemalloc.start()
    try:
        with open_compressed(path) as stream:
            assert stream.read(1) == b"\0"
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [".bz2", ".xz", ".zst"])
def test_an_empty_file_is_no_compressed_text(tmp_path, kind):
    """A download that failed leaves one; the compression of no text has a header."""
    path = tmp_path / f"a.txt{kind}"
    path.write_bytes(b"")
    with (
        pytest.raises(CorpusError, match="the compressed data is truncated"),
        open_compressed(path) as stream,
    ):
        stream.read(1)
    path.write_bytes(COMPRESS[kind](b""))
    with open_compressed(path) as stream:
        assert stream.read(1) == b""


def test_data_in_a_file_that_is_named_like_text(tmp_path):
    """Compressed and columnar data without its ending is named, and no encoding is proposed."""
    names = dict.fromkeys(COMPRESS, "") | {".parquet": ""}
    del names[""]
    for kind in names:
        path = tmp_path / "a.jsonl"
        compress = COMPRESS.get(kind, lambda _: parquet_bytes(pa.table({"text": TEXTS})))
        path.write_bytes(compress(b'{"text": "one"}\n'))
        unpack = "" if kind == ".parquet" else ", or unpack it"
        assert fault(path) == (
            f"{path}: {kind} data, expected text in UTF-8; "
            f"rename the file so that its name ends in {kind}{unpack}"
        )
    path.write_text('{"text": "BZh is text"}\n', encoding="utf-8")
    assert read(path) == ["BZh is text"]


def test_a_file_that_is_named_is_never_left_out(tmp_path):
    """A link to a file that is not there is an error, in a folder and for a pattern."""
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    (tmp_path / "b.txt").symlink_to(tmp_path / "elsewhere.txt")
    for pattern in (tmp_path, tmp_path / "*.txt"):
        assert fault(pattern).startswith(f"{tmp_path / 'b.txt'}: a symbolic link that cannot be")
    (tmp_path / "elsewhere.txt").write_text("two\n", encoding="utf-8")
    assert read(tmp_path / "*.txt") == ["one", "two", "two"]


def test_a_subfolder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    """Its text would be missing; a folder that is hidden, or left out, is not opened."""
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    scandir = os.scandir

    def scan(folder: str) -> object:
        if "closed" in str(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    (tmp_path / ".closed").mkdir()
    assert read(tmp_path) == ["one"]
    (tmp_path / "closed").mkdir()
    for pattern in (tmp_path, tmp_path / "**", tmp_path / "**/*.txt", tmp_path / "*/*.txt"):
        assert fault(pattern).startswith(f"{tmp_path / 'closed'}: the folder cannot be read")
    assert read(tmp_path / "[ab]*") == ["one"]


def test_names_with_characters_of_patterns(tmp_path, monkeypatch):
    """A folder may be called `data [2024]` or `~old`, also in front of a pattern."""
    monkeypatch.chdir(tmp_path)
    for name in ("data [2024]", "~old"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.txt").write_text("one\n", encoding="utf-8")
        for pattern in (name, f"{name}/*.txt", f"{folder}/*.txt", f"{name}/a.txt"):
            assert read(pattern) == ["one"]
            look_at(CorpusSettings(sources=pattern), "en")


@pytest.mark.parametrize("limit", [{"documents": 3}, {"bytes": 15}])
def test_documents_without_text_do_not_count_towards_a_limit(tmp_path, limit):
    """Three documents are three texts, in a file with blank lines and in one with nulls."""
    lines, records = tmp_path / "a.txt", tmp_path / "b.jsonl"
    texts = [f"text{number}" for number in range(9)]
    lines.write_text("\n\n".join(texts), encoding="utf-8")
    rows = [json.dumps({"text": text}) for one in texts for text in (None, " ", one)]
    records.write_text("\n".join(rows), encoding="utf-8")
    for path in (lines, records):
        assert [text for text in read(path, limit=limit) if text.strip()] == texts[:3]


def test_a_limit_below_the_first_document_is_an_error(tmp_path):
    """The limit of a source is named, and the source is not called empty."""
    path = tmp_path / "a.txt"
    path.write_text("twelve bytes\ntwo\n", encoding="utf-8")
    assert fault(path, limit={"bytes": 11}) == (
        f"{path}: its limit of 11 bytes is less than its first document (12 bytes); "
        "raise the limit, or split the document"
    )
    assert read(path, limit={"bytes": 12}) == ["twelve bytes"]


def test_what_follows_a_compressed_stream_is_never_left_out(tmp_path):
    """Behind a whole stream, a damaged stream or other data is an error, not the end of the text.

    Only the NULs with which the xz format fills up the space between streams are skipped.
    """
    for compression in (".gz", ".zst", ".xz", ".bz2"):
        path = tmp_path / f"a.txt{compression}"
        first, second = (COMPRESS[compression](text) for text in (b"one\n", b"two"))
        for rest in (b"X" + second[1:], second[:-1], b"not compressed"):
            path.write_bytes(first + rest)
            assert fault(path).startswith(f"{path}: ")
    path = tmp_path / "a.txt.xz"
    compress = COMPRESS[".xz"]
    path.write_bytes(compress(b"one\n") + bytes(2000) + compress(b"two") + bytes(4))
    assert read(path) == ["one", "two"]
    path.write_bytes(bytes(4) + compress(b"two"))
    assert "not valid .xz data" in fault(path)


def test_text_that_an_earlier_reader_cut_off_has_another_key(tmp_path):
    """Corpora that were stored of .xz and .bz2 files are read again, those of others are not."""
    for compression, number in {".gz": [], ".zst": [], ".xz": ["2"], ".bz2": ["2"], "": []}.items():
        path = tmp_path / f"a.txt{compression}"
        path.write_bytes(COMPRESS[compression](b"one\n"))
        files = identity_of(CorpusSettings(sources=str(path)), "en")["sources"][0]["files"]
        assert files == [[".txt", *number, file_digest(path)]]


def test_what_a_document_is_in_a_text_file(tmp_path):
    """A line, a paragraph, or the file; a byte-order mark and carriage returns are no text."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\n\r\nthree\r\n")
    assert read(path) == ["one", "two", "", "", "three"]
    assert read(path, document_unit="paragraph") == ["one\ntwo", "three"]
    assert read(path, document_unit="file") == ["one\ntwo\n\n\nthree"]
    (tmp_path / "a.jsonl").touch()
    assert "document_unit: paragraph is for .txt files" in fault(
        tmp_path / "a.jsonl", document_unit="paragraph"
    )


def test_a_folder_or_a_pattern_is_its_files_in_order(tmp_path):
    """Folders and patterns with ** are read recursively; other files are ignored."""
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.jsonl", "deep/c.txt", "notes.md"):
        text = json.dumps({"text": name}) if name.endswith("jsonl") else name
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert read(tmp_path) == ["a.jsonl", "b.txt", "deep/c.txt"]
    assert read(tmp_path / "*.txt") == ["b.txt"]
    assert read(tmp_path / "**" / "*.txt") == ["b.txt", "deep/c.txt"]


def test_a_folder_is_read_without_hidden_files(tmp_path):
    """Copies that other programs hide in a folder are no text of it, unless they are named."""
    hidden = tmp_path / ".ipynb_checkpoints"
    hidden.mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "._a.txt", hidden / "a-checkpoint.txt"):
        path.write_text(path.name)
    assert read(tmp_path) == read(tmp_path / "*") == ["a.txt"]
    assert read(hidden) == ["a-checkpoint.txt"]
    assert read(tmp_path / "._a.txt") == ["._a.txt"]


def test_the_home_folder_may_be_part_of_a_pattern(tmp_path, monkeypatch):
    """`~` is the home folder in a pattern as in a path."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.txt").write_text("a")
    assert find_files("~/t/*.txt") == find_files("~/t") == [tmp_path / "t" / "a.txt"]
    assert is_matched("~/t/*.txt")
    assert not is_matched("~/t/*.jsonl")


def test_a_missing_file_names_the_nearest_one(tmp_path):
    """The message offers the name that was probably meant, of a file or of a folder on the way."""
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "hindi.train.jsonl").touch()
    assert f"did you mean {tmp_path}/corpora/hindi.train.jsonl?" in fault(
        tmp_path / "corpora" / "hindi.trian.jsonl"
    )
    assert f"did you mean {tmp_path}/corpora?" in fault(
        tmp_path / "corpra" / "deep" / "hindi.jsonl"
    )
    assert "contains no name similar to" in fault(tmp_path / "zzz.txt")
    assert "no file matches" in fault(tmp_path / "*.txt")
    (tmp_path / "empty").mkdir()
    assert "the folder contains no .txt" in fault(tmp_path / "empty")
    (tmp_path / "a.xml").touch()
    assert f"unknown file type; expected {TEXT_KINDS}" in fault(tmp_path / "a.xml")


@pytest.mark.parametrize("compression", COMPRESS)
def test_bytes_that_are_not_utf8_are_placed(tmp_path, compression):
    """File, line, and the offset of the byte in the decompressed stream."""
    path = tmp_path / f"a.txt{compression}"
    path.write_bytes(COMPRESS[compression]("ok é\n".encode() + b"caf\xe9\n"))
    assert f"{path}:2: byte 0xe9 at offset 9 is not UTF-8" in fault(path)


def test_utf16_is_recognised(tmp_path):
    """A file in UTF-16 is told by its name, with the command that converts it."""
    (tmp_path / "a.txt").write_bytes("नमस्ते".encode("utf-16"))
    assert "is UTF-16, expected UTF-8; convert it: iconv" in fault(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"text": "a"', ":2:13: not JSON"),
        ("[1]", ":2: expected an object with named fields, got a list"),
        (
            '{"txt": "a", "id": 1}',
            ':2: no field "text"; the fields are txt, id; give --text-field txt (in a recipe: ',
        ),
        ('{"text": 3.5, "id": 1}', ':2: field "text" is a number, not text'),
        ('{"text": ["a"]}', ':2: field "text" is a list'),
        ('{"text": "\\ud800"}', ":2: field 'text' contains half of a surrogate pair"),
        ("[" * 200_000, ":2: "),
        ('{"text": "a", "n": ' + "9" * 5000 + "}", ":2: an integer has more than 4,300 digits"),
    ],
)
def test_a_broken_row_is_placed(tmp_path, line, expected):
    """File, line and, for broken JSON, the column."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n", encoding="utf-8")
    message = fault(path)
    assert message.startswith(str(path))
    assert expected in message


def test_the_text_field_is_named_by_the_recipe(tmp_path):
    """Also inside a mapping; null and NaN are empty documents; a wrong name lists what there is."""
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"body": "x", "translation": {"hi": "क", "en": "k"}}\n'
        '{"body": null, "translation": {"hi": null}}\n'
        '{"body": NaN, "translation": {"hi": NaN}}',
        encoding="utf-8",
    )
    assert read(path, text_field="body") == ["x", "", ""]
    assert read(path, text_field="translation.hi") == ["क", "", ""]
    assert (
        'no field "translation.ta"; the fields are body, translation.hi, translation.en; give '
        "--text-field body (in a recipe: corpus: {path: "
    ) in fault(path, text_field="translation.ta")


def test_parquet_columns(tmp_path):
    """Nested columns are reached, unknown ones listed, and a column that is no text refused."""
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(pa.table({"n": [1, 2], "t": [{"hi": "क"}, {"hi": None}]})))
    assert read(path, text_field="t.hi") == ["क", ""]
    assert (
        f'{path}:row 1: no field "text"; the fields are n, t.hi; give --text-field t.hi (in a '
        f"recipe: corpus: {{path: {path}, text_field: t.hi}})"
    ) in fault(path)
    assert ':row 1: field "n" is a number' in fault(path, text_field="n")


def test_a_row_group_of_parquet_is_not_in_memory_as_a_whole(tmp_path):
    """Also of a file that has all its text in one row group, as pandas writes it."""
    path = tmp_path / "a.parquet"
    texts = [random.Random(number).randbytes(4000).hex() for number in range(4000)]
    pq.write_table(pa.table({"text": texts}), path, use_dictionary=False)
    assert pq.read_metadata(path).num_row_groups == 1
    tracemalloc.start()
    for (record, _), text in zip(read_records(path, fields=["text"]), texts, strict=True):
        assert record == {"text": text}
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < path.stat().st_size / 2


def test_parquet_text_that_is_not_utf_8_is_told_with_its_row(tmp_path):
    """Writers do not check the bytes of a column of text; the records before are still read."""
    values = [f"क {number}".encode() for number in range(300)]
    values[270] = b"caf\xe9"
    stored = pa.array(values, pa.binary()).buffers()
    path = tmp_path / "a.parquet"
    text = pa.StringArray.from_buffers(len(values), stored[1], stored[2])
    path.write_bytes(parquet_bytes(pa.table({"text": text})))
    message = f"{path}:row 271: byte 0xe9 at offset 3 of a field is not UTF-8"
    assert fault(path).startswith(message)


TRUNCATED = {
    "a.parquet": "cannot be read as parquet",
    "a.arrow": "cannot be read as arrow",
    "a.warc.wet": "the file ends inside the record",
    **{
        f"a.{kind}": "the compressed data is truncated"
        for kind in ("txt.gz", "jsonl.zst", "txt.xz", "csv.bz2", "parquet.gz", "warc.wet.gz")
    },
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_file_that_is_cut_short_is_refused(tmp_path, name):
    """Truncated files are errors, never shorter corpora."""
    path = tmp_path / name
    kind = path.suffix if path.suffix in COMPRESS else ""
    content = COMPRESS[kind](CONTENT[name[1:].removesuffix(kind)]())
    path.write_bytes(content[:-12])
    message = fault(path)
    assert message.startswith(str(path))
    assert TRUNCATED[name] in message


@pytest.mark.parametrize("kind", [kind for kind in COMPRESS if kind])
def test_a_compressed_file_without_a_byte_is_cut_short(tmp_path, kind):
    """A broken download leaves such a file; that of an empty text has bytes, and is empty."""
    path = tmp_path / f"a.txt{kind}"
    path.write_bytes(b"")
    assert "the compressed data is truncated" in fault(path)
    path.write_bytes(COMPRESS[kind](b""))
    assert read(path) == []


@pytest.mark.parametrize(
    "name", ["a.txt.gz", "a.txt.zst", "a.txt.xz", "a.txt.bz2", "a.parquet", "a.arrow", "a.wet"]
)
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    """A name that promises something else than the content is told."""
    (tmp_path / name).write_bytes(b"just some plain text, and a little more of it\n" * 9)
    assert str(tmp_path / name) in fault(tmp_path / name)


def test_broken_json_lists(tmp_path):
    """For a .json file, errors have line and column, or the number of the entry."""
    path = tmp_path / "a.json"
    path.write_text('[\n {"text": "a"},\n {"text" "b"}\n]', encoding="utf-8")
    assert f"{path}:3:10: not JSON" in fault(path)
    path.write_text('[{"text": "a"}, 5]', encoding="utf-8")
    assert ":row 2: expected an object with named fields, got a number" in fault(path)
    path.write_bytes(b'[{"text": "\xff"}]')
    assert "byte 0xff at offset 11 is not UTF-8" in fault(path)


def test_a_document_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    """Lines, paragraphs, files and lists have a maximum size; the message has an alternative."""
    monkeypatch.setattr(text_files, "MAX_DOCUMENT_BYTES", 1000)
    for module in ("readers", "records"):
        monkeypatch.setattr(f"lingraft.corpus.{module}.MAX_DOCUMENT_BYTES", 1000)
    path = tmp_path / "a.txt"
    path.write_text("short\n" + "x" * 2000, encoding="utf-8")
    assert ":2: the line is longer than" in fault(path)
    path.write_text("some words\n" * 200, encoding="utf-8")
    assert "set document_unit: paragraph or line" in fault(path, document_unit="file")
    assert "set document_unit: line" in fault(path, document_unit="paragraph")
    (tmp_path / "a.json").write_text("[" + '{"text": "a"},' * 200 + "0]", encoding="utf-8")
    assert "write one object per line" in fault(tmp_path / "a.json")


def test_the_right_field_is_ready_to_paste():
    """One field that looks like the text is named; where several or none do, none is."""
    for record, field in (
        ({"id": "7", "title": "A bird in the hand", "body": "It sings every day."}, "body"),
        ({"url": "https://a.b", "line": "one two three four five"}, "line"),
        ({"n": 3, "meta": {"Text": "a"}}, "meta.Text"),
        ({"en": "one", "hi": "two"}, None),
        ({"n": 3}, None),
    ):
        assert likely_text_field(record, "text") == field


def test_the_other_records_of_a_crawl_are_no_text(tmp_path):
    """Only conversion records are documents; an archive without them is refused with its types."""
    path = tmp_path / "a.warc"
    path.write_bytes(
        warc_record("GET / HTTP/1.1", "request")
        + warc_record("several\nlines\n")
        + warc_record("{}", "metadata")
    )
    assert read(path) == ["several\nlines\n"]
    assert read(path, text_field="url") == ["https://example.org/"]
    path.write_bytes(warc_record("", "warcinfo") + warc_record("<p>", "response") * 2)
    assert "(type conversion), found 1 warcinfo, 2 response; give the crawl's WET" in fault(path)


BROKEN_RECORDS = {
    "it has no Content-Length": warc_record("lost", **{"Content-Length": None}),
    "its Content-Length is '-4'": warc_record("lost", **{"Content-Length": -4}),
    "its length is not what its header says": warc_record("much too long", **{"Content-Length": 4}),
    "is not a header line": b"WARC/1.0\r\nno header\r\n\r\nlost\r\n\r\n",
    "byte 0xff at offset 5 is not UTF-8": warc_record("lost  ").replace(b"t  ", b"t \xff"),
}


@pytest.mark.parametrize("problem", BROKEN_RECORDS)
def test_a_broken_record_of_a_crawl_is_left_out(tmp_path, problem):
    """A record that cannot be read is dropped, counted and named, and the next ones are read."""
    path = tmp_path / "a.warc.wet.gz"
    after = [f"after {number}" for number in range(20)]
    parts = [warc_record("before"), BROKEN_RECORDS[problem], *map(warc_record, after)]
    path.write_bytes(b"".join(map(gzip.compress, parts)))
    texts = read(path)
    assert [text for text in texts if text] == ["before", *after]
    (broken,) = [text for text in texts if isinstance(text, MalformedRecord)]
    assert broken.problem.startswith(f"{path}:record 2: ")
    assert problem in broken.problem
    settings = CorpusSettings.model_validate({"sources": [str(path)], "heldout_share": 0.5})
    (tmp_path / "corpus").mkdir()
    draft = Draft(tmp_path / "corpus")
    build_corpus(settings, "en", draft)
    assert draft.notes["dropped"] == {"malformed": {"documents": 1, "bytes": 0}}
    (warning,) = draft.notes[WARNINGS]
    assert f"malformed records are left out: 1; the first: {broken.problem}" in warning


def test_a_saved_data_set_is_its_arrow_files(tmp_path):
    """`save_to_disk` folders are read; of several splits, one must be named."""
    datasets = pytest.importorskip("datasets")
    texts = [f"text {number}" for number in range(10)]
    split = datasets.Dataset.from_dict({"text": texts, "id": list(range(10))})
    split.save_to_disk(tmp_path / "one", num_shards=2)
    (tmp_path / "one" / "cache-1.arrow").write_bytes(b"a cache that is not listed")
    assert read(tmp_path / "one") == texts
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "two")
    assert (
        f"two: a DatasetDict with 2 splits; name one of them: {tmp_path}/two/train or "
        f"{tmp_path}/two/test"
    ) in fault(tmp_path / "two")
    assert read(tmp_path / "two" / "test") == texts
    (tmp_path / "one" / "state.json").write_text("{}")
    assert f"{tmp_path}/one: a data set that cannot be read" in fault(tmp_path / "one")


def test_an_arrow_file_may_have_either_format(tmp_path):
    """The format with a footer, and a table of more records than are in memory at a time."""
    table = pa.table({"text": [f"text {number}" for number in range(1000)]})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "a.arrow") == table["text"].to_pylist()


@pytest.mark.parametrize("compression", COMPRESS)
def test_reading_takes_memory_for_a_document_and_not_for_the_file(tmp_path, compression):
    """A file of 40 MB is read in a few MB."""
    path = tmp_path / f"a.txt{compression}"
    content = b"".join(
        b"%07d some more words to fill a line\n" % number for number in range(25_000)
    )
    path.write_bytes(COMPRESS[compression](content) * 40)
    texts = read_source(Source(path=str(path)), "en")
    tracemalloc.start()
    try:
        for number, _ in enumerate(texts):
            if number == 50_000:
                break
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        texts.close()
    assert peak < 4e6


def test_unreadable_files_are_told(tmp_path):
    """Denied access names the file."""
    path = tmp_path / "a.txt"
    path.touch()
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        assert "permission denied" in fault(path)
    else:
        pytest.skip("this user may read everything")
    assert Path(path).exists()


def test_devices_and_pipes_are_refused(tmp_path):
    """Text is read more than once, which a pipe does not allow; the message says so."""
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("/dev/null", str(tmp_path / "pipe.txt")):
        with pytest.raises(CorpusError, match=f"^{name}: a device or a pipe, which cannot be read"):
            find_files(name)


def test_links_in_circles_are_not_followed(tmp_path, monkeypatch):
    """Folders with links to themselves are read once; a link to itself is an error."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.txt", "deep/b.txt", ".hidden.txt"):
        (folder / name).write_text(name)
    for name in ("loop", "deep/other", "deep/third"):
        (folder / name).symlink_to(folder, target_is_directory=True)
    wanted = [folder / "a.txt", folder / "deep/b.txt"]
    assert find_files(f"{folder}/**/*.txt") == wanted
    assert find_files(str(folder / "**")) == wanted
    assert find_files("texts/**/*.txt") == [path.relative_to(tmp_path) for path in wanted]
    assert find_files(f"{folder}/.h*.txt") == [folder / ".hidden.txt"]
    assert find_files(str(folder)) == wanted
    (folder / "self.jsonl").symlink_to(folder / "self.jsonl")
    with pytest.raises(CorpusError, match=r"self\.jsonl: a symbolic link that cannot be resolved"):
        find_files("texts/self.jsonl")


@pytest.mark.parametrize(
    "name",
    ["9" * 300, "a/" * 3000 + "b", "ü" * 200, "a\0b"],
    ids=["a name", "a path", "bytes", "NUL"],
)
def test_names_that_no_file_can_have_are_told(name):
    """A path that no file system allows is an error of one line."""
    with pytest.raises(CorpusError, match="not a valid file name") as caught:
        find_files(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
def test_carriage_returns_alone_are_no_line_ends(tmp_path, name):
    """The file would be one document, or one row; the message has the command that converts it."""
    path = tmp_path / name
    path.write_bytes(b'text\r{"text": "a"}\r')
    assert fault(path) == (
        f"{path}: carriage returns, but no line feed in the first 19 bytes; expected line feeds as "
        r"line ends; convert it: tr '\r' '\n'"
    )
    path.with_name("b.txt").write_bytes(b"one line\r")
    assert read(path.with_name("b.txt")) == ["one line"]


def test_a_carriage_return_in_a_long_line_is_no_line_end(tmp_path):
    """The first line may be longer than what is looked at first."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"word " * 8000 + b"\r" + b" word" * 8000 + b"\nsecond\n")
    first, second = read(path)
    assert len(first.split()) == 16_000
    assert second == "second"


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_a_tsv_whose_names_are_quoted_is_read_as_quoted(tmp_path, quoting):
    """R and `QUOTE_ALL` quote every cell, also cells that do not need it."""
    path = tmp_path / "a.tsv"
    table = pd.DataFrame({"id": [1, 2], "text": ["whole cell", "another"]})
    table.to_csv(path, sep="\t", index=False, quoting=quoting)
    assert path.read_text(encoding="utf-8").startswith('"id"\t"text"\n')
    assert read(path) == ["whole cell", "another"]


def test_quotation_marks_of_a_tsv_without_names_are_text(tmp_path):
    """A record in which each cell is a quotation does not name the columns."""
    path = tmp_path / "a.tsv"
    path.write_text('"hello"\t"there"\nplain\ttext\n', encoding="utf-8")
    records = [record for record, _ in read_records(path, header=["a", "b"])]
    assert records == [{"a": '"hello"', "b": '"there"'}, {"a": "plain", "b": "text"}]


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("named", [False, True])
def test_a_csv_with_semicolons_or_tabs_is_read(tmp_path, delimiter, named):
    """A header without a comma names the delimiter, also below `sep=`: spreadsheets write both."""
    path = tmp_path / "a.csv"
    text = f'id{delimiter}text\r\n1{delimiter}"a, b{delimiter} c"\r\n2{delimiter}d\r\n'
    path.write_text(f"sep={delimiter}\r\n{text}" if named else text, encoding="utf-8-sig")
    assert read(path) == [f"a, b{delimiter} c", "d"]
    path.write_text(path.read_text(encoding="utf-8-sig") + "3\r\n", encoding="utf-8-sig")
    with pytest.raises(CorpusError, match=f"a.csv:{5 if named else 4}: 1 cell for 2 columns"):
        read(path)


@pytest.mark.parametrize("named", ["", " "])
def test_text_without_a_name_is_refused(named):
    """An empty name is not the current folder."""
    with pytest.raises(CorpusError, match="no file is named; give a file"):
        find_files(named)
