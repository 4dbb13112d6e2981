"""The Modelfile next to a GGUF file: Ollama's template renders chats as transformers does.

Ollama itself is not run. Its template is translated to Jinja, action by action, and rendered.
"""

from __future__ import annotations

import json
import os

import pytest

from lingraft.errors import ModelError, RecipeError
from lingraft.export import export_gguf
from lingraft.export.ollama import find_turns
from lingraft.store import DiskError
from lingraft.tokenizer.chat_template import ChatTemplate
from tests.gguf_models import build

pytest.importorskip("gguf")

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_DEFAULT = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}"
    "{% endif %}" + CHATML
)
GEMMA_3 = (
    "{{ bos_token }}{% set first = '' %}{% set rest = messages %}"
    "{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
    "{% set rest = messages[1:] %}{% endif %}"
    "{% for m in rest %}{{ '<start_of_turn>' + {'user': 'user', 'assistant': 'model'}[m.role] }}\n"
    "{{ (first if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content }}"
    " [/INST]{% elif m.role == 'assistant' %}{{ m.content + eos_token }}"
    "{% else %}{{ raise_exception('no system message') }}{% endif %}{% endfor %}"
)
PHI_3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
LAST_IS_DIFFERENT = CHATML.replace("m.content", "(m.content ~ (' #' if loop.last else ''))")
ENDS_IN_A_BRACE = CHATML.replace("m.role + '\n'", "m.role + ' {'")
QUOTES_ACTIONS = CHATML.replace("<|im_end|>", '{{ "}}" }}').replace("'<|", "'{' + '{<|")

FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
ROLES = ("user", "assistant")


def as_jinja(go: str) -> str:
    """Translate the actions that `go_template` uses."""
    translated, open_blocks = [], []
    for part in go.split("{{ "):
        action, closed, text = part.partition(" }}")
        if not closed:
            translated.append(part)
            continue
        if action.startswith("range"):
            open_blocks.append("for")
            action = "{% for message in messages %}{% set i = loop.index0 %}"
        elif action.startswith("if"):
            open_blocks.append("if")
            action = {
                'if eq $message.Role "system"': "{% if message.role == 'system' %}",
                'if eq $message.Role "user"': "{% if message.role == 'user' %}",
                'if eq $message.Role "assistant"': "{% if message.role == 'assistant' %}",
                "if and $.System (le $i 1)": "{% if system and i <= 1 %}",
            }[action]
        elif action == "end":
            action = "{% end" + open_blocks.pop() + " %}"
        else:
            names = {"$message.Content": "message.content", "$.System": "system"}
            action = "{{ " + names[action] + " }}"
        translated += [action, text]
    return "".join(translated)


@pytest.mark.parametrize("source", [CHATML, WITH_DEFAULT, GEMMA_3, NO_SYSTEM, PHI_3])
def test_ollama_renders_what_transformers_renders(source):
    """With and without a system message, for one turn and for several."""
    from jinja2 import Environment

    template = ChatTemplate(source, TOKENS, frozenset(TOKENS.values()))
    turns = find_turns(template, "<s>")
    ollama = Environment(keep_trailing_newline=True).from_string(as_jinja(turns.go_template()))
    for count in (1, 3, 5):
        chat = [{"role": ROLES[i % 2], "content": f"turn {i}"} for i in range(count)]
        for system in ("", "Answer in Hindi."):
            if system and source == NO_SYSTEM:
                continue
            messages = [{"role": "system", "content": system}, *chat] if system else chat
            # Ollama adds the SYSTEM of the Modelfile to a chat without a system message.
            given = system or turns.default
            asked = [{"role": "system", "content": given}, *chat] if given else chat
            wanted = template.render(messages, add_generation_prompt=True).removeprefix("<s>")
            assert ollama.render(messages=asked, system=given) == wanted


def test_a_template_that_go_cannot_express_is_left_out():
    """A turn that depends on its place, or text that Go would read as an action, is not written."""
    for source in (LAST_IS_DIFFERENT, QUOTES_ACTIONS, ENDS_IN_A_BRACE, "{{ messages[0].content }}"):
        assert find_turns(ChatTemplate(source, TOKENS, frozenset()), "") is None


def test_a_modelfile_is_written_next_to_the_file(tmp_path):
    """It names the file, the template, what ends an answer, and how the model samples."""
    model = build("llama", tmp_path / "model")
    exported = export_gguf(model, tmp_path / "small.gguf")
    assert exported.serve == f"llama-server -m {tmp_path}/small.gguf -c 512 --jinja"
    assert exported.ollama == f"ollama create small -f {tmp_path}/small.Modelfile"
    written = exported.modelfile.read_text().splitlines()
    assert exported.modelfile == tmp_path / "small.Modelfile"
    assert written[0] == "# llama.cpp: llama-server -m small.gguf -c 512 --jinja"
    assert written[1] == "# Ollama:    ollama create small -f small.Modelfile"
    assert written[2:] == ["FROM ./small.gguf", 'TEMPLATE """{{ .Prompt }}"""']
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": GEMMA_3.replace("<end_of_turn>", "</s>"),
    }
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    sampling = {
        "do_sample": True,
        "temperature": 0.6,
        "repetition_penalty": 1.1,
        "eos_token_id": [2],
    }
    (model / "generation_config.json").write_text(json.dumps(sampling))
    chat = export_gguf(model, tmp_path / "small chat.gguf").modelfile.read_text()
    assert "llama-server -m 'small chat.gguf' -c 512 --jinja\n" in chat
    assert "ollama create small-chat -f 'small chat.Modelfile'\n" in chat
    assert 'FROM "./small chat.gguf"\nTEMPLATE """{{ range' in chat
    assert chat.endswith(
        'PARAMETER stop "</s>"\nPARAMETER temperature 0.6\nPARAMETER repeat_penalty 1.1\n'
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m.Modelfile", "this is the name of an Ollama Modelfile"),
        ("model", "model is a folder"),
        ("m.gguf", r"m\.Modelfile is a folder"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_first(name, words, tmp_path):
    """Neither file is written if one of the two cannot be."""
    (tmp_path / "m.Modelfile").mkdir()
    (tmp_path / "model").mkdir()
    with pytest.raises(RecipeError, match=words):
        export_gguf(tmp_path / "model", tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"m.Modelfile", "model"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model/model.safetensors", r"model\.safetensors exists and is no GGUF file"),
        ("model/config.json", r"config\.json exists and is no GGUF file"),
        ("mine.gguf", r"mine\.Modelfile exists and is no Modelfile of lingraft"),
    ],
)
def test_a_file_of_something_else_is_never_replaced(name, words, tmp_path):
    """The model's own weights and a Modelfile of the user stay; a former export is replaced."""
    model = build("llama", tmp_path / "model")
    (tmp_path / "mine.Modelfile").write_text("FROM llama3\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RecipeError, match=words):
        export_gguf(model, tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    first = export_gguf(model, tmp_path / "m.gguf").path.read_bytes()
    assert export_gguf(model, tmp_path / "m.gguf", numbers="f16").path.read_bytes() != first


@pytest.mark.parametrize("name", ["pipe.gguf", "file/m.gguf"])
def test_a_place_without_a_file_is_no_other_file(name, tmp_path):
    """A pipe is not read, and a path below a file is an error of the disk."""
    model = build("llama", tmp_path / "model")
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "file").touch()
    with pytest.raises(DiskError):
        export_gguf(model, tmp_path / name)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_generation_config_that_is_no_object_is_refused(content, tmp_path):
    """Its end tokens and sampling are needed, so it is named before anything is written."""
    model = build("llama", tmp_path / "model")
    (model / "generation_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"generation_config\.json"):
        export_gguf(model, tmp_path / "x.gguf")
    assert not list(tmp_path.glob("*x.*"))


def test_stop_strings_are_quoted_as_ollama_reads_them(tmp_path):
    """Ollama knows no escapes: text with quotes is put between three, backslashes stay."""
    model = build("llama", tmp_path / "model")
    data = json.loads((model / "tokenizer.json").read_text())
    contents, first = ['<|"end"|>', "<\\e>"], len(data["model"]["vocab"])
    for token_id, content in enumerate(contents, start=first):
        token = {"id": token_id, "content": content, "special": True}
        data["added_tokens"].append(token | dict.fromkeys(FLAGS, False))
    (model / "tokenizer.json").write_text(json.dumps(data))
    stops = {"eos_token_id": [first, first + 1]}
    (model / "generation_config.json").write_text(json.dumps(stops))
    written = export_gguf(model, tmp_path / "m.gguf").modelfile.read_text()
    assert 'PARAMETER stop """<|"end"|>"""' in written.splitlines()
    assert r'PARAMETER stop "<\e>"' in written.splitlines()


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_the_end_of_a_turn_ends_generation(name, tmp_path):
    """The token that ends a chat turn is written besides EOS; llama.cpp stops at both.

    Models without generation_config.json name them in config.json.
    """
    import gguf

    model = build("qwen2", tmp_path / "model")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "a"}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    ids = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    stops = {"eos_token_id": [ids["b"], ids["a"]]}
    (model / "generation_config.json").unlink(missing_ok=True)
    former = json.loads((model / name).read_text()) if name == "config.json" else {}
    (model / name).write_text(json.dumps({**former, **stops}))
    fields = gguf.GGUFReader(export_gguf(model, tmp_path / "m.gguf").path).fields
    assert fields["tokenizer.ggml.eos_token_id"].contents() == ids["a"]
    assert fields["tokenizer.ggml.eot_token_id"].contents() == ids["b"]
