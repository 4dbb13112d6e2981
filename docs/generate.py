"""Write the pages that come from code and from notebooks.

methods.md comes from the registries, settings.md from the schema, cli.md from the commands,
pretokenizers.md from the table of named pre-tokenizers, trainer.md from its notebook; the table of
receive.md comes from the faults that lingraft knows.

`python docs/generate.py` writes them; a test compares them with what the code says now.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lingraft.recipe.kinds import kind_of
from lingraft.registry import Choice

HERE = Path(__file__).parent


def methods_page() -> str:
    """Return the page of every method that a recipe chooses by name."""
    from lingraft.bases.base import BASES
    from lingraft.embeddings import INITS
    from lingraft.strategies import STRATEGIES
    from lingraft.training.schedules import SCHEDULES
    from lingraft.vocabulary import SELECTIONS

    kinds = (
        ("Choosing tokens", "vocabulary.method", SELECTIONS),
        ("Making their rows", "embeddings", INITS),
        ("What trains", "training.strategy", STRATEGIES),
        ("Learning-rate schedules", "training.schedule", SCHEDULES),
        ("What to start from", "model", BASES),
    )
    head = (
        "# Methods\n\n<!-- written by docs/generate.py -->\n\n"
        "Every method that a recipe can name, from the registries. A method is written as its "
        "name, or as `{name: {setting: value}}`. [Concepts](concepts.md) explains what they mean.\n"
    )
    sections = "".join(
        f"\n## {title}\n\n`{path}` in a recipe.\n{_methods(registry)}"
        for title, path, registry in kinds
    )
    return head + sections + _plans() + _presets() + _text_checks()


def _plans() -> str:
    from lingraft.training.branches import BranchAndMerge
    from lingraft.training.named_plans import PLANS

    lines = [
        "\n## Training plans\n",
        "`training.plan` in a recipe, a name instead of phases: `{plan: paper, budget: 1 MB}`.\n",
        "| name | what it does |",
        "|---|---|",
    ]
    for name, function in PLANS.items():
        lines.append(f"| `{name}` | {_cell(' '.join((function.__doc__ or '').split()))} |")
    lines += [
        "\n## Branches of a phase\n",
        "`training.branch_and_merge` in a recipe.\n",
        *_described(BranchAndMerge),
    ]
    return "\n".join(lines)


def _presets() -> str:
    from lingraft.corpus.presets import presets

    link = "[How-to](how-to.md#text-by-name) says how a language gives a configuration."
    lines = [
        "\n## Text by name\n",
        f"`corpus` in a recipe, or `--text`. {link}\n",
        "| name | data set | configuration | licence | contents |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{preset.name}` | [{preset.repository}](https://huggingface.co/datasets/"
        f"{preset.repository}) | `{_cell(preset.configuration)}` | {preset.licence} | "
        f"{_cell(preset.description)} |"
        for preset in presets().values()
    ]
    return "\n".join(lines) + "\n"


def _text_checks() -> str:
    from lingraft.corpus.health_checks import CHECKS
    from lingraft.formatting import percent

    link = "[How-to](how-to.md#check-and-repair-your-text) says what reads them."
    meaning = (
        "Each has a share of the documents, of the letters or of the characters, from which it "
        "warns, and some have one from which the text is refused."
    )
    lines = [
        "\n## Checks of a text\n",
        f"{meaning} {link}\n",
        "| check | looks for | warns from | refuses from | what helps |",
        "|---|---|---|---|---|",
    ]
    for check in CHECKS:
        refuses = "" if check.refuse is None else percent(check.refuse)
        warns = percent(check.warn) if check.warn else "one"
        lines.append(
            f"| `{check.name}` | {check.title} | {warns} | {refuses} | {_cell(check.remedy)} |"
        )
    return "\n".join(lines) + "\n"


def pretokenizers_page() -> str:
    """Return the page of the pre-tokenizers that llama.cpp has built in."""
    from lingraft.pretokenizer.named_pretokenizers import NAMED_PRETOKENIZERS, TESTED_WITH

    head = (
        "# Pre-tokenizers of llama.cpp\n\n<!-- written by docs/generate.py -->\n\n"
        "A GGUF file stores the name of a pre-tokenizer, not its regex. The table lists the names "
        "under which llama.cpp keeps combining marks inside words, then the names of widespread "
        "bases that split words at marks. It says what llama.cpp does, which differs from the "
        f"model's own tokenizer for some names. `make test` compares it with llama.cpp "
        f'{TESTED_WITH}. "Usable" names can be given to a base with '
        "`vocabulary.pretokenizer`, if they split its text without marks as the base does "
        "([how](how-to.md#a-byte-level-pre-tokenizer-that-cuts-words)). transformers and "
        "vLLM load every regex from tokenizer.json. The last column names the classes of "
        "transformers that build the same rules themselves.\n"
    )
    columns = ("name", "same rules", "marks inside words", "digits", "whole words looked up")
    columns += ("usable", "in llama.cpp since", "remarks", "transformers")
    lines = [f"\n| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for named in NAMED_PRETOKENIZERS:
        cells = (
            f"`{named.name}`",
            ", ".join(f"`{alias}`" for alias in named.aliases),
            _yes(named.marks),
            named.digits,
            _yes(named.whole_words),
            _yes(named.marks and bool(named.expressions)),
            named.since,
            named.remark,
            named.transformers,
        )
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return head + "\n".join(lines) + "\n"


def _yes(value: object) -> str:
    return "yes" if value else ""


def _methods(registry: Any) -> str:
    return "".join(
        _method(cls)
        for cls in sorted(registry, key=lambda cls: cls.name)
        if cls.__module__.startswith("lingraft.")
    )


def _method(cls: Any) -> str:
    return "\n".join([f"\n### {cls.name}\n", *_described(cls)])


def _described(cls: Any) -> list[str]:
    lines = [inspect.cleandoc(cls.__doc__ or ""), ""]
    if getattr(cls, "reference", ""):
        lines += [f"Reference: {cls.reference}.", ""]
    fields = cls.model_fields
    if fields:
        lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{field.alias or name}` | {_cell(kind_of(field.annotation, field.metadata))} | "
            f"{_cell(_default(field))} | {_cell(field.description or '')} |"
            for name, field in fields.items()
        ]
        lines += [""]
    return lines


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Choice):
        return f"`{value.name}`"
    plain = value is None or isinstance(value, (str, int, float, bool))
    return "" if value is None or not plain else f"`{value}`"


def settings_page() -> str:
    """Return the page of every setting of recipes and studies, with the grammar of their paths."""
    from lingraft.recipe import Recipe
    from lingraft.recipe.catalogue import catalogue
    from lingraft.studies.config import Study

    head = (
        "# Settings\n\n<!-- written by docs/generate.py -->\n\n"
        "Every setting of a recipe, as `lingraft settings` prints it. `-o PATH=VALUE` changes one, "
        'and so do `overrides={"PATH": VALUE}` of the library and the axes of a study. '
        "`lingraft settings PATH=VALUE` explains a path and how a value is read.\n\n"
        "A path may leave out what can be known:\n\n"
        "- the index of the only entry of a list: `target.corpus.path` is "
        "`target.corpus.0.path`; an index one past the end adds an entry\n"
        "- `phases.0` of a plan with one phase: `training.budget` is `training.phases.0.budget`\n"
        "- the name of the chosen method: after `-o training.strategy=lora`, "
        "`training.strategy.rank` is `training.strategy.lora.rank`. The name of another method "
        "chooses that method.\n"
        "- `input` and `output` of `embeddings`, to set both: `embeddings.focus.vector_size`\n\n"
        "A setting that is not set has the default of its table.\n"
    )
    parts = [head]
    for title, prefix, model in (("Recipes", "", Recipe), ("Studies", "study", Study)):
        parts.append(f"\n## {title}\n\n| setting | type | default | meaning |\n|---|---|---|---|\n")
        for setting in catalogue(model, prefix):
            default = f"`{_cell(setting.default)}`" if setting.default else ""
            kind, meaning = _cell(setting.kind), _cell(setting.meaning)
            parts.append(f"| `{setting.path}` | {kind} | {default} | {meaning} |\n")
    return "".join(parts)


def cli_page() -> str:
    """Return the page of every command with its options."""
    from typer.main import get_command

    from lingraft.cli import COMMANDS, app

    group: Any = get_command(app)
    head = (
        "# Command line\n\n<!-- written by docs/generate.py -->\n\n"
        "`lingraft --install-completion` sets up completion for your shell. Results go to "
        "standard output, progress and messages to standard error. Progress bars are drawn only "
        "on a terminal, and NO_COLOR turns colours off.\n\n" + _exit_codes()
    )
    parts = [head]
    for panel, commands in COMMANDS.items():
        parts.append(f"\n## {panel}\n")
        parts += ["\n".join(_command(group.commands[command.__name__])) for command in commands]
    return "".join(parts)


def _exit_codes() -> str:
    return (
        "| exit code | meaning |\n|---|---|\n| 0 | done |\n"
        "| 1 | a bug in lingraft, with its traceback |\n"
        "| 2 | an error that you can fix, in one line; nothing half-written is left |\n"
        "| 3 | a training run that cannot continue, or a study of which a cell failed |\n"
        "| 130 | stopped by a signal after saving; the same command resumes |\n"
    )


def _command(command: Any) -> Iterator[str]:
    arguments = [
        parameter for parameter in command.params if parameter.param_type_name == "argument"
    ]
    yield f"\n### lingraft {command.name}\n"
    usage = " ".join([command.name, *(_shown(argument) for argument in arguments), "[OPTIONS]"])
    yield f"```\nlingraft {usage}\n```\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    yield "| option | default | meaning |"
    yield "|---|---|---|"
    for parameter in command.params:
        shown = parameter.param_type_name == "option"
        names = (
            ", ".join(f"`{name}`" for name in parameter.opts) if shown else f"`{_shown(parameter)}`"
        )
        default = (
            parameter.default if isinstance(parameter.default, (str, int, float, Path)) else None
        )
        plain = default is None or default is False or default == ""
        shown = "" if plain else f"`{default}`"
        described = _cell(getattr(parameter, "help", "") or "")
        yield f"| {names} | {shown} | {described} |"
    yield ""


def _shown(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def trainer_page() -> str:
    """Return the notebook on a training loop of one's own, with its outputs."""
    notebook = json.loads((HERE.parent / "notebooks" / "trainer.ipynb").read_text("utf-8"))
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts += [f"```python\n{source}\n```", *map(_output, cell["outputs"])]
    title, *others = parts
    note = "<!-- written by docs/generate.py from notebooks/trainer.ipynb -->"
    heading, _, introduction = title.partition("\n\n")
    where = "This page is `notebooks/trainer.ipynb`, with the outputs of its cells."
    return "\n\n".join([heading, note, introduction, where, *others]) + "\n"


def _output(output: dict[str, Any]) -> str:
    """Return an output of a cell as Markdown: a table as HTML, other text as it is printed."""
    data = output.get("data", {})
    if "text/html" in data:
        table = "".join(data["text/html"])
        # The style of a data frame is for notebooks only.
        table = re.sub(r"<style.*?</style>\s*", "", table, flags=re.DOTALL)
        return re.sub(r"\n\s*", "", table)
    text = "".join(output.get("text") or data["text/plain"])
    return f"```text\n{text.rstrip()}\n```"


def receive_page() -> str:
    """Return the page on models that come back from other engines, with the table of faults."""
    from lingraft.trainers.returned_faults import FAULTS, REPORTED

    text = (HERE / "receive.md").read_text(encoding="utf-8")
    lines = ["| | fault | cause | cure |", "|--:|---|---|---|"]
    for number, (name, fault) in enumerate(FAULTS.items(), 1):
        shown = number if number <= REPORTED else ""
        lines.append(f"| {shown} | {name} | {_cell(fault.cause)} | {_cell(fault.cure)} |")
    start, end = "<!-- faults: written by docs/generate.py -->\n", "<!-- end of faults -->"
    before, _, rest = text.partition(start)
    table = "\n".join(lines)
    return f"{before}{start}{table}\n{end}{rest.partition(end)[2]}"


PAGES = {
    "receive.md": receive_page,
    "methods.md": methods_page,
    "settings.md": settings_page,
    "cli.md": cli_page,
    "pretokenizers.md": pretokenizers_page,
    "trainer.md": trainer_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
