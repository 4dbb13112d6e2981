"""Names of lingraft 0.1: recipes, overrides, studies and run folders that hold them still open."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lingraft
from lingraft.certificate import CLAIM_NAMES
from lingraft.embeddings.calibrated import Calibrated
from lingraft.errors import RecipeError
from lingraft.pipeline import build_graph
from lingraft.recipe import Recipe, load_recipe, parse_recipe, recipe_values, recipe_yaml
from lingraft.recipe.old_names import (
    CHOICES,
    RECORDS,
    SETTINGS,
    current_log,
    current_record,
    names_of_0_1,
)
from lingraft.recipe.overrides import override
from lingraft.recipe.yaml import dump, read_text
from lingraft.studies.cells import cells_of
from lingraft.studies.study_file import read_study

OLD = """\
name: old-{language}
model:
  pretrain:
    corpus: {sources: {path: en.txt, documents: paragraph}, minimum_characters: 2}
    training: {strategy: full, rates: 1e-3, packing: {block: 64}}
target:
  language: hi
  corpus: [{path: hi.jsonl, text: body}]
  heldout: {path: held.jsonl, text: body}
  minimum_characters: 3
  maximum_characters: 900
  longest_document: 1 MB
  normalise: NFC
  language_check: {confidence: 0.1}
also: [{language: ta, corpus: {path: ta.txt, documents: file}}]
replay: {language: en, corpus: en.jsonl, longest_document: 2 MB}
vocabulary:
  method: {continued: {minimum_saving: 2, maximum_bytes: 40}}
  size: {rate: 0.02, maximum: 4000}
  protect: true
embeddings:
  input: {learned: {start: hf, share: 0.2, tokens: 900, rate: 1e-2, block: 16}}
  output: {focus: {text: 1 MB, width: 16, least_count: 2}}
training:
  phases:
  - strategy: {differential: {base_rows: embeddings}}
    rates: {body: 1e-4, embeddings: 1e-3}
    replay: 0.1
  - strategy: {lora: {modules: [q_proj], base: nf4}}
    optimiser: adamw8bit
    clip: 0.5
    average: 0.1
  - {strategy: {layers: {k: 1}}, schedule: {wsd: {decay: 0.3, final: 0.1}}}
  packing: {block: 32, pack: documents}
  apart: true
chat_vector: {instruct: {hub: {id: me/chat, code: false}}}
evaluation:
  parallel: flores.jsonl
  generation: {bytes: 8, prompts: 1, repeats: 1}
  tasks: {names: xcopa-ta, shots: 2}
"""
NEW = """\
name: old-{language}
model:
  pretrain:
    corpus: {sources: {path: en.txt, document_unit: paragraph}, min_characters: 2}
    training: {strategy: full, learning_rates: 1e-3, packing: {block_size: 64}}
target:
  language: hi
  corpus: [{path: hi.jsonl, text_field: body}]
  heldout: {path: held.jsonl, text_field: body}
  min_characters: 3
  max_characters: 900
  max_document_bytes: 1 MB
  cleaning: {normalise: NFC}
  language_check: {min_confidence: 0.1}
extra_targets: [{language: ta, corpus: {path: ta.txt, document_unit: file}}]
replay: {language: en, corpus: en.jsonl, max_document_bytes: 2 MB}
vocabulary:
  method: {continued: {min_saving: 2, max_token_bytes: 40}}
  size: {min_saving_share: 0.02, max_size: 4000}
  protect_replay: true
embeddings:
  input:
    learned:
      start: mean_resizing
      max_text_share: 0.2
      max_tokens: 900
      learning_rate: 1e-2
      block_size: 16
  output: {focus: {text_bytes: 1 MB, vector_size: 16, min_count: 2}}
training:
  phases:
  - strategy: {differential: {base_rows: added_rows}}
    learning_rates: {body: 1e-4, added_rows: 1e-3}
    replay_share: 0.1
  - strategy: {lora: {target_modules: [q_proj], base_precision: nf4}}
    optimizer: adamw8bit
    max_grad_norm: 0.5
    average_share: 0.1
  - strategy: {layers: {layers_per_end: 1}}
    schedule: {wsd: {decay_share: 0.3, final_factor: 0.1}}
  packing: {block_size: 32, layout: documents}
  document_attention_mask: true
chat_vector: {instruct: {hub: {id: me/chat, trust_remote_code: false}}}
evaluation:
  parallel_file: flores.jsonl
  generation: {timed_bytes: 8, timed_prompts: 1, timed_repeats: 1}
  tasks: {names: xcopa-ta, num_fewshot: 2}
"""
OTHERS = {
    "embeddings={align: {text: 9}}": "embeddings={align: {text_bytes: 9}}",
    "embeddings=hf": "embeddings=mean_resizing",
    "embeddings.input={calibrated: {least_rows: 3}}": (
        "embeddings.input={calibrated: {min_rows: 3}}"
    ),
    "embeddings.input={distilled: {text: 9, snippets: 2, window: 8, rate: 0.1}}": (
        "embeddings.input={distilled: {text_bytes: 9, windows_per_token: 2, "
        "window_tokens: 8, step_size: 0.1}}"
    ),
    "embeddings.input={donor: {model: d, terms: 3}}": (
        "embeddings.input={donor: {model: d, max_terms: 3}}"
    ),
    "embeddings.input={wechsel: {source_vectors: a, target_vectors: b, words: 9}}": (
        "embeddings.input={wechsel: {source_vectors: a, target_vectors: b, max_words: 9}}"
    ),
    "model={folder: {path: m, code: true}}": "model={folder: {path: m, trust_remote_code: true}}",
    "model={random: {tokenizer: t, special: {eos_token: x}}}": (
        "model={random: {tokenizer: t, special_tokens: {eos_token: x}}}"
    ),
    "training.phases.0.clip=2": "training.phases.0.max_grad_norm=2",
    "training={rates: paper, apart: true}": (
        "training={learning_rates: paper, document_attention_mask: true}"
    ),
}


def read(text: str, *overrides: str) -> Recipe:
    return parse_recipe(override(read_text(text.encode(), "r.yaml"), overrides))


def warnings(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if " is now " in line]


def test_a_recipe_of_0_1_is_the_same_recipe(capsys):
    """A recipe with old names equals the one with new names, which is read without a warning."""
    old = read(OLD)
    told = warnings(capsys)
    assert old == read(NEW)
    assert warnings(capsys) == []
    assert len(told) == len(set(told)) == 48
    assert "warning: r.yaml:35: training.apart is now training.document_attention_mask" in told
    assert read(recipe_yaml(old)) == old
    assert read(dump(names_of_0_1(recipe_values(old)))) == old


@pytest.mark.parametrize("change", OTHERS)
def test_an_override_of_0_1_is_the_same_override(change, capsys):
    """Old names are read in the path and in the value of an override, which the warning names."""
    old = read(NEW, change)
    told = warnings(capsys)
    assert old == read(NEW, OTHERS[change])
    assert told
    assert all(line.startswith(f"warning: -o {change}: ") for line in told)
    assert warnings(capsys) == []


def test_every_old_name_is_read():
    """The examples of this file hold every old name of the table of settings."""
    text = OLD + " ".join(OTHERS) + " random draw unicode_normalization"
    for names in (*SETTINGS.values(), *CHOICES.values()):
        assert [old for old in names if old not in text] == []


def test_old_and_new_name_together_are_refused():
    """A setting under both names is a mistake, told with the line."""
    with pytest.raises(
        RecipeError, match=r"^r\.yaml:35: training\.apart and training\.document_attention_mask are"
    ):
        read(OLD.replace("apart: true", "apart: true\n  document_attention_mask: true"))


def test_a_setting_that_moved_into_a_mapping_joins_what_is_there(capsys):
    """Its place is in the warning; given twice, it is an error that names both places."""
    head = "name: n\nmodel: m\ntarget:\n  language: ko\n  corpus: a.txt\n"
    moved = read(f"{head}  unicode_normalization: NFC\n  cleaning: {{unmojibake: true}}\n")
    assert warnings(capsys) == [
        "warning: r.yaml:6: target.unicode_normalization is now target.cleaning.normalise"
    ]
    assert moved.target.cleaning.normalise == "NFC"
    assert moved.target.cleaning.unmojibake
    with pytest.raises(RecipeError, match="are the same setting; remove the first"):
        read(f"{head}  normalise: NFC\n  cleaning: {{normalise: NFKC}}\n")


def test_the_table_reads_backward():
    """Each new name that keys use has one old name everywhere, and is not an old name itself."""
    pairs = {pair for names in (*SETTINGS.values(), *CHOICES.values()) for pair in names.items()}
    new = [name for _, name in pairs if "." not in name]
    assert len(set(new)) == len(new)
    assert not set(new) & {old for old, _ in pairs}


def test_keys_of_stages_are_those_of_0_1(tmp_path):
    """Stored outputs of 0.1 are found: keys that 0.1 made of a recipe are made today."""
    recipe = load_recipe(Path(lingraft.__file__).parents[2] / "recipes" / "demo.yaml")
    settings = {node.stage.name: node.stage.settings for node in build_graph(recipe)}
    assert settings["training"]["phases"][0].keys() >= {
        "rates",
        "optimiser",
        "clip",
        "average",
        "replay",
    }
    assert settings["training"]["phases"][0]["rates"] == {
        "table": "size",
        "body": None,
        "embeddings": None,
    }
    assert settings["training"]["apart"] == "auto"
    assert settings["packing"] == {"block": None, "pack": "stream", "separator": "auto"}
    assert settings["vocabulary"]["method"] == {
        "continued": {"minimum_saving": 1, "maximum_bytes": 96, "step_cost": 10}
    }
    assert names_of_0_1(Calibrated().chosen()) == {"calibrated": {"least_rows": 20}}
    assert settings["evaluation"]["generation"].keys() >= {"bytes", "prompts", "repeats"}


def test_a_study_of_0_1_is_the_same_study(tmp_path, capsys):
    """Axes, settings, cells and overrides of a study may have old names."""
    (tmp_path / "r.yaml").write_text(
        NEW.replace("pretrain:", "folder: {path: m}").split("    corpus: {sources")[0]
        + NEW[NEW.index("target:") :],
        encoding="utf-8",
    )
    study = {
        "name": "s",
        "recipe": "r.yaml",
        "settings": {"training.phases.0.clip": 2},
        "random": 2,
        "axes": {"embeddings": ["hf", "mean"], "vocabulary.minimum_saving": [1, 2]},
        "scales": {"small": {"draw": 3}},
        "scale": "small",
    }
    path = tmp_path / "study.yaml"
    path.write_text(dump(study), encoding="utf-8")
    found = read_study(path, ["vocabulary.protect=false"])
    assert (found.sample_cells, found.sample_seed) == (2, 3)
    assert found.settings == {
        "training.phases.0.max_grad_norm": 2,
        "vocabulary.protect_replay": False,
    }
    assert found.axes == {"embeddings": ["mean_resizing", "mean"], "vocabulary.min_saving": [1, 2]}
    assert len(warnings(capsys)) == 6
    assert {cell.recipe.training.phases[0].max_grad_norm for cell in cells_of(found, tmp_path)} == {
        2
    }
    assert warnings(capsys) == []


def test_a_record_of_0_1_is_read_silently(capsys):
    """run.json and training.jsonl of 0.1 are read with the new names, in every part."""
    values = names_of_0_1(recipe_values(read(NEW)))
    phase = {"strategy": {"full": {}}, "rates": {"body": 1e-4, "embeddings": 1e-3, "why": "x"}}
    stages = [
        {"name": "training", "notes": {"phases": [phase]}},
        {"name": "embeddings", "notes": {"inits": {"input": {"method": {"hf": {}}}}}},
    ]
    record = current_record({"name": "a", "recipe": values, "stages": stages, "key": "k"})
    assert record["recipe"] == recipe_values(read(NEW))
    assert record["stages"][0]["notes"]["phases"][0]["learning_rates"]["added_rows"] == 1e-3
    assert record["stages"][1]["notes"]["inits"]["input"]["method"] == {"mean_resizing": {}}
    assert current_log([{"step": 1, **dict.fromkeys(RECORDS["log"], 0.5)}]) == [
        {"step": 1, **dict.fromkeys(RECORDS["log"].values(), 0.5)}
    ]
    assert warnings(capsys) == []


def test_only_known_claims_are_waived():
    """`vocabulary.allow` refuses a name that no claim has, and lists those that there are."""
    with pytest.raises(RecipeError, match=r"no claim 'tokens reachable'; .*added tokens reachable"):
        read(NEW, "vocabulary.allow=[tokens reachable]")
    assert read(NEW, "vocabulary.allow=[added tokens reachable]").vocabulary.allow == (
        "added tokens reachable",
    )


def test_the_list_of_claims_is_whole():
    """Every literal name that the certificate gives a claim is in the list of claims."""
    named = set()
    for path in (Path(lingraft.__file__).parent / "certificate").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_claim = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Claim"
            if is_claim and node.args and isinstance(node.args[0], ast.Constant):
                named.add(node.args[0].value)
    assert len(named) > 10
    assert named <= set(CLAIM_NAMES)
