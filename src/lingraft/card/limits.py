"""What the numbers do not show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lingraft.card.front_matter import texts
from lingraft.card.markdown import bullets, plain


def limits_section(record: Mapping[str, Any]) -> str:
    """Return the limits of what was measured, and the warnings of the run."""
    return bullets(_limits(record))


def _limits(record: Mapping[str, Any]) -> Iterator[str]:
    recipe = record["recipe"]
    yield "One run with one seed: the intervals are over held-out documents, not over trainings."
    measured = ", ".join(dict.fromkeys(text["language"] for text in texts(recipe)))
    yield f"Measured in {measured} only; what became of other languages that the base knows was not looked at."
    notes: Mapping[str, Any] = next((stage["notes"] for stage in record["stages"] if stage["name"] == "vocabulary"), {})
    if touched := notes.get("scripts cut otherwise"):
        yield ("The pre-tokenizer was changed, so the base's text in these scripts is cut otherwise than in its "
               f"pretraining (tokens of two sample sentences, before any token was added): {plain(touched)}.")
    if any(not text.get("heldout") for text in texts(recipe)):
        yield ("Held-out text was set apart from the same sources as the training text; on text of another kind the "
               "numbers will be other ones.")
    if not recipe.get("replay"):
        yield "No text of the base's own language was replayed or measured: what the model forgot is not known."
    kind = next(iter(recipe["model"]))
    if recipe["model"][kind].get("trust_remote_code"):
        yield "The base brings code of its own, which whoever loads the model runs: read the *.py files first."
    if kind in {"random", "pretrain"}:
        yield "The base is no published model: it was made here, small, to show or test the method."
    yield _kind_of_model(record)
    yield ("Nobody has checked what it says for truth, harm or bias, and it has those of its base and of the texts "
           "above.")
    yield from (plain(warning) + "." for warning in record.get("warnings", ()))


def is_chat(record: Mapping[str, Any]) -> bool:
    """Say whether the result is a chat model: its source is one, or a chat vector was added."""
    kind = record.get("source_kind") or {}
    return bool(kind.get("chat") or record["recipe"].get("chat_vector"))


def _kind_of_model(record: Mapping[str, Any]) -> str:
    kind = record.get("source_kind") or {}
    if record["recipe"].get("chat_vector"):
        return ("A chat model: what an instruct model learned beyond the base was added to the adapted base (a chat "
                "vector). How well it follows instructions was not measured.")
    if kind.get("chat"):
        text = "with chat text among it" if kind.get("chat_text") else "without chat text, so that it may chat worse"
        return (f"A chat model: the source is one, its chat template and turn marks are kept, and it was trained "
                f"directly, {text}. How well it follows instructions was not measured.")
    return "A base language model, not tuned to follow instructions by this run."
