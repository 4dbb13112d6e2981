"""Learned rows: what trains, what stays, what the notes say, and that a killed run resumes."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lingraft.checkpoint import Checkpoint, InitRequest, embedding_names, resize_embeddings
from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.embeddings import INITS
from lingraft.errors import CorpusError, ModelError
from lingraft.splice import Splice
from lingraft.store import Draft, file_digest
from tests.commands import start
from tests.conftest import write_lines
from tests.models import ARCHITECTURES, MemoryCorpus, extended_tokenizer

SURFACES = ("zq", "ren", "zzq")
SENTENCES = (
    "the zq of the river",
    "a zq reads the red letter",
    "children and the river zq",
    "the children rest",
)
TEXT = MemoryCorpus(SENTENCES * 20)
QUICK = {
    "max_text_share": 1,
    "max_tokens": 4000,
    "block_size": 16,
    "batch_tokens": 64,
    "learning_rate": 1e-2,
}


@dataclasses.dataclass(frozen=True)
class LearnedCase:
    """A model, the extended tokenizer, and the splice."""

    folder: Path
    tokenizer: Path
    splice: Splice

    def resize_embeddings(
        self, output: Path, input_init: object, output_init: object | None = None
    ) -> dict:
        return resize_embeddings(
            self.folder,
            self.tokenizer,
            self.splice,
            input_init=INITS.parse(input_init),
            output_init=INITS.parse(output_init or input_init),
            output=output,
            corpus=TEXT,
        )


@pytest.fixture(scope="module", params=["llama", "gemma", "phi"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LearnedCase:
    """Return an untied model, a tied and scaled one, and one whose head has a bias."""
    root = tmp_path_factory.mktemp(request.param)
    folder = ARCHITECTURES[request.param].build(root / "source")
    return LearnedCase(
        folder, root / "tokenizer", extended_tokenizer(folder, root / "tokenizer", SURFACES)
    )


def tensors(
    case: LearnedCase, folder: Path
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], set[str]]:
    names = embedding_names(Checkpoint.open(case.folder))
    return (
        load_file(case.folder / "model.safetensors"),
        load_file(folder / "model.safetensors"),
        {*names.input, *names.output},
    )


def test_whole_matrices_train_and_the_notes_report_it(case: LearnedCase, tmp_path: Path) -> None:
    """Base rows train with the added ones, the loss falls, and nothing else changes."""
    notes = case.resize_embeddings(tmp_path / "model", {"learned": QUICK})
    before, after, matrices = tensors(case, tmp_path / "model")
    for name, tensor in before.items():
        same = torch.equal(tensor, after[name][: len(tensor)])
        assert same == (name not in matrices), name
    first, last = notes["inits"]["input"]["bits_per_byte_first_last"]
    assert last < first
    sides = "input" if notes["tied"] else "input and output"
    assert notes["base_rows"] == f"changed by their method: {sides}"
    assert notes["inits"]["input"]["base_rows"] == "trained, so no longer bit-identical"
    origins = notes["inits"]["input"]["origins"]
    assert sum(count for origin, count in origins.items() if origin.startswith("learned from")) == 2
    assert (
        sum(
            count
            for origin, count in origins.items()
            if origin.startswith("fallback: not in the text")
        )
        == 1
    )
    assert notes["inits"]["input"]["tokens"] <= QUICK["max_tokens"]


def test_added_rows_alone(case: LearnedCase, tmp_path: Path) -> None:
    """With `base_rows: keep`, the loss falls too, and every base row stays bit-identical."""
    notes = case.resize_embeddings(tmp_path / "model", {"learned": {**QUICK, "base_rows": "keep"}})
    before, after, matrices = tensors(case, tmp_path / "model")
    assert all(torch.equal(tensor, after[name][: len(tensor)]) for name, tensor in before.items())
    first, last = notes["inits"]["input"]["bits_per_byte_first_last"]
    assert last < first
    assert notes["base_rows"] == "bit-identical"
    case.resize_embeddings(tmp_path / "start", "calibrated")
    for name in matrices:
        start = load_file(tmp_path / "start" / "model.safetensors")[name]
        for token in (token for token in case.splice.added if token.surface != b"zzq"):
            assert not torch.equal(after[name][token.id], start[token.id])


def test_one_side_can_be_learned_and_the_other_not(case: LearnedCase, tmp_path: Path) -> None:
    """The other matrix keeps its method's rows; two different settings of `learned` are refused."""
    if case.folder.parent.name.startswith("gemma"):
        pytest.skip("a tied model has one matrix")
    notes = case.resize_embeddings(tmp_path / "model", {"learned": QUICK}, "mean")
    case.resize_embeddings(tmp_path / "mean", "mean")
    name = embedding_names(Checkpoint.open(case.folder)).output[0]
    got, mean = (
        load_file(tmp_path / which / "model.safetensors")[name] for which in ("model", "mean")
    )
    assert torch.equal(got, mean)
    assert notes["base_rows"] == "changed by their method: input"
    with pytest.raises(ModelError, match="both learned, but with different settings"):
        case.resize_embeddings(
            tmp_path / "two", {"learned": QUICK}, {"learned": {**QUICK, "learning_rate": 1e-4}}
        )


def test_a_side_that_is_not_given_starts_from_the_models_own_matrix(case: LearnedCase) -> None:
    """Rows of one side from its matrix alone are those with the other side's matrix given."""
    checkpoint = Checkpoint.open(case.folder)
    names = embedding_names(checkpoint)
    if names.tied:
        pytest.skip("a tied model has one matrix")
    matrices = {side: checkpoint.tensor(names.matrix(side)) for side in ("input", "output")}
    method = INITS.parse({"learned": {**QUICK, "base_rows": "keep"}})
    for side, other in (("input", "output"), ("output", "input")):
        alone = InitRequest(
            matrices[side],
            case.splice,
            side,
            source_folder=case.folder,
            tokenizer_folder=case.tokenizer,
            corpus=TEXT,
        )
        given = dataclasses.replace(alone, other=matrices[other], scratch={})
        assert torch.equal(method.rows(alone).rows, method.rows(given).rows), side


def test_too_little_text_is_an_error(case: LearnedCase) -> None:
    """A budget without any text is an error that names the settings to raise."""
    checkpoint = Checkpoint.open(case.folder)
    names = embedding_names(checkpoint)
    request = InitRequest(
        checkpoint.tensor(names.input[0]),
        case.splice,
        "input",
        tied=True,
        source_folder=case.folder,
        tokenizer_folder=case.tokenizer,
        corpus=MemoryCorpus(("",)),
    )
    with pytest.raises(CorpusError, match="raise max_text_share or max_tokens, or give more text"):
        INITS.parse("learned").rows(request)


RUN = """
import json, sys
from pathlib import Path
from lingraft.checkpoint import resize_embeddings
from lingraft.corpus import Corpus
from lingraft.embeddings import INITS, learned, resumable_loop
from lingraft.splice import Splice
resumable_loop.SAVE_SECONDS, resumable_loop.MAX_SAVING_SHARE = 0, 1
learned.CHECKPOINT_SECONDS = 0
root, output, method = Path(sys.argv[1]), Path(sys.argv[2]), INITS.parse(json.loads(sys.argv[3]))
splice = Splice.from_json(json.loads((root / "splice.json").read_text()))
resize_embeddings(
    root / "source", root / "tokenizer", splice, input_init=method, output_init=method,
    output=output, corpus=Corpus.open(root / "corpus"), scratch_dir=Path(sys.argv[4]),
)
"""


@pytest.mark.parametrize(
    "method",
    [
        {"learned": {**QUICK, "max_tokens": 60_000}},
        {"distilled": {"epochs": 150, "windows_per_token": 8, "window_tokens": 8}},
    ],
    ids=["learned", "distilled"],
)
def test_a_killed_run_resumes_bit_for_bit(method: dict, tmp_path: Path) -> None:
    """After SIGKILL, the same call ends with the weights of a run that was not interrupted."""
    ARCHITECTURES["llama"].build(tmp_path / "source")
    splice = extended_tokenizer(tmp_path / "source", tmp_path / "tokenizer", SURFACES)
    (tmp_path / "splice.json").write_text(splice.dumps())
    (tmp_path / "corpus").mkdir()
    chosen = {
        "sources": str(write_lines(tmp_path / "text.txt", SENTENCES, 200)),
        "heldout_share": 0.1,
    }
    build_corpus(CorpusSettings.model_validate(chosen), "en", Draft(tmp_path / "corpus"))
    work, output = tmp_path / "work", tmp_path / "output"
    started = start("-c", RUN, tmp_path, output, json.dumps(method), work, cwd=tmp_path)
    deadline = time.monotonic() + 120
    saved = "distilled-*.safetensors" if "distilled" in method else "learned-*/training/step-*"
    while not list(work.glob(saved)) and started.process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    started.process.kill()
    killed = started.finish()
    assert list(work.glob(saved)), killed.stderr
    assert not output.exists()
    torch.manual_seed(99)  # the result must not depend on global state
    corpus = Corpus.open(tmp_path / "corpus")
    for folder, scratch_dir in ((output, work), (tmp_path / "alone", tmp_path / "other")):
        resize_embeddings(
            tmp_path / "source",
            tmp_path / "tokenizer",
            splice,
            input_init=INITS.parse(method),
            output_init=INITS.parse(method),
            output=folder,
            corpus=corpus,
            scratch_dir=scratch_dir,
        )
    assert file_digest(output / "model.safetensors") == file_digest(
        tmp_path / "alone" / "model.safetensors"
    )
