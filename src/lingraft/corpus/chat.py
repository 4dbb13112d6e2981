"""Chats: rows of messages, of instruction and answer, or of text with another chat markup.

Whatever the form of a row, it becomes one `Conversation`: messages with roles. As a document it is
its content text, which is what cleaning, tokenizer learning and held-out scoring see; packing
renders its messages through the model's own chat template.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from lingraft.errors import CorpusError

Message = dict[str, str]

ROLES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "ai": "assistant", "function": "tool", "observation": "tool",
    "prompter": "user",
}  # fmt: skip
"""Roles of other conventions, by the name that templates know."""

MESSAGES = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")
QUESTIONS = ("instruction", "prompt", "question", "query", "inputs", "input")
ANSWERS = ("output", "response", "completion", "answer", "targets", "target")
MORE = ("input", "context")
SYSTEMS = ("system", "system_prompt")

_ROLE = r"(?P<role>system|user|assistant|tool)"
_MARKUP = {
    "ChatML": re.compile(
        r"<\|im_start\|>(?P<role>\w+)\n(?P<text>.*?)(?:<\|im_end\|>|\Z)\s*", re.DOTALL
    ),
    "Llama-3": re.compile(
        r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n\n"
        r"(?P<text>.*?)(?:<\|eot_id\|>|\Z)\s*", re.DOTALL
    ),
    "Gemma": re.compile(
        r"<start_of_turn>(?P<role>\w+)\n(?P<text>.*?)(?:<end_of_turn>|\Z)\s*", re.DOTALL
    ),
    "Zephyr or Phi": re.compile(
        rf"<\|{_ROLE}\|>\n?(?P<text>.*?)"
        r"(?:</s>|<\|end\|>|<\|endoftext\|>|(?=<\|(?:system|user|assistant|tool)\|>)|\Z)\s*",
        re.DOTALL,
    ),
}  # fmt: skip
_LLAMA2 = re.compile(
    r"\[INST\]\s*(?:<<SYS>>(?P<system>.*?)<</SYS>>)?(?P<user>.*?)\[/INST\]"
    r"(?P<assistant>.*?)(?:</s>|(?=\[INST\])|\Z)\s*(?:<s>)?\s*", re.DOTALL
)  # fmt: skip
_AROUND = re.compile(r"<s>|</s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|<\|end_of_text\|>|\s+")


class Conversation(str):
    """Messages; as a string, their contents with a blank line between them."""

    __slots__ = ("messages",)
    messages: tuple[Message, ...]

    def __new__(cls, text: str, messages: Sequence[Message] = ()) -> Self:
        """Keep a text and the messages that it is the content of."""
        made = super().__new__(cls, text)
        made.messages = tuple(messages)
        return made

    def __getnewargs__(self) -> tuple[str, tuple[Message, ...]]:  # type: ignore[override]
        """Say what makes an equal one, for pickling."""
        return str(self), self.messages

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Self:
        r"""Make a conversation; one with a message that has no text is empty.

        >>> Conversation.of([{"role": "user", "content": "Hi"}, {"role": "bot", "content": "Yes?"}])
        'Hi\n\nYes?'
        """
        contents = [message["content"] for message in messages]
        if not all(content.strip() for content in contents):
            return cls("")
        return cls("\n\n".join(contents), messages)

    def to_json(self) -> str:
        """Return the messages as JSON."""
        return json.dumps(self.messages, ensure_ascii=False)

    @classmethod
    def from_json(cls, stored: str) -> Self:
        """Read what `to_json` wrote."""
        return cls.of(json.loads(stored))


def normalised(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """Return a document in a Unicode form: text, or every message of a conversation."""
    if not isinstance(text, Conversation):
        return unicodedata.normalize(form, text)
    messages = []
    for message in text.messages:
        content = unicodedata.normalize(form, message["content"])
        messages.append({**message, "content": content})
    return Conversation.of(messages)


def as_bytes(text: str) -> bytes:
    """Return a document as bytes that `from_bytes` reads, whether it is text or a conversation."""
    if isinstance(text, Conversation):
        return b"\0c" + text.to_json().encode()
    content = text.encode()
    return b"\0t" + content if content.startswith(b"\0") else content


def from_bytes(content: bytes) -> str:
    r"""Return the document that `as_bytes` wrote.

    >>> [from_bytes(as_bytes(text)) for text in ("plain", chr(0) + "c[]")]
    ['plain', '\x00c[]']
    """
    if content.startswith(b"\0c"):
        return Conversation.from_json(content[2:].decode())
    return content.removeprefix(b"\0t").decode() if content.startswith(b"\0t") else content.decode()


def conversation_of(row: Mapping[str, Any], field: str, place: str) -> Conversation:
    """Return the conversation of a row; raises `CorpusError` where the row holds none.

    `field` names where the messages (or text with markup) are; without it, known names are tried:
    messages, then instruction and answer, then `text`.
    """
    named = row.get(field) if field != "text" or "text" in row else None
    if field != "text" and field not in row:
        known = ", ".join(map(str, row))
        msg = (
            f"{place}: there is no field {field!r} to take the conversation from (fields: {known})"
        )
        raise CorpusError(msg)
    if field == "text":
        messages = next((row[name] for name in MESSAGES if row.get(name) is not None), None)
        named = messages if messages is not None else _exchange(row) or named
    if named is None or named == "":
        return _nothing(row, place) if named is None else Conversation("")
    if isinstance(named, str):
        return from_markup(named, place)
    if not isinstance(named, Sequence):
        return _nothing(row, place)
    return Conversation.of([_message(entry, place) for entry in named])


def from_markup(text: str, place: str) -> Conversation:
    r"""Read the turns of a text that another template rendered; raises `CorpusError` for others.

    >>> text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>"
    >>> from_markup(text, "x").messages
    ({'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Yes?'})
    """
    if not text.strip():
        return Conversation("")
    for pattern in _MARKUP.values():
        if pattern.search(text):
            turns = [(one["role"], one["text"]) for one in pattern.finditer(text)]
            return _from_turns(turns, pattern.sub("", text), place)
    if _LLAMA2.search(text):
        turns = []
        for one in _LLAMA2.finditer(text):
            parts = (
                ("system", one["system"]),
                ("user", one["user"]),
                ("assistant", one["assistant"]),
            )
            turns += [(role, part) for role, part in parts if part]
        return _from_turns(turns, _LLAMA2.sub("", text), place)
    known = ", ".join((*_MARKUP, "Llama-2"))
    msg = (
        f"{place}: format: chat, but no messages and no turns of known markup ({known}); name "
        " the field of the messages with text:, or read it as text (format: text)"
    )
    raise CorpusError(msg)


def _from_turns(turns: Sequence[tuple[str, str]], rest: str, place: str) -> Conversation:
    left = _AROUND.sub("", rest)
    if left:
        msg = (
            f"{place}: text outside of the turns of its chat markup: {left[:40]!r}; repair the row"
        )
        raise CorpusError(msg)
    return Conversation.of(
        [{"role": ROLES.get(role, role), "content": text.strip()} for role, text in turns]
    )


def _exchange(row: Mapping[str, Any]) -> list[Any] | None:
    """Return the messages of a row of instruction (and input) and answer, or `None`."""
    question = next((name for name in QUESTIONS if row.get(name) is not None), None)
    answer = next((name for name in ANSWERS if row.get(name) is not None), None)
    if question is None or answer is None:
        return None
    asked, answered = row[question], row[answer]
    if isinstance(asked, list) and isinstance(answered, list):  # both sides in messages, as TRL has
        return [*asked, *answered]
    more = next((row[name] for name in MORE if name != question and row.get(name)), None)
    asked = f"{asked}\n\n{more}" if more else asked
    system = next((row[name] for name in SYSTEMS if row.get(name)), None)
    pairs = (("system", system), ("user", asked), ("assistant", answered))
    return [{"role": role, "content": content} for role, content in pairs if content is not None]


def _message(entry: object, place: str) -> Message:
    if not isinstance(entry, Mapping):
        msg = f"{place}: a message is a mapping with role and content, got {type(entry).__name__}"
        raise CorpusError(msg)
    role, content = entry.get("role", entry.get("from")), entry.get("content", entry.get("value"))
    if isinstance(content, list):  # parts, as models of several modalities have them
        content = "".join(
            str(part.get("text") or "") for part in content if isinstance(part, Mapping)
        )
    if not isinstance(role, str) or not (content is None or isinstance(content, str)):
        known = ", ".join(map(str, entry))
        msg = f"{place}: a message has a role and a content (or from and value), got {known}"
        raise CorpusError(msg)
    return {"role": ROLES.get(role, role), "content": content or ""}


def _nothing(row: Mapping[str, Any], place: str) -> Conversation:
    msg = (
        f"{place}: format: chat, and the row holds no conversation (fields: "
        f"{', '.join(map(str, row))}); expected {', '.join(MESSAGES[:2])}, or instruction and "
        f"output, "
        "or prompt and response; name the field of the messages with text:"
    )
    raise CorpusError(msg)
