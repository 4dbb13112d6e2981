"""The requests that the demo page sends to its server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from lingraft.serving.generator import Message

MAX_GENERATED_BYTES = 4000
CHAT_ROLES = ("system", "user", "assistant")


class RequestError(Exception):
    """A request that is refused, with its HTTP status and the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class CompletionRequest:
    """A request of the page: which model continues a prompt, and for how many bytes.

    With `messages`, the model answers this conversation instead of continuing `prompt`.
    """

    side: str
    prompt: str
    size: int
    messages: tuple[Message, ...] = ()

    @classmethod
    def read(cls, body: bytes, sides: Mapping[str, Any]) -> CompletionRequest:
        """Read the body of a request; raises `RequestError` if a value is not as expected."""
        try:
            values = json.loads(body)
            side, size = values["side"], values["bytes"]
            messages = tuple(map(_read_message, values.get("messages", ())))
            prompt = "" if messages else values["prompt"]
            prompt.encode("utf-8")  # fails for a lone surrogate, which is not valid text
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            reason = (
                "expected JSON with side, bytes, and prompt (text) or messages (each with role "
                "and content)"
            )
            raise RequestError(HTTPStatus.BAD_REQUEST, reason) from None
        if side not in tuple(sides):
            reason = f"side: expected one of {', '.join(sides)}"
            raise RequestError(HTTPStatus.BAD_REQUEST, reason)
        # Not isinstance: true is an int in Python.
        if type(size) is not int or not 1 <= size <= MAX_GENERATED_BYTES:
            reason = f"bytes: expected a whole number from 1 to {MAX_GENERATED_BYTES}"
            raise RequestError(HTTPStatus.BAD_REQUEST, reason)
        return cls(side, prompt, size, messages)


def _read_message(message: Mapping[str, str]) -> Message:
    """Return a message of a request; raises `ValueError` or `TypeError` if it is not one."""
    role, content = message["role"], message["content"]
    if role not in CHAT_ROLES:
        msg = f"role: expected one of {', '.join(CHAT_ROLES)}"
        raise ValueError(msg)
    content.encode("utf-8")
    return {"role": role, "content": content}
