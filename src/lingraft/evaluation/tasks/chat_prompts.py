"""Prompts of tasks as conversations, rendered with the chat template of a model.

The current date of a template is the one of training text, so that scores do not depend on the day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lingraft.errors import TokenizerError
from lingraft.packing.chat_encoder import ChatEncoder
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.chat_template import chat_template_of


def open_chats(folder: Path, tokenizer: ModelTokenizer) -> ChatEncoder:
    """Return the encoder of a model's conversations.

    Raises `TokenizerError` if the model has no chat template.
    """
    template = chat_template_of(tokenizer)
    if template is None:
        msg = (
            f"{folder}: the model has no chat template; leave out "
            "evaluation.tasks.apply_chat_template, or use an instruct model"
        )
        raise TokenizerError(msg)
    return ChatEncoder(tokenizer, template.at_training_date())


def render_prompt(
    chats: ChatEncoder,
    folder: Path,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool,
) -> str:
    """Return a prompt as `ChatEncoder.render` writes it, for `ChatEncoder.encode_rendered`.

    Without `add_generation_prompt`, the model continues the last message. Raises `TokenizerError`
    where the template refuses the conversation.
    """
    attempts, system = [messages], ""
    if messages[0]["role"] == "system":
        # Some templates, as Gemma's, refuse a system message or leave it out, as lm-eval then does.
        system, first = messages[0]["content"].strip(), messages[1]
        question = {**first, "content": f"{system}\n\n{first['content']}"}
        attempts.append([question, *messages[2:]])
    problem = "the chat template leaves the system message out"
    for attempt in attempts:
        try:
            rendered = chats.render(
                attempt,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        except TokenizerError as error:
            problem = str(error)
            continue
        if chats.protect(system) in rendered:
            return rendered
    msg = f"{folder}: {problem}; set evaluation.tasks.apply_chat_template: false"
    raise TokenizerError(msg)
