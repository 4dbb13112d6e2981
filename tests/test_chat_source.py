"""A chat model as the source: its warnings, its separators, and that it still chats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from lingraft import pipeline
from lingraft.cli.app import app
from lingraft.errors import RecipeError
from lingraft.packing.blocks import Blocks
from lingraft.pipeline.source_summary import source_statement
from lingraft.recipe import Given, Recipe, Runtime, chosen_recipe
from lingraft.store import Store
from tests.chat_models import LLAMA2, write_chat_model, write_chat_tokenizer
from tests.conftest import HINDI, make_tiny_model, write_lines

QUESTION = [{"role": "user", "content": "What is a red apple?"}]
QUICK = [
    "training.phases=[{budget: 2 steps}]",
    "training.packing.block_size=32",
    "evaluation.heldout_bytes=300",
    "evaluation.generation=null",
    "vocabulary.size=20",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a chat model, Hindi text, and English chats."""
    folder = tmp_path_factory.mktemp("chat-source")
    write_chat_model(folder / "model")
    write_lines(folder / "hi.txt", HINDI, copies=20)
    rows = [{"messages": [{"role": "user", "content": f"What is {i}?"},
                          {"role": "assistant", "content": f"{i} is a number."}]}
            for i in range(40)]  # fmt: skip
    lines = "\n".join(map(json.dumps, rows))
    (folder / "chats.jsonl").write_text(lines + "\n", encoding="utf-8")
    return folder


def recipe_of(place: Path, *more: str) -> Recipe:
    given = Given(str(place / "model"), "hi", [str(place / "hi.txt")])
    return chosen_recipe(None, given, [*QUICK, *more])


def replay_of(place: Path) -> str:
    source = {"path": str(place / "chats.jsonl"), "format": "chat"}
    return "replay=" + json.dumps({"language": "en", "corpus": [source], "share": 0.3})


def answered(folder: Path) -> tuple[list[int], int]:
    """Ask through the chat template; return the ids of the prompt and how many were written."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        written = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    prompt = inputs["input_ids"][0].tolist()
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    return prompt, written.shape[1] - len(prompt)


def test_a_chat_template_works_after_extending(place: Path, tmp_path: Path) -> None:
    """The extended model is asked through apply_chat_template in the very ids of the source."""
    told: list[str] = []
    runtime = Runtime(tmp_path / "runs", tmp_path / "store", "cpu", "auto")
    extended = pipeline.extend(recipe_of(place), runtime, tmp_path / "out", log=told.append)
    before, _ = answered(place / "model")
    after, written = answered(extended)
    assert after == before
    assert written
    assert any(
        "a chat model (its chat template ends an answer with <|im_end|>)" in line for line in told
    )
    assert any("nothing is trained" in line and "chat_vector" in line for line in told)


def test_a_run_replays_chats_and_says_so(place: Path, tmp_path: Path) -> None:
    """Chats are packed in the model's markup between ends of text; run and card say chat model."""
    told: list[str] = []
    runtime = Runtime(tmp_path / "runs", tmp_path / "store", "cpu", "auto")
    recipe = recipe_of(place, replay_of(place))
    run = pipeline.run(recipe, runtime, write_report=lambda _folder: None, log=told.append)
    before, _ = answered(place / "model")
    after, written = answered(run.model_path)
    assert after == before
    assert written
    assert any("adapted directly, with chat text in en" in line for line in told)
    assert any("document <|endoftext|>: the EOS <|im_end|> marks turns" in line for line in told)
    assert not any("may forget how to chat" in line for line in run.record["warnings"])
    card = (run.model_path / "README.md").read_text(encoding="utf-8")
    assert "A chat model" in card
    assert "apply_chat_template" in card
    assert "with which an answer ends at `<|im_end|>`" in card
    stated = "it was trained with chat text. How well it follows instructions was not measured."
    assert stated in card
    assert stated in run.summary
    assert "base language model" not in card
    store, graph = Store(runtime.store), pipeline.build_graph(recipe)
    replayed = Blocks.open(store.folder(graph.packing["replay"].stage))
    target = Blocks.open(store.folder(graph.packing["target"].stage))
    assert replayed.summary.chats == replayed.summary.documents
    assert {1, 2} <= set(replayed.tokens.tolist())
    assert {1, 2}.isdisjoint(target.tokens.tolist())
    assert replayed.document_start == target.document_start == 0


def test_plan_says_that_plain_text_may_cost_the_chat(place: Path, tmp_path: Path) -> None:
    """`plan` reports a chat model, the chosen option and the separator of documents."""
    text = ["--model", str(place / "model"), "--language", "hi", "--text", str(place / "hi.txt")]
    shown = CliRunner().invoke(app, ["plan", *text, "--store", str(tmp_path / "store")])
    assert shown.exit_code == 0, shown.output
    assert "source: a chat model" in shown.output
    assert "adapted directly, on plain text alone" in shown.output
    assert "warning: the source is a chat model and no chat text is trained on" in shown.output
    assert "training reads each document as: document <|endoftext|>" in shown.output
    assert "attention stays within documents if the model and the text allow it" in shown.output


def test_chat_text_needs_a_model_with_a_template(place: Path, tmp_path: Path) -> None:
    """A base model without one is refused before any text is read."""
    make_tiny_model(tmp_path)
    with pytest.raises(RecipeError, match=r"text in en: format: chat.*instruct model"):
        source_statement(recipe_of(place, replay_of(place)), tmp_path)


def test_document_masks_need_a_token_that_no_turn_begins_with(place: Path, tmp_path: Path) -> None:
    """The template of Llama 2 writes BOS before every turn: a mask would cut the conversation."""
    masked = recipe_of(place, replay_of(place), "training.document_attention_mask=true")
    assert source_statement(masked, place / "model").lines
    roles = {"bos_token": "<s>", "eos_token": "</s>"}
    write_chat_tokenizer(tmp_path, ("<unk>", "<s>", "</s>"), LLAMA2, **roles)
    with pytest.raises(RecipeError, match=r"takes each <s> for the start of a document"):
        source_statement(masked, tmp_path)
    assert source_statement(recipe_of(place, replay_of(place)), tmp_path).lines


def test_a_chat_vector_is_for_a_base_model(place: Path) -> None:
    """Naming the chat model itself as the base is warned of."""
    chosen = f"chat_vector.instruct={place / 'model'}"
    statement = source_statement(recipe_of(place, chosen), place / "model")
    assert any("chat vector of the instruct model is added" in line for line in statement.lines)
    assert any("is a chat model itself" in line for line in statement.warnings)
