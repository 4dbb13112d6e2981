"""Whether attention stays within documents: `true`, `false`, and what `auto` chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaForCausalLM,
    LlavaConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
)

from lingraft.checkpoint.load_model import load_model
from lingraft.corpus.chat import Conversation
from lingraft.errors import ModelError
from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks
from lingraft.packing.chat_encoder import ChatEncoder
from lingraft.packing.pack import pack_shards, pack_texts
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

FULL, LINEAR = "full_attention", "linear_attention"
MASKED: dict[str, dict[str, Any]] = {
    "gemma2": {},
    # Layers that share keys and values, the last ones of all.
    "gemma4_text": {
        "num_hidden_layers": 6,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", FULL] * 3,
    },
    "gpt2": {},
    "llama": {"num_hidden_layers": 6, "intermediate_size": 200},
    "llava": {},
    "olmoe": {},
    "qwen3_moe": {},
}
MIXED: dict[str, dict[str, Any]] = {
    "bloom": {},  # no positions
    "deepseek_v4": {"max_position_embeddings": 1024},  # summaries of many tokens
    "falcon_mamba": {},  # a recurrence
    "lfm2": {},  # a convolution
    "opt": {},  # positions that attention does not see
    "qwen3_next": {"num_hidden_layers": 6, "layer_types": [*[FULL] * 5, LINEAR]},
}


@pytest.mark.parametrize("kind", [*MASKED, *MIXED])
def test_the_trial_tells_of_a_model_what_all_its_layers_show(kind: str, tmp_path: Path) -> None:
    """Its first layers, smaller and with other weights, have the masks of the model itself."""
    build(kind, tmp_path, **{**MASKED, **MIXED}[kind])
    state = torch.get_rng_state()
    problem = mask_problem(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    model = load_model(tmp_path)
    assert (masked_influence(model) <= ROUNDING) == (problem == "")
    assert (kind in MASKED) == (problem == "")
    assert not problem or problem == (
        f"{type(model).__name__} does not mask attention between the documents of a sequence"
    )


@pytest.mark.parametrize("layers", [1, 80])
def test_a_trial_is_small(layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has at most two layers, narrow feed-forward layers, few ids, and one layer for images."""
    sizes = []

    def count(model: Any) -> float:
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
        return 0.0

    monkeypatch.setattr("lingraft.training.document_mask.masked_influence", count)
    text = {"model_type": "llama", "num_hidden_layers": layers, "hidden_size": 512}
    vision = {"model_type": "clip_vision_model", "num_hidden_layers": layers, "hidden_size": 64}
    config = LlavaConfig(
        text_config={**text, "intermediate_size": 28672, "vocab_size": 128256},
        vision_config={**vision, "num_attention_heads": 2, "intermediate_size": 28672},
    )
    config.save_pretrained(tmp_path)
    assert mask_problem(tmp_path) == ""
    assert sizes[0] < 5_000_000


@pytest.mark.parametrize("broken", ["not a number", "zero"])
def test_logits_that_tell_nothing_are_no_mask(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN compares with nothing, and logits of zero change with nothing."""
    build("llama", tmp_path)
    factor = {"not a number": float("nan"), "zero": 0.0}[broken]
    forward = LlamaForCausalLM.forward

    def spoiled(*arguments: Any, **settings: Any) -> Any:
        output = forward(*arguments, **settings)
        output.logits = output.logits * factor
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", spoiled)
    assert mask_problem(tmp_path).endswith("LlamaForCausalLM showed nothing")


def test_layers_that_begin_as_zeros_are_tried_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A usual choice for the last matrix of a layer, which would hide what attention reads."""
    build("opt", tmp_path)

    def zeros(model: Any, module: Any) -> None:
        del model
        for parameter in module.parameters(recurse=False):
            parameter.data.zero_()

    monkeypatch.setattr(OPTForCausalLM, "_init_weights", zeros)
    assert "does not mask attention" in mask_problem(tmp_path)


def test_too_little_memory_is_no_property_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe would otherwise have another result on a small machine."""
    build("llama", tmp_path)

    def full(*_: Any, **__: Any) -> None:
        msg = "[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory"
        raise RuntimeError(msg)

    monkeypatch.setattr("lingraft.training.document_mask.masked_influence", full)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        mask_problem(tmp_path)


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
        "a trial of a small llama model failed (TypeError: forward() got an unexpected"
    )


def test_a_configuration_that_cannot_be_made_smaller_is_tried_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code of its own may refuse other sizes, or have other names for them."""
    build("llama", tmp_path)

    def refuse(_config: Any) -> None:
        msg = "'OwnConfig' object has no attribute 'num_hidden_layers'"
        raise AttributeError(msg)

    monkeypatch.setattr("lingraft.training.document_mask._made_smaller", refuse)
    assert mask_problem(tmp_path) == ""


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
    assert marks or "the token between documents is also within them (text)" in chosen.line


def test_auto_does_not_cut_text_at_unknown_characters(tiny_model: Path, tmp_path: Path) -> None:
    """One token may stand for the end of a text and for each character without a token."""
    backend = Tokenizer(models.BPE(unk_token="<|endoftext|>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<|endoftext|>"])
    backend.train_from_iterator(["the cat sat on the mat"] * 20, trainer)
    roles = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=backend, **roles).save_pretrained(tmp_path)
    for name, text in (("known", "the cat sat"), ("unknown", "the cat, 猫, sat")):
        (tmp_path / name).mkdir()
        settings = PackingSettings(block_size=16)
        pack_texts([[text] * 4], open_tokenizer(tmp_path), settings, tmp_path / name)
        packed_text = TrainingText.of(Blocks.open(tmp_path / name))
        chosen = DocumentMask.of(plan_of(), packed_text, tiny_model)
        assert chosen.on == (name == "known")


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
