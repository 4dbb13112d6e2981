"""The demo page: one HTML file with its style and script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lingraft.display_text import language_name, language_tag, plain
from lingraft.page_style import page_style
from lingraft.serving.generator import NO_TEMPLATE, TextGenerator
from lingraft.serving.model_pair import ModelPair

HERE = Path(__file__).parent


@dataclass(frozen=True)
class ChatOffer:
    """Whether the page offers a chat; `problem` says why not, where a model has a template."""

    offered: bool = False
    problem: str = ""

    @classmethod
    def of(cls, generators: Mapping[str, TextGenerator]) -> ChatOffer:
        """Offer a chat if the template of each model renders a message."""
        problems = {side: generator.chat_problem for side, generator in generators.items()}
        # Two base models need no explanation.
        if set(problems.values()) <= {NO_TEMPLATE}:
            return cls()
        found = [f"{side}: {problem}" for side, problem in problems.items() if problem]
        return cls(not found, "; ".join(found))

    def describe(self) -> str:
        """Return which mode the page opens in, and why."""
        if self.offered:
            return "chat through the chat template; the page can switch to continuing a text"
        reason = f"no chat: {self.problem}" if self.problem else "the models have no chat template"
        return f"the models continue a text ({reason})"


def page(
    pair: ModelPair, *, token: str, nonce: str, max_bytes: int, chat: ChatOffer | None = None
) -> str:
    """Return the HTML of the page.

    The page sends `token` with its requests. `nonce` allows its own script in the content security
    policy.
    """
    chat = chat or ChatOffer()
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own_style = Markup((HERE / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    script = Markup((HERE / "page.js").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return environment.get_template("page.html.j2").render(
        name=plain(pair.name),
        source=plain(pair.source_name),
        language=plain(language_name(pair.language)),
        tag=language_tag(pair.language),
        added=len(pair.added),
        prompts=[plain(prompt) for prompt in pair.prompts],
        token=token,
        nonce=nonce,
        max_bytes=max_bytes,
        chat=chat.offered,
        chat_problem=plain(chat.problem),
        style=page_style() + own_style,
        script=script,
    )
