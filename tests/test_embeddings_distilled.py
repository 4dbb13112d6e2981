"""Token distillation: learned rows give the model the hidden states of the source tokens."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lingraft.checkpoint import (
    Checkpoint,
    InitRequest,
    embedding_names,
    load_model,
    resize_embeddings,
)
from lingraft.embeddings import INITS
from lingraft.embeddings.align import read_text
from lingraft.embeddings.distillation_student import DistillationStudent
from lingraft.embeddings.distillation_windows import StudentWindow, _split, find_windows
from lingraft.embeddings.token_ends import TokenEnds
from lingraft.errors import ModelError
from lingraft.evaluation import bits_per_byte
from lingraft.tokenizer import open_tokenizer
from tests.architecture_sweep import build
from tests.models import ARCHITECTURES, Architecture, MemoryCorpus, extended_tokenizer

SURFACES = ("zq", "ren", "zzq")
TEXTS = (
    "the zq of the river",
    "a zq reads the red letter",
    "children and the river zq",
    "the children rest",
) * 8


GRANITE = Architecture("GraniteConfig", {**ARCHITECTURES["llama"].settings, "logits_scaling": 8.0})
BUILT = {**ARCHITECTURES, "granite": GRANITE}


@pytest.fixture(scope="module", params=["llama", "gemma", "opt", "granite", "phi"])
def request_(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> InitRequest:
    """Request rows for an untied model, a tied and scaled one, and one with learned positions.

    And for one that scales its logits, and one with a bias in its head.
    """
    root = tmp_path_factory.mktemp(request.param)
    folder = BUILT[request.param].build(root / "source")
    return request_of(folder, root / "tokenizer")


def request_of(folder: Path, tokenizer: Path) -> InitRequest:
    """Return a request for the input rows of a model."""
    splice = extended_tokenizer(folder, tokenizer, SURFACES)
    checkpoint = Checkpoint.open(folder)
    names = embedding_names(checkpoint)
    return InitRequest(
        checkpoint.tensor(names.input[0]),
        splice,
        "input",
        names.tied,
        source_folder=folder,
        tokenizer_folder=tokenizer,
        corpus=MemoryCorpus(TEXTS),
    )


def windows_of(
    request_: InitRequest, *, windows_per_token: int, window_tokens: int = 48
) -> tuple[list[StudentWindow], set[int]]:
    found = find_windows(
        request_,
        text_bytes=1_000_000,
        window_tokens=window_tokens,
        windows_per_token=windows_per_token,
    )
    return found.windows, found.seen


def test_the_output_loss_is_that_of_the_models_own_logits(request_: InitRequest) -> None:
    """Added columns are scaled, and get the bias, that the resized model has.

    The rows that training starts from are subtoken means, as those of the model that is compared.
    """
    student = DistillationStudent(request_, 0.01)
    folder = request_.source_folder.parent / "resized"
    if not folder.exists():
        means = {f"{side}_init": INITS.parse("mean") for side in ("input", "output")}
        resize_embeddings(
            request_.source_folder,
            request_.tokenizer_folder,
            request_.splice,
            **means,
            corpus=request_.corpus,
            output=folder,
        )
    model, size = load_model(folder, dtype="float32"), request_.splice.source_size
    # Without added tokens, both models have the same states.
    ids = list(range(5, 25))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[student.start_id, *ids]])).logits[0]
        states = student._states([ids], student=False)[0]
        made = student.logits(states)
    added = list(range(size, size + len(request_.splice.added)))
    assert torch.allclose(made[:, -len(added) :], logits[:, added], atol=1e-5)
    assert torch.allclose(made[:, :size], logits[:, :size], atol=1e-5)


def test_a_model_that_does_more_to_its_logits_is_refused(tmp_path: Path) -> None:
    """HyperCLOVA X multiplies by the setting that Granite divides by: no row is learned wrongly."""
    settings = {**ARCHITECTURES["llama"].settings, "logits_scaling": 8.0}
    folder = Architecture("HyperCLOVAXConfig", settings).build(tmp_path / "source")
    request_ = request_of(folder, tmp_path / "tokenizer")
    with pytest.raises(ModelError, match=r"its logits are not those of its head.*choose another"):
        INITS.parse("distilled").rows(request_)


@pytest.mark.parametrize("kind", ["inkling2_text", "gemma3_text"])
def test_learned_rows_are_read_as_the_rows_of_the_matrix(kind: str, tmp_path: Path) -> None:
    """A learned row equal to that of an id gives the states of the id, also behind a norm."""
    request = request_of(build(kind, tmp_path / "source"), tmp_path / "tokenizer")
    student = DistillationStudent(request, 0.1)
    rows = student.head.weight.shape[0]
    with torch.no_grad():
        student.parameters["input"][0] = student.table.weight[70]
        learned = student._states([[5, rows, 6]], student=True)
        own = student._states([[5, 70, 6]], student=False)
    torch.testing.assert_close(learned, own)


def test_windows_end_together_in_both_tokenisations(request_: InitRequest) -> None:
    """Both sides of a window spell the same text, up to every pair of common ends."""
    windows, seen = windows_of(request_, window_tokens=4, windows_per_token=3)
    source, target = (
        open_tokenizer(folder).vocabulary.surfaces
        for folder in (request_.source_folder, request_.tokenizer_folder)
    )
    added = {token.id for token in request_.splice.added}
    assert windows
    for window in windows:
        for s, t in window.ends:
            assert b"".join(source[i] or b"" for i in window.source[: s + 1]) == b"".join(
                target[i] or b"" for i in window.target[: t + 1]
            )
        assert window.ends[-1] == (len(window.source) - 1, len(window.target) - 1)
        assert window.target[window.first_added] in added
        assert not added & set(window.target[: window.first_added])
    assert {token.surface for token in request_.splice.added if token.id in seen} == {b"zq", b"ren"}


SIZES = (np.array([1, 2, 3]), np.array([2, 3, 5, 7]))
"""The bytes of three source ids and of four target ids, of which the last one is added."""


def document_of(length: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """Return source and target ids that spell the same number of bytes."""
    draw = random.Random(seed)
    target = [draw.randrange(4) for _ in range(length)]
    source: list[int] = []
    left = int(SIZES[1][target].sum())
    while left:
        source.append(draw.randrange(min(3, left)))
        left -= int(SIZES[0][source[-1]])
    return source, target


def ends_of(*ids_of_sides: list[int]) -> list[TokenEnds]:
    """Return source and target ids with the bytes at which they end."""
    both = zip(SIZES, ids_of_sides, strict=True)
    return [TokenEnds(np.array(ids), np.cumsum(sizes[ids])) for sizes, ids in both]


def slow_windows(
    source: list[int], target: list[int], length: int, max_tokens: int
) -> list[StudentWindow]:
    """Return the windows of a document: the next one begins where the one before ends."""
    source_ends = np.cumsum(SIZES[0][source]).tolist()
    target_ends = np.cumsum(SIZES[1][target]).tolist()
    windows, begin = [], 0
    while begin < target_ends[-1]:
        common = [end for end in target_ends if end > begin and end in source_ends]
        sizes = {}
        for end in common:
            sizes[end] = [
                sum(begin < e <= end for e in ends) for ends in (source_ends, target_ends)
            ]
        end = next((end for end in common if sizes[end][1] >= length), common[-1])
        if max(sizes[end]) > max_tokens:
            end = max((e for e in common if max(sizes[e]) <= max_tokens), default=common[0])
        own_source = [place for place, e in enumerate(source_ends) if begin < e <= end]
        own_target = [place for place, e in enumerate(target_ends) if begin < e <= end]
        pairs = []
        for e in common:
            if e <= end:
                source_place, target_place = source_ends.index(e), target_ends.index(e)
                pairs.append((source_place - own_source[0], target_place - own_target[0]))
        ids = [target[place] for place in own_target]
        if 3 in ids and max(sizes[end]) <= max_tokens:
            of_source = tuple(source[place] for place in own_source)
            windows.append(StudentWindow(of_source, tuple(ids), tuple(pairs), ids.index(3)))
        begin = end
    return windows


@pytest.mark.parametrize("max_tokens", [3, 8, 12, 100])
@pytest.mark.parametrize("seed", range(10))
def test_windows_equal_those_of_a_slow_loop(seed: int, max_tokens: int) -> None:
    """A window ends at the first common end after its shortest length, or with the document.

    If it would be too long, it ends at the last common end before.
    """
    source, target = document_of(20 * seed + 1, seed)
    windows = list(_split(*ends_of(source, target), {3}, length=6, max_tokens=max_tokens))
    assert windows == slow_windows(source, target, 6, max_tokens)
    assert all(max(len(w.source), len(w.target)) <= max_tokens for w in windows)


def test_the_work_of_windows_grows_with_the_length_of_a_document() -> None:
    """Twice the document runs twice the lines of code, not four times as many."""
    lines = {}
    for length in (2000, 4000):
        document = ends_of(*document_of(length))
        count = 0

        def trace(_frame: Any, event: str, _argument: Any) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            windows = list(_split(*document, {3}, length=48, max_tokens=512))
        finally:
            sys.settrace(before)
        assert len(windows) > 10
        lines[length] = count
    assert lines[4000] < 2.5 * lines[2000]


def test_skipped_documents_are_counted(request_: InitRequest, tmp_path: Path) -> None:
    """Where a normalizer shortens one tokenization, bytes cannot be aligned: the notes say so."""
    changed = Path(shutil.copytree(request_.tokenizer_folder, tmp_path / "tokenizer"))
    data = json.loads((changed / "tokenizer.json").read_text(encoding="utf-8"))
    data["normalizer"] = {"type": "Replace", "pattern": {"String": "letter"}, "content": ""}
    (changed / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    request_ = dataclasses.replace(request_, tokenizer_folder=changed, scratch={})
    for name in ("align", "distilled"):
        method = INITS.parse({"distilled": {"epochs": 1}} if name == "distilled" else name)
        assert method.rows(request_).notes["documents_skipped"] == 8, name


def test_tokens_with_enough_windows_get_no_more(request_: InitRequest) -> None:
    """Once a token has its windows, only windows of other tokens are added."""
    few, _ = windows_of(request_, windows_per_token=1)
    many, _ = windows_of(request_, windows_per_token=100)
    assert 0 < len(few) < len(many)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_windows_fit_into_the_models_context(name: str, tmp_path: Path) -> None:
    """With 64 positions, learned or not, windows have 63 tokens at most: one is the start token."""
    folder = ARCHITECTURES[name].build(tmp_path / "source")
    document = MemoryCorpus((" ".join(TEXTS),))
    request_ = dataclasses.replace(request_of(folder, tmp_path / "tokenizer"), corpus=document)
    windows, _ = windows_of(request_, windows_per_token=100, window_tokens=100)
    longest = [max(len(w.source), len(w.target)) for w in windows]
    assert len(longest) > 1
    assert 50 < max(longest) <= 63
    made = INITS.parse({"distilled": {"epochs": 1, "window_tokens": 100}}).rows(request_)
    assert made.origin_counts["distilled"] == 2


def test_text_is_read_up_to_its_limit(request_: InitRequest) -> None:
    """Whole documents, and no more of them than the limit needs."""
    size = len(TEXTS[0].encode())
    for limit, expected in ((1, 1), (size, 1), (size + 1, 2), (10**6, len(TEXTS))):
        batches = read_text(request_, limit)
        assert [text for batch in batches for text in batch] == list(TEXTS[:expected])


def test_both_losses_fall(request_: InitRequest) -> None:
    """Both losses fall; a token without a window keeps its subtoken mean, counted."""
    made = INITS.parse({"distilled": {"epochs": 40}}).rows(request_)
    for name in ("state_error_first_last", "output_loss_first_last"):
        first, last = made.notes[name]
        assert last < first
    mean = INITS.parse("mean").rows(request_).rows
    number = [token.surface for token in request_.splice.added].index(b"zzq")
    assert made.origins[number] == "fallback: not in the text, subtoken mean"
    assert torch.equal(made.rows[number], mean[number])
    assert made.origin_counts["distilled"] == 2


def test_both_sides_are_learned_once(request_: InitRequest) -> None:
    """Input and output rows come from one run, which gives the same rows when it is repeated."""
    init = INITS.parse("distilled")
    first = init.rows(request_)
    kept = next(
        value
        for key, value in request_.scratch.items()
        if key == f"distilled {init.model_dump_json()}"
    )
    output = init.rows(dataclasses.replace(request_, side="output"))
    assert next(iter(kept[0])) == "input"
    assert torch.equal(first.rows[:1], kept[0]["input"][:1])
    assert torch.equal(output.rows[:1], kept[0]["output"][:1])
    again = init.rows(dataclasses.replace(request_, scratch={}))
    assert torch.equal(again.rows, first.rows)


def test_a_distilled_model_predicts_better_than_random_rows(
    request_: InitRequest, tmp_path: Path
) -> None:
    """On the text that was read, bits per byte are lower than with random rows."""
    bits = {}
    for name in ("random", "distilled"):
        init = INITS.parse({"distilled": {"epochs": 40}} if name == "distilled" else name)
        resize_embeddings(
            request_.source_folder,
            request_.tokenizer_folder,
            request_.splice,
            input_init=init,
            output_init=init,
            corpus=request_.corpus,
            output=tmp_path / name,
        )
        scores = bits_per_byte(
            load_model(tmp_path / name), open_tokenizer(tmp_path / name), list(TEXTS[:4])
        )
        bits[name] = scores.bits_per_byte
    assert bits["distilled"] < bits["random"]
