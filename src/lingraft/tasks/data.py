"""The documents of a task, from a local file or a hub data set, with the fields that its prompts name.

Columns are renamed to the task's own fields, labels become numbers, and what a family needs beyond that is done by
its `prepare` step. Whatever cannot be had or read is an error that names the file or data set and what to do.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.corpus.files import COMPRESSIONS, lines, opened
from lingraft.errors import CorpusError, HubError
from lingraft.tasks.catalogue import Hub, Task
from lingraft.tasks.settings import TaskData

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
CHOICES = 4
"""How many objects a cloze task ranks, as in the paper."""

Row = dict[str, Any]


def splits_of(task: Task, data: TaskData | None) -> dict[str, list[Row]]:
    """Return the documents of each role: `test`, and `shots` where the worked examples come from elsewhere.

    Raises `CorpusError` for a file and `HubError` for a data set that cannot be had or has other columns.
    """
    if data is not None:
        files = {"test": data.test, **({"shots": data.shots} if data.shots else {})}
        return {role: local_rows(task, path) for role, path in files.items()}
    roles = {"test": task.hub.test, **({"shots": task.hub.shots} if task.hub.shots else {})}
    return {role: fitted(task, hub_rows(task, split), f"hf:{task.hub.id}, split {split}")
            for role, split in roles.items()}


def local_rows(task: Task, path: str) -> list[Row]:
    """Return the documents of a local file."""
    return fitted(task, unfolded(read_rows(Path(path).expanduser(), task.columns), task.language), path)


def unfolded(rows: Sequence[Row], language: str) -> list[Row]:
    """Return rows of one language of files that hold several side by side, and a row for each question on a passage."""
    result: list[Row] = []
    for row in rows:
        own = row[language] if isinstance(row.get(language), dict) else row
        questions = own.get("qas")
        result.extend([{**own, **question} for question in questions] if isinstance(questions, list) else [own])
    return result


def fitted(task: Task, rows: Sequence[Row], where: str) -> list[Row]:
    """Return rows with the task's own fields; raises `CorpusError` naming the row and the missing column."""
    if not rows:
        msg = f"{where}: no documents for {task.name}; expected rows with {', '.join(task.fields)}"
        raise CorpusError(msg)
    documents = [_fitted_row(task, row, f"{where}, row {number}") for number, row in enumerate(rows, start=1)]
    return PREPARE[task.prepare](documents) if task.prepare else documents


def _fitted_row(task: Task, row: Mapping[str, Any], place: str) -> Row:
    document: Row = {}
    for field, columns in task.fields.items():
        column = next((column for column in columns if row.get(column) is not None), None)
        if column is None:
            msg = (f"{place}: {task.name} needs a column {' or '.join(map(repr, columns))} for its {field}; "
                   f"found {', '.join(map(str, row))}")
            raise CorpusError(msg)
        document[field] = row[column]
    if task.labels:
        document["label"] = _label(task, document["label"], place)
    return document


def _label(task: Task, value: object, place: str) -> int:
    """Return the number of a label; where labels have names, their numbers are understood as well."""
    label = str(value).strip().lower()
    by_number = {} if any(name.isdigit() for name in task.labels) else {str(n): n for n in task.labels.values()}
    number = task.labels.get(label, by_number.get(label))
    if number is None:
        msg = f"{place}: the label {value!r} is none of {', '.join([*task.labels, *by_number])}"
        raise CorpusError(msg)
    return number


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """Read the rows of a file; `columns` are the names of a table without a first line of names."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    ending = Path(name).suffix
    if ending not in ENDINGS:
        msg = f"{path}: unknown kind of file; expected {', '.join(ENDINGS)}, each also with {' or '.join(COMPRESSIONS)}"
        raise CorpusError(msg)
    if not path.is_file():
        msg = f"{path}: there is no such file; evaluation.tasks.data names one for each task that has no hub data set"
        raise CorpusError(msg)
    if ending == ".parquet":
        return _parquet(path)
    if ending in {".csv", ".tsv"}:
        return list(_table(path, "\t" if ending == ".tsv" else ",", columns))
    return list(_json(path))


def _json(path: Path) -> Iterator[Row]:
    place, text = str(path), ""
    try:
        with opened(path) as stream:
            is_list = stream.read(100).lstrip().startswith(b"[")
        if is_list:
            with opened(path) as stream:
                yield from json.loads(stream.read())
            return
        for number, text in lines(path):
            if text.strip():
                place = f"{path}, line {number}"
                yield dict(json.loads(text))
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        msg = f"{place}: not a JSON object ({error}); expected one object a line, or a list of objects"
        raise CorpusError(msg) from None


class _Tabs(csv.excel_tab):
    """Columns parted by tabs, in which a quotation mark is nothing but itself."""

    quoting = csv.QUOTE_NONE


def _table(path: Path, delimiter: str, columns: Sequence[str]) -> Iterator[Row]:
    with opened(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        rows = csv.reader(text, csv.excel if delimiter == "," else _Tabs)
        first = next(rows, [])
        named = not columns or set(columns) <= set(first)
        names = first if named else list(columns)
        for row in rows if named else [first, *rows]:
            yield dict(zip(names, row, strict=False))


def _parquet(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        msg = f"{path}: cannot be read as parquet ({' '.join(str(error).split())}); write it again"
        raise CorpusError(msg) from None
    return rows


def hub_rows(task: Task, split: str) -> list[Row]:
    """Read a split of the task's data set; raises `HubError` with what to do, a local file among it."""
    hub = task.hub
    if not hub.join:
        rows = _load(task, hub.config, split)
        return [row for row in rows if all(row.get(key) == value for key, value in hub.where.items())]
    parts = {field: {row[hub.key]: row[hub.column] for row in _load(task, config, split)}
             for field, config in hub.join.items()}
    first, *others = parts.values()
    return [{field: part[key] for field, part in parts.items()} for key in first if all(key in o for o in others)]


def _load(task: Task, config: str | None, split: str) -> list[Row]:
    import datasets

    hub = task.hub
    name = f"hf://datasets/{hub.id}" if Path(hub.id).exists() else hub.id  # a folder of that name is not the hub
    try:
        rows = datasets.load_dataset(name, name=config, split=split, revision=hub.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise HubError(unavailable(task, hub, error)) from None
    return [dict(row) for row in rows]


def unavailable(task: Task, hub: Hub, error: BaseException) -> str:
    """Say that a data set cannot be had, why, and how a file is given in its place."""
    reason = " ".join(str(error).split())[:300]
    wanted = "; ".join(f"{field}: {' or '.join(columns)}" for field, columns in task.fields.items())
    return (f"{task.name}: the data set hf:{hub.id} cannot be had ({type(error).__name__}: {reason}); give a local "
            f"file: evaluation.tasks.data: {{{task.name}: FILE.jsonl}} with the columns {wanted}")


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
        result.append({"context": context, "choices": [before[len(context):] + item + after for item in objects],
                       "label": objects.index(document["object"]), "answer": document["object"]})
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
    return [{**document, "answer": document["answer"]["text"][0] if isinstance(document["answer"], dict)
             else document["answer"]} for document in documents]


PREPARE = {"cloze": _cloze, "reading": _reading, "sums": _sums}
