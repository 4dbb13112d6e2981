"""Whether attention stays within documents: `true`, `false`, and what `auto` chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lingraft.checkpoint.load_model import load_model
from lingraft.corpus.chat import Conversation
from lingraft.errors import ModelError
from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks
from lingraft.packing.chat_encoder import ChatEncoder
from lingraft.packing.pack import pack_shards
from lingraft.packing.shards import tokenise_in_shards
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.chat_template import chat_template_of
from lingraft.training.document_mask import (
    ROUNDING,
    DocumentMask,
    mask_problem,
    masked_influence,
)
from lingraft.training.phase_steps import TrainingText
from tests.architecture_sweep import build
from tests.chat_models import CHATML, LLAMA2, write_chat_tokenizer
from tests.conftest import HINDI
from tests.tiny_configs import tiny_config
from tests.training_cases import log_of, packed, plan_of, run, two_streams, weights_of

MASKED = ("gemma2", "gpt2", "llama", "olmoe", "qwen3_moe")
MIXED = ("bloom", "falcon_mamba", "lfm2", "opt", "qwen3_next")
"""No positions, a recurrence, a convolution, positions that are not passed on, and a mixture."""


@pytest.mark.parametrize("kind", [*MASKED, *MIXED])
def test_the_trial_tells_of_a_model_what_all_its_layers_show(kind: str, tmp_path: Path) -> None:
    """Two layers and few ids, with other weights, have the masks of the model itself."""
    build(kind, tmp_path)
    state = torch.get_rng_state()
    problem = mask_problem(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    model = load_model(tmp_path)
    assert (masked_influence(model) <= ROUNDING) == (problem == "")
    assert (kind in MASKED) == (problem == "")
    assert not problem or problem == (
        f"{type(model).__name__} does not mask attention between the documents of a sequence"
    )


def test_the_rounding_of_experts_is_not_taken_for_attention() -> None:
    """Which tokens share an expert depends on all documents, so logits are not equal bit by bit."""
    config = tiny_config("qwen3_moe")
    for seed in range(20):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config).eval()
        assert masked_influence(model) <= ROUNDING


def test_a_trial_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose code takes no position ids is not masked, and its error is named."""
    build("llama", tmp_path)

    def refuses(*_: Any, **__: Any) -> None:
        msg = "forward() got an unexpected keyword argument 'position_ids'"
        raise TypeError(msg)

    monkeypatch.setattr("transformers.LlamaForCausalLM.forward", refuses)
    assert mask_problem(tmp_path).startswith(
        "masks were tried on two layers of a llama model, and failed (TypeError: forward() got"
    )


def test_auto_keeps_documents_apart_where_they_share_sequences(
    tiny_model: Path, tmp_path: Path
) -> None:
    """With a document in each sequence there is nothing to mask; `false` is `false`."""
    stream = TrainingText.of(packed(tiny_model, tmp_path / "stream", HINDI))
    alone = TrainingText.of(packed(tiny_model, tmp_path / "alone", HINDI, layout="documents"))
    cases = (
        ({}, stream, DocumentMask(on=True)),
        ({"document_attention_mask": True}, stream, DocumentMask(on=True)),
        ({"document_attention_mask": False}, stream, DocumentMask(on=False)),
        ({"packing": {"layout": "documents"}}, alone, DocumentMask(on=False)),
        (
            {"packing": {"layout": "documents"}, "document_attention_mask": True},
            alone,
            DocumentMask(on=False),
        ),
    )
    for settings, text, expected in cases:
        assert DocumentMask.of(plan_of(**settings), text, tiny_model) == expected


@pytest.mark.parametrize(
    ("template", "roles", "marks"),
    [
        (CHATML, {"eos_token": "<|endoftext|>"}, True),
        (LLAMA2, {"bos_token": "<s>", "eos_token": "</s>"}, False),
    ],
)
def test_auto_does_not_cut_conversations(
    template: str, roles: dict[str, str], marks: bool, tiny_model: Path, tmp_path: Path
) -> None:
    """Llama 2 begins each turn with the token that begins a document; ChatML does not."""
    special = ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")
    write_chat_tokenizer(tmp_path, special, template, **roles)
    tokenizer = open_tokenizer(tmp_path)
    encoder = ChatEncoder(tokenizer, chat_template_of(tokenizer))
    turns = [
        {"role": role, "content": text}
        for text in HINDI[:2]
        for role, text in (("user", text), ("assistant", text))
    ]
    documents = ["some plain text", Conversation.of(turns), "more plain text"]
    (tmp_path / "text").mkdir()
    pack_shards(
        tokenise_in_shards([documents], tokenizer, chats=encoder),
        tokenizer,
        PackingSettings(block_size=32),
        tmp_path / "text",
    )
    blocks = Blocks.open(tmp_path / "text")
    assert blocks.summary.chats == 1
    assert blocks.marks_documents == marks
    chosen = DocumentMask.of(plan_of(), TrainingText.of(blocks), tiny_model)
    assert chosen.on == marks
    assert marks or "between turns (text)" in chosen.line


def test_training_is_masked_by_default(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`auto` trains as `true`, `false` computes something else; the notes and a line say which."""
    text = two_streams(tiny_model, tmp_path / "text")
    notes = {}
    for name, settings in (
        ("auto", {}),
        ("on", {"document_attention_mask": True}),
        ("off", {"document_attention_mask": False}),
    ):
        plan = plan_of(budget="3 steps", batch_tokens=512, **settings)
        notes[name] = run(tiny_model, text, plan, tmp_path / name)
        said = capsys.readouterr().err
        assert ("training: attention stays within documents" in said) == (name != "off")
    assert notes["auto"]["document_attention"].startswith("sdpa (flex attention has no backward")
    assert "document_attention" not in notes["off"]
    auto, on = (weights_of(tmp_path / name / "output" / "model") for name in ("auto", "on"))
    assert all(torch.equal(auto[name], on[name]) for name in auto)
    first = [log_of(tmp_path / name)[0]["bits_per_byte"] for name in ("off", "on")]
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.05)


def test_a_model_without_masks_trains_unmasked_unless_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`auto` says why documents are not kept apart; `true` is an error that says what to do."""
    folder = build("bloom", tmp_path / "model")
    text = TrainingText.of(packed(folder, tmp_path / "text", HINDI))
    notes = run(folder, text, plan_of(budget="1 steps"), tmp_path / "auto", added=())
    reason = "BloomForCausalLM does not mask attention between the documents of a sequence"
    assert notes["document_attention"] == f"not used: {reason}"
    assert f"attention is not limited to documents: {reason}" in capsys.readouterr().err
    asked = {"budget": "1 steps", "document_attention_mask": True}
    with pytest.raises(ModelError, match=r"leave the setting out, or use .*layout: documents"):
        run(folder, text, plan_of(**asked), tmp_path / "on", added=())
    assert not (tmp_path / "on" / "output").exists()
    alone = TrainingText.of(packed(folder, tmp_path / "alone", HINDI, layout="documents"))
    followed = plan_of(**asked, packing={"layout": "documents"})
    assert run(folder, alone, followed, tmp_path / "alone-run", added=())["steps"] == 1
