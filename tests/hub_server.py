"""A hub on the loopback interface, with enough of the protocol for the real hub libraries.

`root/models/OWNER/NAME/*` and `root/datasets/OWNER/NAME/*` are served as repositories with one
branch, `main`, whose commit is a hash of their files. The libraries read HF_ENDPOINT when they are
imported, so the code under test runs in a process of `tests.command_server`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import yaml

API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)(?:/(?P<verb>revision|tree|paths-info)"
    r"/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?"
)
FILE = re.compile(
    r"/(?:(?P<kind>datasets)/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
)


PUSH = re.compile(
    r"/api/(?:(?P<what>repos/create|validate-yaml)"
    r"|models/(?P<id>[^/]+/[^/]+)/(?P<verb>preupload|commit)/main)"
)


class HubServer:
    """A context manager that serves `root` on a port, an ephemeral one if none is given.

    `gated` holds ids whose files answer 401 to all who do not show `token`; `cut` says after how
    many bytes of a file ("OWNER/NAME/PATH") the connection breaks; `requests` lists what
    was asked ("GET /api/..."). Who shows `token` may make models and commit files to them; without
    one, nobody may. `always` is a status and a body for every question; `elsewhere` is the address
    of another server that files are fetched from; `tokens` lists the Authorization headers that
    were shown. `commits` names the commit of a repository ("OWNER/NAME"), where the hash of its
    files is not to be it.
    """

    def __init__(
        self,
        root: Path,
        *,
        gated: set[str] | None = None,
        cut: dict[str, int] | None = None,
        token: str | None = None,
        always: tuple[int, bytes] | None = None,
        elsewhere: str = "",
        commits: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.root = root
        self.gated = gated or set()
        self.cut = cut or {}
        self.token = token
        self.commits = commits or {}
        self.always, self.elsewhere = always, elsewhere
        self.requests: list[str] = []
        self.tokens: list[str] = []
        self._server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a subprocess that is to take this server for the hub."""
        return hub_environment(self.url, home)

    def commit(self, kind: str, repository: str) -> str:
        """The commit of `main`: a hash of the names and contents of its files, or a given name."""
        if repository in self.commits:
            return self.commits[repository]
        total = hashlib.sha1()
        for name, path in sorted(self.files(kind, repository).items()):
            total.update(name.encode() + b"\0" + path.read_bytes())
        return total.hexdigest()

    def files(self, kind: str, repository: str) -> dict[str, Path]:
        folder = self.root / kind / repository
        return {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


def hub_environment(url: str, home: Path) -> dict[str, str]:
    """The environment of a process for which the hub is at `url`, with its cache in `home`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HF_") and not name.lower().endswith("_proxy")
    }
    return kept | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_port = True  # `tests.command_server` holds the port of several servers in turn


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(b"")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            self._answer(b"".join(chunks))
        else:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {self.path}")
        self.hub.tokens.append(self.headers.get("Authorization", ""))
        if self.hub.always:
            self._send(*self.hub.always, {})
            return
        pushed = PUSH.fullmatch(path) if self.command == "POST" else None
        if pushed:
            self._pushed(pushed, body)
            return
        match = API.fullmatch(path) or FILE.fullmatch(path)
        if match is None:
            self._refuse(404, "", "Not found")
            return
        kind, repository, revision = (
            match["kind"] or "models",
            match["id"],
            match["revision"] or "main",
        )
        verb = match["verb"] if match.re is API else "file"
        if not self.hub.files(kind, repository):
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif revision not in {"main", "refs/heads/main", self.hub.commit(kind, repository)}:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif self._closed(repository) and verb not in {None, "revision"}:
            self._refuse(401, "GatedRepo", f"Access to {repository} is restricted")
        elif verb == "file":
            self._file(kind, repository, match["path"])
        elif verb in {None, "revision"}:
            self._json(self._info(kind, repository))
        else:
            self._json(
                self._listing(
                    kind, repository, match["path"], body if verb == "paths-info" else None
                )
            )

    def _closed(self, repository: str) -> bool:
        token = self.hub.token
        shown = bool(token) and self.headers.get("Authorization") == f"Bearer {token}"
        return repository in self.hub.gated and not shown

    def _pushed(self, match: re.Match[str], body: bytes) -> None:
        if not self.hub.token or self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._refuse(401, "", f"Invalid credentials: {self.headers.get('Authorization')}")
        elif match["verb"] == "preupload":
            files = json.loads(body)["files"]
            self._json(
                {
                    "files": [
                        {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for file in files
                    ]
                }
            )
        elif match["verb"] == "commit":
            for entry in map(json.loads, body.splitlines()):
                if entry["key"] == "file":
                    path = self.hub.root / "models" / match["id"] / entry["value"]["path"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(base64.b64decode(entry["value"]["content"]))
            commit = self.hub.commit("models", match["id"])
            address = f"{self.hub.url}/{match['id']}/commit/{commit}"
            self._json({"commitUrl": address, "commitOid": commit, "hookOutput": ""})
        elif match["what"] == "validate-yaml":
            self._json({"warnings": [], "errors": []})
        else:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": "1"})

    def _info(self, kind: str, repository: str) -> dict[str, object]:
        files = [
            {"rfilename": name, "size": path.stat().st_size}
            for name, path in self.hub.files(kind, repository).items()
        ]
        return {
            "_id": "0" * 24,
            "id": repository,
            "author": repository.partition("/")[0],
            "private": False,
            "disabled": False,
            "gated": "auto" if repository in self.hub.gated else False,
            "tags": [],
            "sha": self.hub.commit(kind, repository),
            "downloads": 0,
            "likes": 0,
            "siblings": files,
            "cardData": self._card(kind, repository),
            "createdAt": "2026-01-01T00:00:00.000Z",
            "lastModified": "2026-01-01T00:00:00.000Z",
        }

    def _card(self, kind: str, repository: str) -> dict[str, object]:
        """Return the metadata of README.md, as the hub reports it."""
        path = self.hub.root / kind / repository / "README.md"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        return (yaml.safe_load(found[1]) if found else None) or {}

    def _listing(
        self, kind: str, repository: str, under: str | None, body: bytes | None
    ) -> list[dict[str, object]]:
        files = self.hub.files(kind, repository)
        entries = {
            name: {
                "type": "file",
                "path": name,
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for name, path in files.items()
        }
        for name in files:
            for parent in list(Path(name).parents)[:-1]:
                path = parent.as_posix()
                entries[path] = {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
        if body is not None:
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else []
            return [entries[name] for name in wanted if name in entries]
        recursive = "recursive=true" in self.path.lower()
        return [
            entry
            for name, entry in entries.items()
            if (not under or name.startswith(f"{under}/"))
            and (recursive or Path(name).parent == Path(under or "."))
        ]

    def _file(self, kind: str, repository: str, name: str) -> None:
        path = self.hub.files(kind, repository).get(name)
        if path is None:
            self._refuse(404, "EntryNotFound", f"{name} is not in {repository}")
            return
        content = path.read_bytes()
        if self.hub.elsewhere:
            self._send(
                302,
                b"",
                {
                    "Location": self.hub.elsewhere + self.path,
                    "X-Linked-Size": str(len(content)),
                    "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                    "X-Repo-Commit": self.hub.commit(kind, repository),
                },
            )
            return
        start, stop = 0, len(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, stop = int(asked[1]), min(stop, int(asked[2]) + 1 if asked[2] else stop)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.hub.commit(kind, repository))
        self.end_headers()
        if self.command == "HEAD":
            return
        reach = self.hub.cut.get(f"{repository}/{name}", len(content))
        self.wfile.write(content[start : max(start, min(stop, reach))])
        if reach < stop:
            self.close_connection = True

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(
            status,
            json.dumps({"error": message}).encode(),
            {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}),
        )

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
