"""Wrong arguments of the library: one line that names the argument, an error of lingraft."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

import lingraft
from lingraft.checkpoint.load_model import dtype_name
from lingraft.embeddings import INITS
from lingraft.library.example_model import example_model
from lingraft.library.row_inputs import RowInputs
from lingraft.progress import discard_line
from lingraft.splice import identity_splice

TEXTS = ["A small bird sings.", None, "It rains."]


@pytest.fixture(scope="module")
def tiny():
    """Return a tiny model and its tokenizer."""
    return example_model()


def wrong_calls():
    """Return calls that must be refused: function, arguments, and the start of the message."""
    texts = [
        (7, "of type int; give documents"),
        (None, "of type NoneType; give documents"),
        ("one string", "one string, but an iterable"),
        ({"a": "b"}, "of type dict; give documents"),
        ([b"bytes"], "item 0 is of type bytes"),
        ([{"text": "a"}], "item 0 is a record"),
        (["\ud800"], "item 0 contains half of a surrogate pair"),
        (pd.DataFrame({"text": ["a"], "id": [1]}), "a table with the columns text, id; .*df"),
        ([__file__, "b.jsonl"], "item 0, .*, is the name of a file, not a document"),
        (iter(()), "contains no document; .*a generator can be read only once"),
    ]
    for value, message in texts:
        yield lingraft.pack, {"texts": value}, f"texts: {message}"
        yield lingraft.evaluate, {"texts": {"en": value}}, f"texts: en: {message}"
        yield lingraft.diagnose, {"texts": {"en": value}}, f"texts: en: {message}"
    for function in (lingraft.evaluate, lingraft.diagnose):
        yield function, {"texts": TEXTS}, "texts: give the documents by language"
        yield function, {"texts": {1: TEXTS}}, "texts: the key 1 is no language"
        yield function, {"texts": {"en": TEXTS, "eng": TEXTS}}, "texts: two of the keys"
    for arguments, message in (
        ({"texts": None}, "texts: of type NoneType"),
        ({"texts": ["a"]}, "texts: only one document"),
        ({"size": 0}, "size: 0 adds no tokens"),
        ({"workers": 0}, "workers: 0 is no whole number of 1"),
        ({"settings": {"sise": 1}}, r"settings\['sise'\]: sise: unknown"),
        ({"settings": 3}, "settings: of type int"),
        ({"protect_replay": True}, "protect_replay: .* `base_texts`"),
    ):
        yield lingraft.extend_tokenizer, arguments, message
    yield lingraft.resize, {"pad_to": 0}, "pad_to: 0 is no whole number"
    yield lingraft.resize, {"seed": None}, "seed: None is no whole number"
    yield lingraft.resize, {"splice": None}, "splice: of type NoneType"
    yield lingraft.resize, {"splice": 3}, "splice: of type int"
    yield lingraft.resize, {"texts": {"hi": ["a", "b"], "en": ["c", "d"]}}, "texts: 2 languages"
    yield lingraft.resize, {"tokenizers": (1,)}, "tokenizers: of type tuple"
    yield lingraft.resize, {"init": "men"}, "init: there is no embedding init called 'men'"
    yield lingraft.resize, {"init": {"input": "mean", "outpt": "mean"}}, "init.outpt: unknown"
    yield lingraft.resize, {"init": {"output": "rando"}}, "init.output: there is no"
    yield lingraft.init_embeddings, {"side": "inpt"}, "side: 'inpt' is not known"
    yield lingraft.init_embeddings, {"matrix": None}, "matrix: of type NoneType"
    yield lingraft.init_embeddings, {"matrix": torch.nn.Embedding(2, 2)}, "attribute `weight`"
    yield lingraft.pack, {"length": 8.5}, "length: 8.5 is no whole number of 3"
    yield lingraft.pack, {"layout": "strem"}, 'layout: "strem" is not a value'
    yield lingraft.pack, {"separator": "nix"}, "separator: the tokenizer has no token 'nix'"
    yield lingraft.pack, {"replay": TEXTS, "replay_share": "x"}, "replay_share: 'x' is no share"
    yield lingraft.pack, {"replay_share": 0.3}, "replay_share: 0.3, but no replay text; give replay"
    yield lingraft.pack, {"tokenizer": 3}, "tokenizer: int is no tokenizer"
    yield lingraft.evaluate, {"models": 3}, "models: give at least one by name"
    yield lingraft.evaluate, {"dtype": "float23"}, "dtype: 'float23' is not known"
    yield lingraft.evaluate, {"device": "cuda:99"}, "device cuda:99: this machine has"
    yield lingraft.evaluate, {"tasks": "xnli-hi"}, "tasks: one string"
    yield lingraft.evaluate, {"settings": {"contxt": 3}}, r"settings\['contxt'\]: contxt: unknown"
    yield lingraft.evaluate, {"settings": {"context": TEXTS.copy}}, "is no value of a setting"
    yield lingraft.diagnose, {"sample_bytes": 0}, "sample_bytes: 0 is no whole number"
    parallel = {"en": ["a", "b"], "hi": ["a"]}
    yield lingraft.diagnose, {"parallel": parallel}, "parallel: en has 2, hi has 1"
    yield lingraft.diagnose, {"parallel": {"hi": ["a"]}}, "parallel: no sentences in en"
    yield from wrong_calls_of_runs()


def wrong_calls_of_runs():
    """Return the calls of functions that run recipes."""
    yield lingraft.adapt, {"model": example_model()[0]}, "model: of type LlamaForCausalLM"
    yield lingraft.adapt, {}, "without a recipe, model and language"
    yield lingraft.adapt, {"text": 3}, "text: of type int"
    yield lingraft.adapt, {"trackers": "x"}, "trackers 'x' is not known"
    for seconds, message in ((0, " 0: expected a number above 0"), ("5m", ": '5m' is no number")):
        yield lingraft.adapt, {"checkpoint_seconds": seconds}, f"checkpoint_seconds{message}"
    adapted = {"model": "m", "language": "hi", "text": [Path(__file__)]}
    change = {"overrides": {"vocabulary.siz": 3}}
    yield lingraft.adapt, {**adapted, **change}, r"overrides\['vocabulary.siz'\]: vocabulary.siz:"
    for name, value, message in (
        ("runs", 3, "runs: of type int; give a path"),
        ("store", 3, "store: of type int; give a path"),
        ("device", None, "device 'None' is not known"),
        ("precision", torch.float16, "precision 'torch.float16' is not known"),
    ):
        yield lingraft.adapt, {**adapted, name: value}, message
        small = {"name": "s", "recipe": "r.yaml", "axes": {"vocabulary.size": [1, 2]}}
        yield lingraft.study, {"definition": small, name: value}, message
    yield lingraft.adapt, {**adapted, "trackers": 3}, "trackers: of type int; give the name"
    yield lingraft.evaluate, {"device": None}, "device 'None' is not known"
    yield lingraft.study, {"definition": None}, "definition: of type NoneType"
    study = {"name": "s", "recipe": Path("none.yaml"), "axes": {"vocabulary.size": range(1, 3)}}
    yield lingraft.study, {"definition": study}, "none.yaml: cannot be read"
    yield lingraft.study, {"definition": {"name": object()}}, "an object of type object is no value"
    yield lingraft.load_run, {"path": None}, "NoneType: no path"


GIVEN = {
    "pack": lambda _model, tokenizer: {"tokenizer": tokenizer, "texts": TEXTS},
    "evaluate": lambda model, tokenizer: {
        "models": {"m": (model, tokenizer)},
        "texts": {"en": TEXTS},
    },
    "diagnose": lambda _model, tokenizer: {"tokenizer": tokenizer, "texts": {"en": TEXTS}},
    "extend_tokenizer": lambda _model, tokenizer: {
        "tokenizer": tokenizer,
        "texts": TEXTS,
        "size": 3,
    },
    "resize": lambda model, tokenizer: {"model": model, "splice": (tokenizer, tokenizer)},
    "init_embeddings": lambda model, tokenizer: {
        "splice": (tokenizer, tokenizer),
        "matrix": model.get_input_embeddings().weight,
    },
}


def test_wrong_arguments_are_refused_in_one_line_that_names_them(tiny):
    """Every function refuses wrong arguments with an error of lingraft that names the argument."""
    for function, change, message in wrong_calls():
        name = function.__name__
        arguments = {**GIVEN[name](*tiny), **change} if name in GIVEN else change
        with pytest.raises(lingraft.LingraftError) as caught:
            function(**arguments, **({} if name == "load_run" else {"log": discard_line}))
        assert re.search(message, str(caught.value)), (name, change, str(caught.value))
        assert "\n" not in str(caught.value), (name, change)


def test_missing_values_of_a_column_are_empty_documents(tiny):
    """`None` in texts is an empty document for every function."""
    packed = lingraft.pack(tiny[1], TEXTS, length=8)
    assert packed.text.documents == 2
    report = lingraft.evaluate({"m": tiny}, {"en": TEXTS}, log=discard_line)
    assert report.select(metric="bits per byte")[0].n == 2


def test_models_may_have_any_names(tiny):
    """Names of models that are equal as names of files stay apart."""
    names = ["a/b", "a-b", "..", "", "[old]", ":x:"]
    report = lingraft.evaluate(dict.fromkeys(names, tiny), {"en": TEXTS}, log=discard_line)
    for shown in (str(report), report._repr_html_()):
        assert all(name in shown for name in names), shown
    rows = report.select(metric="bits per byte")
    assert [row.subject for row in rows] == names


def _drawn():
    """Return the state of the generators that a caller may have seeded."""
    legacy = np.random.get_state()[1].tolist()  # noqa: NPY002 - what users seed
    return random.getstate(), legacy, torch.get_rng_state().tolist()


def test_the_state_of_the_caller_stays(tiny, tmp_path, monkeypatch):
    """The library draws nothing from the caller's generators and writes nothing to its folder."""
    monkeypatch.chdir(tmp_path)
    states = _drawn()
    transformers.utils.logging.enable_progress_bar()
    settings = (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
    model, tokenizer = tiny[0], tiny[1]
    model = copy.deepcopy(model).train()
    lingraft.evaluate({"m": (model, tokenizer)}, {"en": TEXTS}, log=discard_line)
    texts = [f"banana bandana {number}" for number in range(60)]
    extension = lingraft.extend_tokenizer(tokenizer, texts, size=4, log=discard_line)
    lingraft.resize(model, extension.splice, init="random", log=discard_line)
    lingraft.pack(extension.tokenizer, texts, length=8, replay=texts)
    assert model.training
    assert states == _drawn()
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert settings == (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(lingraft.StoreError, match="is no folder"):
        extension.save(__file__)


def test_settings_of_generation_that_contradict_each_other_are_measured(tiny):
    """Checkpoints that transformers loads and does not save again are measured like others."""
    model = copy.deepcopy(tiny[0])
    model.generation_config.temperature = 0.5  # without do_sample
    model.config.top_k = 3  # belongs into the configuration of the generation
    report = lingraft.evaluate({"m": (model, tiny[1])}, {"en": TEXTS}, log=discard_line)
    plain = lingraft.evaluate({"m": tiny}, {"en": TEXTS}, log=discard_line)
    assert report == plain


def test_a_model_is_saved_for_a_method_that_runs_it(tiny):
    """Such settings of generation do not keep a model from being saved, and stay as they are."""
    model = copy.deepcopy(tiny[0])
    model.generation_config.temperature = 0.5
    inputs = RowInputs.of((tiny[1], tiny[1]), tokenizers=None, texts=None)
    inputs.save_model(model, INITS.parse("distilled"))
    assert (inputs.model_folder / "model.safetensors").is_file()
    assert model.generation_config.temperature == 0.5


def test_results_with_arrays_can_be_compared(tiny):
    """Comparing results is no error: two of them are equal if they are the same object."""
    model, tokenizer = tiny
    matrix = model.get_input_embeddings().weight
    for made in (
        lambda: lingraft.pack(tokenizer, TEXTS, length=8),
        lambda: lingraft.init_embeddings((tokenizer, tokenizer), matrix, log=discard_line),
    ):
        first, second = made(), made()
        assert first == first  # noqa: PLR0124 - what is tested
        assert first != second
        assert len({first, second}) == 2


def test_evidence_is_read_from_a_path_of_any_kind(tmp_path):
    """A path of a splice or a certificate may be text."""
    (tmp_path / "splice.json").write_text(identity_splice(3).dumps())
    assert lingraft.Splice.read(str(tmp_path)) == lingraft.Splice.read(tmp_path)
    lingraft.Certificate(()).write(tmp_path / "certificate.json")
    file = tmp_path / "certificate.json"
    assert lingraft.Certificate.read(str(file)) == lingraft.Certificate.read(file)


def test_a_run_is_loaded_to_a_device_and_data_type_that_exist(tmp_path):
    """Others are refused before a file is read; torch's own data types are names, too."""
    run = lingraft.Run(tmp_path)
    for wrong in ({"dtype": "bf16"}, {"device": "cuda:99"}, {"device": None}):
        with pytest.raises(lingraft.RecipeError, match=r"is not known|this machine has|no name of"):
            run.load(**wrong)
    assert dtype_name(torch.bfloat16) == "bfloat16"
