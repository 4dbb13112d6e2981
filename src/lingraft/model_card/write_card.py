"""Write the whole card: front matter, title, how to load the model, and the other sections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.measurement import Measurement, read_measurements
from lingraft.model_card.card_table import measurement_table
from lingraft.model_card.markdown import (
    front_matter,
    heldout_text,
    loading_class,
    stage_notes,
    texts,
)
from lingraft.model_card.sections import (
    data_section,
    is_chat,
    limits_section,
    method_section,
)
from lingraft.recipe.old_names import current_record
from lingraft.store import write_files

CARD = Path("model") / "README.md"
"""The path of the card in a run folder."""
MULTIMODAL_NOTE = (
    "\n\nImages and sound are processed as by the base model: their encoders were not trained, "
    "their special tokens have the same ids, and the processor files are those of the base."
)


def write_card(folder: Path) -> Path:
    """Write the card of a run folder, or of its draft, and return its path."""
    # Runs of older versions use other names of settings.
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
        "## Before and after\n\n" + measurement_table(rows) + _measured_on(record),
        "## Limits\n\n" + limits_section(record),
    )
    return front_matter(record) + "\n" + "\n\n".join(section.strip() for section in sections) + "\n"


def _measured_on(record: Mapping[str, Any]) -> str:
    """Return on how much held-out text of each language the table rests."""
    texts = [f"{language}: {amount}" for language, amount in heldout_text(record).items()]
    return f" Held-out text: {', '.join(texts)}." if texts else ""


def _title(record: Mapping[str, Any]) -> str:
    recipe = record["recipe"]
    targets = [text["language"] for text in texts(recipe) if text is not recipe.get("replay")]
    is_causal = loading_class(record) == "AutoModelForCausalLM"
    kind = "causal language model" if is_causal else "multimodal language model"
    kind = f"chat model ({kind})" if is_chat(record) else kind
    version = record["versions"].get("lingraft", "")
    is_trained = stage_notes(record, "training") or record.get("received")
    trained = ", and pretraining was continued" if is_trained else ""
    done = (
        "Tokens of the language were learned from text and added to the base's tokenizer, their "
        f"embedding rows were initialised{trained}."
    )
    if not stage_notes(record, "vocabulary").get("added"):
        done = f"No tokens were added{trained}."
    return (
        f"# {record['name']}\n\nA {kind} for {' and '.join(targets)}, adapted from "
        f"{record['source']} with [lingraft](https://pypi.org/project/lingraft/) {version}. "
        f"{done} {_describe_ids(record)}"
    )


def _describe_ids(record: Mapping[str, Any]) -> str:
    """State which ids of the base are unchanged."""
    notes = stage_notes(record, "vocabulary")
    added, dropped = notes.get("added", 0), notes.get("dropped", 0)
    if dropped > added:
        # New tokens take the ids of dropped ones; where these are more, no gaps are left.
        return f"{dropped:,} tokens of the base were dropped, and the others renumbered."
    if dropped:
        return f"{dropped:,} tokens of the base were dropped; the other ids are unchanged."
    return "Every id of the base stands for the same token as before."


def loading_code(record: Mapping[str, Any], folder: str) -> str:
    """Return the Python code that loads the model of a run from a folder."""
    code = next(iter(record["recipe"]["model"].values())).get("trust_remote_code", False)
    option = ", trust_remote_code=True" if code else ""
    name, quoted = loading_class(record), json.dumps(folder, ensure_ascii=False)
    return (
        f"from transformers import {name}, AutoTokenizer\n\n"
        f"model = {name}.from_pretrained({quoted}{option})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({quoted})"
    )


def _use(record: Mapping[str, Any]) -> str:
    """Return the section that shows how to load the model."""
    note = "" if loading_class(record) == "AutoModelForCausalLM" else MULTIMODAL_NOTE
    code = loading_code(record, f"path/to/{record['name']}/model")
    comment = "# the folder of the model, or its id on the Hub"
    chat = _chat_note(record)
    return f"## Use\n\n```python\n{comment}\n{code}\n{_chat_example(record)}```{note}{chat}"


def _chat_note(record: Mapping[str, Any]) -> str:
    """Return what the chat template of a chat model is; empty for other models."""
    if not is_chat(record):
        return ""
    ends = (record.get("source_kind") or {}).get("ends")
    ending = f", with which an answer ends at `{ends}`" if ends else ""
    origin = "instruct model" if record["recipe"].get("chat_vector") else "source"
    return (
        f"\n\nThe chat template is that of the {origin}{ending}. Without it "
        "(`tokenizer(text)`), the model continues a text."
    )


def _chat_example(record: Mapping[str, Any]) -> str:
    """Return the code that generates an answer with a chat model; empty for other models."""
    if not is_chat(record):
        return ""
    return (
        'messages = [{"role": "user", "content": "..."}]\n'
        "inputs = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n)\n'
        "output = model.generate(**inputs, max_new_tokens=200)\n"
        'answer = output[0, inputs["input_ids"].shape[1] :]\n'
        "print(tokenizer.decode(answer, skip_special_tokens=True))\n"
    )
