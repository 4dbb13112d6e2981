"""Conversations: every form of a record gives the same messages, also from disk."""

from __future__ import annotations

import json
import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.corpus import CorpusSettings, build_corpus
from lingraft.corpus.chat import (
    ROLES,
    Conversation,
    IncompleteConversation,
    decode_document,
    encode_document,
    parse_conversation,
    parse_markup,
)
from lingraft.corpus.readers import read_source
from lingraft.corpus.source import Source
from lingraft.corpus.text_repairs import Cleaning, TextRepairs
from lingraft.errors import CorpusError
from lingraft.store import Draft

WORDS = st.text(st.characters(codec="utf-8", categories=("L", "M", "Nd")), min_size=1, max_size=8)
CONTENTS = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
MESSAGES = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant"]), CONTENTS), min_size=1, max_size=5
)


def messages_of(pairs) -> list[dict[str, str]]:
    """Return messages of roles and contents."""
    return [{"role": role, "content": content} for role, content in pairs]


@given(MESSAGES)
def test_a_conversation_is_the_text_of_its_messages(pairs):
    """As a string it is the contents with blank lines between them; the roles are kept too."""
    made = Conversation.of(messages_of(pairs))
    assert made == "\n\n".join(content for _, content in pairs)
    assert list(made.messages) == messages_of(pairs)


@given(MESSAGES)
def test_a_conversation_survives_json_pickle_and_bytes(pairs):
    """Text and messages are the same after every way that a document takes."""
    made = Conversation.of(messages_of(pairs))
    for back in (
        Conversation.from_json(made.to_json()),
        pickle.loads(pickle.dumps(made)),
        decode_document(encode_document(made)),
    ):
        assert isinstance(back, Conversation)
        assert (back, back.messages) == (made, made.messages)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_survives_as_bytes(text):
    """A text that begins like the mark of a conversation is still a text."""
    for document in (text, "\0" + text, "\0c" + text, "\0t" + text):
        back = decode_document(encode_document(document))
        assert back == document
        assert not isinstance(back, Conversation)


@given(MESSAGES, st.integers(0, 4))
def test_a_message_without_text_makes_the_conversation_incomplete(pairs, place):
    """An answer that is missing is no example; the text of the other messages is counted."""
    text = "\n\n".join(content for _, content in pairs)
    place = min(place, len(pairs))
    pairs.insert(place, ("assistant", " \n"))
    made = Conversation.of(messages_of(pairs), "a.jsonl:1")
    assert isinstance(made, IncompleteConversation)
    assert (made, made.messages, made.text_bytes) == ("", (), len(text.encode()))
    assert made.problem == f"a.jsonl:1: message {place + 1} (assistant) has no text"
    assert pickle.loads(pickle.dumps(made)).problem == made.problem


def test_messages_without_any_text_are_an_empty_conversation():
    """There is no text to lose, so it is dropped as empty, like a blank line."""
    made = Conversation.of(messages_of([("user", " "), ("assistant", "")]))
    assert (made, type(made)) == ("", Conversation)


ASKED = {"role": "user", "content": "What is the weather?"}
CALL = [{"type": "function", "function": {"name": "weather", "arguments": "{}"}}]
NOT_TEXT = {
    "a tool call alone": ({"role": "assistant", "content": None, "tool_calls": CALL}, 25),
    "a tool call with text": ({"role": "assistant", "content": "Wait", "tool_calls": CALL}, 31),
    "an image alone": ({"role": "user", "content": [{"type": "image"}]}, 25),
    "an image with text": ({"role": "user", "content": [{"type": "image"}, {"text": "See"}]}, 30),
    "reasoning alone": ({"role": "assistant", "content": "", "reasoning_content": "Hm"}, 25),
}


@pytest.mark.parametrize("cleaning", [None, {"normalise": "NFC"}])
@pytest.mark.parametrize("form", NOT_TEXT)
def test_a_conversation_that_is_not_all_text_is_dropped_with_a_count_and_a_warning(
    tmp_path, form, cleaning
):
    """Its reason is not "empty", its bytes are counted, and the warning names the place."""
    message, size = NOT_TEXT[form]
    answer = {"role": "assistant", "content": "Sun"}
    rows = [[ASKED, message, answer], [ASKED, answer], [ASKED, {**answer, "tool_calls": []}, ASKED]]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(json.dumps({"messages": row}) for row in rows), encoding="utf-8")
    draft = Draft(tmp_path / "corpus")
    draft.folder.mkdir()
    settings = {"sources": {"path": str(path), "format": "chat"}, "cleaning": cleaning}
    build_corpus(CorpusSettings.model_validate(settings), "en", draft)
    dropped = {"with a message that is not text": {"documents": 1, "bytes": size}}
    assert draft.notes["dropped"] == dropped
    assert draft.notes["sources"][0]["read"]["documents"] == 3
    (warning,) = [one for one in draft.notes["warnings"] if "not text" in one]
    assert warning.startswith(f"text in en: 1 conversation with {size} bytes of text is left out")
    assert f"{path}:1: message 2 " in warning


def test_content_parts_that_are_strings_are_text():
    """Parts are joined without a separator, as chat templates join them."""
    row = {"messages": [{"role": "user", "content": ["one, ", {"text": "two"}, "."]}]}
    assert parse_conversation(row, "text", "x") == "one, two."


@given(MESSAGES, st.sampled_from(["", " \n"]))
def test_a_system_message_without_text_is_left_out(pairs, blank):
    """An empty system prompt says nothing, and the other messages are a whole conversation."""
    made = Conversation.of(messages_of([("system", blank), *pairs]))
    assert (made, made.messages) == (
        Conversation.of(messages_of(pairs)),
        tuple(messages_of(pairs)),
    )


@pytest.mark.parametrize("broken", [("user", "a\ud83d"), ("user\ud83d", "a")])
def test_a_message_that_is_no_text_is_placed(tmp_path, broken):
    """Half of a surrogate pair in any part of a message is an error with file and line."""
    path = tmp_path / "a.jsonl"
    rows = [
        {"messages": messages_of([pair, ("assistant", "b")])} for pair in (("user", "a"), broken)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = Source(path=str(path), format="chat")
    with pytest.raises(CorpusError, match=r"a\.jsonl:2: the conversation contains half of a surr"):
        list(read_source(source, "en"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_list_of_messages_per_line_is_a_conversation(tmp_path, name):
    """Each line is one conversation, also below blank lines; as text it is refused with advice."""
    path = tmp_path / name
    rows = [messages_of([("user", f"hi {n}"), ("assistant", "yes")]) for n in range(3)]
    path.write_text("\n" + "\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = list(read_source(Source(path=str(path), format="chat"), "en"))
    assert [list(one.messages) for one in found] == rows
    with pytest.raises(CorpusError, match=r":2: field 'messages' is a conversation; set form"):
        list(read_source(Source(path=str(path)), "en"))
    path.write_text('["a"]\n["b"]\n', encoding="utf-8")
    with pytest.raises(CorpusError, match=r':1: the line is a list, but.*\{"messages": \['):
        list(read_source(Source(path=str(path), format="chat"), "en"))


@pytest.mark.parametrize("indent", [None, 1])
def test_one_list_of_records_is_still_one_list(tmp_path, indent):
    """On one line or on many, with blank lines around it."""
    path = tmp_path / "a.jsonl"
    rows = [{"text": "[a]"}, {"text": "b"}]
    path.write_text(f"\n{json.dumps(rows, indent=indent)}\n\n", encoding="utf-8")
    assert list(read_source(Source(path=str(path)), "en")) == ["[a]", "b"]


def test_only_a_repeated_column_that_a_chat_may_be_taken_from_is_refused(tmp_path):
    """Other columns of a table may have one name: none of them is read."""
    path = tmp_path / "a.csv"
    source = Source(path=str(path), format="chat", where="score > 1")
    path.write_text("instruction,note,score,output,note\na,x,2,b,y\n", encoding="utf-8")
    assert list(read_source(source, "en")) == ["a\n\nb"]
    for column in ("instruction", "score", "messages"):
        path.write_text(f"{column},instruction,score,{column},output\n", encoding="utf-8")
        with pytest.raises(CorpusError, match=f"columns are called '{column}'; rename all but"):
            list(read_source(source, "en"))


@given(MESSAGES)
def test_all_forms_of_messages_are_one(pairs):
    """Role and content, from and value, content parts, and any known field name are read."""
    plain = Conversation.of(messages_of(pairs))
    named = [{"from": role, "value": content} for role, content in pairs]
    parts = [
        {"role": role, "content": [{"type": "text", "text": content}, {"type": "text"}]}
        for role, content in pairs
    ]
    for field in ("messages", "conversations", "dialogue"):
        for form in (messages_of(pairs), named, parts):
            assert parse_conversation({field: form}, "text", "x").messages == plain.messages
    assert parse_conversation({"mine": named}, "mine", "x").messages == plain.messages


@given(CONTENTS)
def test_roles_of_other_conventions_are_the_known_ones(content):
    """`human` and `Human` are the user, `gpt` the assistant; a role of no convention stays."""
    capitalised = {"Human": "user", "USER": "user", "Assistant": "assistant", "System": "system"}
    for other, role in {**ROLES, **capitalised, "judge": "judge", "Judge": "Judge"}.items():
        made = parse_conversation({"messages": [{"from": other, "value": content}]}, "text", "x")
        assert [message["role"] for message in made.messages] == [role]


@given(CONTENTS, CONTENTS, CONTENTS, CONTENTS)
def test_instruction_and_answer_are_an_exchange(system, asked, more, answered):
    """An input goes below the instruction, a system prompt before it; a prompt may stand alone."""
    pairs = [("user", f"{asked}\n\n{more}"), ("assistant", answered)]
    row = {"instruction": asked, "input": more, "output": answered}
    assert list(parse_conversation(row, "text", "x").messages) == messages_of(pairs)
    with_system = parse_conversation({**row, "system": system}, "text", "x")
    assert list(with_system.messages) == messages_of([("system", system), *pairs])
    short = parse_conversation({"prompt": asked, "completion": answered}, "text", "x")
    assert list(short.messages) == messages_of([("user", asked), ("assistant", answered)])


def message_of_parts(other: dict) -> dict:
    """Return a message with a text and another part."""
    return {"role": "user", "content": [{"type": "text", "text": "See"}, other]}


EXCHANGE = [("user", "Ask"), ("assistant", "Answer")]
ASKED_IN_TURNS = [{"from": "human", "value": "Ask"}, {"from": "gpt", "value": "Answer"}]


@pytest.mark.parametrize(
    ("row", "pairs"),
    [
        ({"conversations": ASKED_IN_TURNS, "system": "Rules"}, [("system", "Rules"), *EXCHANGE]),
        ({"messages": messages_of(EXCHANGE), "system_prompt": None}, EXCHANGE),
        (
            {"messages": messages_of([("system", "Own"), *EXCHANGE]), "system": "Rules"},
            [("system", "Own"), *EXCHANGE],
        ),
        (
            {"messages": messages_of([("System", "Own"), *EXCHANGE]), "system": "Rules"},
            [("system", "Own"), *EXCHANGE],
        ),
        (
            {"input": messages_of(EXCHANGE[:1]), "output": "Answer", "system_prompt": "Rules"},
            [("system", "Rules"), *EXCHANGE],
        ),
        (
            {
                "prompt": messages_of(EXCHANGE[:1]),
                "completion": "Answer",
                "history": [["One", "Two"]],
            },
            [("user", "One"), ("assistant", "Two"), *EXCHANGE],
        ),
        (
            {"system": "Rules", "history": [["One", "Two"]], "instruction": "Ask", "input": ""}
            | {"output": "Answer"},
            [("system", "Rules"), ("user", "One"), ("assistant", "Two"), *EXCHANGE],
        ),
        ({"history": "of rain", "instruction": "Ask", "output": "Answer"}, EXCHANGE),
        (
            {"history": messages_of(EXCHANGE), "instruction": "Ask", "output": "Answer"},
            [*EXCHANGE, *EXCHANGE],
        ),
        (
            {"question": "Ask", "input": "More", "context": ["One", "Two"], "answer": "Answer"},
            [("user", "Ask\n\nMore\n\nOne\n\nTwo"), ("assistant", "Answer")],
        ),
    ],
)
def test_no_part_of_a_conversation_is_left_out(row, pairs):
    """The system prompt next to the messages, earlier turns and every context are read."""
    assert list(parse_conversation(row, "text", "x").messages) == messages_of(pairs)
    for field in row.keys() & {"messages", "conversations"}:
        assert list(parse_conversation(row, field, "x").messages) == messages_of(pairs)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"question": "Ask", "context": {"title": "Rain"}, "answer": "Answer"},
            "message 1 (user) has no text",
        ),
        (
            {"history": ["Earlier"], "instruction": "Ask", "output": "Answer"},
            "message 1 (user) has no text",
        ),
        (
            {"messages": [*ASKED_IN_TURNS, message_of_parts({"type": "image", "text": ""})]},
            "message 3 has a part that is not text (image)",
        ),
        (
            {"messages": [message_of_parts({"image": "a.png"}), *ASKED_IN_TURNS]},
            "message 1 has a part that is not text (of no type)",
        ),
        (
            {"messages": [*ASKED_IN_TURNS, {"from": "function_call", "value": "{}"}]},
            "message 3 has tool calls",
        ),
    ],
)
def test_what_is_not_text_is_not_written_as_text(row, problem):
    """No mapping as Python prints it, no call of a tool, and no text from next to an image."""
    made = parse_conversation(row, "text", "x:1")
    assert isinstance(made, IncompleteConversation)
    assert made.problem == f"x:1: {problem}"


@given(MESSAGES)
def test_messages_on_both_sides_are_joined(pairs):
    """Prompt and completion as lists of messages are read as one conversation."""
    messages = messages_of(pairs)
    row = {"prompt": messages[:1], "completion": messages[1:] or messages[:1]}
    expected = [*row["prompt"], *row["completion"]]
    assert list(parse_conversation(row, "text", "x").messages) == expected


TURNS = st.lists(st.tuples(CONTENTS, CONTENTS), min_size=1, max_size=3)


@given(TURNS)
def test_markup_of_three_templates_gives_the_same_messages(turns):
    """ChatML, Llama 3 and Llama 2 render the same turns, and are read back to them."""
    pairs = [
        pair for asked, answered in turns for pair in (("user", asked), ("assistant", answered))
    ]
    chatml = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in pairs)
    llama3 = "<|begin_of_text|>" + "".join(
        f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in pairs
    )
    llama2 = "".join(f"<s>[INST] {asked} [/INST] {answered} </s>" for asked, answered in turns)
    for rendered in (chatml, llama3, llama2):
        assert list(parse_markup(rendered, "x").messages) == messages_of(pairs)


@given(CONTENTS, CONTENTS)
def test_text_outside_of_turns_is_refused(text, stray):
    """What stands between the turns belongs to nobody; it is named, not left out."""
    turn = f"<|im_start|>user\n{text}<|im_end|>\n"
    for broken in (f"{stray} {turn}", turn + stray):
        with pytest.raises(CorpusError, match="x: text outside the turns"):
            parse_markup(broken, "x")


@given(CONTENTS)
def test_text_without_turns_is_refused_and_nothing_is_empty(text):
    """A plain text is no chat; an empty one is an empty conversation."""
    with pytest.raises(CorpusError, match="no turns in a known markup"):
        parse_markup(text, "x")
    assert parse_markup("  \n", "x").messages == ()


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"body": "x"}, "has no conversation (fields: body)"),
        ({"messages": 3}, "has no conversation"),
        ({"messages": ["hello"]}, "expected a message with role and content, got str"),
        (
            {"messages": [{"who": "me"}]},
            "a message needs role and content (or from and value), got who",
        ),
        ({"messages": [{"role": "user", "content": 3}]}, "a message needs role and content"),
    ],
)
def test_a_row_without_a_conversation_says_what_it_holds(row, part):
    """The message names the place, what is there, and what is expected."""
    with pytest.raises(CorpusError) as caught:
        parse_conversation(row, "text", "chats.jsonl:7")
    assert str(caught.value).startswith("chats.jsonl:7: ")
    assert part in str(caught.value)


def test_a_named_field_that_is_missing_is_an_error_and_not_a_guess():
    """Where the recipe names the field, no other field is tried."""
    with pytest.raises(CorpusError, match="no field 'turns' to take"):
        parse_conversation({"messages": messages_of([("user", "hi")])}, "turns", "x")


def test_changes_of_a_conversation_are_those_of_one_document():
    """However many of its messages a repair changes, one document is changed."""
    repairs = TextRepairs(Cleaning(strip=("soft_hyphens",)), "en")
    messages = messages_of([("user", "so\u00adso"), ("assistant", "a\u00ad\u00adb")])
    repairs.repair(Conversation.of(messages))
    assert repairs.counts() == {"soft_hyphens": {"documents": 1, "changes": 3}}


@given(MESSAGES, st.sampled_from(["NFC", "NFKC"]))
def test_normal_forms_reach_every_message(pairs, form):
    """A conversation is normalised message by message and stays a conversation."""
    decomposed = [(role, unicodedata.normalize("NFD", content)) for role, content in pairs]
    repairs = TextRepairs(Cleaning(normalise=form), "ko")
    made = repairs.repair(Conversation.of(messages_of(decomposed)))
    expected = [(role, unicodedata.normalize(form, content)) for role, content in pairs]
    assert list(made.messages) == messages_of(expected)
    assert repairs.repair(decomposed[0][1]) == expected[0][1]
