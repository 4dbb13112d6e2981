"""The page that the server sends: one file, with its style and script inside, everything foreign escaped.

The server of the page: on the loopback address alone, for who has the address that was printed at the start.

A page of another site can make a browser send requests here, by its own name for this machine (DNS rebinding) or as a
form. So each request has to name this machine as its host, carry the token of this start, and a POST has to be JSON
from this page's own origin. Models take turns: two that compute at once would spoil each other's speed.
"""

from __future__ import annotations

import errno
import hmac
import json
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lingraft.errors import StoreError
from lingraft.formatting import language_name, language_tag, plain
from lingraft.report.run_page import style
from lingraft.serving.generator import Event, TextGenerator
from lingraft.serving.model_pair import ModelPair

HERE = Path(__file__).parent


def page(pair: ModelPair, *, token: str, nonce: str, most: int) -> str:
    """Return the HTML of a pair's page; `token` goes with what it asks, `nonce` lets its own script run."""
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own = Markup((HERE / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of this package
    script = Markup((HERE / "page.js").read_text(encoding="utf-8"))  # noqa: S704 - a file of this package
    return made.get_template("page.html.j2").render(
        name=plain(pair.name),
        source=plain(pair.source_name),
        language=plain(language_name(pair.language)),
        tag=language_tag(pair.language),
        added=len(pair.added),
        prompts=[plain(prompt) for prompt in pair.prompts],
        token=token,
        nonce=nonce,
        most=most,
        style=style() + own,
        script=script,
    )


HOST = "127.0.0.1"
LONGEST_BODY = 64 * 1024
MOST_BYTES = 4000
TOKEN = "X-Lingraft-Token"  # noqa: S105 - a header's name
GONE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class Refused(Exception):  # noqa: N818 - an answer to the browser, with its status
    """A request that is not answered, and why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class CompletionRequest:
    """What a browser asks for: which side is to go on from a prompt, and for how many bytes."""

    side: str
    prompt: str
    size: int

    @classmethod
    def read(cls, body: bytes, sides: Mapping[str, Any]) -> CompletionRequest:
        """Read the body of a request; raises `Refused` where it is anything else than expected."""
        try:
            values = json.loads(body)
            side, prompt, size = values["side"], values["prompt"], values["bytes"]
            prompt.encode("utf-8")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Refused(
                HTTPStatus.BAD_REQUEST, "expected JSON with side, prompt (text) and bytes"
            ) from None
        if side not in tuple(sides):
            raise Refused(HTTPStatus.BAD_REQUEST, f"side: expected one of {', '.join(sides)}")
        if type(size) is not int or not 1 <= size <= MOST_BYTES:
            raise Refused(
                HTTPStatus.BAD_REQUEST, f"bytes: expected a whole number from 1 to {MOST_BYTES}"
            )
        return cls(side, prompt, size)


class DemoServer(ThreadingHTTPServer):
    """The page's server; `address` is what to open, with the token of this start."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, pair: ModelPair, writers: Mapping[str, TextGenerator]) -> None:
        super().__init__((HOST, port), Handler)
        self.pair, self.writers = pair, writers
        self.token = secrets.token_urlsafe(24)
        self.turn = threading.Lock()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """By what names a browser on this machine may call it."""
        return (f"{HOST}:{self.port}", f"localhost:{self.port}")

    def is_token(self, given: str | None) -> bool:
        """Say whether the token of this start was given, in a time that does not tell how much of it was right."""
        return hmac.compare_digest((given or "").encode(), self.token.encode())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where the page was closed, or Stop pressed, at whatever point; anything else is our bug."""
        if not isinstance(sys.exception(), GONE):
            super().handle_error(request, client_address)

    def write(self, asked: CompletionRequest) -> Iterator[Event]:
        """Let one side write, when it is its turn."""
        with self.turn:
            yield from self.writers[asked.side].write(asked.prompt, asked.size)


def open_server(port: int, pair: ModelPair, writers: Mapping[str, TextGenerator]) -> DemoServer:
    """Listen on a port of the loopback address, 0 for any free one; raises `StoreError` where the port is not free."""
    try:
        return DemoServer(port, pair, writers)
    except (OSError, OverflowError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        reason = "is taken" if taken else f"cannot be listened on ({error})"
        msg = f"--port {port}: {reason}; choose another one, or 0 for any that is free"
        raise StoreError(msg) from error


class Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    server: DemoServer
    timeout = 30.0
    server_version = "lingraft"
    sys_version = ""
    headers_of_all: ClassVar[Mapping[str, str]] = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    def do_GET(self) -> None:
        """Send the page."""
        self._answered(self._get)

    def do_POST(self) -> None:
        """Let a side write, a line of JSON for each token."""
        self._answered(self._post)

    def _answered(self, answer: Any) -> None:
        try:
            self._check_host()
            answer()
        except Refused as refused:
            self._send(refused.status, f"{refused}\n".encode(), "text/plain; charset=utf-8")

    def _check_host(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this server answers as {self.server.hosts[0]} only",
            )

    def _get(self) -> None:
        try:
            parts = urlsplit(self.path)
        except ValueError:
            raise Refused(
                HTTPStatus.BAD_REQUEST, "the address is none: open the one that was printed"
            ) from None
        if parts.path != "/":
            raise Refused(HTTPStatus.NOT_FOUND, "there is one page here: /")
        if not self.server.is_token(parse_qs(parts.query).get("token", [""])[0]):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "open the address that `lingraft serve` printed, with its token",
            )
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        html = page(self.server.pair, token=self.server.token, nonce=nonce, most=MOST_BYTES)
        self._send(
            HTTPStatus.OK,
            html.encode(),
            "text/html; charset=utf-8",
            {"Content-Security-Policy": policy},
        )

    def _post(self) -> None:
        if self.path != "/write":
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing to post here but to /write")
        if not self.server.is_token(self.headers.get(TOKEN)):
            raise Refused(
                HTTPStatus.FORBIDDEN, "the token of this start is missing; open the page anew"
            )
        if (
            self.headers.get("Origin", f"http://{self.headers['Host']}")
            != f"http://{self.headers['Host']}"
        ):
            raise Refused(HTTPStatus.FORBIDDEN, "only the page itself may ask")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        asked = CompletionRequest.read(self._body(), self.server.writers)
        self._head(HTTPStatus.OK, "application/x-ndjson", {})
        for event in self.server.write(asked):
            self.wfile.write(json.dumps(event).encode() + b"\n")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
        if int(length[:9]) > LONGEST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LONGEST_BODY:,} bytes")
        return self.rfile.read(int(length))

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._head(status, kind, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **self.headers_of_all, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server gives it
        """Keep requests off the terminal: their line holds the token."""
