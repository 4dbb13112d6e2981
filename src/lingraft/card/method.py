"""What was done: the tokens, their rows, the training; with the settings that were used and their references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lingraft.card.markdown import bullets, plain
from lingraft.inits import INITS
from lingraft.selection import SELECTIONS


def method_section(record: Mapping[str, Any]) -> str:
    """Return what was done in one list, in the order of the run."""
    notes = {stage["name"]: stage["notes"] for stage in record["stages"]}
    return bullets([*_vocabulary(record, notes), *_embeddings(record, notes), *_training(notes),
                    f"**Seed:** {record['recipe']['seed']}. Versions: "
                    + ", ".join(f"{name} {number}" for name, number in record["versions"].items()) + "."])


def _vocabulary(record: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[str]:
    found, settings = notes.get("vocabulary", {}), record["method"]["vocabulary"]
    name = next(iter(settings["method"]))
    yield (f"**Vocabulary:** {found.get('family', 'tokenizer')}; {_cited(SELECTIONS, name)}: "
           f"{found.get('added', 0):,} tokens added, {found.get('dropped', 0):,} dropped.")
    if "pre-tokenizer" in found:
        yield f"**Pre-tokenizer:** {plain(str(found['pre-tokenizer']).removeprefix('pre-tokenizer '))}."


def _embeddings(record: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[str]:
    found, chosen = notes.get("embeddings", {}), record["method"]["embeddings"]
    inits = found.get("inits", {})
    for role in inits or ():
        origins = ", ".join(f"{count:,} {plain(origin)}" for origin, count in inits[role].get("origins", {}).items())
        yield f"**New rows, {role}:** {_cited(INITS, next(iter(chosen[role])))}: {origins or 'none'}."


def _training(notes: Mapping[str, Any]) -> Iterator[str]:
    found = notes.get("training")
    if not found:
        yield "**Training:** none."
        return
    yield (f"**Training:** {found['tokens']:,} tokens ({found['bytes']:,} bytes of text, {found['replay_share']:.0%} "
           f"of it replayed) in {found['steps']:,} steps; {found['parameters']:,} parameters; {found['precision']} on "
           f"{found['device']}.")
    if "trunk_steps" in found:
        yield f"**Beginning:** its first {found['trunk_steps']:,} steps are a shorter run's."
    for phase in found["phases"]:
        rates = ", ".join(f"{name} {value:g}" for name, value in phase["learning_rates"].items()
                          if isinstance(value, int | float))
        strategy, schedule = (next(iter(phase[key])) for key in ("strategy", "schedule"))
        yield (f"**Phase:** strategy `{strategy}`{_reference(phase.get('reference'))}, {phase['steps']:,} steps, "
               f"learning rates {rates}, schedule `{schedule}`.")


def _cited(registry: Any, name: str) -> str:
    known = name in registry.names()
    return f"method `{name}`{_reference(getattr(registry[name], 'reference', '') if known else '')}"


def _reference(text: str | None) -> str:
    return f" ({plain(text)})" if text else ""
