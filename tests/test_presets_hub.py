"""Data sets by name, read from a loopback hub that has them under their real names."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.command_server import HubCommands
from tests.conftest import ENGLISH, HINDI

SHARDS, DOCUMENTS = 4, 400
# Letters of Telugu at the places of the Hindi ones: text in another script is refused.
TELUGU = [line.translate({code: code + 0x300 for code in range(0x900, 0x964)}) for line in HINDI]

# The layout of each data set, as its card declares it: files of the configuration, by shard.
LAYOUT = {
    "HuggingFaceFW/fineweb-2": ("tel_Telu", "data/tel_Telu/train/00{}_00000.parquet"),
    "HuggingFaceFW/fineweb-edu": ("sample-10BT", "sample/10BT/00{}_00000.parquet"),
    "wikimedia/wikipedia": ("20231101.te", "20231101.te/train-0000{}-of-00004.parquet"),
    "allenai/c4": ("te", "multilingual/c4-te.tfrecord-0000{}-of-00004.json.gz"),
    "HPLT/HPLT2.0_cleaned": ("tel_Telu", "tel_Telu/train-0000{}-of-00004.parquet"),
}
OTHERS = {
    "HuggingFaceFW/fineweb-2": ["hin_Deva", "tel_Latn", *(f"a{n:02}_Latn" for n in range(30))]
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Return the folder of a hub with the data sets of all presets and a model."""
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(tiny_model, root / "models/me/tiny")
    for repository, (configuration, pattern) in LAYOUT.items():
        folder = root / "datasets" / repository
        lines = ENGLISH if configuration == "sample-10BT" else TELUGU
        for shard in range(SHARDS):
            texts = [f"{lines[n % 4]} {repository} {shard} {n}" for n in range(DOCUMENTS)]
            write_shard(folder / pattern.format(shard), texts)
        configs = [(configuration, str(Path(pattern).parent / "*"))]
        configs += [(other, f"data/{other}/train/*") for other in OTHERS.get(repository, ())]
        card = [
            {"config_name": name, "data_files": [{"split": "train", "path": path}]}
            for name, path in configs
        ]
        heading = yaml.safe_dump({"configs": card})
        (folder / "README.md").write_text(f"---\n{heading}---\n", encoding="utf-8")
    return root


def write_shard(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = [str(n) for n in range(len(texts))]
    if path.suffix == ".gz":
        rows = [json.dumps({"text": text, "url": ""}) + "\n" for text in texts]
        path.write_bytes(gzip.compress("".join(rows).encode()))
    else:
        pq.write_table(pa.table({"id": ids, "text": texts}), path, row_group_size=50)


BUILD = """
import json, sys, tempfile
from pathlib import Path
from lingraft.corpus import Corpus, CorpusSettings, build_corpus, identity_of
from lingraft.errors import LingraftError
from lingraft.store import Draft

for line in sys.stdin:
    language, settings = json.loads(line)
    with tempfile.TemporaryDirectory() as folder:
        draft = Draft(Path(folder))
        try:
            settings = CorpusSettings.model_validate(settings)
            identity = identity_of(settings, language)
            build_corpus(settings, language, draft)
            texts = list(Corpus.open(draft.folder).documents("train"))
            print(json.dumps({"text": texts[0], "identity": identity, "notes": draft.notes}))
        except LingraftError as error:
            print(json.dumps({"error": str(error)}))
"""


def build(hub_commands: HubCommands, folder: Path, *asked: tuple[str, dict]) -> list[dict]:
    given = "\n".join(map(json.dumps, asked))
    done = hub_commands.ask("-c", BUILD, home=folder / "home", cwd=folder, stdin=given)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_preset_is_read_from_its_configuration(root, hub_commands, tmp_path):
    """A preset gives the text and the key of the hub source that it stands for, and its commit."""
    presets = {
        "fineweb-2": "te",
        "wikipedia": "te",
        "c4": "te",
        "hplt": "te-IN",
        "fineweb-edu": "en",
    }
    small = {"limit": {"documents": 30}, "heldout_share": 0.2}
    written = {"hub": "HuggingFaceFW/fineweb-2", "config": "tel_Telu"}
    asked = [(tag, {"sources": {"preset": name}, **small}) for name, tag in presets.items()]
    asked.append(("te", {"sources": written, **small}))
    asked.append(("te-Arab", {"sources": "fineweb-2", **small}))
    with hub_commands.serve(root) as hub:
        *answers, plain, unknown = build(hub_commands, tmp_path, *asked)
        commit = hub.commit("datasets", written["hub"])
    repositories = ["HuggingFaceFW/fineweb-2", "wikimedia/wikipedia", "allenai/c4"]
    repositories += ["HPLT/HPLT2.0_cleaned", "HuggingFaceFW/fineweb-edu"]
    for answer, repository in zip(answers, repositories, strict=True):
        assert repository in answer["text"]
    assert answers[0] == plain
    assert plain["identity"]["sources"][0]["revision"] == commit
    assert plain["notes"]["commits"] == {"HuggingFaceFW/fineweb-2@main": commit}
    assert unknown["error"] == (
        "hf:HuggingFaceFW/fineweb-2 (preset fineweb-2): there is no configuration 'tel_Arab'; "
        "nearest of its 33: tel_Latn, tel_Telu; name another data set, or give local text "
        "(--text FILE)"
    )


SMALL = [
    "vocabulary.size=20",
    "training={budget: 20 kB, batch_tokens: 64, heldout_points: 1, packing: {block_size: 32}}",
    "target.heldout_share=0.1",
    "replay.heldout_share=0.1",
    "evaluation={heldout_bytes: 500, bootstrap: {resamples: 20}, generation: null}",
]


def test_a_model_and_a_language_are_enough(root, hub_commands, tmp_path):
    """Without text, `adapt` says which data sets it reads, and reads as much as it needs."""
    options = [part for setting in SMALL for part in ("-o", setting)]
    command = ["adapt", "--model", "me/tiny", "--language", "te", *options, "--device", "cpu"]
    with hub_commands.serve(root) as hub:
        done = hub_commands.ask("-m", "lingraft", *command, home=tmp_path / "home", cwd=tmp_path)
        fetched = [line for line in hub.requests if "/resolve/" in line and "parquet" in line]
        commit = hub.commit("datasets", "HuggingFaceFW/fineweb-2")
    assert done.returncode == 0, done.stderr
    target, replay = done.stderr.splitlines()[:2]
    data = "fineweb-2 (HuggingFaceFW/fineweb-2, tel_Telu, licence odc-by)"
    assert target == f"text in te: {data}, at most 40 kB"
    data = "fineweb-edu (HuggingFaceFW/fineweb-edu, sample-10BT, licence odc-by)"
    assert replay == f"replay in en: {data}, at most 5.50 kB"
    # 40 kB are in the first of the four files.
    assert any("000_00000" in line for line in fetched)
    assert not [line for line in fetched if "000_00000" not in line]
    run = tmp_path / "runs/tiny-te"
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    [source] = recipe["target"]["corpus"]
    assert (source["hub"], source["config"]) == ("HuggingFaceFW/fineweb-2", "tel_Telu")
    assert source["limit"] == {"documents": None, "bytes": 40_000}
    assert commit in (run / "run.json").read_text(encoding="utf-8")
    card = (run / "model/README.md").read_text(encoding="utf-8")
    assert f"HuggingFaceFW/fineweb-2 (tel\\_Telu)@{commit}" in card.replace(
        "fineweb\\-2", "fineweb-2"
    )
    assert "odc-by" in card
