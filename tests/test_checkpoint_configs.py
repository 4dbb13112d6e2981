"""config.json of a resized model: its token ids, and the settings that follow the rows."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, Gemma3TextConfig, GenerationConfig

from lingraft.checkpoint.config_files import (
    SPECIAL_IDS,
    TEXT_PARTS,
    is_token_id,
    named_ids,
    set_vocabulary,
    text_parts,
    write_configs,
)
from lingraft.checkpoint.row_layout import Layout
from lingraft.errors import ModelError
from lingraft.splice import AddedToken, Splice, identity_splice

IDS = st.integers(0, 500)
relaxed = settings(max_examples=40, deadline=None)


@given(
    st.dictionaries(
        st.sampled_from([*SPECIAL_IDS, "image_token_id", "audio_token_index"]),
        st.one_of(IDS, st.lists(IDS, min_size=1, max_size=3), st.none(), st.just(-1)),
    ),
    st.sampled_from(TEXT_PARTS),
)
def test_ids_are_found_in_the_whole_and_in_its_language_model(named, part):
    """A number and a list are ids, `None` and -1 are not; nested settings carry their prefix."""
    expected = {}
    for key, value in named.items():
        ids = value if isinstance(value, list) else [value]
        if value is not None and value != -1:
            expected[key] = ids
    assert named_ids({"hidden_size": 64, **named}) == expected
    inner = {f"{part}.{key}": ids for key, ids in expected.items()}
    assert named_ids({part: named, "model_type": "x"}) == inner


@pytest.mark.parametrize(
    ("key", "is_id"),
    [
        ("eos_token_id", True),
        ("image_token_id", True),
        ("image_token_index", True),
        ("decoder_start_token_id", True),
        ("vocab_size", False),
        ("token_ids", False),
        ("num_tokens", False),
        ("suppress_tokens", False),
    ],
)
def test_which_settings_are_token_ids(key, is_id):
    """By the name alone: those that transformers knows, and those that end like them."""
    assert is_token_id(key) is is_id


@given(st.lists(st.sampled_from(TEXT_PARTS), max_size=4), st.integers(1, 9), st.integers(10, 99))
def test_the_innermost_language_model_gets_the_rows(path, before, rows):
    """The innermost vocab_size becomes the new one, and repetitions of the old number follow."""
    config = inner = {"model_type": "outer", "vocab_size": before}
    for part in path:
        inner[part] = {"model_type": part, "vocab_size": before}
        inner = inner[part]
    assert text_parts(config)[-1] is inner
    assert len(text_parts(config)) == len(path) + 1
    set_vocabulary(config, rows)
    assert [part["vocab_size"] for part in text_parts(config)] == [rows] * (len(path) + 1)


def test_another_number_outside_is_something_else():
    """PaliGemma's outer vocab_size counts something else and stays; the inner one changes."""
    config = {"vocab_size": 257_152, "text_config": {"vocab_size": 257_216}}
    set_vocabulary(config, 300_000)
    assert config == {"vocab_size": 257_152, "text_config": {"vocab_size": 300_000}}


def test_a_default_is_written_out():
    """A configuration that leaves vocab_size to its type would else be read with the old number."""
    config = {"model_type": "llama", "text_config": {"vocab_size_per_layer_input": 7}}
    set_vocabulary(config, 9)
    assert config["text_config"] == {"vocab_size": 9, "vocab_size_per_layer_input": 9}
    assert "vocab_size" not in config


def written(tmp_path, config, splice, rows, generation=None):
    """Write the files of a splice; return both as they are read back."""
    source, output = tmp_path / "source", tmp_path / "output"
    for folder in (source, output):
        folder.mkdir(exist_ok=True)
    (source / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (source / "generation_config.json").write_text(json.dumps(generation))
    size = splice.target_size
    write_configs(source, output, splice, layout_of(splice, rows))
    found = [output / name for name in ("config.json", "generation_config.json")]
    assert size <= rows
    return [json.loads(path.read_text()) if path.exists() else {} for path in found]


@pytest.mark.parametrize(
    "config",
    [
        {"eos_token_id": [2, 7], "bos_token_id": 1},
        {"model_type": "gemma3", "text_config": {"eos_token_id": 3}, "eos_token_id": [4]},
        {"do_sample": True, "temperature": 0.7, "max_length": 50, "bad_words_ids": [[5]]},
        {"suppress_tokens": [7, 12], "forced_eos_token_id": 2, "repetition_penalty": 1.3},
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_a_model_without_generation_config_generates_as_before(tmp_path, config, padding):
    """No file is written next to which transformers does not look for settings in config.json."""
    config = {"model_type": "llama", "vocab_size": 10, **config}
    splice = identity_splice(10, [AddedToken(10, b"ab", (1, 2))])
    _, generated = written(tmp_path, config, splice, 11 + padding)
    before, after = (
        GenerationConfig.from_pretrained(
            tmp_path / name, config_file_name="config.json", _from_model_config=True
        ).to_dict()
        for name in ("source", "output")
    )
    assert not generated
    suppressed = [number for number in before.pop("suppress_tokens") or [] if number < 10]
    assert (after.pop("suppress_tokens") or []) == [*suppressed, *range(11, 11 + padding)]
    assert after == before
    # Transformers 4 takes ids that the file leaves out from the class of the model.
    source, output = (AutoConfig.from_pretrained(tmp_path / name) for name in ("source", "output"))
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(output, key, None) == getattr(source, key, None)


@pytest.mark.parametrize(
    ("splice", "expected"),
    [
        (Splice(5, {0: 0, 1: 2, 2: 3}, dropped=(1, 4)), (None, 1)),
        (identity_splice(2, [AddedToken(2, b"ab", (0, 1))]), (1, None)),
        (identity_splice(5, [AddedToken(5, b"ab", (0, 1))]), (1, 2)),
    ],
)
def test_an_id_of_the_class_of_a_model_moves_with_its_token(tmp_path, splice, expected):
    """Llama's are 1 and 2: where no token of the source has them any more, there are none."""
    for config in ({"model_type": "llama"}, {"model_type": "llava", "text_config": {}}):
        made, _ = written(tmp_path, {"vocab_size": 5, **config}, splice, 6)
        read = AutoConfig.for_model(**made).get_text_config()
        assert (read.bos_token_id, read.eos_token_id) == expected


def layout_of(splice: Splice, rows: int) -> Layout:
    """Return a layout of so many rows; nothing else of it is read here."""
    made = object.__new__(Layout)
    values = {"vocabulary": splice.target_size, "rows": rows}
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


@relaxed
@given(eos=st.integers(0, 9), padding=st.integers(0, 5))
def test_an_extension_changes_no_id_and_suppresses_padding(tmp_path_factory, eos, padding):
    """Rows beyond the vocabulary can never be generated; all other settings are as they were."""
    config = {"model_type": "llama", "vocab_size": 10, "eos_token_id": eos, "hidden_size": 8}
    splice = identity_splice(10, [AddedToken(10, b"ab", (1, 2))])
    generation = {"eos_token_id": eos, "temperature": 0.6}
    made, generated = written(
        tmp_path_factory.mktemp("config"), copy.deepcopy(config), splice, 11 + padding, generation
    )
    assert made == {**config, "vocab_size": 11 + padding}
    beyond = {"suppress_tokens": list(range(11, 11 + padding))} if padding else {}
    assert generated == {**generation, **beyond}


def test_a_new_token_in_a_suppressed_padding_row_can_be_generated(tmp_path):
    """A source whose padding is suppressed is extended: the new token is not suppressed."""
    config = {"vocab_size": 8, "eos_token_id": 0}
    generation = {"suppress_tokens": [1, 6, 7]}  # 1 is a token of the source; 6 and 7 are padding
    splice = identity_splice(6, [AddedToken(6, b"ab", (1, 2))])
    _, generated = written(tmp_path, config, splice, 8, generation)
    assert generated["suppress_tokens"] == [1, 7]


def test_special_ids_move_with_their_tokens(tmp_path):
    """Where ids were dropped, every id that a setting names is the new one of the same token."""
    kept = {0: 0, 1: 3, 2: 4}
    splice = Splice(5, kept, dropped=(1, 2))
    config = {
        "vocab_size": 5,
        "bos_token_id": 0,
        "eos_token_id": [3, 4],
        "pad_token_id": None,
        "text_config": {"vocab_size": 5, "eos_token_id": 4},
    }
    made, _ = written(tmp_path, config, splice, 3)
    assert (made["bos_token_id"], made["eos_token_id"], made["pad_token_id"]) == (0, [1, 2], None)
    assert made["text_config"] == {"vocab_size": 3, "eos_token_id": 2}


def test_words_that_are_never_generated_move_with_their_tokens(tmp_path):
    """A list of ids whose tokens were dropped is left out: a new token may have such an id."""
    splice = Splice(5, {0: 0, 1: 3, 2: 4}, dropped=(1, 2))
    generation = {"bad_words_ids": [[3, 4], [1], [4]]}
    _, generated = written(tmp_path, {"vocab_size": 5}, splice, 3, generation)
    assert generated["bad_words_ids"] == [[1, 2], [2]]
    _, generated = written(tmp_path, {"vocab_size": 5}, splice, 3, {"bad_words_ids": [[1]]})
    assert generated["bad_words_ids"] is None  # transformers refuses an empty list


def test_a_special_token_that_is_dropped_is_an_error(tmp_path):
    """The message names file, setting and value; a list of ids to suppress just loses the entry."""
    splice = Splice(4, {0: 0, 1: 1, 2: 2}, dropped=(3,))
    with pytest.raises(
        ModelError, match=r"config\.json: eos_token_id is 3, which the splice drops"
    ):
        written(tmp_path, {"vocab_size": 4, "eos_token_id": 3}, splice, 3)
    generation = {"suppress_tokens": [1, 3]}
    _, generated = written(tmp_path, {"vocab_size": 4, "eos_token_id": 2}, splice, 3, generation)
    assert generated["suppress_tokens"] == [1]


def test_a_special_id_that_a_new_token_would_get_is_an_error(tmp_path):
    """The source's padding id lies in its padding rows: it must not become that of a word."""
    splice = identity_splice(6, [AddedToken(6, b"ab", (1, 2))])
    with pytest.raises(ModelError, match=r"pad_token_id is 6, .* the new token 'ab' would get it"):
        written(tmp_path, {"vocab_size": 8, "pad_token_id": 6}, splice, 8)
    made, _ = written(tmp_path, {"vocab_size": 8, "pad_token_id": 7}, splice, 8)
    assert made["pad_token_id"] == 7


def test_positions_are_named_as_both_transformers_read_them(tmp_path):
    """Transformers 4 reads rope_theta and rope_scaling, so these are written too."""
    turning = {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}
    config = {"vocab_size": 2, "rope_parameters": turning}
    made, _ = written(tmp_path, config, identity_splice(2), 2)
    assert made["rope_parameters"] == turning
    assert made["rope_theta"] == 5e5
    assert made["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0}
    plain, _ = written(
        tmp_path, {"vocab_size": 2, "rope_parameters": {"rope_theta": 1e4}}, identity_splice(2), 2
    )
    assert plain["rope_theta"] == 1e4
    assert "rope_scaling" not in plain


@pytest.mark.parametrize("scaling", [{}, {"rope_type": "linear", "factor": 8.0}])
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("gpt_neox", {"rotary_emb_base": 500.0, "rotary_pct": 0.5}),
        ("gpt_neox_japanese", {"rotary_emb_base": 500.0, "rotary_pct": 0.5}),
        ("bailing_hybrid", {"rope_theta": 500.0, "partial_rotary_factor": 0.5}),
        ("phi", {"rope_theta": 500.0, "partial_rotary_factor": 0.5}),
        ("olmo3", {"rope_theta": 500.0}),
        ("modernbert-decoder", {"global_rope_theta": 500.0, "local_rope_theta": 300.0}),
        ("gemma3_text", {"rope_theta": 500.0, "rope_local_base_freq": 300.0}),
    ],
)
def test_every_name_of_the_base_of_positions_is_written(kind, names, scaling, tmp_path):
    """Transformers 5 reads what it read in the source, and 4 finds the base under its own name."""
    rope = {"rope_type": "default", "rope_theta": 500.0, **scaling}
    if "local" in str(names) or kind == "olmo3":
        local = {"rope_type": "default", "rope_theta": 500.0 if kind == "olmo3" else 300.0}
        rope = {"full_attention": rope, "sliding_attention": local}
    else:
        rope["partial_rotary_factor"] = 0.5
    config = AutoConfig.for_model(kind, rope_parameters=rope).to_dict()
    made, _ = written(tmp_path, config, identity_splice(2), 2)
    assert {name: made[name] for name in names} == names
    # Transformers 4 does not save this name of ModernBERT: a returned one would differ.
    assert kind != "modernbert-decoder" or "rope_theta" not in made
    read = (AutoConfig.from_pretrained(tmp_path / name) for name in ("source", "output"))
    before, after = (one.rope_parameters for one in read)
    assert before == after
    assert AutoConfig.for_model(**made).rope_parameters == before


def test_a_source_with_both_forms_is_read_as_it_was(tmp_path):
    """Transformers 5 takes the scaling of the older form, and its base from next to it or not."""
    rope = {"rope_type": "default", "rope_theta": 5e5}
    scaling = {"rope_type": "linear", "factor": 2.0}
    config = {"model_type": "llama", "rope_parameters": rope, "rope_scaling": scaling}
    written(tmp_path, config, identity_splice(2), 2)
    read = [AutoConfig.from_pretrained(tmp_path / name) for name in ("source", "output")]
    assert read[0].rope_parameters == read[1].rope_parameters


@pytest.mark.parametrize("scaled", [True, False])
def test_positions_by_kind_of_layer_are_named_as_both_transformers_read_them(scaled, tmp_path):
    """Transformers 4 has two bases for Gemma 3, and scales the layers without a window."""
    full = {"rope_type": "default", "rope_theta": 2e6}
    if scaled:
        full |= {"rope_type": "linear", "factor": 8.0}
    local = {"rope_type": "default", "rope_theta": 2e4}
    turning = {"full_attention": full, "sliding_attention": local}
    text = {"model_type": "gemma3_text", "vocab_size": 2, "rope_parameters": turning}
    config = {"model_type": "gemma3", "text_config": text}
    made = written(tmp_path, config, identity_splice(2), 2)[0]["text_config"]
    assert made["rope_parameters"] == turning
    assert (made["rope_theta"], made["rope_local_base_freq"]) == (2e6, 2e4)
    expected = {"rope_type": "linear", "factor": 8.0} if scaled else None
    assert made.get("rope_scaling") == expected
    # Both forms give the same positions in the transformers that reads the new one.
    del made["rope_parameters"]
    read = Gemma3TextConfig(**made).rope_parameters
    assert read["sliding_attention"]["rope_theta"] == 2e4
    assert {key: read["full_attention"][key] for key in full} == full
