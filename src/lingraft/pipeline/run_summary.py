"""The question that a run answers, and the answer in sentences.

A sentence claims an improvement or a loss only if the intervals support it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lingraft.display_text import language_name
from lingraft.formatting import (
    counted,
    join_words,
    number,
    percent,
    signed_interval,
    size,
)
from lingraft.measurement import MIN_DOCUMENTS, MetricChange, find_change, find_fertility
from lingraft.measurement_text import LARGE_FACTOR
from lingraft.model_card.markdown import heldout_text
from lingraft.model_card.sections import chat_statement, received_statement
from lingraft.pipeline.run_files import RunFiles


def question(run: RunFiles) -> str:
    """Return the question that the run answers."""
    target = join_words([_described(run, language) for language in run.targets])
    changes = []
    if run.splice is not None and run.splice.new:
        changes.append(f"with {len(run.splice.new):,} added tokens for {target}")
    if trained := training_bytes(run):
        changes.append(f"trained on {size(trained)} of text")
    changed = f", {join_words(changes)}," if changes else ""
    forgets = f", and how much {language_name(run.base)} does it forget" if run.base else ""
    return f"Does {run.record['source']}{changed} read and predict {target} better{forgets}?"


def training_bytes(run: RunFiles) -> int:
    """Return how many bytes the model was trained on, 0 without training."""
    trained = 0
    for record in run.training or ():
        trained = max(trained, int(record.get("bytes", 0)))
    return trained


def answer(run: RunFiles, table: Sequence[MetricChange]) -> list[str]:
    """Return the sentences of the answer."""
    source = str(run.record["source"])
    return [_capitalise(sentence, source) for sentence in _sentences(run, table) if sentence]


def _capitalise(sentence: str, source: str) -> str:
    """Capitalise the first letter, unless the sentence starts with the name of a model."""
    is_description = source.startswith(("a model ", "random weights "))
    if sentence.startswith(source) and not is_description:
        return sentence
    return sentence[0].upper() + sentence[1:]


def headline(run: RunFiles, table: Sequence[MetricChange]) -> list[str]:
    """Return the first sentences of the answer: tokens and bits per byte, before and after."""
    source = str(run.record["source"])
    return [_capitalise(sentence, source) for sentence in _headline(run, table) if sentence]


def _sentences(run: RunFiles, table: Sequence[MetricChange]) -> Iterator[str]:
    yield from _headline(run, table)
    if run.base and run.base not in run.targets:
        identical = find_change(table, "documents tokenised identically", run.base)
        yield _identical_sentence(identical, language_name(run.base))
    for target in run.targets:
        speed = find_change(table, "generation speed", target)
        yield _speed_sentence(speed, _described(run, target))
    yield _certificate_sentence(run)


def _headline(run: RunFiles, table: Sequence[MetricChange]) -> Iterator[str]:
    source = str(run.record["source"])
    for wrong in run.record.get("wrong_scripts", ()):
        name = language_name(wrong["language"])
        yield (
            f"The text given as {name} has {percent(wrong['share'])} of its letters in "
            f"{wrong['found']}, not in {wrong['expected']}: the results say nothing about {name}."
        )
    for target in run.targets:
        # Text of punctuation only has no words.
        tokens = find_fertility(table, target) or find_change(table, "tokens per byte", target)
        name = _described(run, target)
        yield _tokens_sentence(tokens, source, name, _amount(run, tokens))
        bits = find_change(table, "bits per byte", target)
        yield _bits_sentence(bits, name, _amount(run, bits))
    if run.base and run.base not in run.targets:
        bits = find_change(table, "bits per byte", run.base)
        yield _bits_sentence(bits, _described(run, run.base), _amount(run, bits))
    elif not run.base:
        yield "Forgetting was not measured: the recipe has no replay text."
    if "stages" in run.record:
        yield received_statement(run.record)
        yield chat_statement(run.record)


def _described(run: RunFiles, language: str) -> str:
    """Return the name of a language; of text in another script, that it was given as that."""
    wrong = {found["language"] for found in run.record.get("wrong_scripts", ())}
    name = language_name(language)
    return f"the text given as {name}" if language in wrong else name


def _amount(run: RunFiles, entry: MetricChange | None) -> str:
    """Return how much held-out text a metric was measured on."""
    if entry is None or entry.last is None:
        return ""
    measured = heldout_text(run.record).get(entry.language)
    return measured or counted(entry.last.n, entry.last.per)


def _tokens_sentence(entry: MetricChange | None, source: str, target: str, amount: str) -> str:
    if entry is None or not entry.factor or entry.last is None:
        return f"The number of tokens that {source} needs for {target} was not measured."
    before, after = entry.rows["source"], entry.last
    numbers = f"{number(before.value)} before, {number(after.value)} after, {entry.metric}"
    numbers += f", on {amount}"
    if entry.verdict == "same":
        unchanged = f"{number(after.value)} {entry.metric}, on {amount}"
        return f"{source} needs as many tokens for {target} as before ({unchanged})."
    if entry.verdict == "few":
        values = f"from {number(before.value)} to {number(after.value)}"
        return f"{entry.metric.capitalize()} on {target} went {values}, {_too_few(amount)}."
    if entry.verdict == "unclear":
        # Rounded before formatting, so that "fewer" and "more" show at most one decimal.
        change = f"{percent(round(abs(1 - entry.factor), 3))}"
        change += " fewer" if entry.factor < 1 else " more"
        return (
            f"{source} needs {change} tokens for {target} on the held-out text ({numbers}); the "
            "two intervals over documents overlap."
        )
    no_interval = "; measured without an interval" if entry.verdict == "no interval" else ""
    if entry.factor > 1:
        times = f"{entry.factor:.2f} times"
        return f"{source} needs {times} as many tokens for {target} ({numbers}{no_interval})."
    times_fewer = 1 / entry.factor
    fewer = percent(round(1 - entry.factor, 3))
    if times_fewer >= LARGE_FACTOR:
        fewer = f"{times_fewer:.2f} times"
    return f"{source} needs {fewer} fewer tokens for {target} ({numbers}{no_interval})."


def _bits_sentence(entry: MetricChange | None, language: str, amount: str) -> str:
    if entry is None or entry.factor is None or entry.last is None:
        return f"Bits per byte on {language} was not measured."
    before, after = entry.rows["source"].value, entry.last.value
    values = f"from {number(before)} to {number(after)}"
    if entry.verdict == "same":
        return f"Bits per byte on {language} stayed at {number(after)}, on {amount}."
    if entry.verdict == "few":
        return f"Bits per byte on {language} went {values}, {_too_few(amount)}."
    if entry.verdict == "unclear":
        return f"Bits per byte on {language} shows no detectable change ({values}, on {amount})."
    verb = "fell" if after < before else "rose"
    return (
        f"Bits per byte on {language} {verb} {values} (lower is better{_certainty(entry)}; on "
        f"{amount})."
    )


def _too_few(amount: str) -> str:
    """Return the part of a sentence that says why nothing is claimed."""
    return f"measured on {amount}: too few to say better or worse (at least {MIN_DOCUMENTS})"


def _certainty(entry: MetricChange) -> str:
    """Return the interval of a change, or that there is none, to stand in brackets."""
    if entry.verdict == "no interval":
        return "; without an interval"
    difference = entry.difference
    if difference is None or not difference.confidence:
        return ""
    interval = signed_interval(difference.value, difference.low, difference.high)
    level = percent(difference.confidence)
    return f"; {level} interval of the change: {interval}" if interval else ""


def _identical_sentence(entry: MetricChange | None, language: str) -> str:
    if entry is None or entry.last is None:
        return ""
    share = "All" if entry.last.value == 1 else f"{percent(entry.last.value)} of"
    return f"{share} {entry.last.n:,} {language} documents are tokenised as before."


def _speed_sentence(entry: MetricChange | None, target: str) -> str:
    if entry is None or entry.factor is None or entry.last is None:
        return ""
    return (
        f"It generates {target} at {entry.factor:.2f} times the speed in bytes per second "
        f"({counted(entry.last.n, 'prompt')} on this machine, without an interval)."
    )


def _certificate_sentence(run: RunFiles) -> str:
    if run.claims is None:
        return "No certificate was written."
    count, broken, informative = 0, [], []
    for claim in run.claims:
        # A claim about 0 items was not checked, so it does not count as one that holds.
        holds = claim["holds"] and claim.get("of", 1)
        if not claim.get("fatal", True):
            exceptions = f"{claim['name']} (except {claim['value']:,} of {claim['of']:,})"
            informative += [] if claim["holds"] else [exceptions]
            continue
        count += 1
        broken += [] if holds else [str(claim["name"])]
    others = (
        f" For information only, these hold in part: {join_words(informative)}."
        if informative
        else ""
    )
    if not broken:
        what = f"All {count} certified claims" if count > 1 else "The certified claim"
        return f"{what} about the tokenizer hold{'' if count > 1 else 's'}.{others}"
    return (
        f"{count - len(broken)} of {count} certified claims about the tokenizer hold; these do "
        f"not: {join_words(broken)}.{others}"
    )
