"""Text by URL: the same documents as from local files, keys that follow the object, clear errors.

The file systems are real: fsspec's memory and HTTP ones, and that of the Hub, with servers on the
loopback interface.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import fsspec
import pyarrow as pa
import pytest

from lingraft.corpus import (
    Corpus,
    CorpusSettings,
    Source,
    build_corpus,
    identity_of,
    preview_text,
    remote_files,
)
from lingraft.corpus.first_look import look_at
from lingraft.corpus.readers import read_source
from lingraft.corpus.remote_files import FIRST_BLOCK, forget_listing
from lingraft.errors import CorpusError, MissingExtraError
from lingraft.pipeline.text_summary import health_lines
from lingraft.recipe import Text
from lingraft.store import Draft
from tests.test_corpus_reading import COMPRESS, arrow_bytes, parquet_bytes, warc_record

TEXTS = ["नमस्ते दुनिया", "दो", "तीन  "]
LINES = "".join(f"पंक्ति {number}\n" for number in range(60_000)).encode()


class WebServer:
    """A web server of objects in memory, with ranges, ETags and faults that are set from outside.

    `cut` counts down: so many responses break in their middle. `status` answers everything.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.ranges = self.etags = self.sizes = True
        self.cut, self.status, self.sent = 0, 200, 0
        handler = type("Handler", (_Handler,), {"site": self})
        self._server = _QuietServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def put(self, name: str, content: bytes) -> str:
        self.objects[f"/{name}"] = content
        url = f"http://127.0.0.1:{self._server.server_port}/{name}"
        forget_listing(url)
        return url

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_request: object) -> None:
        """Say nothing: a client may close a connection that broke."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: WebServer

    def do_HEAD(self) -> None:
        self._respond(body=False)

    def do_GET(self) -> None:
        self._respond(body=True)

    def _respond(self, *, body: bool) -> None:
        content = self.site.objects.get(self.path.partition("?")[0])
        status = self.site.status if content is not None else 404
        content = content if status == 200 else b""
        tag = hashlib.md5(content).hexdigest()
        asked = self.headers.get("Range", "")
        if status == 200 and self.site.ranges and asked:
            first, last = asked.removeprefix("bytes=").split("-")
            total = len(content)
            content, status = content[int(first) : int(last) + 1], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        if self.site.etags:
            self.send_header("ETag", f'"{tag}"')
        if self.site.sizes:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if body and self.site.cut and len(content) > 1000:
            self.site.cut -= 1
            content = content[:1000]
            self.close_connection = True
        if body:
            self.site.sent += len(content)
            self.wfile.write(content)
        self.close_connection = self.close_connection or not self.site.sizes

    def log_message(self, *_args: object) -> None:
        """Keep the test output clean."""


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with WebServer() as site:
        yield site


@pytest.fixture
def web(server, monkeypatch):
    """The server without faults; a broken connection is continued at once."""
    server.ranges = server.etags = server.sizes = True
    server.cut, server.status, server.sent = 0, 200, 0
    monkeypatch.setattr(remote_files, "WAITS", (0, 0))
    return server


@pytest.fixture
def memory():
    """An empty file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    remote_files._LISTINGS.clear()  # another test used the same names
    return system


def read(path: str, **settings: object) -> list[str]:
    return list(read_source(Source(path=path, **settings), "hi"))


def key(path: str) -> str:
    return json.dumps(identity_of(CorpusSettings(sources=path), "hi"))


def formats() -> dict[str, bytes]:
    table = pa.table({"text": TEXTS, "id": [1, 2, 3]})
    jsonl = "".join(f"{json.dumps({'text': text})}\n" for text in TEXTS).encode()
    files = {f"hi.jsonl{ending}": compress(jsonl) for ending, compress in COMPRESS.items()}
    return files | {
        "hi.txt": "".join(f"{text}\n" for text in TEXTS).encode(),
        "hi.parquet": parquet_bytes(table),
        "hi.arrow": arrow_bytes(table),
        "hi.warc.wet.gz": b"".join(gzip.compress(warc_record(text)) for text in TEXTS),
    }


def test_every_format_is_read_from_a_url(memory, web):
    """All formats and compressions give the same documents from a store and from a web server."""
    for name, content in formats().items():
        memory.pipe(f"/bucket/{name}", content)
        assert read(f"memory://bucket/{name}") == TEXTS, name
        assert read(web.put(name, content)) == TEXTS, name
    assert read("memory://bucket/hi.parquet", where="id != 2") == [TEXTS[0], TEXTS[2]]


def test_folders_and_patterns_name_objects(memory):
    """A folder gives its text in the order of the names; both skip hidden names."""
    objects = {"b.txt": b"b", "a.txt": b"a", "deep/c.txt": b"c", ".hidden.txt": b"h", "x.csv": b"x"}
    for name, content in {**objects, "deep/.d/a.txt": b"d"}.items():
        memory.pipe(f"/bucket/hi/{name}", content)
    assert read("memory://bucket/hi") == ["a", "b", "c"]
    assert read("memory://bucket/hi/deep/.d") == read("memory://bucket/hi/deep/.d/*") == ["d"]
    assert read("memory://bucket/hi/*.txt") == ["a", "b"]
    assert read("memory://bucket/hi/**/*.txt") == ["a", "b", "c"]
    assert read("memory://bucket/hi/.h*.txt") == ["h"]


def test_a_file_url_is_the_local_path(tmp_path):
    """file:// gives the documents and the key of the path."""
    path = tmp_path / "hi.txt"
    path.write_bytes(LINES[:1000])
    assert Source(path=f"file://{path}") == Source(path=str(path))


@pytest.mark.parametrize("store", ["memory", "web"])
def test_a_key_changes_with_the_object(store, memory, web):
    """An object that is written again with other text gives another key; otherwise keys stay."""

    def put(content: bytes) -> str:
        if store == "web":
            return web.put("key.txt", content)
        memory.pipe("/bucket/key.txt", content)
        return "memory://bucket/key.txt"

    url = put(b"one")
    first = key(url)
    assert key(url) == first
    put(b"two")
    assert key(url) != first


def test_text_of_another_version_than_the_key_is_refused(memory):
    """An object that changes between its key and its reading is an error, not a stale key."""
    memory.pipe("/bucket/a.txt", b"one\n")
    key("memory://bucket/a.txt")
    memory.pipe("/bucket/a.txt", b"two\n")
    with pytest.raises(CorpusError, match=r"a\.txt: the object was changed .*; run again"):
        read("memory://bucket/a.txt")
    assert read("memory://bucket/a.txt") == ["two"]


def test_a_broken_connection_is_continued(web, capsys):
    """A response that breaks in the middle is read on, and the text is complete."""
    url = web.put("lines.txt", LINES)
    web.cut = 2
    assert "\n".join(read(url)).encode() + b"\n" == LINES
    assert "trying again" in capsys.readouterr().err


def test_a_broken_download_is_never_the_end_of_a_file(web):
    """If the connection stays broken, reading fails and names how far it came."""
    url = web.put("lines.txt", LINES)
    web.cut = 100
    with pytest.raises(CorpusError, match=r"lines\.txt: after 0 of [\d,]+ bytes: it cannot be"):
        read(url)


def test_a_limit_bounds_what_is_downloaded(web, tmp_path):
    """Of a large object, little more is requested than the limit of the corpus needs."""
    url = web.put("lines.txt", LINES)
    settings = CorpusSettings(sources=url, limit={"bytes": 100_000})
    draft = Draft(tmp_path)
    build_corpus(settings, "hi", draft)
    assert 90_000 < Corpus.open(tmp_path).counts("train").bytes <= 100_000
    assert web.sent <= 4 * FIRST_BLOCK < len(LINES)


def test_a_plan_reads_the_first_documents_of_a_url(web):
    """Their health is reported as that of the beginning; little is downloaded."""
    text = Text(
        language="hi", corpus=web.put("lines.txt", LINES.replace("पं".encode(), "पं\u00ad".encode()))
    )
    assert preview_text(text.corpus, "hi", identify=False) is None
    before = web.sent
    lines = health_lines(text)
    assert web.sent - before <= 2 * FIRST_BLOCK < len(LINES)
    assert lines[0].startswith("text in hi: health of the first 1,000 documents of http")
    assert "not a random sample" in lines[0]
    assert "soft hyphens: 1,000 of 1,000" in lines[1]


def test_a_mix_of_kinds_behind_a_url_is_refused(memory):
    """A remote folder with training and test text is an error with a pattern for each."""
    for name in ("train", "test"):
        memory.pipe(f"/bucket/hi/{name}.txt", LINES[:3000])
    with pytest.raises(CorpusError, match=r"memory:///bucket/hi/train|memory://bucket/hi/train"):
        look_at(CorpusSettings(sources="memory://bucket/hi"), "hi")
    line = "memory://bucket/hi/tr*"
    assert "1 file" in look_at(CorpusSettings(sources=line), "hi")[0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/absent.txt", "absent.txt: there is no such object; check the URL"),
        ("memory://bucket/*.txt", "no object matches; check the pattern"),
        ("memory://bucket/kinds", "the folder contains no .txt"),
        ("memory://bucket/kinds/a.pdf", "unknown file type; expected .txt"),
        ("nosuch://bucket/a.txt", "fsspec knows no protocol nosuch://"),
        ("https://me:secret@host/a.txt", "https://: the URL contains a password"),
        ("memory://bucket/saved", "name the files of a split: memory://bucket/saved/data-*.arrow"),
    ],
)
def test_errors_name_the_url_and_the_cure(memory, url, message):
    """A URL that names nothing to read is an error of one line."""
    memory.pipe("/bucket/kinds/a.pdf", b"%PDF")
    memory.pipe("/bucket/saved/state.json", b"{}")
    with pytest.raises(CorpusError) as caught:
        read(url)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    """A protocol whose package is not installed is an error with the command that installs it."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match=r"gcsfs .* pip install 'lingraft\[gcs\]'"):
        read("gs://bucket/a.txt")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"etags": False}, "states no checksum, ETag or time of change"),
        ({"sizes": False}, "the server does not state the size"),
        ({"ranges": False}, "the server cannot send parts of a file; download it"),
        ({"status": 403}, "access is refused (ClientResponseError: 403"),
        ({"status": 500}, "it cannot be read (ClientResponseError: 500"),
    ],
)
def test_servers_that_cannot_be_relied_on_are_refused(web, fault, message):
    """Without size, version or ranges, a change or a broken download could not be noticed."""
    url = web.put("a.txt", LINES)
    vars(web).update(fault)
    with pytest.raises(CorpusError) as caught:
        read(url)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{url}: ")
    assert "\n" not in str(caught.value)


def test_files_of_a_hub_data_set_are_read_by_url(hub_commands, tmp_path):
    """hf://datasets/... is read through the Hub's file system, and identified by checksums."""
    folder = tmp_path / "hub/datasets/owner/name/data"
    folder.mkdir(parents=True)
    (folder / "hi.txt").write_text("एक\nदो\n", encoding="utf-8")
    code = """
from lingraft.corpus import CorpusSettings, Source, identity_of
from lingraft.corpus.readers import read_source
for url in ("hf://datasets/owner/name/data/*.txt", "hf://datasets/owner/name/data/hi.txt"):
    print(list(read_source(Source(path=url), "hi")))
    print(identity_of(CorpusSettings(sources=url), "hi")["sources"][0]["files"])
"""
    with hub_commands.serve(tmp_path / "hub"):
        done = hub_commands.ask("-c", code, home=tmp_path / "home", cwd=tmp_path)
    assert done.stdout.count("['एक', 'दो']") == 2, done.stderr
    blob = hashlib.sha1((folder / "hi.txt").read_bytes()).hexdigest()  # as this Hub states it
    assert done.stdout.count(blob) == 2
