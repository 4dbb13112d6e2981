"""The HTTP server of the demo page. It listens on the loopback address and requires a token.

A website can make a browser send requests to this machine: through DNS rebinding, or with a form.
So each request must name this machine as its host and carry the token of this server, and a POST
must be JSON from the page's own origin. The page is one file with its style and script, and all
text that comes from a model or a run is escaped. The models generate one at a time, because two at
once would slow each other down and distort the measured speeds.
"""

from __future__ import annotations

import errno
import hmac
import json
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from lingraft.errors import LingraftError, StoreError
from lingraft.serving.completion_request import (
    MAX_GENERATED_BYTES,
    CompletionRequest,
    RequestError,
)
from lingraft.serving.generator import EncodedPrompt, Event, TextGenerator
from lingraft.serving.model_pair import ModelPair
from lingraft.serving.page import ChatOffer, page

# The loopback address: other machines cannot connect.
HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 64 * 1024
MAX_LENGTH_DIGITS = 9
TOKEN_HEADER = "X-Lingraft-Token"  # noqa: S105 - the name of a header
CONNECTION_CLOSED = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class DemoServer(ThreadingHTTPServer):
    """The server of the page; `address` is the URL to open in a browser, with the token."""

    # Ctrl-C ends the process at once, without waiting for a generation.
    daemon_threads = True
    allow_reuse_address = True
    # With the 5 of socketserver, a burst of connections waits whole seconds for the next try.
    request_queue_size = 64

    def __init__(self, port: int, pair: ModelPair, generators: Mapping[str, TextGenerator]) -> None:
        super().__init__((HOST, port), Handler)
        self.pair, self.generators = pair, generators
        self.token = secrets.token_urlsafe(24)
        self.generation_lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """The URL to open in a browser."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names that a request may use for this machine."""
        return (f"{HOST}:{self.port}", f"localhost:{self.port}")

    def is_token(self, given: str | None) -> bool:
        """Compare a token with the server's, in a time that does not depend on the result."""
        return hmac.compare_digest((given or "").encode(), self.token.encode())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a connection that the browser closed (page closed, Stop pressed)."""
        if not isinstance(sys.exception(), CONNECTION_CLOSED):
            super().handle_error(request, client_address)

    def encode(self, request: CompletionRequest) -> EncodedPrompt:
        """Return what the model reads; raises `RequestError` if its chat template refuses it."""
        generator = self.generators[request.side]
        try:
            if request.messages:
                return generator.read_chat(request.messages)
            return generator.read_text(request.prompt)
        except LingraftError as error:
            reason = f"{request.side}: {error}"
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, reason) from error

    def generate(self, request: CompletionRequest, prompt: EncodedPrompt) -> Iterator[Event]:
        """Generate with one model while no other one generates."""
        with self.generation_lock:
            yield from self.generators[request.side].generate(prompt, request.size)


def open_server(port: int, pair: ModelPair, generators: Mapping[str, TextGenerator]) -> DemoServer:
    """Listen on a port of the loopback address; 0 chooses a free one.

    Raises `StoreError` if the port cannot be used.
    """
    try:
        return DemoServer(port, pair, generators)
    except (OSError, OverflowError) as error:
        in_use = getattr(error, "errno", None) == errno.EADDRINUSE
        reason = "is in use" if in_use else f"cannot be used ({error})"
        msg = f"--port {port}: {reason}; choose another port, or 0 for a free one"
        raise StoreError(msg) from error


class Handler(BaseHTTPRequestHandler):
    """The handler of one connection."""

    server: DemoServer
    # A connection that sends nothing does not keep its thread for ever.
    timeout = 30.0
    server_version = "lingraft"
    sys_version = ""
    common_headers: ClassVar[Mapping[str, str]] = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    def do_GET(self) -> None:
        """Send the page."""
        self._respond(self._get)

    def do_POST(self) -> None:
        """Generate with one model; the response is one line of JSON for each event."""
        self._respond(self._post)

    def _respond(self, method: Callable[[], None]) -> None:
        try:
            self._check_host()
            method()
        except RequestError as error:
            self._send(error.status, f"{error}\n".encode(), "text/plain; charset=utf-8")

    def _check_host(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            reason = f"the host must be {self.server.hosts[0]}"
            raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, reason)

    def _get(self) -> None:
        try:
            parts = urlsplit(self.path)
        except ValueError:
            reason = "malformed address; open the one that `lingraft serve` printed"
            raise RequestError(HTTPStatus.BAD_REQUEST, reason) from None
        if parts.path != "/":
            raise RequestError(HTTPStatus.NOT_FOUND, "not found; the only page is /")
        if not self.server.is_token(parse_qs(parts.query).get("token", [""])[0]):
            reason = "missing token; open the address that `lingraft serve` printed"
            raise RequestError(HTTPStatus.FORBIDDEN, reason)
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        html = page(
            self.server.pair,
            token=self.server.token,
            nonce=nonce,
            max_bytes=MAX_GENERATED_BYTES,
            chat=ChatOffer.of(self.server.generators),
        )
        self._send(
            HTTPStatus.OK,
            html.encode(),
            "text/html; charset=utf-8",
            {"Content-Security-Policy": policy},
        )

    def _post(self) -> None:
        if self.path != "/write":
            raise RequestError(HTTPStatus.NOT_FOUND, "not found; post to /write")
        if not self.server.is_token(self.headers.get(TOKEN_HEADER)):
            reason = "missing or old token; open the address that `lingraft serve` printed"
            raise RequestError(HTTPStatus.FORBIDDEN, reason)
        # A program other than a browser sends no Origin. The token protects against it.
        own_origin = f"http://{self.headers['Host']}"
        if self.headers.get("Origin", own_origin) != own_origin:
            raise RequestError(HTTPStatus.FORBIDDEN, "requests must come from the page itself")
        if self.headers.get_content_type() != "application/json":
            reason = "expected application/json"
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)
        request = CompletionRequest.read(self._body(), self.server.generators)
        prompt = self.server.encode(request)  # an error is the response, not a broken stream
        self._send_headers(HTTPStatus.OK, "application/x-ndjson", {})
        for event in self.server.generate(request, prompt):
            self.wfile.write(json.dumps(event).encode() + b"\n")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
        # int() refuses a string of thousands of digits, and zeros may stand before a huge number.
        if len(length) > MAX_LENGTH_DIGITS or int(length) > MAX_REQUEST_BYTES:
            reason = f"a request may have at most {MAX_REQUEST_BYTES:,} bytes"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        return self.rfile.read(int(length))

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._send_headers(status, kind, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def _send_headers(self, status: HTTPStatus, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **self.common_headers, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - a name of http.server
        """Print no requests, because the first line of a request contains the token."""
