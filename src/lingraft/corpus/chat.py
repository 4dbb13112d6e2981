"""Chat data: records with messages, with instruction and answer, or with rendered chat markup.

Each record becomes a `Conversation`: messages with roles. As a string, it is the text of its
messages, which cleaning, tokenizer learning and held-out scoring read. Packing renders the messages
with the model's own chat template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from lingraft.errors import CorpusError

Message = dict[str, str]

ROLES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "ai": "assistant", "function": "tool", "observation": "tool",
    "prompter": "user",
}  # fmt: skip
"""Role names of other conventions -> the role names that chat templates use."""
_KNOWN_ROLES = frozenset({*ROLES, *ROLES.values(), "system"})
CALL_ROLES = frozenset({"function_call", "tool_call"})
"""Roles of messages that call a tool, in ShareGPT data with tools."""

MESSAGE_FIELDS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")
QUESTION_FIELDS = ("instruction", "prompt", "question", "query", "inputs", "input")
ANSWER_FIELDS = ("output", "response", "completion", "answer", "targets", "target")
CONTEXT_FIELDS = ("input", "context")
SYSTEM_FIELDS = ("system", "system_prompt")
HISTORY_FIELD = "history"
"""Earlier turns of an instruction, as pairs of question and answer or as messages."""

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
_SEQUENCE_MARKS = re.compile(
    r"<s>|</s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|<\|end_of_text\|>|\s+"
)


class Conversation(str):
    """The messages of a chat; as a string, their contents with blank lines between them."""

    __slots__ = ("messages",)
    messages: tuple[Message, ...]

    def __new__(cls, text: str, messages: Sequence[Message] = ()) -> Self:
        """Create the string and attach the messages whose content it is."""
        conversation = super().__new__(cls, text)
        conversation.messages = tuple(messages)
        return conversation

    def __getnewargs__(self) -> tuple[str, tuple[Message, ...]]:  # type: ignore[override]
        """Return the arguments from which pickle creates an equal object."""
        return str(self), self.messages

    @classmethod
    def of(cls, messages: Sequence[Message], place: str = "", problem: str = "") -> Conversation:
        r"""Create a conversation, an `IncompleteConversation` if a message has no text.

        `problem` says why it is incomplete for another reason. A system message without text is
        left out: many data sets have the field in every record.

        >>> Conversation.of([{"role": "user", "content": "Hi"}, {"role": "bot", "content": "Yes?"}])
        'Hi\n\nYes?'
        """
        contents, kept = [], []
        for number, message in enumerate(messages, start=1):
            content = message["content"]
            if content.strip():
                contents.append(content)
                kept.append(message)
            elif message["role"] != "system":
                problem = problem or f"message {number} ({message['role']}) has no text"
        text = "\n\n".join(contents)
        if problem and text:
            return IncompleteConversation.at(place, problem, text)
        return cls(text, kept)

    def to_json(self) -> str:
        """Return the messages as JSON."""
        return json.dumps(self.messages, ensure_ascii=False)

    @classmethod
    def from_json(cls, stored: str) -> Conversation:
        """Read what `to_json` wrote."""
        return cls.of(json.loads(stored))


class IncompleteConversation(Conversation):
    """The empty conversation in place of one that has a message which is not text.

    `problem` is its place and the reason, `text_bytes` the size of the text that it has.
    """

    __slots__ = ("problem", "text_bytes")
    problem: str
    text_bytes: int

    @classmethod
    def at(cls, place: str, reason: str, text: str) -> IncompleteConversation:
        """Return the conversation at a place, "" where the place is not known."""
        conversation = cls("")
        conversation.problem = f"{place}: {reason}" if place else reason
        # Half of a surrogate pair cannot be encoded, and the text is only counted here.
        conversation.text_bytes = len(text.encode(errors="replace"))
        return conversation


def encode_document(text: str) -> bytes:
    """Return a document, text or conversation, as bytes for `decode_document`."""
    # Plain text is stored as it is, so that text corpora pay nothing. A NUL byte marks the rest.
    if isinstance(text, Conversation):
        return b"\0c" + text.to_json().encode()
    content = text.encode()
    return b"\0t" + content if content.startswith(b"\0") else content


def decode_document(content: bytes) -> str:
    r"""Return the document that `encode_document` encoded.

    >>> [decode_document(encode_document(text)) for text in ("plain", chr(0) + "c[]")]
    ['plain', '\x00c[]']
    """
    if content.startswith(b"\0c"):
        return Conversation.from_json(content[2:].decode())
    return content.removeprefix(b"\0t").decode()


def conversation_fields(field: str) -> tuple[str, ...]:
    """Return the fields of a record from which `parse_conversation` may take the conversation."""
    if field != "text":
        return (field, *SYSTEM_FIELDS)
    return (
        *MESSAGE_FIELDS,
        *QUESTION_FIELDS,
        *ANSWER_FIELDS,
        *CONTEXT_FIELDS,
        *SYSTEM_FIELDS,
        HISTORY_FIELD,
        field,
    )


def parse_conversation(record: Mapping[str, Any], field: str, place: str) -> Conversation:
    """Return the conversation of a record; raises `CorpusError` if the record has none.

    `field` names the field with the messages, or with text that has chat markup. For the default,
    "text", known fields are tried: messages, then instruction and answer, then `text`.
    """
    if field != "text" and field not in record:
        known = ", ".join(map(str, record))
        msg = f"{place}: no field {field!r} to take the conversation from (fields: {known})"
        raise CorpusError(msg)
    content = record.get(field)
    if field == "text":
        messages = _first_value(record, MESSAGE_FIELDS)
        if messages is None:
            messages = _instruction_messages(record)
        content = content if messages is None else messages
    content = _with_system(content, record)
    if content == "":
        return Conversation("")
    if isinstance(content, str):
        return parse_markup(content, place)
    if not isinstance(content, Sequence):
        fields = ", ".join(map(str, record))
        msg = (
            f"{place}: format: chat, but the record has no conversation (fields: {fields}); "
            f"expected {', '.join(MESSAGE_FIELDS[:2])}, or instruction and output, or prompt and "
            "response; set text_field to the field of the messages"
        )
        raise CorpusError(msg)
    messages = [_message(entry, place) for entry in content]
    return Conversation.of(messages, place, _not_text(content))


def parse_markup(text: str, place: str) -> Conversation:
    r"""Parse the turns of a text that a chat template rendered; raises `CorpusError` for others.

    >>> text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>"
    >>> parse_markup(text, "x").messages
    ({'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Yes?'})
    """
    if not text.strip():
        return Conversation("")
    for pattern in _MARKUP.values():
        if pattern.search(text):
            turns = [(match["role"], match["text"]) for match in pattern.finditer(text)]
            return _from_turns(turns, pattern.sub("", text), place)
    if _LLAMA2.search(text):
        turns = []
        for match in _LLAMA2.finditer(text):
            for role in ("system", "user", "assistant"):
                if match[role]:
                    turns.append((role, match[role]))
        return _from_turns(turns, _LLAMA2.sub("", text), place)
    known = ", ".join((*_MARKUP, "Llama-2"))
    msg = (
        f"{place}: format: chat, but the text has no turns in a known markup ({known}); set "
        "text_field to the field of the messages, or read the source as text (format: text)"
    )
    raise CorpusError(msg)


def _from_turns(turns: Sequence[tuple[str, str]], rest: str, place: str) -> Conversation:
    outside = _SEQUENCE_MARKS.sub("", rest)
    if outside:
        # Dropping it would lose text without a count, and it is usually a sign of broken markup.
        msg = f"{place}: text outside the turns of the chat markup: {outside[:40]!r}; correct it"
        raise CorpusError(msg)
    messages = []
    for role, text in turns:
        messages.append({"role": _known_role(role), "content": text.strip()})
    return Conversation.of(messages, place)


def _not_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return which message has more than text, "" if none has: without it, it is another one."""
    for number, entry in enumerate(entries, start=1):
        calls = entry.get("tool_calls") or entry.get("function_call")
        if calls or entry.get("role", entry.get("from")) in CALL_ROLES:
            return f"message {number} has tool calls"
        content = entry.get("content", entry.get("value"))
        for part in content if isinstance(content, list) else ():
            if _text_of_part(part) is None:
                kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
                return f"message {number} has a part that is not text ({kind or 'of no type'})"
    return ""


def _text_of_part(part: object) -> str | None:
    """Return the text of a content part; `None` for an image and all else that is not text."""
    if not isinstance(part, Mapping):
        return part if isinstance(part, str) else None
    text, kind = part.get("text"), part.get("type")
    if text is None and kind == "text":
        return ""
    # Tables have the same fields for all parts: that of an image may have an empty text.
    return text if isinstance(text, str) and (text or kind in (None, "text")) else None


def _first_value(record: Mapping[str, Any], fields: Sequence[str]) -> Any:
    """Return the value of the first field that is not null, `None` if there is none."""
    for field in fields:
        if record.get(field) is not None:
            return record[field]
    return None


def _with_system(messages: Any, record: Mapping[str, Any]) -> Any:
    """Return messages after the system prompt that the record has next to them, if it has one."""
    system = next((record[name] for name in SYSTEM_FIELDS if record.get(name)), None)
    if not (isinstance(system, (str, list)) and isinstance(messages, list) and messages):
        return messages
    first = messages[0]
    if _is_message(first) and _known_role(str(first.get("role", first.get("from")))) == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]


def _instruction_messages(record: Mapping[str, Any]) -> list[Any] | None:
    """Return the messages of a record with instruction (and context) and answer, or `None`."""
    question, answer = _first_value(record, QUESTION_FIELDS), _first_value(record, ANSWER_FIELDS)
    if question is None or answer is None:
        return None
    answers = answer if _are_messages(answer) else [{"role": "assistant", "content": answer}]
    # Conversational prompt-completion data, as TRL defines it: both fields are lists of messages.
    if _are_messages(question):
        return [*_history(record), *question, *answers]
    # `input` is the question of some data sets and the context of an Alpaca instruction.
    question_field = next(name for name in QUESTION_FIELDS if record.get(name) is not None)
    for field in CONTEXT_FIELDS:
        if field != question_field and record.get(field):
            question = _with_context(question, record[field])
    return [*_history(record), {"role": "user", "content": question}, *answers]


def _with_context(question: Any, context: Any) -> str | None:
    """Return a question with its context, one text or several; `None` if one is not text."""
    texts = [question, *(context if isinstance(context, list) else [context])]
    return "\n\n".join(texts) if all(isinstance(text, str) for text in texts) else None


def _history(record: Mapping[str, Any]) -> list[Any]:
    """Return the messages of the turns before an instruction; what is no turn has no text."""
    turns: Any = record.get(HISTORY_FIELD)
    if _are_messages(turns):
        return list(turns)
    messages = []
    for turn in turns if isinstance(turns, list) else ():
        asked, answered = turn if isinstance(turn, list) and len(turn) == 2 else (None, None)
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answered})
    return messages


def _are_messages(value: Any) -> bool:
    """Return whether a value is a list of messages, and not of the parts of one."""
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def _is_message(entry: object) -> bool:
    return isinstance(entry, Mapping) and ("role" in entry or "from" in entry)


def _message(entry: object, place: str) -> Message:
    if not isinstance(entry, Mapping):
        msg = f"{place}: expected a message with role and content, got {type(entry).__name__}"
        raise CorpusError(msg)
    # ShareGPT calls the two fields "from" and "value".
    role, content = entry.get("role", entry.get("from")), entry.get("content", entry.get("value"))
    if isinstance(content, list):  # content parts, as chat data of multimodal models has them
        content = "".join([_text_of_part(part) or "" for part in content])
    if not isinstance(role, str) or not (content is None or isinstance(content, str)):
        known = ", ".join(map(str, entry))
        msg = f"{place}: a message needs role and content (or from and value), got {known}"
        raise CorpusError(msg)
    return {"role": _known_role(role), "content": content or ""}


def _known_role(role: str) -> str:
    """Return the name that chat templates use for a role; a role of no convention stays."""
    name = role.lower()
    return ROLES.get(name, name) if name in _KNOWN_ROLES else role
