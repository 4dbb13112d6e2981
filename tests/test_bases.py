"""Base models: what is accepted, what is refused, and what their identity is."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from lingraft.bases import BASES, BuildContext, parse_model
from lingraft.bases.tokenizer_files import complete_tokenizer, write_source_tokenizer
from lingraft.corpus import CorpusSettings, Source
from lingraft.errors import (
    CorpusError,
    LingraftError,
    ModelError,
    StoreError,
    TokenizerError,
)
from lingraft.pipeline import load_run
from lingraft.store import Draft
from lingraft.tokenizer import open_tokenizer
from tests.command_server import HubCommands

TEXT = "The old farmer gave the red apple to his daughter."


def materialised(base, tmp_path: Path) -> Path:
    draft = Draft(tmp_path / "draft")
    draft.folder.mkdir(parents=True)
    scratch_dir = tmp_path / "scratch_dir"
    scratch_dir.mkdir(exist_ok=True)
    base.materialise(BuildContext(draft, scratch_dir))
    return draft.folder / "model"


def loads(folder: Path, text: str = TEXT) -> list[int]:
    """Load a folder the plain way and return the ids that AutoTokenizer gives."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]


@pytest.fixture
def copied(tiny_model, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("written", "chosen"),
    [
        (
            "owner/name",
            {"hub": {"id": "owner/name", "revision": "main", "trust_remote_code": False}},
        ),
        (
            "owner/name@v1.0",
            {"hub": {"id": "owner/name", "revision": "v1.0", "trust_remote_code": False}},
        ),
        ("./owner/name", {"folder": {"path": "./owner/name", "trust_remote_code": False}}),
        ("/absolute/path", {"folder": {"path": "/absolute/path", "trust_remote_code": False}}),
        ({"folder": {"path": "a/b"}}, {"folder": {"path": "a/b", "trust_remote_code": False}}),
    ],
)
def test_short_forms(written, chosen):
    """A folder, a hub id and a hub id with a revision are told apart."""
    assert parse_model(written).chosen() == chosen


def test_a_folder_that_is_there_is_a_folder(tiny_model, tmp_path, monkeypatch):
    """owner/name is a folder where such a folder is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").symlink_to(tiny_model)
    assert parse_model("owner/name").chosen() == {
        "folder": {"path": "owner/name", "trust_remote_code": False}
    }


def test_a_folder_gives_a_model_that_loads(tiny_model, tmp_path):
    """The stored source loads with transformers, gives the same ids, and links its weights."""
    folder = materialised(parse_model(str(tiny_model)), tmp_path)
    assert loads(folder) == open_tokenizer(tiny_model).encode([TEXT])[0]
    assert (folder / "model.safetensors").resolve() == (tiny_model / "model.safetensors").resolve()


def test_identity_is_content(tiny_model, copied):
    """A moved copy has the same identity; a changed config, tokenizer or weight changes it."""
    before = parse_model(str(tiny_model)).identity()
    assert parse_model(str(copied)).identity() == before
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        content = (copied / name).read_bytes()
        (copied / name).write_bytes(content + b" ")
        assert parse_model(str(copied)).identity() != before
        (copied / name).write_bytes(content)


def test_a_tokenizer_in_any_file_that_is_read_belongs_to_the_model(copied, tmp_path):
    """A model whose tokenizer is compressed keeps it, and its content is part of the identity."""
    path = copied / "tokenizer.json"
    ids = open_tokenizer(copied).encode([TEXT])
    (copied / "tokenizer.json.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    base = parse_model(str(copied))
    assert open_tokenizer(materialised(base, tmp_path)).encode([TEXT]) == ids
    before = base.identity()
    (copied / "tokenizer.json.gz").write_bytes(b"other")
    assert base.identity() != before


def broken(folder: Path, what: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if what == "no config":
        (folder / "config.json").unlink()
    elif what == "no json":
        (folder / "config.json").write_text("{")
    elif what == "nested config":
        (folder / "config.json").write_text("[" * 100_000)
    elif what == "no generation json":
        (folder / "generation_config.json").write_text("[1")
    elif what == "no generation object":
        (folder / "generation_config.json").write_text("[1]")
    elif what == "no model type":
        (folder / "config.json").write_text("{}")
    elif what == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif what == "remote code":
        brought = {**config, "model_type": "own", "auto_map": {"AutoModel": "x.Y"}}
        (folder / "config.json").write_text(json.dumps(brought))
    elif what == "gone":
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no config", "config.json: no such file"),
        ("no json", "cannot be read as JSON"),
        ("nested config", "cannot be read as JSON"),
        ("no generation json", "generation_config.json: cannot be read as JSON"),
        ("no generation object", "generation_config.json: not an object"),
        ("no model type", "has no model_type"),
        ("pickle", "pytorch_model.bin"),
        ("remote code", "its own code"),
        ("gone", "neither a folder"),
    ],
)
def test_folders_that_hold_no_usable_model(copied, what, message):
    """An invalid model is refused before anything is computed; its code is never run."""
    base = parse_model(str(copied))
    broken(copied, what)
    with pytest.raises(ModelError, match=message):
        base.identity()


def test_a_tokenizer_that_does_not_fit_the_model(copied):
    """A tokenizer with more ids than the model has rows is refused with both numbers."""
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "vocab_size": 300}))
    with pytest.raises(
        ModelError, match="highest id is 319, while the model has 300 embedding rows"
    ):
        complete_tokenizer(copied)


def test_a_tokenizer_file_that_is_refused_is_the_users(copied, tmp_path):
    """The error names the file that was given, not the copy that is read."""
    (copied / "tokenizer.json").write_text("{}")
    (tmp_path / "output").mkdir()
    with pytest.raises(TokenizerError, match=f"^{copied}/tokenizer.json: not a tokenizer.json"):
        write_source_tokenizer(copied / "tokenizer.json", tmp_path / "output", warn=print)


def test_a_folder_without_tokenizer(copied):
    """A model without a tokenizer is refused with what was looked for."""
    (copied / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match="no tokenizer here; expected one of tokenizer"):
        complete_tokenizer(copied)


def test_random_weights_follow_from_the_seed(tiny_model, tmp_path):
    """Equal recipes give equal weights, another seed other ones; the global RNG is unchanged."""
    import torch

    state = torch.random.get_rng_state()
    models = [
        materialised(
            BASES.parse(
                {"random": {"tokenizer": str(tiny_model / "tokenizer.json"), "seed": seed}}
            ),
            tmp_path / str(number),
        )
        for number, seed in enumerate((0, 0, 1))
    ]
    weights = [(folder / "model.safetensors").read_bytes() for folder in models]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(state, torch.random.get_rng_state())
    assert loads(models[0]) == open_tokenizer(tiny_model).encode([TEXT])[0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "lama"}, "transformers has no 'lama'"),
        ({"model_type": ["llama"]}, "transformers has no"),
        ({"model_type": "vit"}, "config.model_type: vit is a 'vit' model, not a causal language"),
        ({"model_type": "t5"}, "config.model_type: t5 is an encoder-decoder"),
        ({"vocab_size": 10}, "vocab_size 10; leave vocab_size out"),
        ({"vocab_size": "many"}, 'vocab_size "many"; leave vocab_size out'),
        ({"hidden_size": "abc"}, "refuses these settings .*expected int, got str"),
        ({"hidden_size": 65}, r"refuses these settings .*65\) is not a multiple of the number of"),
        ({"num_attention_heads": 0}, "refuses these settings .*division or modulo by zero"),
        ({"model_type": "gpt2", "n_embd": 30}, "refuses these settings .*must be divisible"),
        ({"hiden_size": 32}, "config.hiden_size: llama has no such setting; did you mean 'hidden"),
        (
            {"model_type": "gemma3", "text_config": {"hiden_size": 32}},
            "config.text_config.hiden_size: gemma3_text has no such setting; did you mean 'hidden",
        ),
    ],
)
def test_configurations_that_make_no_model(tiny_model, english_file, tmp_path, config, message):
    """A setting that transformers refuses or would ignore is one line, before any text is read."""
    bases = {
        "random": {"tokenizer": str(tiny_model)},
        "pretrain": {"corpus": str(english_file), "vocabulary_size": 300},
    }
    for name, settings in bases.items():
        base = BASES.parse({name: {**settings, "config": config}})
        with pytest.raises(ModelError, match=message) as caught:
            materialised(base, tmp_path / name)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / name / "scratch_dir" / "corpus").exists()


def test_settings_that_a_model_reads_without_declaring_them_have_an_effect(tiny_model, tmp_path):
    """Qwen2's heads have the width of head_dim, which its configuration does not name.

    Gemma 3's configuration makes the kinds of its layers from sliding_window_pattern.
    """
    from transformers import AutoModelForCausalLM

    small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4}
    heads = {**small, "model_type": "qwen2", "num_hidden_layers": 1, "head_dim": 16}
    base = BASES.parse({"random": {"tokenizer": str(tiny_model), "config": heads}})
    model = AutoModelForCausalLM.from_pretrained(materialised(base, tmp_path))
    assert model.model.layers[0].self_attn.q_proj.weight.shape == (4 * 16, 32)
    layers = {"model_type": "gemma3_text", "num_hidden_layers": 4, "sliding_window_pattern": 2}
    base = BASES.parse({"random": {"tokenizer": str(tiny_model), "config": layers}})
    assert base.config()["layer_types"] == ["sliding_attention", "full_attention"] * 2


def test_older_names_of_settings_are_accepted(tiny_model):
    """Settings that transformers reads by another name by now are no unknown ones."""
    config = {"rope_scaling": {"type": "linear", "factor": 2.0}, "torch_dtype": "float32"}
    base = BASES.parse({"random": {"tokenizer": str(tiny_model), "config": config}})
    before = base.identity()
    assert base.config()["rope_parameters"]["factor"] == 2
    assert base.identity() == before


REAL = [
    ("llama2/tokenizer.model", {"num_key_value_heads": 2}, 32_000),
    ("pythia/tokenizer.json", {"model_type": "gpt_neox"}, 50_277),
    ("gpt2/vocab.json", {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}, 50_257),
    (
        "qwen2/tokenizer.json.gz",
        {"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True},
        151_646,
    ),
]


@pytest.mark.parametrize(
    ("tokenizer", "body", "size"), REAL, ids=lambda value: str(value).split("/")[0]
)
def test_real_tokenizers_get_a_body(assets, tmp_path, tokenizer, body, size):
    """A real tokenizer in any file format becomes a model folder that gives the same ids."""
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    config = body if body.get("model_type") == "gpt2" else {**small, **body}
    base = BASES.parse(
        {"random": {"tokenizer": str(assets / "tokenizers" / tokenizer), "config": config}}
    )
    folder = materialised(base, tmp_path)
    text = "किताबें पढ़ना, reading  books\n\tÇok güzel 123"
    assert (
        loads(folder, text) == open_tokenizer(assets / "tokenizers" / tokenizer).encode([text])[0]
    )
    assert complete_tokenizer(folder).size == size
    assert base.config()["vocab_size"] == size


def test_a_base_that_is_trained_here_has_nothing_to_merge_back():
    """Before its training its weights are random."""
    pretrain = {"language": "en", "corpus": {"sources": "miniature"}}
    training = {"budget": "2 steps", "merge_back": [0.1]}
    with pytest.raises(ValidationError, match="before this training the weights are random"):
        BASES.parse({"pretrain": {**pretrain, "training": training}})


def test_a_base_trained_here(english_file, tmp_path):
    """Tokenizer and weights are learned from the text; the loss falls; the folder is complete."""
    base = BASES.parse(
        {
            "pretrain": {
                "corpus": {"sources": [str(english_file)], "heldout_share": 0.1},
                "vocabulary_size": 300,
                "seed": 3,
                "config": {
                    "hidden_size": 16,
                    "intermediate_size": 32,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "num_key_value_heads": 2,
                    "max_position_embeddings": 32,
                },
                "training": {
                    "strategy": "full",
                    "budget": "30 steps",
                    "batch_tokens": 128,
                    "learning_rates": 1e-2,
                },
            }
        }
    )
    folder = materialised(base, tmp_path)
    assert complete_tokenizer(folder).size == 300
    loads(folder)
    rows = [
        json.loads(line) for line in (folder.parent / "training.jsonl").read_text().splitlines()
    ]
    assert rows[-1]["bits_per_byte"] < 0.7 * rows[0]["bits_per_byte"]


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32},
        {"model_type": "bloom", "hidden_size": 16, "n_layer": 1, "n_head": 2},
        {"model_type": "mamba", "hidden_size": 16, "num_hidden_layers": 1},
    ],
    ids=lambda config: config["model_type"],
)
def test_a_base_of_any_kind_is_trained_here(english_file, tmp_path, config):
    """A model whose context has another name or no limit is trained like others."""
    training = {"strategy": "full", "budget": "1 steps", "batch_tokens": 64, "learning_rates": 1e-3}
    settings = {"corpus": str(english_file), "vocabulary_size": 300, "config": config}
    base = BASES.parse({"pretrain": {**settings, "training": training}})
    folder = materialised(base, tmp_path)
    assert json.loads((folder / "config.json").read_text())["model_type"] == config["model_type"]
    written = json.loads((folder / "tokenizer_config.json").read_text())
    assert written["model_max_length"] == config.get("n_positions", 512)


def test_identity_of_a_base_trained_here_follows_the_text(english_file):
    """More text is another base."""
    base = BASES.parse(
        {"pretrain": {"corpus": CorpusSettings(sources=(Source(path=str(english_file)),))}}
    )
    before = base.identity()
    english_file.write_text(english_file.read_text() + "One more line.\n")
    assert base.identity() != before


def test_text_that_changes_after_the_identity_is_not_trained_on(english_file, tmp_path):
    """Weights are stored under the identity of the text, so other text than that is refused."""
    base = BASES.parse({"pretrain": {"corpus": str(english_file)}})
    base.identity()
    english_file.write_text(english_file.read_text() + "One more line.\n")
    with pytest.raises(CorpusError, match="the file was changed while the run used it"):
        materialised(base, tmp_path)


ASK = """
import json, sys
from lingraft.bases import BASES, BuildContext
from lingraft.errors import LingraftError
from lingraft.store import Draft
from pathlib import Path
base = BASES.parse({"hub": json.loads(sys.argv[1])})
try:
    identity = base.identity()
    draft = Draft(Path(sys.argv[2])); draft.folder.mkdir()
    base.materialise(BuildContext(draft, draft.folder))
    files = sorted(path.name for path in (draft.folder / "model").iterdir())
    print(json.dumps([identity, base.config()["model_type"], files]))
except LingraftError as error:
    print(json.dumps(str(error)))
"""


def ask_hub(hub_commands: HubCommands, draft: Path, **settings: str):
    command = ["-c", ASK, json.dumps(settings), draft]
    done = hub_commands.ask(*command, home=draft.parent / "home", cwd=draft.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_on_a_hub(tiny_model, hub_commands, tmp_path):
    """A branch is pinned to a commit, only files that are read are fetched; offline, the cache."""
    served = tmp_path / "served" / "models" / "owner" / "name"
    shutil.copytree(tiny_model, served)
    (served / "pytorch_model.bin").write_bytes(b"pickle")
    (served / "original").mkdir()
    for name in ("model.safetensors", "consolidated.safetensors", "tokenizer.model"):
        (served / "original" / name).write_bytes(b"the same in another format")
    (served / "additional_chat_templates").mkdir()
    (served / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    with hub_commands.serve(tmp_path / "served") as hub:
        commit = hub.commit("models", "owner/name")
        identity, kind, files = ask_hub(hub_commands, tmp_path / "a", id="owner/name")
        assert (identity, kind) == ({"hub": "owner/name", "commit": commit}, "llama")
        assert {"model.safetensors", "additional_chat_templates"} < set(files)
        assert not any("pytorch_model" in request for request in hub.requests)
        assert not any("original/" in request for request in hub.requests)
        assert "there is no such model" in ask_hub(hub_commands, tmp_path / "b", id="owner/gone")
        assert "no revision 'v9'" in ask_hub(
            hub_commands, tmp_path / "c", id="owner/name", revision="v9"
        )
    answer = ask_hub(hub_commands, tmp_path / "d", id="owner/name")
    assert answer[0] == {"hub": "owner/name", "commit": commit}, answer
    assert "cannot be reached" in ask_hub(hub_commands, tmp_path / "e", id="owner/other")


def test_a_model_on_a_hub_is_asked_for_without_bars(tmp_path, monkeypatch, capsys):
    """A command looks at config.json a dozen times, so the Hub's client draws no bar for it."""

    def snapshot(*_arguments, tqdm_class, **_options):
        list(tqdm_class(range(3), desc="Fetching 3 files", disable=False))
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    bars = importlib.import_module("huggingface_hub.utils.tqdm")
    monkeypatch.setattr(bars, "HF_HUB_DISABLE_PROGRESS_BARS", None)  # the environment may say so
    assert parse_model(f"owner/name@{40 * '0'}").config()["model_type"] == "llama"
    assert capsys.readouterr().err == ""


def test_the_files_that_are_still_to_be_downloaded(monkeypatch):
    """The size of a download counts the files that are fetched: not those of subfolders."""
    names = (
        "config.json",
        "model.safetensors",
        "consolidated.safetensors",
        "original/model.safetensors",
        "original/tokenizer.model",
        "metal/model.bin",
        "additional_chat_templates/tools.jinja",
    )
    listed = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name, size=3) for name in names])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_ids, **_options: listed)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_ids, **_options: None)
    missing = parse_model(f"owner/name@{40 * '0'}").missing_files()
    assert [*missing] == [names[0], names[1], names[-1]]


def test_a_gated_model(tiny_model, hub_commands, tmp_path):
    """A model whose conditions are not accepted is refused with what to do."""
    shutil.copytree(tiny_model, tmp_path / "models" / "owner" / "gated")
    with hub_commands.serve(tmp_path, gated={"owner/gated"}):
        answer = ask_hub(hub_commands, tmp_path / "a", id="owner/gated")
    assert "owner/gated: access is restricted; accept the conditions on" in answer


def test_every_base_is_refused_with_the_users_error(tmp_path):
    """Every kind of base says in one line that what it names is not there."""
    absent = {
        "folder": {"path": str(tmp_path / "x")},
        "random": {"tokenizer": str(tmp_path / "x")},
        "pretrain": {"corpus": str(tmp_path / "x.txt")},
    }
    for name, settings in absent.items():
        with pytest.raises(LingraftError) as caught:
            BASES.parse({name: settings}).identity()
        assert "\n" not in str(caught.value)


def test_roles_of_special_tokens_may_be_named(tiny_model, tmp_path):
    """A recipe can name the roles of special tokens; an unknown token is refused."""
    settings = {
        "tokenizer": str(tiny_model / "tokenizer.json"),
        "special_tokens": {"eos_token": "<s>"},
    }
    folder = materialised(BASES.parse({"random": settings}), tmp_path)
    assert open_tokenizer(folder).eos_id == 318
    with pytest.raises(TokenizerError, match="has no token '<eot>'"):
        BASES.parse({"random": {**settings, "special_tokens": {"eos_token": "<eot>"}}}).identity()


@pytest.fixture
def chatty(tiny_model, tmp_path) -> Path:
    """Return a tokenizer folder with a default chat template, a named one, and other settings."""
    folder = tmp_path / "chatty"
    (folder / "additional_chat_templates").mkdir(parents=True)
    shutil.copy(tiny_model / "tokenizer.json", folder)
    settings = {"bos_token": "<s>", "eos_token": "</s>", "padding_side": "left"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>"}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    return folder


def test_a_base_with_random_weights_has_the_whole_tokenizer(chatty, tmp_path):
    """Every chat template and setting of the files is kept; roles of the recipe come first."""
    from transformers import AutoTokenizer

    base = BASES.parse(
        {"random": {"tokenizer": str(chatty), "special_tokens": {"eos_token": "<s>"}}}
    )
    before = base.identity()
    loaded = AutoTokenizer.from_pretrained(materialised(base, tmp_path))
    assert loaded.chat_template == {"default": "{{ messages }}", "tools": "{{ tools }}"}
    assert (loaded.eos_token, loaded.padding_side) == ("<s>", "left")
    (chatty / "chat_template.jinja").write_text("another")
    assert base.identity() != before


def test_a_tokenizer_without_a_model_keeps_named_chat_templates(chatty, tmp_path):
    """A source without weights is written with all chat templates, in their folders."""
    from transformers import AutoTokenizer

    write_source_tokenizer(chatty / "tokenizer.json", tmp_path, warn=print)
    for name in ("given", "model"):
        loaded = AutoTokenizer.from_pretrained(tmp_path / name)
        assert loaded.chat_template == {"default": "{{ messages }}", "tools": "{{ tools }}"}


def test_large_files_are_hashed_once(tmp_path, monkeypatch):
    """The hash of a large file is cached until the file changes; without a cache it is right."""
    from lingraft.store import digests, file_digest

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    file.write_bytes(b"0" * 100)
    first = digests.cached_sha256(file, cached_from=10)
    monkeypatch.setattr(digests, "file_digest", lambda _path: pytest.fail("read again"))
    assert digests.cached_sha256(file, cached_from=10) == first == file_digest(file)
    # A link that a run has to the file changes the time of its state, but not the file.
    (tmp_path / "link").hardlink_to(file)
    assert digests.has_cached_sha256(file)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    file.write_bytes(b"1" * 100)
    assert digests.cached_sha256(file, cached_from=10) == file_digest(file) != first


def test_a_file_with_a_restored_time_is_hashed_again(tmp_path, monkeypatch):
    """Other content of equal size, time and inode has its own hash: archives restore times."""
    from lingraft.store import digests, file_digest

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, hashes = tmp_path / "weights", set()
    for content in (b"0", b"1"):
        file.write_bytes(content * 100)
        os.utime(file, (1e9, 1e9))
        hashes.add(digests.cached_sha256(file, cached_from=10))
        assert file_digest(file) in hashes
    assert len(hashes) == 2


def test_the_home_of_a_user_who_does_not_exist():
    """`~NAME` without such a user is a path like others, of which nothing is there."""
    with pytest.raises(ModelError, match=r"^model: ~nobody-of-this-name/model: not found"):
        parse_model("~nobody-of-this-name/model").identity()
    with pytest.raises(StoreError, match=r"^~nobody-of-this-name/run: no such folder"):
        load_run("~nobody-of-this-name/run")
