"""Write an Ollama Modelfile for a GGUF file, with the chat template where Go can express it.

llama.cpp renders the Jinja template in the GGUF file. Ollama does not: it has templates of its own
in Go's syntax, which it chooses by the Jinja template, and sends the prompt as it is if it knows
none. Here, the text around each turn is read from conversations that transformers renders. The
template is written if it renders longer conversations to the same text.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.bases.folder import check_generation_config, read_config
from lingraft.checkpoint.config_files import implied_generation
from lingraft.errors import TokenizerError
from lingraft.export.gguf_tokenizer import adds_bos
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.added_tokens import content_of
from lingraft.tokenizer.chat_template import ChatTemplate, Message, chat_template_of

_SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
"""Settings of generation_config.json -> parameters of Ollama."""

MODELFILE_START = "# llama.cpp: "
"""How every Modelfile of lingraft begins; another one is never replaced."""

_SYSTEM, *_TURNS = (f"\x00{number}\x00" for number in range(6))
"""Contents that no template contains: of a system message, and of turns of user and assistant."""


@dataclass(frozen=True)
class Turns:
    """The text around the contents of turns: what is before and after.

    `system` is `None` if the template puts the system message into the first turn of the user,
    before `separator` and the content. `default` is the system message that the template adds if
    there is none. `answer_start` follows the last turn.
    """

    user: tuple[str, str]
    assistant: tuple[str, str]
    system: tuple[str, str] | None
    separator: str
    default: str
    answer_start: str

    def render(self, messages: Sequence[Message]) -> str:
        """Return the conversation as `go_template` renders it in Ollama."""
        system, rest = self.default, list(messages)
        if rest[0]["role"] == "system":
            system = rest.pop(0)["content"]
        texts = []
        if self.system and system:
            texts.append(self.system[0] + system + self.system[1])
        for number, message in enumerate(rest):
            content = message["content"]
            if system and not self.system and number == 0:
                content = system + self.separator + content
            before, after = self.user if message["role"] == "user" else self.assistant
            texts.append(before + content + after)
        return "".join([*texts, self.answer_start])

    def go_template(self) -> str:
        """Return the template in Go's syntax; Ollama counts a system message as the first one."""
        user = "{{ $message.Content }}"
        system = ""
        if self.system:
            content = f"{self.system[0]}{user}{self.system[1]}"
            system = '{{ if eq $message.Role "system" }}' + content + "{{ end }}"
        else:
            first = "{{ if and $.System (le $i 1) }}{{ $.System }}"
            user = f"{first}{self.separator}{{{{ end }}}}{user}"
        return (
            "{{ range $i, $message := .Messages }}"
            + system
            + '{{ if eq $message.Role "user" }}'
            + f"{self.user[0]}{user}{self.user[1]}"
            + '{{ end }}{{ if eq $message.Role "assistant" }}'
            + f"{self.assistant[0]}{{{{ $message.Content }}}}{self.assistant[1]}"
            + "{{ end }}{{ end }}"
            + self.answer_start
        )


def find_turns(template: ChatTemplate, bos: str) -> Turns | None:
    """Return the text around turns, `None` if it depends on more than the role of the turn.

    `bos` is the token that llama.cpp puts before the text, "" if it does not.
    """
    # Phi-3 puts EOS after a conversation that is not continued.
    for final in ("", template.variables.get("eos_token", "")):
        # A template that refuses a conversation, or leaves out the content of a turn.
        with suppress(TokenizerError, ValueError):
            turns = _with_system(_two_roles(template, bos, final), template, bos)
            if _is_plain(turns) and _renders_as(turns, template, bos):
                return turns
    return None


def _is_plain(turns: Turns) -> bool:
    """Return whether no text would be read as an action of the template, or as its end."""
    around = [*turns.user, *turns.assistant, *(turns.system or ()), turns.separator]
    # An action follows each text but the last: a brace at its end would open the action early.
    early = "{{" in turns.answer_start or any("{{" in f"{text}{{" for text in around)
    return not early and '"""' not in "\n".join([*around, turns.answer_start, turns.default])


def _renders_as(turns: Turns, template: ChatTemplate, bos: str) -> bool:
    for count in (1, 3, 5):
        conversations = [_TURNS[:count]]
        if turns.system:
            conversations.append([_SYSTEM, *_TURNS[:count]])
        for contents in conversations:
            if turns.render(_messages(contents)) != _render(template, contents, bos):
                return False
    return True


def _messages(contents: Sequence[str]) -> list[dict[str, str]]:
    messages = []
    for content in contents:
        role = "system" if content == _SYSTEM else ("user", "assistant")[_TURNS.index(content) % 2]
        messages.append({"role": role, "content": content})
    return messages


def _render(template: ChatTemplate, contents: Sequence[str], bos: str, *, ask: bool = True) -> str:
    rendered = template.render(_messages(contents), add_generation_prompt=ask)
    return rendered.removeprefix(bos)


def _gaps(text: str, contents: Sequence[str]) -> list[str]:
    """Return the text before, between and after the contents."""
    gaps = []
    for content in contents:
        gap, text = text.split(content)
        gaps.append(gap)
    return [*gaps, text]


def _two_roles(template: ChatTemplate, bos: str, final: str) -> Turns:
    """Return the text around turns of user and assistant; `default` is what is before them."""
    one, two, three = _TURNS[:1], _TURNS[:2], _TURNS[:3]
    opening, user_end = _gaps(_render(template, one, bos, ask=False).removesuffix(final), one)
    answer_start = _gaps(_render(template, one, bos), one)[1].removeprefix(user_end)
    answered = _render(template, two, bos, ask=False).removesuffix(final)
    _, turn, answer_end = _gaps(answered, two)
    next_turn = _gaps(_render(template, three, bos), three)[2]
    user_start = next_turn.removeprefix(answer_end)
    return Turns(
        user=(user_start, user_end),
        assistant=(turn.removeprefix(user_end), answer_end),
        system=None,
        separator="\n\n",
        default=opening.removesuffix(user_start),
        answer_start=answer_start,
    )


def _with_system(turns: Turns, template: ChatTemplate, bos: str) -> Turns:
    """Add how a system message is rendered.

    Where the template refuses one, it is put into the first turn of the user, as Gemma 3 does.
    """
    contents = [_SYSTEM, _TURNS[0]]
    try:
        before, between, _ = _gaps(_render(template, contents, bos), contents)
    except TokenizerError:
        return turns
    user_start = turns.user[0]
    if before == user_start:
        return replace(turns, separator=between)
    if not between.endswith(user_start):
        msg = "the system message is not a turn of its own"
        raise ValueError(msg)
    system = before, between.removesuffix(user_start)
    default = turns.default.removeprefix(system[0]).removesuffix(system[1])
    return replace(turns, system=system, default=default)


def read_generation_config(model: Path) -> dict[str, Any]:
    """Return the content of generation_config.json, or without one such settings in config.json.

    Raises `ModelError` if it is no JSON object.
    """
    check_generation_config(model)
    path = model / "generation_config.json"
    if not path.is_file():
        return implied_generation(read_config(model))
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def modelfile(gguf: Path, tokenizer: ModelTokenizer, context: int, ends: Sequence[str]) -> str:
    """Return the text of a Modelfile, with the command of llama-server as a comment.

    Args:
        gguf: the GGUF file, next to which the Modelfile is written.
        tokenizer: the tokenizer of the model, with its chat template.
        context: the context length that the command asks for.
        ends: the tokens that end an answer.
    """
    chat = chat_template_of(tokenizer)
    bos = (content_of(tokenizer.config.get("bos_token")) or "") if adds_bos(tokenizer) else ""
    generation = read_generation_config(tokenizer.folder)
    quoted = f'"./{gguf.name}"' if " " in gguf.name else f"./{gguf.name}"
    file = Path(gguf.name)
    lines = [
        f"{MODELFILE_START}{llama_server(file, context)}",
        f"# Ollama:    {ollama_create(file)}",
        f"FROM {quoted}",
    ]
    turns = find_turns(chat, bos) if chat else None
    if turns:
        lines.append(f'TEMPLATE """{turns.go_template()}"""')
        if turns.default:
            lines.append(f'SYSTEM """{turns.default}"""')
    elif chat:
        lines.append("# The chat template is too complex for a TEMPLATE: Ollama uses its own for")
        lines.append("# chat templates that it knows, and sends the prompt as it is for others.")
    else:
        lines.append('TEMPLATE """{{ .Prompt }}"""')
    lines += [f"PARAMETER stop {_quote(end)}" for end in ends]
    if generation.get("do_sample"):
        for name, parameter in _SAMPLING.items():
            if generation.get(name) is not None:
                lines.append(f"PARAMETER {parameter} {generation[name]}")
    return "\n".join([*lines, ""])


def _quote(text: str) -> str:
    # Ollama removes the outer quotes and knows no escapes. A value ends at the first line
    # end after a closing quote.
    return f'"""{text}"""' if '"' in text else f'"{text}"'


def modelfile_path(gguf: Path) -> Path:
    """Return the path of the Modelfile of a GGUF file.

    >>> modelfile_path(Path("model-v1.5.gguf")).name, modelfile_path(Path("model-v1.5")).name
    ('model-v1.5.Modelfile', 'model-v1.5.Modelfile')
    """
    return gguf.with_name(f"{gguf.name.removesuffix('.gguf')}.Modelfile")


def llama_server(gguf: Path, context: int) -> str:
    """Return the command that serves a GGUF file with llama.cpp; --jinja uses its chat template."""
    return f"llama-server -m {_argument(gguf)} -c {context} --jinja"


def ollama_create(gguf: Path) -> str:
    """Return the command that gives a GGUF file to Ollama, under the name of the file.

    >>> ollama_create(Path("My model.gguf"))
    "ollama create my-model -f 'My model.Modelfile'"
    """
    made = modelfile_path(gguf)
    # Names of Ollama have only these characters, and begin with a letter or a digit.
    name = re.sub(r"[^a-z0-9._-]+", "-", made.stem.lower()).strip("-._") or "model"
    return f"ollama create {name} -f {_argument(made)}"


def _argument(path: Path) -> str:
    """Return a path as the shell reads it back, and programs do not take for an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
