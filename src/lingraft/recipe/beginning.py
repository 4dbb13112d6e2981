"""The first recipe of a user: what has no default filled in, the settings that people change most beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.recipe.loading import Given, found_beside, parse_recipe
from lingraft.recipe.reading import Tree, read_text

_RECIPE = """\
# Grafts {language} onto {model}.
#   lingraft plan {file}       what it would do, what it costs
#   lingraft adapt {file}      carries it out
#   lingraft settings          every setting, its default and its meaning
name: {name}
model: {model}    # a folder, or owner/name@revision of a hub
target:
  language: {language}    # a BCP-47 tag, or domain:NAME
  corpus: {text}    # files (.txt .jsonl .csv .parquet, also .gz .zst), globs, or hub data sets owner/name
  # heldout: {{path: heldout.jsonl}}    # text to measure on; left out: a share of the corpus is set apart
  # limit: {{bytes: 100 MB}}            # at most so much text
{replay}
vocabulary:
  method: continued    # merges learned on top of the base's own; also append, replace, prune, none
  size: {size}    # tokens to add, or auto
  pretokenizer: auto    # repaired where it cuts words at vowel signs; keep: the base's own
# embeddings: calibrated    # how new rows are made; `lingraft settings embeddings` lists the methods
training:
  strategy: differential    # every weight, added rows at ten times the rate; also full, lora, rows
  budget: {budget}    # '100M tokens', '1 GB', '1 epoch'
# licences: {{result: cc-by-4.0}}    # what the model card states
seed: 0
"""

_REPLAY = """\
replay:    # text the model knows already: mixed in so that it is not forgotten, measured before and after
  language: {language}
  corpus: {text}
  share: 0.2    # of the bytes of training text"""

_NO_REPLAY = """\
# replay: {{language: en, corpus: english.jsonl, share: 0.2}}    # without it, nothing holds off forgetting"""


def commented_recipe(given: Given, file: Path, *, size: str = "10000", budget: str = "1 epoch") -> str:
    """Return a commented recipe that reads back as what was given; raises `RecipeError` where it would not."""
    needed = {"model": given.model, "language": given.language, "text": given.text}
    missing = " and ".join(name for name, value in needed.items() if not value)
    if missing:
        msg = f"{file}: {missing} must be known for a recipe; give --model, --language and --text"
        raise RecipeError(msg)
    replay = _NO_REPLAY.format()
    if given.base_text:
        replay = _REPLAY.format(language=_scalar(given.base_language or "en"), text=_scalar(list(given.base_text)))
    text = _RECIPE.format(file=file, name=_scalar(f"{file.stem}-{{language}}"), model=_scalar(given.model), size=size,
                          language=_scalar(given.language), text=_scalar(list(given.text)), replay=replay,
                          budget=_scalar(budget))
    tree = read_text(text.encode(), str(file))
    parse_recipe(Tree(found_beside(tree.values, file.parent), tree.origins))
    return text


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
