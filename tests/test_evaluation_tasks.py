"""Downstream tasks: prompts, scores, contamination and errors, for every tokenizer family."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.metrics import mean
from lm_eval.api.model import LM
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

import lingraft
from lingraft.corpus.contamination import find_seen, rule_of
from lingraft.corpus.records import read_records
from lingraft.errors import CorpusError, HubError, LingraftError, ModelError, RecipeError
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.tasks import TaskSettings, check_tasks, run_tasks, task_identity
from lingraft.evaluation.tasks.lm_eval_model import FolderLM
from lingraft.evaluation.tasks.load_tasks import load_tasks
from lingraft.evaluation.tasks.task_catalogue import expand_names, families, find_task, known_names
from lingraft.evaluation.tasks.task_data import read_splits
from lingraft.evaluation.tasks.task_measurements import measure_task
from lingraft.evaluation.tasks.task_metrics import point
from lingraft.evaluation.tasks.task_runner import evaluate_tasks
from lingraft.measurement import Measurement, metric_changes, select
from tests.command_server import HubCommands
from tests.conftest import ENGLISH, HINDI
from tests.small_bases import byte_level, sentencepiece

ROWS: dict[str, list[dict[str, Any]]] = {
    "flores": [{"en": ENGLISH[i % 4] + f" {i}", "hi": HINDI[i % 4] + f" {i}"} for i in range(8)],
    "xlsum": [
        {"summary": HINDI[i % 4] * 2 + f" {i}", "title": HINDI[i % 4] + f" {i}"} for i in range(6)
    ],
    "mlama": [
        {
            "template": "[X] की राजधानी [Y] है।",
            "sub_label": place,
            "obj_label": city,
            "predicate_id": "P36",
        }
        for place, city in (
            ("भारत", "नई दिल्ली"),
            ("नेपाल", "काठमांडू"),
            ("जापान", "टोक्यो"),
            ("मिस्र", "काहिरा"),
            ("फ़्रांस", "पेरिस"),
        )
    ],
    "xnli": [
        {"premise": HINDI[i % 4], "hypothesis": HINDI[(i + 1) % 4], "label": label}
        for i, label in enumerate(("entailment", "neutral", 2, "contradiction", 0, 0, 0))
    ],
    "sentiment": [
        {"text": HINDI[i % 4] + f" {i}", "label": "Positive" if i > 2 else "Negative"}
        for i in range(7)
    ],
    "xcopa": [
        {
            "premise": HINDI[i % 4],
            "choice1": HINDI[(i + 1) % 4],
            "choice2": HINDI[(i + 2) % 4] * 2,
            "label": int(i > 1),
            "question": "cause" if i % 2 else "effect",
        }
        for i in range(8)
    ],
    "xstorycloze": [
        {
            **{f"input_sentence_{n}": HINDI[n - 1] for n in range(1, 5)},
            "sentence_quiz1": HINDI[0] + str(i),
            "sentence_quiz2": HINDI[1],
            "answer_right_ending": 1 + (i > 0),
        }
        for i in range(7)
    ],
    "belebele": [
        {
            "flores_passage": " ".join(HINDI),
            "question": HINDI[0],
            **{f"mc_answer{n}": HINDI[n - 1] * n for n in range(1, 5)},
            "correct_answer_num": str(1 + i % 3),
        }
        for i in range(5)
    ],
    "xquad": [
        {
            "hi": {
                "context": " ".join(HINDI),
                "qas": [{"question": f"{i}?", "answer": HINDI[i][:9]} for i in range(4)],
            }
        }
    ],
    "mgsm": [{"question": f"{i} + 1?", "answer": i + 1} for i in range(10)],
}


class Answers(LM):  # the smallest model of lm-eval's kind
    """A model without weights: an oracle, or one that gives each byte the same probability."""

    def __init__(self, *, knows: bool) -> None:
        super().__init__()
        self.knows = knows

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        if self.knows:
            return [
                (0.0 if request.idx == request.doc["label"] else -1000.0, False)
                for request in requests
            ]
        return [(-len(request.args[1].encode()) * math.log(256), False) for request in requests]

    def generate_until(self, requests: list[Any]) -> list[str]:
        said = [str(request.doc.get("target", request.doc.get("answer"))) for request in requests]
        return [f" {text}" if self.knows else " " for text in said]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        raise NotImplementedError


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    """Write JSON lines; return the path as a recipe names it."""
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return str(path)


def settings_for(folder: Path, family: str, **more: Any) -> TaskSettings:
    """Return settings for one Hindi task on the rows above."""
    file = write_rows(folder / f"{family}.jsonl", ROWS[family])
    return TaskSettings.model_validate(
        {
            "names": [f"{family}-hi"],
            "data": {family: file},
            "translation_metrics": ["chrF++"],
            "num_fewshot": 1,
            **more,
        }
    )


def main_row(rows: list[Measurement]) -> Measurement:
    """Return the measurement of the score."""
    return next(row for row in rows if row.metric.endswith(("accuracy", "chrF++")))


# names, settings, what is on disk


def test_settings_read_a_plain_list() -> None:
    """A recipe names tasks as a list, as one name, or with details; the default is none."""
    assert TaskSettings.model_validate(["xcopa-ta", "xnli_hi"]).names == ("xcopa-ta", "xnli_hi")
    assert TaskSettings.model_validate("xcopa-ta") == TaskSettings.model_validate(
        {"names": "xcopa-ta"}
    )
    assert TaskSettings().names == ()
    again = TaskSettings.model_validate({"names": ["xcopa-ta"], "data": {"xcopa": "a.jsonl"}})
    assert TaskSettings.model_validate(again.model_dump(mode="json")) == again
    for wrong, said in (
        (["a", "a"], "named twice: a"),
        ({"data": {"a": "b"}}, "no tasks are named"),
        ({"names": ["a"], "limit": 0}, "greater than 0"),
    ):
        with pytest.raises(ValueError, match=said):
            TaskSettings.model_validate(wrong)


def test_importing_tasks_is_light() -> None:
    """Importing the package and checking settings without tasks import no large library."""
    code = (
        "import sys, lingraft.evaluation.tasks as t; t.check_tasks(t.TaskSettings()); "
        "large = ('lm_eval', 'torch', 'datasets', 'transformers', 'sacrebleu'); "
        "print([name for name in large if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in known_names() if not name.startswith("paper-")])
def test_every_task_file_is_whole(name: str) -> None:
    """In every listed language, no placeholder is left, and the prompt is in the language."""
    task = find_task(name)
    assert task is not None
    assert "<<" not in json.dumps(
        [dict(task.config), task.hub.__dict__, dict(task.fields)], ensure_ascii=False
    )
    assert not task.foreign_words
    assert task.version >= 1
    assert task.reference
    assert set(task.checked) <= {*task.fields, "context", "answer"}


def test_other_languages_go_by_the_data_sets_code() -> None:
    """A language that is not listed is named by the data set's code; its prompt is English."""
    task = find_task("belebele-fra_Latn")
    assert task is not None
    assert (task.hub.config, task.language) == ("fra_Latn", "fr")
    other = find_task("xnli-bg")
    assert other is not None
    assert (other.hub.config, other.foreign_words) == ("bg", True)
    assert find_task("xnli_hi") is None
    # Two scripts of a language are two tasks, whose scores must not share a name.
    for code, tag in (("hin_Latn", "hi-Latn"), ("zho_Hans", "zh"), ("zho_Hant", "zh-Hant")):
        found = find_task(f"belebele-{code}")
        assert found is not None
        assert found.language == tag
    flores = find_task("flores-hi")
    assert flores is not None
    assert flores.config["doc_to_text"].endswith("\nHindi:")


def test_the_papers_tasks_have_one_name() -> None:
    """`paper-LANGUAGE` stands for the paper's tasks that exist in the language."""
    assert expand_names(["paper-tr"]) == [
        "flores-tr",
        "mlama-tr",
        "xcopa-tr",
        "xlsum-tr",
        "xnli-tr",
    ]
    with pytest.raises(RecipeError, match="none of the paper's tasks exists in 'xx'"):
        expand_names(["paper-xx"])


# scores


@pytest.mark.parametrize("family", families())
def test_an_oracle_scores_everything_and_chance_is_chance(family: str, tmp_path: Path) -> None:
    """An oracle scores 1 (100 points); equal probability for each byte scores chance."""
    settings = settings_for(tmp_path, family)
    knows = main_row(
        evaluate_tasks(Answers(knows=True), settings, tmp_path / "oracle", subject="oracle")
    )
    blind = main_row(
        evaluate_tasks(Answers(knows=False), settings, tmp_path / "blind", subject="blind")
    )
    task = find_task(f"{family}-hi")
    assert task is not None
    assert knows.value == pytest.approx(100 if task.score == "translation" else 1)
    answers = {"xnli": 3, "mlama": 4, "belebele": 4}.get(family, 2)
    assert blind.value == pytest.approx(1 / answers if task.score == "choice" else 0)
    assert (f"chance {1 / answers:.2f}" in blind.note) == (task.score == "choice")
    documents = 4 if family == "xquad" else len(ROWS[family])
    assert (knows.n, knows.language, knows.subject, knows.version) == (
        documents,
        "hi",
        "oracle",
        task.version,
    )
    assert knows.low is not None
    assert knows.low <= knows.value <= knows.high + 1e-9


def test_long_answers_and_fine_pieces_are_no_disadvantage() -> None:
    """The score is the log-probability per scored byte, including the delimiter."""
    assert point([-10.0, -9.0], [" एक लंबा उत्तर", " छोटा"], 0) == 1
    assert point([-3.0, -3.0, -4.0], ["aaa", "bbb", "cccc"], 2) == pytest.approx(1 / 3)


def test_results_have_lm_evals_shape_and_samples_are_kept(tmp_path: Path) -> None:
    """results.json is in lm-eval's format; samples.jsonl has each prompt, answer and score."""
    evaluate_tasks(
        Answers(knows=True), settings_for(tmp_path, "xnli", limit=3), tmp_path, subject="me", seed=7
    )
    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    results = json.loads(text)
    assert results["results"]["xnli-hi"]["acc_bytes,none"] == 1
    assert results["n-samples"]["xnli-hi"] == {"original": 7, "effective": 3}
    assert {"configs", "versions", "n-shot", "higher_is_better", "config"} <= set(results)
    assert results["config"]["lingraft"]["seed"] == 7
    assert " at 0x" not in text
    samples = [
        json.loads(line)
        for line in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [sample["doc_id"] for sample in samples] == [0, 1, 2]
    context, answer = samples[0]["arguments"][0]
    assert context.endswith(HINDI[0])
    assert answer == f" हाँ? {HINDI[1]}"
    assert samples[0]["target"] == 0


def test_worked_examples_never_show_the_question(tmp_path: Path) -> None:
    """Without their own file, few-shot examples are other documents of the scored file."""
    evaluate_tasks(
        Answers(knows=True), settings_for(tmp_path, "flores", num_fewshot=7), tmp_path, subject="me"
    )
    for line in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines():
        prompt = json.loads(line)["arguments"][0][0]
        assert prompt.count("English:") == 8
        assert json.loads(line)["doc"]["target"] not in prompt


def test_too_few_worked_examples_are_named(tmp_path: Path) -> None:
    """Too few documents for the few-shot examples are an error that says how many there are.

    The check before a run says so, too, where the documents are in local files.
    """
    settings = settings_for(tmp_path, "flores", num_fewshot=8)
    for read in (load_tasks, check_tasks):
        with pytest.raises(
            CorpusError, match="flores-hi: 8 few-shot examples are wanted, but there are only 7"
        ):
            read(settings)


def test_the_same_seed_asks_the_same(tmp_path: Path) -> None:
    """Few-shot examples depend on the seed alone, not on the number of documents."""

    def prompts(where: str, **more: Any) -> list[str]:
        settings = settings_for(
            tmp_path, "xcopa", num_fewshot=2, **{k: v for k, v in more.items() if k != "seed"}
        )
        evaluate_tasks(
            Answers(knows=True), settings, tmp_path / where, subject="me", seed=more.get("seed", 0)
        )
        lines = (tmp_path / where / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["arguments"][0][0] for line in lines]

    first = prompts("a")
    assert prompts("b") == first
    assert prompts("c", limit=3) == first[:3]
    assert prompts("d", seed=1) != first


# tokenizer families


def unigram() -> dict[str, Any]:
    """A T5-like tokenizer: Unigram, no line breaks, no BOS, and an EOS after every text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace("\n", " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        [*ENGLISH, *HINDI],
        trainers.UnigramTrainer(
            vocab_size=150, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return json.loads(tokenizer.to_str())


def with_bos(data: dict[str, Any]) -> dict[str, Any]:
    """Let a tokenizer put its BOS before every text, as Llama's does."""
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return json.loads(tokenizer.to_str())


FAMILIES = {
    "byte-level": (lambda: byte_level([*ENGLISH, *HINDI]), {"eos_token": "<|endoftext|>"}),
    "sentencepiece": (
        lambda: with_bos(sentencepiece([*ENGLISH, *HINDI])),
        {"bos_token": "<s>", "eos_token": "</s>"},
    ),
    "unigram": (unigram, {"eos_token": "</s>", "unk_token": "<unk>"}),
}
CONTEXT = 96


def build(folder: Path, data: dict[str, Any], roles: dict[str, str]) -> Path:
    """Save a two-layer Llama with this tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True)
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", **roles}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=tokenizer.get_vocab_size(),
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=CONTEXT,
                initializer_range=0.3,
                bos_token_id=None,
                eos_token_id=None,
            )
        ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FolderLM:
    """Return a tiny model of each tokenizer family."""
    data, roles = FAMILIES[request.param]
    return FolderLM(build(tmp_path_factory.mktemp("tasks") / request.param, data(), roles))


def ask(context: str, what: Any, number: int = 0) -> Any:
    """Return a request as lm-eval makes it."""
    return SimpleNamespace(args=(context, what), task_name="t", doc_id=number, doc={}, idx=0)


def slow_nats(lm: FolderLM, context: list[int], answer: list[int]) -> float:
    """Score one token at a time."""
    total = 0.0
    for position, token in enumerate(answer):
        ids = torch.tensor([[*context, *answer[:position]]])
        total += float(lm.model(ids).logits[0, -1].double().log_softmax(-1)[token])
    return total


def test_log_probabilities_equal_a_slow_reference(lm: FolderLM) -> None:
    """A batched answer has the log-probability of its tokens scored one by one."""
    asked = [
        (ENGLISH[0], " " + ENGLISH[1]),
        ("", HINDI[0]),
        (" ".join(HINDI[:2]), " " + HINDI[2][:9]),
        ("a\n", "b c"),
    ]
    lm.incidents.clear()
    got = lm.loglikelihood([ask(*pair, number) for number, pair in enumerate(asked)])
    before = [lm.tokenizer.bos_token_id] if lm.tokenizer.bos_token_id is not None else []
    with torch.inference_mode():
        for (context, answer), (nats, _) in zip(asked, got, strict=True):
            whole = before + lm.tokenizer.encode(context + answer, add_special_tokens=False)
            size = (
                len(before + lm.tokenizer.encode(context.rstrip(), add_special_tokens=False))
                if context
                else 0
            )
            start = whole[:size] if context else [lm.prefix_token_id]
            assert lm.tokenizer.eos_token_id not in start or not context
            rest = (
                whole[size:] if context else lm.tokenizer.encode(answer, add_special_tokens=False)
            )
            assert nats == pytest.approx(
                slow_nats(lm, start[-(CONTEXT + 1 - len(rest)) :], rest), rel=1e-5
            )
    assert not lm.incidents["answers whose first token holds the end of the context"]


def test_a_long_context_loses_its_beginning_but_not_its_prefix(lm: FolderLM) -> None:
    """A long context is cut after the prefix, counted, and equal for all answers to a document."""
    lm.incidents.clear()
    cut = f"prompts cut at their beginning, to the model's context of {CONTEXT}"
    asked = [ask(" ".join(HINDI), answer) for answer in (" " + HINDI[0][:3], " " + HINDI[1][:8])]
    got = [nats for nats, _ in lm.loglikelihood(asked)]
    assert lm.incidents[cut] == 2
    context = lm.tok_encode(" ".join(HINDI))
    answers = [
        lm.tok_encode(" ".join(HINDI) + request.args[1])[len(context) :] for request in asked
    ]
    room, kept = CONTEXT + 1 - max(map(len, answers)), len(lm.prefix)
    seen = [*lm.prefix, *context[len(context) - room + kept :]]
    with torch.inference_mode():
        assert got == pytest.approx([slow_nats(lm, seen, answer) for answer in answers], rel=1e-5)
    with pytest.raises(ModelError, match=f"longer than the model's context of {CONTEXT}"):
        lm.loglikelihood([ask("a", " " + " ".join(HINDI) * 3)])


def test_answers_do_not_depend_on_the_batch(lm: FolderLM) -> None:
    """Padded prompts get the answers that each prompt gets by itself, token by token."""
    stop = [" a", "\n"]
    asked = [
        ask(prompt, {"until": stop, "max_gen_toks": 20, "do_sample": False})
        for prompt in (ENGLISH[0], "The", HINDI[1], " ".join(ENGLISH) + " " + HINDI[0])
    ]
    lm.incidents.clear()
    got = lm.generate_until(asked)
    with torch.inference_mode():
        assert got == [slow_answer(lm, request.args[0], stop, 20) for request in asked]
    assert lm.incidents[f"prompts cut at their beginning, to the model's context of {CONTEXT}"] == 1
    unwritable = [what for what in lm.incidents if "cannot end with '\\n'" in what]
    assert bool(unwritable) == (
        lm.tokenizer.decode(lm.tokenizer.encode("\n", add_special_tokens=False)) != "\n"
    )


@pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens"])
def test_a_limit_of_tokens_holds_under_each_of_its_names(lm: FolderLM, name: str) -> None:
    """A task's own limit counts under every name that lm-eval reads, up to half of the context."""
    limit = f"answers limited to {CONTEXT // 2} tokens, half of the context"
    greedy = {"until": "\n\n", "do_sample": False}
    lm.incidents.clear()
    (short,) = lm.generate_until([ask("The", {**greedy, name: 3})])
    assert short == slow_answer(lm, "The", ["\n\n"], 3)
    assert not lm.incidents[limit]
    (long,) = lm.generate_until([ask("The", {**greedy, name: 5000})])
    assert long == slow_answer(lm, "The", ["\n\n"], CONTEXT // 2)
    assert lm.incidents[limit] == 1
    # One text that ends an answer may be written without a list.
    assert not any("cannot end with '\\n'," in incident for incident in lm.incidents)


def slow_answer(lm: FolderLM, prompt: str, stops: list[str], most: int) -> str:
    """Write greedily, one token at a time, until the text contains a stop."""
    ids = lm.prefix + lm.tokenizer.encode(prompt, add_special_tokens=False)
    room = CONTEXT - most
    ids = ids if len(ids) <= room else [*lm.prefix, *ids[len(ids) - room + len(lm.prefix) :]]
    written: list[int] = []
    while len(written) < most:
        token = int(lm.model(torch.tensor([ids + written])).logits[0, -1].argmax())
        if token == lm.tokenizer.eos_token_id:
            break
        written.append(token)
        if any(stop in lm.tokenizer.decode(written) for stop in stops):
            break
    text = lm.tokenizer.decode(written, skip_special_tokens=True)
    for stop in stops:
        text = text.split(stop)[0]
    return text


def test_no_byte_of_an_answer_goes_unscored(tmp_path: Path) -> None:
    """A token that contains the end of the context is scored with the answer, and counted."""
    data = byte_level(["abab ab ab"] * 3, size=262, pattern=r"\S+|\s+")
    joined = FolderLM(build(tmp_path / "joined", data, {"eos_token": "<|endoftext|>"}))
    assert len(joined.tokenizer.encode("xab")) == 2
    context, answer = joined._encode_pair("xa", "b")
    assert joined.tokenizer.decode(answer) == "ab"
    assert joined.tokenizer.decode(context + answer) == "xab"
    assert sum(joined.incidents.values()) == 1


def test_a_model_without_end_or_beginning_is_named(tmp_path: Path) -> None:
    """A model without EOS cannot write; one without BOS and EOS cannot score."""
    data = byte_level(ENGLISH, specials=("<s>",))
    endless = FolderLM(build(tmp_path / "endless", data, {"bos_token": "<s>"}))
    with pytest.raises(ModelError, match=r"endless: no EOS token.*eos_token"):
        endless.generate_until([ask("a", {"until": ["\n"], "max_gen_toks": 4})])
    bare = FolderLM(build(tmp_path / "bare", data, {}))
    with pytest.raises(ModelError, match="bare: neither a BOS nor an EOS token"):
        bare.loglikelihood([ask("", "a")])
    assert bare.loglikelihood([ask("a", " b")])[0][0] < 0
    config = json.loads((tmp_path / "bare/config.json").read_text(encoding="utf-8"))
    number = Tokenizer.from_str(json.dumps(data)).token_to_id("<s>")
    (tmp_path / "bare/config.json").write_text(
        json.dumps({**config, "eos_token_id": [number, 5]}), encoding="utf-8"
    )
    assert FolderLM(tmp_path / "bare").prefix_token_id == number
    strict = FolderLM(build(tmp_path / "strict", data, {"eos_token": "<s>"}), too_long="refuse")
    with pytest.raises(
        ModelError, match=r"lower evaluation\.tasks\.num_fewshot, or set too_long: cut"
    ):
        strict.loglikelihood([ask(" ".join(ENGLISH) * 3, " a")])


# contamination


def test_copied_documents_are_found() -> None:
    """Thirteen consecutive words match despite case and punctuation; twelve do not."""
    words = [f"word{n}" for n in range(20)]
    text = "before " + ", ".join(words[3:16]).upper() + "! after"
    assert find_seen([" ".join(words)], ["nothing here", text]) == [2]
    assert find_seen([" ".join(words)], ["before " + " ".join(words[3:15]) + " after"]) == [0]
    short = " ".join(words[:6])
    assert find_seen([short, short + " more", "one two"], [f"x {short}. y"]) == [1, 0, None]
    thai = "ฉันคิดว่าวันนี้อากาศดีมากเราควรออกไปเดินเล่นในสวนสาธารณะด้วยกันนะ"
    assert find_seen([thai, thai[:30] + "ก" * 40], [f"ก {thai} ข"]) == [1, 0]
    # Five characters of Thai are a word or two.
    assert find_seen([thai[:20], thai[:19]], [thai]) == [1, None]
    assert rule_of("th").startswith("50 characters in a row (or all of 20 to 49)")
    # A task of lm-eval has no language.
    assert rule_of("").startswith("13 words in a row (or all of 5 to 12)")


def test_contaminated_documents_are_counted_or_dropped(tmp_path: Path) -> None:
    """Documents in the training text are counted; with `drop`, only the others are scored."""
    texts = [f"… {ROWS['flores'][i]['hi']} …" for i in (1, 5)]
    rows = {}
    for wish in ("count", "drop", "ignore"):
        settings = settings_for(tmp_path, "flores", contaminated=wish)
        rows[wish] = evaluate_tasks(
            Answers(knows=True),
            settings,
            tmp_path / wish,
            subject="me",
            training_texts=lambda: iter(texts),
        )
    assert [main_row(rows[wish]).n for wish in rows] == [8, 6, 8]
    counted = select(rows["count"], metric="flores documents seen in training")[0]
    assert (counted.value, counted.n, counted.unit) == (2, 8, "documents")
    assert "13 words in a row" in counted.note
    assert "2 documents dropped" in main_row(rows["drop"]).note
    assert not select(rows["ignore"], metric="flores documents seen in training")
    kept = (tmp_path / "drop/samples.jsonl").read_text(encoding="utf-8")
    assert ROWS["flores"][1]["hi"] not in [
        json.loads(line)["doc"]["target"] for line in kept.splitlines()
    ]
    with pytest.raises(CorpusError, match="every document occurs in the training text"):
        evaluate_tasks(
            Answers(knows=True),
            settings_for(tmp_path, "flores", contaminated="drop"),
            tmp_path / "all",
            subject="me",
            training_texts=lambda: [row["hi"] for row in ROWS["flores"]],
        )


# spBLEU


def test_spbleu_without_its_model_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without sacrebleu's model, the error names the file, the variable and chrF++."""
    from sacrebleu.tokenizers import tokenizer_spm

    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = settings_for(tmp_path, "flores", translation_metrics=["spBLEU", "chrF++"])
    with pytest.raises(HubError) as caught:
        check_tasks(settings)
    said = str(caught.value)
    assert all(
        part in said for part in (f"{tmp_path}/models/flores200sacrebleuspm", "SACREBLEU", "chrF++")
    )
    assert "\n" not in said


def test_spbleu_is_sacrebleus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assets: Path
) -> None:
    """The metric spBLEU is sacrebleu's corpus BLEU over the pieces of a SentencePiece model."""
    import sacrebleu
    from sacrebleu.tokenizers import tokenizer_spm

    (tmp_path / "models").mkdir()
    (tmp_path / "models/flores200sacrebleuspm").symlink_to(assets / "tokenizers/t5/spiece.model")
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    settings = settings_for(tmp_path, "flores", translation_metrics=["spBLEU"])

    class Rotated(Answers):
        def generate_until(self, requests: list[Any]) -> list[str]:
            said = super().generate_until(requests)
            return [text.replace("सेब", "आम") for text in said]

    rows = evaluate_tasks(Rotated(knows=True), settings, tmp_path, subject="me")
    row = select(rows, metric="flores spBLEU")[0]
    references = [row["hi"] for row in ROWS["flores"]]
    expected = sacrebleu.corpus_bleu(
        [text.replace("सेब", "आम") for text in references], [references], tokenize="flores200"
    )
    assert row.value == pytest.approx(expected.score)
    assert 0 < row.low <= row.value <= row.high <= 100
    assert "sacrebleu nrefs:1|case:mixed|eff:no|tok:flores200" in row.note


# unavailable data


@pytest.mark.parametrize(
    ("names", "data", "kind", "said"),
    [
        (
            ["xcopa-ta"],
            {"xcopa": "missing.jsonl"},
            CorpusError,
            "missing.jsonl: there is no such file",
        ),
        (
            ["xcopa-ta"],
            {"xcopa": "text.txt"},
            CorpusError,
            "text.txt: a .txt file has no fields; expected one of .jsonl",
        ),
        (
            ["xcopa-ta"],
            {"xcopa": "columns.jsonl"},
            CorpusError,
            "jsonl:1: xcopa-ta needs a column 'premise'.*found text",
        ),
        (
            ["xnli-hi"],
            {"xnli": "labels.jsonl"},
            CorpusError,
            "labels.jsonl:2: the label 'maybe' is not one of entailment",
        ),
        (
            ["xcopa-ta"],
            {"xcopa": "numbers.jsonl"},
            CorpusError,
            "numbers.jsonl:2: the label '7' is not one of 0, 1",
        ),
        (
            ["xcopa-ta"],
            {"xcopa": "questions.jsonl"},
            CorpusError,
            "questions.jsonl:1: the question 'neden' is not one of cause, effect",
        ),
        (["xnli-hi"], {"xnli": "broken.jsonl"}, CorpusError, "broken.jsonl:2:7: not JSON"),
        (["xnli-hi"], {"xnli": "empty.jsonl"}, CorpusError, "no documents for xnli-hi"),
        (["xcopa_tam"], {}, RecipeError, "no task called 'xcopa_tam'; did you mean 'xcopa_ta'"),
        (
            ["xcopia-ta"],
            {},
            RecipeError,
            "no task called 'xcopia-ta'; did you mean 'xcopa-ta'.*FAMILY-LANGUAGE",
        ),
        (
            ["xnli-hi"],
            {"xnil": "labels.jsonl"},
            RecipeError,
            "'xnil' is not among the tasks; did you mean 'xnli'",
        ),
        (
            ["xcopa-ta"],
            {},
            HubError,
            "cambridgeltl/xcopa is unavailable.*HF_HUB_OFFLINE.*{xcopa-ta: FILE.jsonl}.*premise",
        ),
    ],
)
def test_data_that_cannot_be_had_is_named(
    names: list[str],
    data: dict[str, str],
    kind: type[LingraftError],
    said: str,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the file or data set, what was expected, and how to give a local file."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    write_rows(tmp_path / "columns.jsonl", [{"text": "a"}])
    pair = {"premise": "a", "hypothesis": "b"}
    write_rows(tmp_path / "labels.jsonl", [{**pair, "label": 0}, {**pair, "label": "maybe"}])
    choice = {"premise": "a", "choice1": "b", "choice2": "c", "question": "cause"}
    write_rows(tmp_path / "numbers.jsonl", [{**choice, "label": n} for n in (1, 7)])
    write_rows(tmp_path / "questions.jsonl", [{**choice, "question": "neden", "label": 0}])
    (tmp_path / "broken.jsonl").write_text('{"a": 1}\n{"a": \n', encoding="utf-8")
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "text.txt").write_text("text", encoding="utf-8")
    settings = TaskSettings.model_validate({"names": names, "data": data})
    with pytest.raises(kind, match=said) as caught:
        check_tasks(settings)
    assert "\n" not in str(caught.value)


def test_local_files_of_every_kind_give_the_same(tmp_path: Path) -> None:
    """JSON lines, a JSON list, CSV, TSV and parquet are read, compressed or not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"question": 'how "many"?', "answer": "3"}, {"question": "and, now", "answer": "4"}]
    write_rows(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "a.csv").write_text(
        'question,answer\n"how ""many""?",3\n"and, now",4\n', encoding="utf-8"
    )
    (tmp_path / "a.tsv").write_text('how "many"?\t3\nand, now\t4\n', encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.jsonl.gz", "a.parquet"):
        read = read_records(tmp_path / name, header=["question", "answer"])
        assert [record for record, _ in read] == rows, name


HUB = """
import sys
from lingraft.errors import LingraftError
from lingraft.evaluation.tasks.task_catalogue import find_task
from lingraft.evaluation.tasks.check_tasks import hub_commit
from lingraft.evaluation.tasks.task_data import read_splits
for name in sys.argv[1:]:
    try:
        task = find_task(name)
        commit = hub_commit(task)
        splits = read_splits(task, None)
        print(commit[:5], {role: len(rows) for role, rows in splits.items()}, splits["test"][0])
    except LingraftError as error:
        print(type(error).__name__, error)
"""


def test_tasks_read_the_hub(hub_commands: HubCommands, tmp_path: Path) -> None:
    """A Hub data set gives the documents of a file; a missing data set is named."""
    root = tmp_path / "hub/datasets"
    for owner, name, parts in (
        ("cambridgeltl", "xcopa", {"ta": ("test", "validation")}),
        (
            "openlanguagedata",
            "flores_plus",
            {"eng_Latn": ("dev", "devtest"), "hin_Deva": ("devtest", "dev")},
        ),
    ):
        folder = root / owner / name
        card = ["---", "configs:"]
        for config, splits in parts.items():
            card += [f"- config_name: {config}", "  data_files:"]
            for split in splits:
                path = folder / config / f"{split}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                texts = [
                    {"id": i, "text": f"{config} {i}"}
                    for i in ((0, 1) if config == "eng_Latn" else (1, 2, 0))
                ]
                write_rows(path, ROWS["xcopa"] if name == "xcopa" else texts)
                card += [f"  - split: {split}", f"    path: {config}/{split}.jsonl"]
        (folder / "README.md").write_text("\n".join([*card, "---"]), encoding="utf-8")
    (root / "facebook/xnli").mkdir(parents=True)
    (root / "facebook/xnli/README.md").write_text("gated", encoding="utf-8")
    names = ["xcopa-ta", "flores-hi", "belebele-hi", "xnli-hi"]
    with hub_commands.serve(tmp_path / "hub", gated={"facebook/xnli"}) as server:
        done = hub_commands.ask("-c", HUB, *names, home=tmp_path / "home", cwd=tmp_path)
        commit = server.commit("datasets", "cambridgeltl/xcopa")
    assert done.returncode == 0, done.stderr
    xcopa, flores, belebele, xnli = done.stdout.splitlines()
    file = read_splits(find_task("xcopa-ta"), settings_for(tmp_path, "xcopa").data["xcopa"])  # type: ignore[arg-type]
    assert xcopa == f"{commit[:5]} {{'test': 8, 'shots': 8}} {file['test'][0]}"
    assert flores.endswith(
        "{'test': 2, 'shots': 2} {'source': 'eng_Latn 0', 'target': 'hin_Deva 0'}"
    )
    assert belebele.startswith(
        "HubError belebele-hi: the data set hf:facebook/belebele is unavailable"
    )
    assert xnli.startswith("HubError xnli-hi: the data set hf:facebook/xnli is unavailable")


def test_identity_follows_content(tmp_path: Path) -> None:
    """The identity changes with the content of a file, not with its path."""
    first = task_identity(settings_for(tmp_path, "xcopa"))
    (tmp_path / "moved").mkdir()
    assert task_identity(settings_for(tmp_path / "moved", "xcopa")) == first
    write_rows(tmp_path / "xcopa.jsonl", ROWS["xcopa"][1:])
    settings = TaskSettings.model_validate(
        {"names": ["xcopa-hi"], "data": {"xcopa": str(tmp_path / "xcopa.jsonl")}}
    )
    assert task_identity(settings) != first
    assert task_identity(TaskSettings()) == {}


@pytest.mark.parametrize(
    ("package", "name", "counts"),
    [
        ("lm_eval", "xcopa-hi", True),
        ("sacrebleu", "xcopa-hi", False),
        ("sacrebleu", "flores-hi", True),
        ("sacrebleu", "arc_easy", True),
    ],
)
def test_identity_has_the_versions_of_the_packages_that_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str, *, counts: bool
) -> None:
    """Scores of another version of lm-eval, or of sacrebleu where it scores, are not compared."""
    data = {}
    if name != "arc_easy":
        family = name.partition("-")[0]
        write_rows(tmp_path / "rows.jsonl", ROWS[family])
        data = {family: str(tmp_path / "rows.jsonl")}
    settings = TaskSettings.model_validate({"names": [name], "data": data})
    first = task_identity(settings)
    folder = tmp_path / f"{package}-99.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert (task_identity(settings) != first) == counts


# lm-eval's own tasks, and the user's


def test_any_task_of_lm_eval_works(tmp_path: Path, assets: Path) -> None:
    """A task of lm-eval runs unchanged, also on a local file with the columns of its data set."""
    settings = TaskSettings.model_validate(
        {
            "names": ["xcopa_ta"],
            "limit": 5,
            "data": {"xcopa_ta": str(assets / "parallel/xcopa/test.ta.jsonl")},
        }
    )
    check_tasks(settings)
    (row,) = evaluate_tasks(Answers(knows=True), settings, tmp_path, subject="oracle")
    assert (row.metric, row.value, row.n) == ("xcopa_ta acc", 1, 5)
    assert row.note == "0 shots; task version 1.0"


def test_a_folder_of_own_tasks_works(tmp_path: Path) -> None:
    """A YAML file in `tasks_folder` is a task; a template with an unknown column is an error."""
    data = write_rows(
        tmp_path / "rows.jsonl", [{"text": f"{n} + 1 =", "label": n % 2} for n in range(4)]
    )
    lines = (
        "task: {}",
        "dataset_path: json",
        "dataset_kwargs: {{data_files: {{test: nowhere.jsonl}}}}",
        "test_split: test",
        "output_type: multiple_choice",
        "doc_to_text: '{{{{{}}}}}'",
        "doc_to_target: label",
        "doc_to_choice: [a, b]",
        "metric_list: [{{metric: acc}}]",
    )
    (tmp_path / "good.yaml").write_text(
        "\n".join(lines).format("my_sums", "text"), encoding="utf-8"
    )
    (tmp_path / "bad.yaml").write_text(
        "\n".join(lines).format("my_faults", "txet"), encoding="utf-8"
    )
    names = {"names": ["my_sums"], "tasks_folder": str(tmp_path), "data": {"my_sums": data}}
    (row,) = evaluate_tasks(
        Answers(knows=True), TaskSettings.model_validate(names), tmp_path / "out", subject="me"
    )
    assert (row.metric, row.value, row.n) == ("my_sums acc", 1, 4)
    with pytest.raises(LingraftError, match="my_faults"):
        load_tasks(
            TaskSettings.model_validate(
                {**names, "names": ["my_faults"], "data": {"my_faults": data}}
            )
        )


def test_tasks_run_on_models_in_memory(tiny_model: Path, tmp_path: Path) -> None:
    """`lingraft.evaluate` runs tasks on a model in memory as on its folder, and compares them."""
    data = write_rows(
        tmp_path / "rows.jsonl", [{"text": f"{n} + 1 =", "label": n % 2} for n in range(4)]
    )
    task = {
        "task": "my_sums",
        "dataset_path": "json",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_target": "label",
        "doc_to_choice": ["a", "b"],
        "metric_list": [{"metric": "acc"}],
    }
    # JSON is YAML.
    (tmp_path / "sums.yaml").write_text(json.dumps(task), encoding="utf-8")
    names = {"names": ["my_sums"], "tasks_folder": str(tmp_path), "data": {"my_sums": data}}
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model)
    report = lingraft.evaluate(
        {"folder": tiny_model, "loaded": (loaded, AutoTokenizer.from_pretrained(tiny_model))},
        {"en": ENGLISH},
        settings={"tasks": names, "bootstrap.resamples": 20},
        device="cpu",
    )
    first, second = report.select(metric="my_sums acc")
    assert (first.value, first.n) == (second.value, second.n)
    (change,) = report.select(metric="my_sums acc change")
    assert (change.value, change.low, change.high) == (0, 0, 0)


def fake_task(aggregation: dict, higher: dict | None = None) -> SimpleNamespace:
    """Return what `measure_task` asks of a task of lm-eval."""
    return SimpleNamespace(
        VERSION=1,
        get_config=lambda _: 0,
        aggregation=lambda: aggregation,
        higher_is_better=lambda: higher or {},
    )


def test_a_score_that_is_better_when_it_is_lower_is_not_called_better() -> None:
    """lm-eval says of each metric whether higher is better; of stereotypes it is not."""
    rows: dict[str, list[Measurement]] = {}
    # None is what lm-eval has for a metric that it does not know.
    task = fake_task({}, {"pct_stereotype": False, "acc": True, "own": None})
    for subject, share in (("source", 4), ("adapted", 2)):
        answers = []
        for number in range(200):
            right = float(number % share == 0)
            scores = {"pct_stereotype": right, "acc": float(number % 4 == 0), "own": right}
            answers.append({"filter": "none", "arguments": [()], "metrics": list(scores), **scores})
        for row in measure_task(
            "any_task",
            task,
            answers,
            TaskSettings(),
            subject,
            bootstrap=BootstrapSettings(),
            seen=None,
            incidents={},
        ):
            rows.setdefault(row.metric, []).append(row)
    stereotypes, accuracy, own = (metric_changes(of_metric)[0] for of_metric in rows.values())
    assert (stereotypes.verdict, accuracy.verdict, own.verdict) == ("", "same", "better")
    assert [row.value for row in rows["any_task pct_stereotype"]] == [0.25, 0.5]


def test_answers_that_are_bools_of_numpy_are_a_share() -> None:
    """A task that compares arrays gives the same score and interval as one with 0 and 1."""
    rows = []
    for kind in (float, np.bool_):
        answers = []
        for number in range(40):
            scores = {"acc": kind(number % 4 == 0)}
            answers.append({"filter": "none", "arguments": [()], "metrics": ["acc"], **scores})
        rows += measure_task(
            "any_task",
            fake_task({}),
            answers,
            TaskSettings(),
            "me",
            bootstrap=BootstrapSettings(),
            seen=None,
            incidents={},
        )
    assert rows[0] == rows[1]
    assert rows[0].unit == "share"


def test_the_level_of_the_intervals_is_that_of_the_settings() -> None:
    """A share, a mean, a corpus score and another aggregate have intervals of the level set."""
    answers = []
    for number in range(40):
        scores = {"acc": number % 2, "length": number % 7, "total": number % 7}
        scores["chrF++"] = ("a b c d e f", f"a b c d {number}")
        answers.append(
            {"filter": "none", "arguments": [()], "metrics": list(scores), **scores},
        )
    task = fake_task(aggregation={"length": mean, "total": sum})
    widths: dict[str, list[float]] = {}
    for level in (0.5, 0.95):
        rows = measure_task(
            "any_task",
            task,
            answers,
            TaskSettings(),
            "me",
            bootstrap=BootstrapSettings(confidence=level),
            seen=None,
            incidents={},
        )
        assert [row.confidence for row in rows] == [level] * 4
        for row in rows:
            assert row.low is not None
            assert row.high is not None
            widths.setdefault(row.metric, []).append(row.high - row.low)
    for narrow, wide in widths.values():
        assert 0 < narrow < wide


def test_whole_texts_and_other_aggregates_work(lm: FolderLM, tmp_path: Path) -> None:
    """A task of whole texts scores every token once; other aggregates of lm-eval get intervals."""
    texts = [*ENGLISH, " ".join(HINDI)]
    data = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    lines = (
        "task: whole_texts",
        "dataset_path: json",
        "test_split: test",
        "output_type: loglikelihood_rolling",
        "doc_to_text: ''",
        "doc_to_target: text",
        "metric_list: [{metric: bits_per_byte}]",
    )
    (tmp_path / "texts.yaml").write_text("\n".join(lines), encoding="utf-8")
    settings = TaskSettings.model_validate(
        {"names": ["whole_texts"], "tasks_folder": str(tmp_path), "data": {"whole_texts": data}}
    )
    (row,) = evaluate_tasks(lm, settings, tmp_path / "out", subject="me")
    ids = [lm.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    with torch.inference_mode():
        nats = [
            sum(slow_nats(lm, _seen_before(lm, text, i), [text[i]]) for i in range(len(text)))
            for text in ids
        ]
    assert row.metric == "whole_texts bits_per_byte"
    assert row.value == pytest.approx(
        -sum(nats) / math.log(2) / sum(len(text.encode()) for text in texts), rel=1e-5
    )
    assert row.low is not None
    assert row.low <= row.value <= row.high


def _seen_before(lm: FolderLM, text: list[int], position: int) -> list[int]:
    """Return the context of a token: its window, or BOS or EOS before the first token."""
    first = position - position % CONTEXT
    last = first + CONTEXT >= len(text) and first > 0  # the last window is filled up from the left
    begin = len(text) - CONTEXT if last else first
    return [text[begin - 1] if begin else lm.prefix_token_id, *text[begin:position]]


# the real thing


def test_a_real_model_on_real_data(
    assets: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pretrained model runs FLORES and XCOPA from files; lm-eval prints nothing."""
    data = {
        "flores": str(assets / "parallel/flores200-devtest.jsonl.gz"),
        "xcopa": {
            "test": str(assets / "parallel/xcopa/test.tr.jsonl"),
            "shots": str(assets / "parallel/xcopa/val.tr.jsonl"),
        },
    }
    settings = TaskSettings.model_validate(
        {
            "names": ["flores-tr", "xcopa-tr"],
            "limit": 2,
            "data": data,
            "translation_metrics": ["chrF++"],
        }
    )
    rows = run_tasks(assets / "models/english-8m", settings, tmp_path, subject="english-8m")
    assert [(row.metric, row.n) for row in rows] == [("flores chrF++", 2), ("xcopa accuracy", 2)]
    assert {row.language for row in rows} == {"tr"}
    assert "5 shots" in rows[0].note
    assert "2 of 2 prompts cut at their beginning, to the model's context of 512" in rows[0].note
    assert len((tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    out, err = capfd.readouterr()
    assert out == ""
    ours = ("flores-tr: writing answers: ", "xcopa-tr: ranking answers: ")
    assert all(line.startswith(ours) for line in err.splitlines()), err
