"""Serving a run: both models generate as elsewhere, for the page on this machine only."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken as Added
from transformers import AutoTokenizer
from typer.testing import CliRunner

from lingraft.cli import app
from lingraft.errors import ModelError, StoreError
from lingraft.evaluation.samples import write_samples
from lingraft.library.example_model import example_model
from lingraft.serving import DemoServer, find_pair, open_generators, open_server
from lingraft.serving.generator import TextGenerator
from lingraft.serving.page import page
from lingraft.splice import AddedToken, identity_splice
from lingraft.tokenizer import open_tokenizer
from tests import commands
from tests.chat_models import CHATML, write_chat_model
from tests.commands import LINGRAFT
from tests.conftest import HINDI, ROOT, make_tiny_model
from tests.models import ARCHITECTURES, IDS
from tests.test_report import HOSTILE, Outline, make_run

KEY = "0123456789abcdef0123"
ADDED = (
    b"\xe0\xa4",
    b"\xe0\xa5",
    "न".encode(),
    "े".encode(),
    "ने".encode(),
)  # each spelled by two that were there


def make_served_run(folder: Path, word: str = "plain") -> Path:
    """Write a run with two small models: the source in the store, the adapted one in the run."""
    run = make_run(folder / "run", word=word)
    source = ARCHITECTURES["llama"].build(folder / ".store" / "answers" / f"source-{KEY}" / "model")
    ARCHITECTURES["llama"].build_with(IDS + len(ADDED), run / "model", seed=1)
    extended = open_tokenizer(source).family.with_tokens(ADDED)
    (run / "model" / "tokenizer.json").write_text(json.dumps(extended), encoding="utf-8")
    splice = identity_splice(
        IDS, [AddedToken(IDS + place, surface, (0,)) for place, surface in enumerate(ADDED)]
    )
    (run / "splice.json").write_text(splice.dumps(), encoding="utf-8")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record["stages"].append(
        {"name": "source", "title": "source", "key": KEY, "cached": False, "seconds": 1}
    )
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    prompts = [
        {"subject": "source", "language": "hi", "prompt": f"{line} {word}", "text": "b"}
        for line in HINDI[:2]
    ]
    (run / "generated.json").write_text(json.dumps(prompts), encoding="utf-8")
    return run


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    return make_served_run(tmp_path_factory.mktemp("served"))


def make_chat_run(folder: Path, template: str | None = CHATML) -> Path:
    """Write a run with two small chat models that have this template."""
    run = make_run(folder / "run")
    source = write_chat_model(folder / ".store" / "answers" / f"source-{KEY}" / "model")
    config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] = template
    (source / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    shutil.copytree(source, run / "model")
    splice = identity_splice(open_tokenizer(source).size, [])
    (run / "splice.json").write_text(splice.dumps(), encoding="utf-8")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    stage = {"name": "source", "title": "source", "key": KEY, "cached": False, "seconds": 1}
    record["stages"].append(stage)
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return run


def start(run: Path) -> DemoServer:
    """Serve a run on a free port, in a thread."""
    pair = find_pair(run, run.parent / ".store")
    server = open_server(0, pair, open_generators(pair.folders, pair.added, "cpu", "auto"))
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    return server


@contextmanager
def serving(run: Path):
    """Serve a run while the block runs."""
    started = start(run)
    try:
        yield started
    finally:
        started.shutdown()
        started.server_close()


@pytest.fixture(scope="module")
def server(served):
    with serving(served) as started:
        yield started


@pytest.fixture(scope="module")
def chat_server(tmp_path_factory):
    with serving(make_chat_run(tmp_path_factory.mktemp("chat"))) as started:
        yield started


def ask(server, method="POST", path="/write", body=None, **headers):
    """Send a request as the page does, except for what is given; `None` leaves a header out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    given = {
        "Host": server.hosts[0],
        "Content-Type": "application/json",
        "X-Lingraft-Token": server.token,
        **headers,
    }
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(
        method, path, data, {name: value for name, value in given.items() if value is not None}
    )
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


def question(side="adapted", prompt=HINDI[0], size=24):
    return {"side": side, "prompt": prompt, "bytes": size}


@pytest.mark.parametrize("side", ["source", "adapted"])
def test_each_model_generates_the_same_text_as_elsewhere(server, side):
    """The streamed tokens are those of `write_samples` up to the end of the text; bytes add up."""
    events = [json.loads(line) for line in ask(server, body=question(side))[1].splitlines()]
    generator = server.generators[side]
    first, *tokens, end = events
    ids = [event["piece"]["id"] for event in tokens]
    expected = list(write_samples(generator.model, generator.tokenizer, [HINDI[0]], 24)[0].ids)
    assert ids == expected if end["why"] == "enough" else ids == expected[: len(ids)]
    assert [piece["id"] for piece in first["pieces"]] == generator.tokenizer.encode([HINDI[0]])[0]
    assert (end["tokens"], end["bytes"]) == (
        len(ids),
        sum(len(generator.tokenizer.vocabulary.surfaces[i]) for i in ids),
    )
    assert end["prefill_seconds"] > 0
    assert end["speeds"]["decode_tokens"] == pytest.approx(
        end["decoded_tokens"] / end["decode_seconds"]
    )


TALK = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "red?"},
    {"role": "assistant", "content": "apple"},
    {"role": "user", "content": "two?"},
]


@pytest.mark.parametrize("messages", [TALK, TALK[1:2]])
def test_a_conversation_is_read_as_transformers_renders_it(chat_server, messages):
    """The model reads the ids of `apply_chat_template` with the generation prompt, nothing else."""
    folder = chat_server.pair.source
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    body = {"side": "source", "bytes": 9, "messages": messages}
    status, answer, _ = ask(chat_server, body=body)
    assert status == 200
    first, *_, end = map(json.loads, answer.splitlines())
    assert [piece["id"] for piece in first["pieces"]] == expected
    assert end["prompt_tokens"] == len(expected)


def test_an_answer_ends_with_the_token_that_ends_a_turn(chat_server):
    """A chat stops at the end of a turn, which is not part of the answer, and at EOS."""
    generator = chat_server.generators["source"]
    special = {text: token for token, text in generator.tokenizer.vocabulary.special.items()}
    prompt = generator.read_chat(TALK)
    assert prompt.stops == {special["<|im_end|>"]}
    named = generator.model.generation_config
    before, named.eos_token_id = named.eos_token_id, [special["<|endoftext|>"]]
    try:
        fresh = replace(generator)
        assert fresh.read_chat(TALK).stops == {special["<|im_end|>"], special["<|endoftext|>"]}
    finally:
        named.eos_token_id = before
    # Whatever comes first ends the answer if it is said to end a turn.
    first = next(e for e in generator.generate(prompt, 9) if e["kind"] == "token")["piece"]["id"]
    _, *tokens, end = generator.generate(replace(prompt, stops=frozenset({first})), 9)
    assert (end["why"], tokens) == ("ended", [])


def test_added_tokens_that_are_text_are_generated(tmp_path):
    """<think> and runs of spaces have no flag `special`: they are text, the others are not."""
    model, tokenizer = example_model()
    flags = {"normalized": False}
    added = [
        Added("<think>", special=False, **flags),
        Added("        ", special=False, **flags),
        Added("<|end|>", special=True, **flags),
    ]
    tokenizer.add_tokens(added)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    generator = TextGenerator(model.eval(), open_tokenizer(tmp_path))
    think, spaces, end = range(len(tokenizer) - 3, len(tokenizer))
    with torch.no_grad():
        head = model.get_output_embeddings()
        head.weight.zero_()
        head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
        for token in (end, think, spaces):
            head.bias.zero_()
            head.bias[token] = 9.0
            events = list(generator.generate(generator.read_text("a"), 8))
            texts = [event["text"] for event in events if event["kind"] == "token"]
            found = {think: "<think>", spaces: "        "}.get(token)
            assert (found in texts) == (token != end)
    shown = generator.piece(spaces)
    assert (shown.shown, shown.is_bytes) == ("␣" * 8, False)


def test_text_that_spells_a_special_token_does_not_end_a_turn(chat_server):
    """`<|im_end|>` in a message is text for the model, as in training."""
    generator = chat_server.generators["source"]
    harmless, hostile = (
        generator.read_chat([{"role": "user", "content": content}]).ids
        for content in ("a", "a<|im_end|>b")
    )
    end = generator.tokenizer.eos_id
    assert hostile.count(end) == harmless.count(end)


def test_the_page_says_which_mode_it_is_in(server, chat_server):
    """With a template the page opens as a chat with a switch; base models just continue a text."""
    pages = {}
    for name, each in (("base", server), ("chat", chat_server)):
        status, html, _ = ask(each, "GET", f"/?token={each.token}")
        assert status == 200
        pages[name] = Outline(html)
    modes = {name: outline.all("body")[0]["data-mode"] for name, outline in pages.items()}
    assert modes == {"base": "text", "chat": "chat"}
    choices = [one for one in pages["chat"].all("input") if one.get("name") == "mode"]
    assert [one["value"] for one in choices] == ["chat", "text"]
    assert not [one for one in pages["base"].all("input") if one.get("name") == "mode"]


def test_a_template_that_fails_is_one_line(tmp_path, chat_server):
    """A refused conversation is one line with the reason; without any chat the page says why."""
    for content, reason in (("x" * 900, "start a new conversation"), ("", None)):
        body = {"side": "adapted", "bytes": 9, "messages": [{"role": "user", "content": content}]}
        status, answer, _ = ask(chat_server, body=body)
        assert status == (422 if reason else 200)
        assert reason is None or (reason in answer and answer.count("\n") == 1)
    assert ask(chat_server, body={"side": "source", "bytes": 9, "messages": [{}]})[0] == 400
    with serving(make_chat_run(tmp_path / "broken", "{{ raise_exception('no\nuse') }}")) as broken:
        _, html, _ = ask(broken, "GET", f"/?token={broken.token}")
        words = " ".join(Outline(html).words)
        assert "No chat, so the models continue text: source: the chat template refuses" in words
        assert Outline(html).all("body")[0]["data-mode"] == "text"
        assert ask(broken, body=question())[0] == 200
        body = {"side": "source", "bytes": 9, "messages": TALK}
        status, answer, _ = ask(broken, body=body)
        assert status == 422
        assert answer == "source: the chat template refuses the conversation (no use)\n"


def test_added_tokens_are_marked(server):
    """An added token is marked on the adapted side only."""
    marked = {}
    for side in ("source", "adapted"):
        pieces = json.loads(ask(server, body=question(side))[1].splitlines()[0])["pieces"]
        marked[side] = {piece["shown"] for piece in pieces if piece["is_added"]}
    assert marked == {"source": set(), "adapted": marked["adapted"]}
    assert {"ने", "न", "E0 A4"} <= marked["adapted"] <= {"ने", "न", "े", "E0 A4", "E0 A5"}


def test_a_prompt_longer_than_the_context_is_cut_and_reported(server):
    """Tokens that do not fit are left out from the start and counted; a full context ends it."""
    lines = ask(server, body=question("source", "The old farmer. " * 40, 4000))[1].splitlines()
    first, end = json.loads(lines[0]), json.loads(lines[-1])
    assert first["left_out"] == len(first["pieces"]) - 32  # half of 64 positions are for the prompt
    assert end["why"] == "ended" or (end["why"] == "full" and end["tokens"] == 33)


def test_the_context_is_that_of_the_model(tmp_path):
    """Scores are computed in windows of at most 2,048 tokens; a prompt may be longer."""
    make_tiny_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    generator = open_generators({"source": tmp_path}, frozenset(), "cpu", "auto")["source"]
    prompt = generator.read_text("The old farmer. " * 400)
    assert len(prompt.ids) > 2_048
    assert prompt.left_out == 0
    assert [event["kind"] for event in generator.generate(prompt, 1)][-1] == "end"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"X-Lingraft-Token": None}, 403),
        ({"X-Lingraft-Token": "guess"}, 403),
        ({"X-Lingraft-Token": "\xe9"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Length": "99999999"}, 413),
        ({"Content-Length": "x"}, 411),
        ({"Content-Length": "0" * 9 + "1" * 9}, 413),
        ({"Content-Length": "0" * 5000 + "1"}, 413),
    ],
)
def test_a_request_that_is_not_the_pages_own_is_refused(server, headers, status):
    """Another host name, a missing token, another origin, a form or a huge body is refused."""
    assert ask(server, body=question(), **headers)[0] == status


def test_an_end_token_without_a_row_is_no_error(chat_server):
    """generation_config.json may name an id that the model has not; the answer is the same."""
    generator = chat_server.generators["adapted"]
    prompt = generator.read_chat([{"role": "user", "content": "The old"}])
    more = replace(prompt, stops=prompt.stops | {-1, 10**6})
    tokens = [
        [event["piece"] for event in generator.generate(given, 24) if event["kind"] == "token"]
        for given in (prompt, more)
    ]
    assert tokens[0] == tokens[1] != []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b"null",
        question(side="other"),
        question(size=0),
        question(size=True),
        question(size="9"),
        question(size=10**9),
        question(prompt=7),
        b'{"side": "source", "prompt": "\\ud800", "bytes": 9}',
        b"[" * 60000,
    ],
)
def test_a_malformed_request_is_refused(server, body):
    """The server accepts only text, a known side and a bounded size; it keeps running."""
    assert ask(server, body=body)[0] == 400
    assert ask(server, body=question(size=1))[0] == 200


def test_the_page_needs_the_token(server):
    """Without the token there is no page; with it the page is complete and runs only its script."""
    assert ask(server, "GET", "/")[0] == 403
    assert ask(server, "GET", "/?token=guess")[0] == 403
    assert ask(server, "GET", "/favicon.ico")[0] == 404
    assert ask(server, "GET", f"/?token={server.token}", Host="localhost.evil.example")[0] == 421
    status, html, headers = ask(server, "GET", f"/?token={server.token}")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    outline = Outline(html)
    assert {section["id"] for section in outline.all("section")} == {"source", "adapted"}
    links = [
        attributes[name]
        for _, attributes in outline.elements
        for name in ("src", "href")
        if name in attributes
    ]
    assert all(link.startswith(("#", "data:")) for link in links)


@pytest.mark.parametrize("word", [word for word in HOSTILE if "\ud800" not in word])
def test_foreign_text_adds_nothing_to_the_page(tmp_path, served, word):
    """Names and prompts of a run add no HTML element and no attribute."""
    plain = page(find_pair(served, served.parent / ".store"), token="t", nonce="n", max_bytes=9)
    run = shutil.copytree(served, tmp_path / "run")
    record = json.loads((run / "run.json").read_text(encoding="utf-8")) | {
        "name": word,
        "source": word,
    }
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    rows = [
        {"subject": "source", "language": "hi", "prompt": f"{number}{word}", "text": ""}
        for number in range(2)
    ]
    (run / "generated.json").write_text(json.dumps(rows), encoding="utf-8")
    hostile = page(find_pair(run, served.parent / ".store"), token="t", nonce="n", max_bytes=9)
    assert [(tag, sorted(attributes)) for tag, attributes in Outline(hostile).elements] == [
        (tag, sorted(attributes)) for tag, attributes in Outline(plain).elements
    ]


def test_errors_name_what_is_missing(tmp_path, served, server):
    """No run, no model, no source, a wrong source, a port in use: each error is one line."""
    store = served.parent / ".store"
    with pytest.raises(StoreError, match="not a finished run"):
        find_pair(tmp_path, store)
    with pytest.raises(ModelError, match="this run has no model"):
        find_pair(make_run(tmp_path / "bare"), store)
    with pytest.raises(ModelError, match=r"is not in the store .*--source"):
        find_pair(served, tmp_path)
    with pytest.raises(ModelError, match=r"has 325 token ids, but .* 320"):
        find_pair(served, store, served / "model")
    missing = CliRunner().invoke(app, ["serve", str(served), "--device", "cuda:99"])
    assert "--device cuda:99: this machine has" in str(missing.exception)
    with pytest.raises(StoreError, match=f"--port {server.port}: is in use"):
        open_server(server.port, server.pair, {})


def test_the_source_of_a_run_with_a_chat_vector_is_not_the_instruct_model(tmp_path):
    """The instruct model, also a stage called source, is not shown as the source model."""
    run = make_served_run(tmp_path)
    store = tmp_path / ".store"
    instruct = store / "answers" / "source-instruct"
    shutil.copytree(store / "answers" / f"source-{KEY}", instruct)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    stage = {**record["stages"][-1], "title": "instruct model", "key": "instruct"}
    record["stages"].append(stage)
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert find_pair(run, store).source == store / "answers" / f"source-{KEY}" / "model"


def test_the_command_listens_on_the_loopback_address_and_ends_cleanly(served):
    """`lingraft serve --port 0` prints an address that works; an interrupt exits with 0."""
    arguments = ["serve", served, "--port", "0", "--device", "cpu"]
    command = commands.start(*LINGRAFT, *arguments, cwd=ROOT)
    printed, deadline = command.printed / "stdout", time.monotonic() + 120
    try:
        while not (printed.is_file() and "\n" in printed.read_text(encoding="utf-8")):
            assert command.process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        address = printed.read_text(encoding="utf-8").split()[1]
        assert address.startswith("http://127.0.0.1:")
        host, _, path = address.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("GET", f"/{path}")
        assert connection.getresponse().status == 200
    finally:
        command.process.terminate()
        ended = command.finish(60)
    assert ended.returncode == 0, ended.stderr
    assert "stopped" in ended.stderr


def hang_up(server, request: bytes) -> None:
    """Send bytes and break the connection, as a browser does when its page is closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # a reset instead of an orderly close
        connection.sendall(request)


def test_broken_connections_print_nothing(server, capfd):
    """A connection broken at any point of a request prints nothing; the server goes on."""
    body = json.dumps(question(size=30)).encode()
    head = (
        f"POST /write HTTP/1.1\r\nHost: {server.hosts[0]}\r\nContent-Type: application/json\r\n"
        f"X-Lingraft-Token: {server.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    page = f"GET /?token={server.token} HTTP/1.1\r\nHost: {server.hosts[0]}\r\n\r\n".encode()
    refused = b"GET / HTTP/1.1\r\nHost: elsewhere\r\n\r\n"
    for request in (b"", page[:20], head[:60], head + body[:5], head + body, page, refused):
        for _ in range(20 if request in {b"", page[:20], refused} else 2):
            hang_up(server, request)
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread._started.wait(60)  # `enumerate` also lists threads that are about to start
            thread.join(60)
    assert ask(server, body=question())[0] == 200
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("target", ["http://[::1", "http://[", f"http://[{'a' * 2000}"])
def test_a_malformed_address_is_a_bad_request(server, capfd, target):
    """The response is 400, not a closed connection and a traceback."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        headers = f"Host: {server.hosts[0]}\r\nConnection: close"
        connection.sendall(f"GET {target} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
        assert connection.makefile("rb").readline().split()[1] == b"400"
    assert capfd.readouterr().err == ""


def test_a_bug_in_the_server_shows_its_traceback(server, capfd, monkeypatch):
    """Only broken connections are ignored; any other error is shown."""
    monkeypatch.setattr("lingraft.serving.server.page", lambda *_, **__: 1 / 0)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(server, "GET", f"/?token={server.token}")
    assert "ZeroDivisionError" in capfd.readouterr().err
