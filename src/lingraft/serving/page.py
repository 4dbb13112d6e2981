"""The page that the server sends: one file, with its style and script inside, everything foreign escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lingraft.formatting import language_name, language_tag, plain
from lingraft.report.run_page import style
from lingraft.serving.pair import Pair

HERE = Path(__file__).parent


def page(pair: Pair, *, token: str, nonce: str, most: int) -> str:
    """Return the HTML of a pair's page; `token` goes with what it asks, `nonce` lets its own script run."""
    made = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                       lstrip_blocks=True)
    own = Markup((HERE / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of this package
    script = Markup((HERE / "page.js").read_text(encoding="utf-8"))  # noqa: S704 - a file of this package
    return made.get_template("page.html.j2").render(
        name=plain(pair.name), source=plain(pair.source_name), language=plain(language_name(pair.language)),
        tag=language_tag(pair.language), added=len(pair.added), prompts=[plain(prompt) for prompt in pair.prompts],
        token=token, nonce=nonce, most=most, style=style() + own, script=script)
