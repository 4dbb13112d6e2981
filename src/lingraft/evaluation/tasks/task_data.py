"""The documents of a task, from a local file or a Hub data set, with the fields of its prompts.

Columns are renamed to the fields of the task, and labels become numbers. Some families need a last
step for all documents (`prepare`), such as the choices of a cloze task. Data that is missing or
unreadable is an error that names the file or data set and says what to do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.corpus.records import read_records
from lingraft.errors import CorpusError, HubError, one_line
from lingraft.evaluation.tasks.config import TaskData
from lingraft.evaluation.tasks.task_catalogue import Hub, Task
from lingraft.store import expanded

CHOICES = 4
"""Number of objects that a cloze task ranks, as in the paper."""

Record = dict[str, Any]
PlacedRecord = tuple[Record, str]
"""A record and where it was read, for error messages."""


def read_splits(task: Task, data: TaskData | None) -> dict[str, list[Record]]:
    """Return the documents of each role: `test`, and `shots` if few-shot examples have a source.

    Raises `CorpusError` for a file and `HubError` for a data set that is missing or unreadable.
    """
    if data is not None:
        files = {"test": data.test, "shots": data.shots}
        return {role: read_local(task, path) for role, path in files.items() if path}
    splits = {}
    for role, split in (("test", task.hub.test), ("shots", task.hub.shots)):
        if not split:
            continue
        where = f"hf:{task.hub.id}/{split}"
        placed = []
        for number, record in enumerate(read_hub(task, split), start=1):
            placed.append((record, f"{where}:row {number}"))
        splits[role] = rename_fields(task, placed, where)
    return splits


def read_local(task: Task, path: str) -> list[Record]:
    """Return the documents of a local file; raises `CorpusError` if they do not fit the task."""
    records = _read_placed(expanded(path), task.columns)
    return rename_fields(task, expand_records(records, task.language), path)


def expand_records(records: Sequence[PlacedRecord], language: str) -> list[PlacedRecord]:
    """Select the language in multilingual records; make a record of each question on a passage.

    A multilingual record holds a record per language. The questions on a passage are in `qas`.
    """
    result: list[PlacedRecord] = []
    for record, place in records:
        own = record[language] if isinstance(record.get(language), dict) else record
        questions = own.get("qas")
        if isinstance(questions, list):
            result.extend(({**own, **question}, place) for question in questions)
        else:
            result.append((own, place))
    return result


def rename_fields(task: Task, records: Sequence[PlacedRecord], where: str) -> list[Record]:
    """Return documents with the fields of the task.

    Raises `CorpusError` if there are no records, or for a missing column or an unknown label.
    """
    if not records:
        msg = f"{where}: no documents for {task.name}; expected rows with {', '.join(task.fields)}"
        raise CorpusError(msg)
    documents = [_rename_fields(task, record, place) for record, place in records]
    return PREPARE[task.prepare](documents) if task.prepare else documents


def _rename_fields(task: Task, record: Mapping[str, Any], place: str) -> Record:
    document: Record = {}
    for field, columns in task.fields.items():
        # Copies of a data set name a column differently: the first name that has a value counts.
        for column in columns:
            if record.get(column) is not None:
                document[field] = _text_of_number(record[column])
                break
        else:
            msg = (
                f"{place}: {task.name} needs a column {' or '.join(map(repr, columns))} "
                f"for its {field}; found {', '.join(map(str, record))}"
            )
            raise CorpusError(msg)
    for field, known in task.values.items():
        value = str(document[field]).strip().lower()
        if value not in known:
            msg = f"{place}: the {field} {document[field]!r} is not one of {', '.join(known)}"
            raise CorpusError(msg)
        document[field] = value
    if task.labels:
        document["label"] = _label(task, document["label"], place)
    return document


def _text_of_number(value: object) -> object:
    """Return a number as text, as a CSV file has it: prompts are made of texts."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _label(task: Task, value: object, place: str) -> int:
    """Return the number of a label; the data may hold its name or the number itself."""
    label = str(value).strip().lower()
    # If the names are digits themselves (say 1 to 4 for 0 to 3), a digit is always a name.
    names_are_digits = any(name.isdigit() for name in task.labels)
    by_number = {} if names_are_digits else {str(n): n for n in task.labels.values()}
    number = task.labels.get(label, by_number.get(label))
    if number is None:
        msg = f"{place}: the label {value!r} is not one of {', '.join([*task.labels, *by_number])}"
        raise CorpusError(msg)
    return number


def read_file(path: Path) -> list[Record]:
    """Return the records of a local file unchanged."""
    return [record for record, _ in _read_placed(path)]


def _read_placed(path: Path, header: Sequence[str] = ()) -> list[PlacedRecord]:
    if not path.is_file():
        msg = (
            f"{path}: there is no such file; correct the path of this task in evaluation.tasks.data"
        )
        raise CorpusError(msg)
    return list(read_records(path, header=header))


def read_hub(task: Task, split: str) -> list[Record]:
    """Read a split of the task's data set; raises `HubError` if it is unavailable."""
    hub = task.hub
    if not hub.join:
        records = _load(task, hub.config, split)
        wanted = hub.where.items()
        return [record for record in records if wanted <= record.items()]
    joined: dict[Any, Record] = {}
    for number, (field, config) in enumerate(hub.join.items()):
        for record in _load(task, config, split):
            # The first field determines the order of the records.
            if number == 0:
                joined[record[hub.key]] = {}
            if record[hub.key] in joined:
                joined[record[hub.key]][field] = record[hub.column]
    # Only the records that have every field.
    return [record for record in joined.values() if len(record) == len(hub.join)]


def _load(task: Task, config: str | None, split: str) -> list[Record]:
    # The check of a recipe reads local files with this module, and `datasets` takes long to import.
    import datasets

    hub = task.hub
    # `load_dataset` would take a local folder of this name instead of the Hub's data set.
    name = f"hf://datasets/{hub.id}" if Path(hub.id).exists() else hub.id
    try:
        records = datasets.load_dataset(name, name=config, split=split, revision=hub.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise HubError(describe_unavailable(task, hub, error)) from None
    return [dict(record) for record in records]


def describe_unavailable(task: Task, hub: Hub, error: BaseException) -> str:
    """Return the message that a data set is unavailable, why, and how to give a local file."""
    fields = task.fields.items()
    wanted = "; ".join([f"{field}: {' or '.join(columns)}" for field, columns in fields])
    return (
        f"{task.name}: the data set hf:{hub.id} is unavailable "
        f"({type(error).__name__}: {one_line(error)}); give a local file: "
        f"evaluation.tasks.data: {{{task.name}: FILE.jsonl}} "
        f"with the columns {wanted}"
    )


def _cloze(documents: list[Record]) -> list[Record]:
    """Remove the object from each fact; the choices are it and three objects of its relation."""
    # Dictionaries instead of sets: their order does not depend on the process.
    objects_of: dict[str, dict[str, None]] = {}
    for document in documents:
        objects_of.setdefault(document["relation"], {})[document["object"]] = None
    result = []
    for document in documents:
        text = document["template"].replace("[X]", document["subject"])
        before, _, after = text.partition("[Y]")
        # The space before the object goes to the choices, as tokenizers join it with the object.
        context = before.rstrip()
        # Seeded by the fact, so that its choices do not depend on the other documents.
        draw = random.Random(f"{document['relation']} {document['subject']} {document['object']}")
        others = [item for item in objects_of[document["relation"]] if item != document["object"]]
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


def _sums(documents: list[Record]) -> list[Record]:
    """Reduce each answer to its last number, without thousands separators."""
    result = []
    for document in documents:
        numbers = re.findall(r"-?\d[\d,.]*", str(document["answer"]))
        number = numbers[-1].rstrip(".").replace(",", "") if numbers else ""
        result.append({**document, "question": str(document["question"]).strip(), "answer": number})
    return result


def _reading(documents: list[Record]) -> list[Record]:
    """Use the first answer where the data has several, in the format of SQuAD."""
    result = []
    for document in documents:
        answer = document["answer"]
        if isinstance(answer, dict):
            answer = answer["text"][0]
        result.append({**document, "answer": answer})
    return result


PREPARE = {"cloze": _cloze, "reading": _reading, "sums": _sums}
