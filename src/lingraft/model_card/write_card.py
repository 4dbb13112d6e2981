"""The card as a whole: front matter, what it is, how to load it, data, method, measurements, limits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.measurement import Measurement, read_measurements
from lingraft.model_card.markdown import front_matter, texts
from lingraft.model_card.sections import (
    data_section,
    is_chat,
    limits_section,
    measurement_table,
    method_section,
)
from lingraft.recipe.old_names import current_record
from lingraft.store import write_files

CARD = Path("model") / "README.md"
"""Where a run folder keeps its card."""


def write_card(folder: Path) -> Path:
    """Write the card of a run folder (or of the draft of one) from its run.json and measurements; return its path."""
    record = current_record(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    text = card_text(record, read_measurements(folder / "measurements.parquet"))
    path = folder / CARD
    write_files({path: text})
    return path


def card_text(record: Mapping[str, Any], rows: Sequence[Measurement]) -> str:
    """Return the card of a run: Markdown with YAML front matter."""
    sections = (
        _title(record),
        _use(record),
        "## Data\n\n" + data_section(record),
        "## Method\n\n" + method_section(record),
        "## Before and after\n\n" + measurement_table(rows),
        "## Limits\n\n" + limits_section(record),
    )
    return front_matter(record) + "\n" + "\n\n".join(section.strip() for section in sections) + "\n"


def _title(record: Mapping[str, Any]) -> str:
    recipe = record["recipe"]
    names = " and ".join(
        text["language"] for text in texts(recipe) if text is not recipe.get("replay")
    )
    kind = (
        "causal language model"
        if _loads_with(record) == "AutoModelForCausalLM"
        else "multimodal language model"
    )
    kind = f"chat model ({kind})" if is_chat(record) else kind
    return (
        f"# {record['name']}\n\nA {kind}: {names} grafted onto {record['source']} with "
        f"[lingraft](https://pypi.org/project/lingraft/) {record['versions'].get('lingraft', '')}. Tokens of the "
        "language were learned from text and added to the base's tokenizer, got embedding rows, and the model was "
        f"trained on. {_ids(record)}"
    )


def _ids(record: Mapping[str, Any]) -> str:
    notes: Mapping[str, Any] = next(
        (stage["notes"] for stage in record["stages"] if stage["name"] == "vocabulary"), {}
    )
    dropped = notes.get("dropped", 0)
    return (
        f"{dropped:,} tokens of the base were dropped; the others mean what they meant."
        if dropped
        else "Every id of the base means what it meant before."
    )


def _use(record: Mapping[str, Any]) -> str:
    code = next(iter(record["recipe"]["model"].values())).get("trust_remote_code", False)
    more = ", trust_remote_code=True" if code else ""
    made_by = _loads_with(record)
    images = (
        ""
        if made_by == "AutoModelForCausalLM"
        else (
            "\n\nImages and sound are read as by the base: what reads them was not trained, the tokens that stand for them "
            "have the ids they had, and the processor files are the base's."
        )
    )
    return (
        f"## Use\n\n```python\nfrom transformers import {made_by}, AutoTokenizer\n\n"
        f'folder = "path/to/{record["name"]}/model"  # or its name on a hub\n'
        f"model = {made_by}.from_pretrained(folder{more})\n"
        f"tokenizer = AutoTokenizer.from_pretrained(folder)\n{_chatting(record)}```{images}"
    )


def _chatting(record: Mapping[str, Any]) -> str:
    """Return how a chat model is asked."""
    if not is_chat(record):
        return ""
    return (
        'messages = [{"role": "user", "content": "..."}]\n'
        "inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True,\n"
        '                                       return_tensors="pt")\n'
        "answer = model.generate(**inputs, max_new_tokens=200)\n"
    )


def _loads_with(record: Mapping[str, Any]) -> str:
    notes: Mapping[str, Any] = next(
        (one["notes"] for one in record["stages"] if one["name"] == "embeddings"), {}
    )
    return str(notes.get("loads_with", "AutoModelForCausalLM"))
