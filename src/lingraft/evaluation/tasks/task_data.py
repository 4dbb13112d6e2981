"""The documents of a task, from a local file or a hub data set, with the fields that its prompts name.

Columns are renamed to the task's own fields, labels become numbers, and what a family needs beyond that is done by
its `prepare` step. Whatever cannot be had or read is an error that names the file or data set and what to do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.corpus.records import read_records
from lingraft.errors import CorpusError, HubError
from lingraft.evaluation.tasks.config import TaskData
from lingraft.evaluation.tasks.task_catalogue import Hub, Task

CHOICES = 4
"""How many objects a cloze task ranks, as in the paper."""

Row = dict[str, Any]
Placed = tuple[Row, str]
"""A row and where it was read, for messages."""


def splits_of(task: Task, data: TaskData | None) -> dict[str, list[Row]]:
    """Return the documents of each role: `test`, and `shots` where the worked examples come from elsewhere.

    Raises `CorpusError` for a file and `HubError` for a data set that cannot be had or has other columns.
    """
    if data is not None:
        files = {"test": data.test, **({"shots": data.shots} if data.shots else {})}
        return {role: local_rows(task, path) for role, path in files.items()}
    roles = {"test": task.hub.test, **({"shots": task.hub.shots} if task.hub.shots else {})}
    splits = {}
    for role, split in roles.items():
        where = f"hf:{task.hub.id}/{split}"
        rows = enumerate(hub_rows(task, split), start=1)
        splits[role] = fitted(task, [(row, f"{where}:row {number}") for number, row in rows], where)
    return splits


def local_rows(task: Task, path: str) -> list[Row]:
    """Return the documents of a local file."""
    return fitted(
        task, unfolded(_placed_rows(Path(path).expanduser(), task.columns), task.language), path
    )


def unfolded(rows: Sequence[Placed], language: str) -> list[Placed]:
    """Return rows of one language of files that hold several side by side, and a row for each question on a passage."""
    result: list[Placed] = []
    for row, place in rows:
        own = row[language] if isinstance(row.get(language), dict) else row
        questions = own.get("qas")
        documents = (
            [{**own, **question} for question in questions]
            if isinstance(questions, list)
            else [own]
        )
        result.extend((document, place) for document in documents)
    return result


def fitted(task: Task, rows: Sequence[Placed], where: str) -> list[Row]:
    """Return rows with the task's own fields; raises `CorpusError` naming the row and the missing column."""
    if not rows:
        msg = f"{where}: no documents for {task.name}; expected rows with {', '.join(task.fields)}"
        raise CorpusError(msg)
    documents = [_fitted_row(task, row, place) for row, place in rows]
    return PREPARE[task.prepare](documents) if task.prepare else documents


def _fitted_row(task: Task, row: Mapping[str, Any], place: str) -> Row:
    document: Row = {}
    for field, columns in task.fields.items():
        column = next((column for column in columns if row.get(column) is not None), None)
        if column is None:
            msg = (
                f"{place}: {task.name} needs a column {' or '.join(map(repr, columns))} for its {field}; "
                f"found {', '.join(map(str, row))}"
            )
            raise CorpusError(msg)
        document[field] = row[column]
    if task.labels:
        document["label"] = _label(task, document["label"], place)
    return document


def _label(task: Task, value: object, place: str) -> int:
    """Return the number of a label; where labels have names, their numbers are understood as well."""
    label = str(value).strip().lower()
    by_number = (
        {}
        if any(name.isdigit() for name in task.labels)
        else {str(n): n for n in task.labels.values()}
    )
    number = task.labels.get(label, by_number.get(label))
    if number is None:
        msg = f"{place}: the label {value!r} is none of {', '.join([*task.labels, *by_number])}"
        raise CorpusError(msg)
    return number


def read_rows(path: Path) -> list[Row]:
    """Return the records of a local file, as they are."""
    return [record for record, _ in _placed_rows(path)]


def _placed_rows(path: Path, header: Sequence[str] = ()) -> list[Placed]:
    if not path.is_file():
        msg = f"{path}: there is no such file; evaluation.tasks.data names one for each task that has no hub data set"
        raise CorpusError(msg)
    return list(read_records(path, header=header))


def hub_rows(task: Task, split: str) -> list[Row]:
    """Read a split of the task's data set; raises `HubError` with what to do, a local file among it."""
    hub = task.hub
    if not hub.join:
        rows = _load(task, hub.config, split)
        return [
            row for row in rows if all(row.get(key) == value for key, value in hub.where.items())
        ]
    parts = {
        field: {row[hub.key]: row[hub.column] for row in _load(task, config, split)}
        for field, config in hub.join.items()
    }
    first, *others = parts.values()
    return [
        {field: part[key] for field, part in parts.items()}
        for key in first
        if all(key in o for o in others)
    ]


def _load(task: Task, config: str | None, split: str) -> list[Row]:
    import datasets

    hub = task.hub
    name = (
        f"hf://datasets/{hub.id}" if Path(hub.id).exists() else hub.id
    )  # a folder of that name is not the hub
    try:
        rows = datasets.load_dataset(name, name=config, split=split, revision=hub.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise HubError(unavailable(task, hub, error)) from None
    return [dict(row) for row in rows]


def unavailable(task: Task, hub: Hub, error: BaseException) -> str:
    """Say that a data set cannot be had, why, and how a file is given in its place."""
    reason = " ".join(str(error).split())[:300]
    wanted = "; ".join(f"{field}: {' or '.join(columns)}" for field, columns in task.fields.items())
    return (
        f"{task.name}: the data set hf:{hub.id} cannot be had ({type(error).__name__}: {reason}); give a local "
        f"file: evaluation.tasks.data: {{{task.name}: FILE.jsonl}} with the columns {wanted}"
    )


def _cloze(documents: list[Row]) -> list[Row]:
    """Leave the object out of each fact; its rivals are three other objects of its relation, drawn by the fact."""
    rivals: dict[str, dict[str, None]] = {}
    for document in documents:
        rivals.setdefault(document["relation"], {})[document["object"]] = None
    result = []
    for document in documents:
        text = document["template"].replace("[X]", document["subject"])
        before, _, after = text.partition("[Y]")
        context = before.rstrip()
        draw = random.Random(f"{document['relation']} {document['subject']} {document['object']}")
        others = [item for item in rivals[document["relation"]] if item != document["object"]]
        objects = [document["object"], *draw.sample(others, min(CHOICES - 1, len(others)))]
        draw.shuffle(objects)
        result.append(
            {
                "context": context,
                "choices": [before[len(context) :] + item + after for item in objects],
                "label": objects.index(document["object"]),
                "answer": document["object"],
            }
        )
    return result


def _sums(documents: list[Row]) -> list[Row]:
    """Keep of each answer the number that ends it, and of each question what follows its own introduction."""
    result = []
    for document in documents:
        numbers = re.findall(r"-?\d[\d,.]*", str(document["answer"]))
        number = numbers[-1].rstrip(".").replace(",", "") if numbers else ""
        result.append({**document, "question": str(document["question"]).strip(), "answer": number})
    return result


def _reading(documents: list[Row]) -> list[Row]:
    """Take the first of several answers."""
    return [
        {
            **document,
            "answer": document["answer"]["text"][0]
            if isinstance(document["answer"], dict)
            else document["answer"],
        }
        for document in documents
    ]


PREPARE = {"cloze": _cloze, "reading": _reading, "sums": _sums}
