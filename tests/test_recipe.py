"""Recipes as settings: what they accept, how they read back, and how they say what is wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.recipe import (
    Given,
    Recipe,
    Runtime,
    chosen_recipe,
    load_recipe,
    parse_recipe,
    recipe_values,
    recipe_yaml,
)
from lingraft.recipe.catalogue import catalogue
from lingraft.recipe.explain import explained
from lingraft.recipe.overrides import override
from lingraft.recipe.yaml import read_text
from lingraft.store import digest

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted(
    path
    for folder in (ROOT / "recipes", ROOT / "benchmarks" / "recipes")
    for path in folder.glob("*.yaml")
    if not path.name.startswith("study-")
)

BASIC = b"""
name: base-{language}
model: some/where/local/model
target: {language: hi, corpus: hi.jsonl.gz, limit: {bytes: 1MB}}
replay: {language: en, corpus: {path: en.txt, document_unit: paragraph}, share: 0.1}
vocabulary: {method: continued, size: 500, pretokenizer: keep}
training:
  phases:
  - {strategy: embeddings, budget: 100K tokens}
  - {strategy: differential, budget: 1 epoch, replay_share: 0.3}
"""


def read(*overrides: str) -> Recipe:
    return parse_recipe(override(read_text(BASIC, "r.yaml"), overrides))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_read_and_reads_back(path):
    """Every recipe of the repository is valid; what a run writes down of it is the same recipe."""
    recipe = load_recipe(path)
    assert parse_recipe(read_text(recipe_yaml(recipe).encode(), "written")) == recipe


CHANGES = [
    "vocabulary.size=501",
    "vocabulary.method=append",
    "vocabulary.min_saving=3",
    "vocabulary.protect_replay=true",
    "vocabulary.pretokenizer=repair",
    "vocabulary.size=auto",
    "embeddings.input=random",
    "seed=1",
    "embeddings.output=random_token",
    "training.phases.0.budget=50K tokens",
    "training.phases.1.replay_share=0.2",
    "training.phases.1.learning_rates=1e-4",
    "training.phases.0.strategy=full",
    "training.packing.block_size=64",
    "replay.share=0.2",
    "replay=; training.phases.1.replay_share=",
    "target.limit.bytes=2MB",
    "target.language=ta",
    "target.corpus=other.jsonl",
    "model=other/folder/there",
    "evaluation.heldout_bytes=1kB",
    "evaluation.generation=",
    "name=other",
]


def test_recipes_that_differ_anywhere_differ_in_what_they_dump():
    """No setting is lost on the way into an address: each change gives another dump."""
    dumps = [digest(recipe_values(read(*change.split("; ")))) for change in ["seed=0", *CHANGES]]
    assert len(set(dumps)) == len(dumps)


@pytest.mark.parametrize("change", CHANGES)
def test_a_written_recipe_reads_back_equal(change):
    """recipe.yaml of a run is the recipe of the run."""
    recipe = read(*change.split("; "))
    assert parse_recipe(read_text(recipe_yaml(recipe).encode(), "written")) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("vocabulary.siez=3", "vocabulary.siez: unknown setting; did you mean vocabulary.size, "),
        ("size=3", "size: not a top-level setting; did you mean vocabulary.size?"),
        ("rank=3", "rank: not a top-level setting; did you mean training.strategy.lora.rank?"),
        ("tarjet.language=hi", "tarjet: unknown setting; did you mean target?"),
        ("target.langauge=hi", "target.langauge: unknown setting; did you mean target.language, "),
        ("target.corpus={pth: x}", "corpus.pth: unknown setting; did you mean target.corpus.path,"),
        ("target.limit.byts=1", "limit.byts: unknown setting; did you mean target.limit.bytes, "),
        ("training.stratgy=full", "training.stratgy: unknown setting; did you mean training.strat"),
        (
            "training.phases.0.budgt=1",
            "phases.0.budgt: unknown setting; did you mean training.phases.0.budget, ",
        ),
        (
            "model={random: {tokenizr: x}}",
            "model.random.tokenizr: unknown setting; did you mean model.random.tokenizer",
        ),
        (
            "model={rndom: {}}",
            "model: there is no base model called 'rndom'; did you mean 'random'?",
        ),
        (
            "embeddings.input=maen",
            "embeddings.input: there is no embedding init called 'maen'; did you mean 'mean'?",
        ),
        (
            "vocabulary.method=contnued",
            "vocabulary.method: there is no selection method called 'contnued'",
        ),
        (
            "vocabulary.size=many",
            'vocabulary.size: "many" is not a number; give a whole number of 0 or more, or auto',
        ),
        ("vocabulary.size=-1", "vocabulary.size: -1 is too small; give a whole number of 0 or"),
        (
            "vocabulary.pretokenizer=fix",
            'vocabulary.pretokenizer: "fix" is not a value of this setting; give auto, keep',
        ),
        ("replay.share=1", "replay.share: 1 is too large; give a number from 0 to below 1"),
        ("replay.language=hi", "target and replay are both hi"),
        (
            "target.language=hindi",
            "target.language: language 'hindi': not a well-formed BCP-47 tag; did you mean hi?",
        ),
        ("target.language=false", "target.language: a language is a tag such as hi"),
        ("target.language=", "target.language: a language is a tag such as hi"),
        ("name=a/b", "name: 'a/b' cannot be the name of a folder"),
        ("name=..", "name: '..' cannot be the name of a folder"),
        ("model=", "model: nothing is not a base model; give a name or {name: settings}"),
        (
            "model={hub: {id: no-slash}}",
            "model.hub.id: 'no-slash' is not a model id; expected owner/name",
        ),
        (
            "training.phases.0.budget=much",
            "training.phases.0.budget: a budget is written like '20M tokens'",
        ),
        (f"seed={'9' * 5000}", '..." is not a number; give a whole number from 0 to'),
        (f"seed={2**63}", "seed: 9223372036854775808 is too large; give a whole number from 0 to"),
        ("training.phases.0.budget=1e999 MB", 'budget: "1e999 MB" is too large; give \'20M'),
        ("training.phases.0.budget=1.2.3 MB", "budget: a budget is written like '20M tokens'"),
        ("seed=true", "seed: true is not a number; give a whole number from 0 to"),
        (
            "evaluation.heldout_bytes=true",
            "evaluation.heldout_bytes: true is not a number; give a size such as 10 MB",
        ),
        ("vocabulary.temperature=false", "vocabulary.temperature: false is not a number"),
        ("seed=-1", "seed: -1 is too small; give a whole number from 0 to"),
        (
            "training.budget=1 MB",
            "-o training.budget=1 MB: training.phases has 2 entries; name one of",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_path_and_what_to_do(change, message):
    """One line: where it was written, the setting's full path, what was seen, and what would do."""
    with pytest.raises(RecipeError) as caught:
        read(change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_line_of_a_wrong_setting_is_told():
    """A mistake in the file is told with its line, one in an override with the override."""
    with pytest.raises(RecipeError, match=r"^r\.yaml:3: target\.langage"):
        parse_recipe(
            read_text(b"name: x\nmodel: y/y\ntarget: {langage: hi, corpus: z.txt}\n", "r.yaml")
        )
    with pytest.raises(RecipeError, match=r"^-o seed=x: seed"):
        read("seed=x")


def test_a_missing_setting_is_told_with_its_meaning():
    """What has no default and is not set is named, with what it is for."""
    with pytest.raises(RecipeError, match="model: required, but not set: source model"):
        parse_recipe(read_text(b"name: x\ntarget: {language: hi, corpus: z.txt}\n", "r.yaml"))


def test_norwegian_is_a_language():
    """`language: no` is Norwegian, in a file and in an override."""
    assert read("target.language=no").target.language == "no"


def test_settings_of_the_method_may_stand_beside_it():
    """{method: append, limit_alphabet: 500} equals {method: {append: {limit_alphabet: 500}}}."""
    beside = read("vocabulary={method: append, limit_alphabet: 500, size: 7}")
    inside = read("vocabulary={method: {append: {limit_alphabet: 500}}, size: 7}")
    assert beside.vocabulary == inside.vocabulary


def test_the_half_that_chooses_is_not_reported():
    """A run that chooses a share of `merge_back` cannot report on the documents it chose by."""
    chosen = "evaluation.heldout_part=chosen on"
    assert read(chosen, "training.merge_back=[0.1]").evaluation.heldout_part == "chosen on"
    with pytest.raises(RecipeError, match="set heldout_part: reported"):
        read(chosen, "training.merge_back=[0.1, 0.5]")


def test_settings_of_a_single_phase_may_stand_in_the_plan():
    """{strategy: full, budget: 1 MB} is a plan of one phase."""
    assert (
        read("training={strategy: full, budget: 1 MB}").training
        == read("training={phases: [{strategy: full, budget: {bytes: 1000000}}]}").training
    )


def test_the_language_names_the_run():
    """{language} in the name is the target language; an override gives another run folder."""
    assert read().run_name == "base-hi"
    assert read("target.language=domain:law").run_name == "base-domain-law"


def test_a_path_is_looked_for_here_and_then_beside_the_recipe(tmp_path, monkeypatch):
    """A relative path that is missing in the current directory is looked up next to the recipe."""
    (tmp_path / "recipes" / "data").mkdir(parents=True)
    (tmp_path / "recipes" / "data" / "hi.txt").touch()
    recipe = tmp_path / "recipes" / "r.yaml"
    recipe.write_text(
        "name: x\nmodel: a/b/c\n"
        "target: {language: hi, corpus: [data/hi.txt, data/*.txt, gone.txt]}\n"
    )
    monkeypatch.chdir(tmp_path)
    paths = [source.path for source in load_recipe(Path("recipes/r.yaml")).target.sources]
    assert paths == ["recipes/data/hi.txt", "recipes/data/*.txt", "gone.txt"]


def test_without_a_recipe_model_language_and_text_are_enough():
    """Everything else is at its default, and the name is made of the model and the language."""
    recipe = chosen_recipe(
        None, Given("models/tiny one", "no", ["a.txt", "owner/name"]), ["vocabulary.size=9"]
    )
    assert (recipe.run_name, recipe.vocabulary.size, recipe.replay) == ("tiny-one-no", 9, None)
    assert [source.label for source in recipe.target.sources] == ["a.txt", "hf:owner/name/train"]
    with pytest.raises(RecipeError, match="--language must be given"):
        chosen_recipe(None, Given(model="m"))


def test_what_is_given_is_laid_over_a_recipe(tmp_path):
    """Options replace the recipe's model, language and text."""
    path = tmp_path / "r.yaml"
    path.write_bytes(BASIC)
    recipe = chosen_recipe(path, Given("other/model@v1", "ta", ["ta.txt"], "de", ["de.txt"]))
    assert recipe.model.chosen() == {
        "hub": {"id": "other/model", "revision": "v1", "trust_remote_code": False}
    }
    assert (recipe.target.language, recipe.replay.language) == ("ta", "de")
    assert recipe.replay.portion == 0.1


@pytest.mark.parametrize(
    ("given", "option"),
    [
        (Given(language="tamil"), "--language: target.language"),
        (Given(base_language="german"), "--base-language: replay.language"),
        (Given(text=["x/", {"pth": 1}]), "--text: target.corpus"),
    ],
)
def test_what_is_given_is_named_as_it_was_given(tmp_path, given, option):
    """An error in the value of an option names the option, and not an override."""
    path = tmp_path / "r.yaml"
    path.write_bytes(BASIC)
    with pytest.raises(RecipeError, match=rf"(?m)^ *{option}"):
        chosen_recipe(path, given)


def test_the_home_folder_is_meant_by_a_tilde(monkeypatch, tmp_path):
    """`~` in the folders of runs and store is the home folder, also in LINGRAFT_STORE."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LINGRAFT_STORE", "~/store")
    assert Runtime(runs=Path("~/runs")).runs == tmp_path / "runs"
    assert Runtime().store == tmp_path / "store"
    assert Runtime(store=Path("~/here")).store == tmp_path / "here"


def test_replay_in_a_phase_needs_replay_text():
    """A share of replay without text to replay is contradictory, not ignored."""
    with pytest.raises(RecipeError, match="names no replay text"):
        read("replay=")


@pytest.mark.parametrize(
    "device", ["cuda:x", "cuda:-1", "cuda:99", "cuda:255", "cuda:999", "cpu:1", "auto:1", "mps:7"]
)
def test_a_device_that_torch_does_not_find_is_refused_when_it_is_needed(device):
    """A malformed name, or a device that this machine lacks, is one line; a plan may name it."""
    runtime = Runtime(device=device)
    assert runtime.resolved_device() == device
    with pytest.raises(RecipeError, match=f"^--device {device}: .*; give"):
        runtime.available_device()


def test_the_runtime_bears_no_identity_and_checks_its_words(monkeypatch, tmp_path):
    """Store and device are execution; unknown words and files for folders are refused."""
    monkeypatch.delenv("LINGRAFT_STORE", raising=False)
    assert Runtime(runs=tmp_path).store == tmp_path / ".store"
    monkeypatch.setenv("LINGRAFT_STORE", "elsewhere")
    assert Runtime().store == Path("elsewhere")
    assert Runtime(store=Path("here")).store == Path("here")
    with pytest.raises(RecipeError, match="did you mean 'cuda'"):
        Runtime(device="cuba")
    with pytest.raises(
        RecipeError, match="--trackers 'tensorbord' is not known; did you mean 'tensorboard'"
    ):
        Runtime(trackers=("wandb", "tensorbord"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"wandb is not installed.*lingraft\[wandb\]"):
        Runtime(trackers=("wandb",))
    with pytest.raises(RecipeError, match="--checkpoint-seconds 0: expected a number above 0"):
        Runtime(checkpoint_seconds=0)
    file = tmp_path / "file"
    file.touch()
    for option in ("runs", "store"):
        with pytest.raises(RecipeError, match=f"^--{option} .*file: is a file, where a folder"):
            Runtime(**{option: file})


def test_every_setting_is_described_once():
    """The catalogue lists every setting with its meaning; repeated ones refer to the first."""
    rows = {row.path: row for row in catalogue(Recipe)}
    assert rows["vocabulary.size"].default == "10000"
    assert rows["replay...."].meaning == "as under target"
    assert [path for path, row in rows.items() if not row.meaning] == []
    vocabulary, _ = explained("vocabulary")
    assert len(vocabulary) < len(explained()[0])
    with pytest.raises(RecipeError, match=r"did you mean vocabulary,.*\?$"):
        explained("vocabulry")
    for value in ("target.corpus.where=a >", "target.scripts=[Xyzz]", "vocabulary.allow=[x]"):
        with pytest.raises(RecipeError, match=re.escape(value)):
            explained(value)
