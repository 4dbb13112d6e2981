"""The command that writes a first recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lingraft.cli.options import (
    BaseLanguage,
    BaseText,
    BaseTextField,
    Language,
    Model,
    TextField,
    TextFiles,
)
from lingraft.cli.recipe_options import given_texts
from lingraft.errors import RecipeError

if TYPE_CHECKING:
    from lingraft.recipe import Given

RecipeToWrite = Annotated[Path, typer.Argument(metavar="[RECIPE]", help="The recipe to write.")]
VocabularySize = Annotated[
    str, typer.Option(help="How many tokens to add, or auto.", rich_help_panel="What")
]
TrainingBudget = Annotated[
    str,
    typer.Option(
        help="How long to train: '100M tokens', '1 GB', '1 epoch'.", rich_help_panel="What"
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask no questions.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


def init(
    file: RecipeToWrite = Path("recipe.yaml"),
    *,
    model: Model = None,
    language: Language = None,
    text: TextFiles = None,
    text_field: TextField = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    base_text_field: BaseTextField = None,
    size: VocabularySize = "10000",
    budget: TrainingBudget = "1 epoch",
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Write a commented recipe; on a terminal, ask for the settings that options do not give.

    Nothing is downloaded and no text is read. `lingraft plan RECIPE` shows what a run would do.
    """
    from lingraft.recipe.load import commented_recipe
    from lingraft.store import write_files

    if not file.name.endswith((".yaml", ".yml")):
        msg = f"{file}: the name of a recipe must end in .yaml or .yml (others are read as models)"
        raise RecipeError(msg)
    if file.exists() and not force:
        msg = f"{file}: exists already; name another file, or use --force to overwrite it"
        raise RecipeError(msg)
    fields = (text_field, base_text_field)
    given = given_texts(model, language, text, base_language, base_text, fields=fields)
    if not yes and sys.stdin.isatty():
        given = _ask_missing(given)
    write_files({file: commented_recipe(given, file, size=size, budget=budget)})
    typer.echo(f"{file}\nnext: lingraft plan {file}")


def _ask_missing(given: Given) -> Given:
    """Ask on the terminal for what the options do not give."""
    from lingraft.recipe import Given

    model = given.model or typer.prompt("Source model (a folder, or owner/name on the Hub)")
    language = given.language or typer.prompt("Target language (hi, ta, pt-BR, domain:law)")
    text = given.text or _ask_list(
        "Text in the target language (files, globs, Hub datasets; empty for web text from the Hub)"
    )
    # Without any text, the recipe gets both from the Hub (`recipe.default_text`).
    empty = "none" if text and not given.base_language else "web text from the Hub"
    base_text = given.base_text or _ask_list(
        f"Text in a language that the model knows, for replay (empty for {empty})"
    )
    base_language = given.base_language
    if base_text and not base_language:
        base_language = typer.prompt("Language of that text", default="en")
    texts = (text, base_language, base_text, given.text_field, given.base_text_field)
    return Given(model, language, *texts)


def _ask_list(question: str) -> list[str]:
    answer: str = typer.prompt(question, default="", show_default=False)
    return answer.split()
