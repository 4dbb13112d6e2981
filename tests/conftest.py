"""Shared fixtures: tiny real models and tokenizers, a little text, and the folder of assets."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from lingraft.recipe import Runtime
    from tests.command_server import HubCommands

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A commit passes or fails; chance has no say. LINGRAFT_EXPLORE=1 draws new examples each time, to
# find what is wrong.
# Without a deadline: a busy machine takes longer than hypothesis' 200 ms for one example.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("default" if os.environ.get("LINGRAFT_EXPLORE") else "repeatable")

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT.parent / "shared" / "assets"

ENGLISH = (
    "The old farmer gave the red apple to his daughter.",
    "A small bird sings in the tall green tree.",
    "In the morning the children walk to the river.",
    "She reads a long letter from her brother.",
)
HINDI = (
    "बूढ़े किसान ने अपनी बेटी को लाल सेब दिया।",
    "एक छोटी चिड़िया ऊँचे हरे पेड़ पर गाती है।",
    "सुबह बच्चे नदी की ओर चलते हैं।",
    "वह अपने भाई का लंबा पत्र पढ़ती है।",
)

SLOW_IMPORTS = re.compile(
    r"""^\ *(?:import|from)\ (?:subprocess|transformers|lingraft\.(?:pipeline|report)|
    tests\.(?:browser|command_server|commands|hub_server|models|short_adapt|training_cases))\b""",
    re.MULTILINE | re.VERBOSE,
)
SLOW_FIXTURES = {"assets", "executor", "some_text", "hub_commands", "local_ray", "tiny_model"}


def is_slow(path: Path) -> bool:
    """Return whether a test file imports what makes all of its tests slow."""
    return path.match("tests/*.py") and bool(SLOW_IMPORTS.search(path.read_text("utf-8")))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave whole files out of the fast tier, and with them the seconds that their imports take.

    A test file is slow when it imports what starts processes, loads models, runs a pipeline or
    draws charts.
    """
    fast = config.getoption("markexpr") == "not slow"
    return True if fast and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of such files, and those that ask for a model, real texts or a cluster."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if is_slow(item.path) or SLOW_FIXTURES.intersection(fixtures):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def assets() -> Path:
    """Return the folder of real tokenizers, models and texts."""
    if not ASSETS.is_dir():
        pytest.skip(
            f"real assets are not there ({ASSETS.relative_to(ROOT.parent)}); "
            "they live beside the checkout"
        )
    return ASSETS


@pytest.fixture(scope="session")
def some_text(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return what writes documents from all of a real text, of about so many bytes, into a file.

    A limit in a recipe draws from the whole text, and reading its 50,000 documents takes 3 seconds.
    """
    folder = tmp_path_factory.mktemp("some-text")

    def of(language: str, size: int) -> Path:
        path = folder / f"{language}.{size}.jsonl"
        if not path.exists():
            with gzip.open(assets / "text" / f"{language}.train.jsonl.gz", "rb") as file:
                lines = file.readlines()
            path.write_bytes(b"".join(lines[:: max(1, sum(map(len, lines)) // size)]))
        return path

    return of


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Keep one Ray cluster of two CPUs for all tests that need one: it starts in 14 seconds."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from lingraft.workers import cluster

    with cluster("", 2):
        yield


@pytest.fixture
def executor(request: pytest.FixtureRequest) -> str:
    """Return the name of an executor, once it is there."""
    if request.param == "ray":
        request.getfixturevalue("local_ray")
    return str(request.param)


@pytest.fixture(scope="session")
def hub_commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubCommands]:
    """Keep one process that has imported the Hub's libraries for the address of loopback Hubs."""
    from tests.command_server import HubCommands

    with HubCommands(tmp_path_factory.mktemp("hub-commands")) as commands:
        yield commands


@pytest.fixture(scope="module")
def checked_charts() -> Iterator[list[str]]:
    """Check each chart that is drawn against the schema of Vega-Lite; return their titles."""
    from lingraft.report import charts

    declare = charts.specification
    checked: list[str] = []

    def declare_and_check(chart: Any) -> dict[str, Any]:
        checked.append(str(chart.to_dict(validate=True).get("title")))
        return declare(chart)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "specification", declare_and_check)
        yield checked


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a two-layer Llama with a byte-level tokenizer of 320 ids from four sentences."""
    folder = tmp_path_factory.mktemp("tiny-model")
    make_tiny_model(folder)
    return folder


def make_tiny_model(folder: Path, *, tied: bool = False) -> None:
    """Write a two-layer Llama and its tokenizer."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=318, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(ENGLISH, trainer)
    tokenizer.add_special_tokens(
        [AddedToken("<s>", special=True), AddedToken("</s>", special=True)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            bos_token_id=318,
            eos_token_id=319,
            tie_word_embeddings=tied,
        )
        LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture
def here(tmp_path: Path) -> Runtime:
    """Return where a run on the CPU stores its results: new folders."""
    from lingraft.recipe import Runtime

    return Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")


@pytest.fixture
def hindi_file(tmp_path: Path) -> Path:
    """Return a file of Hindi documents, one a line, all different."""
    return write_lines(tmp_path / "hi.txt", HINDI)


@pytest.fixture
def english_file(tmp_path: Path) -> Path:
    """Return a file of English documents, one a line, all different."""
    return write_lines(tmp_path / "en.txt", ENGLISH)


def write_lines(path: Path, sentences: tuple[str, ...], copies: int = 60) -> Path:
    """Write each sentence so many times, numbered, so that no two lines are equal."""
    lines = [f"{sentence} {number}" for number in range(copies) for sentence in sentences]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def flores(assets: Path) -> list[dict[str, str]]:
    """Return the 1,012 sentences of FLORES-200 devtest in ten languages."""
    with gzip.open(
        assets / "parallel" / "flores200-devtest.jsonl.gz", "rt", encoding="utf-8"
    ) as file:
        return [json.loads(line) for line in file]
