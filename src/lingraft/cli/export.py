"""Commands that export a finished model: as a GGUF file, as an adapter, to the Hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.named_models import ModelOrRun, run_of
from lingraft.cli.options import AsJson, log, print_json
from lingraft.errors import RecipeError

RunFolder = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="A finished run (runs/demo-hi), or a model folder."),
]
GgufFile = Annotated[
    Path | None,
    typer.Option(
        "--gguf",
        metavar="FILE",
        help="The GGUF file to write, for llama.cpp and programs that use it. An Ollama Modelfile "
        "is written next to it.",
    ),
]
PeftFolder = Annotated[
    Path | None,
    typer.Option(
        "--peft", metavar="FOLDER", help="The folder to write: a PEFT adapter of the source model."
    ),
]
Numbers = Annotated[
    str,
    typer.Option(
        help="The data type of matrices in GGUF: auto (as in the model), f32, f16, bf16, q8_0, "
        "q5_1, q5_0, q4_1 or q4_0. llama-quantize makes smaller ones from an f16 file."
    ),
]
HubRepository = Annotated[
    str, typer.Option("--to", metavar="OWNER/NAME", help="The repository on the Hub.")
]
Public = Annotated[
    bool, typer.Option("--public", help="Create a new repository as public (default: private).")
]
Revision = Annotated[str | None, typer.Option(help="A branch of the repository (default: main).")]
ListOnly = Annotated[bool, typer.Option("--dry-run", help="Only list the files.")]


def export(
    run: RunFolder = None,
    *,
    model: ModelOrRun = None,
    gguf: GgufFile = None,
    peft: PeftFolder = None,
    numbers: Numbers = "auto",
    as_json: AsJson = False,
) -> None:
    """Write a model as a GGUF file or a PEFT adapter with the same outputs, or say why not.

    GGUF: Llama, Mistral, Mixtral, Qwen2 and Qwen3 (also with experts), Gemma 1 to 3, SmolLM3,
    Phi-3, OLMo 2 and 3, OLMoE, Granite, Cohere, StarCoder2, StableLM, GPT-2 and GPT-NeoX models;
    byte-level BPE whose regular expression llama.cpp knows by name, and SentencePiece BPE. What
    llama.cpp would compute or tokenise otherwise is refused.

    PEFT: runs without training, or trained with the strategies lora, rows or embeddings.
    Strategies that change full weights (full, differential, shielded, layers) cannot be written as
    an adapter: they are refused.
    """
    from lingraft.export import export_gguf, export_peft
    from lingraft.export.gguf import Exported
    from lingraft.export.hub_upload import model_folder

    run = run_of(run, model)
    if (gguf is None) == (peft is None) or (peft is not None and numbers != "auto"):
        msg = f"{run}: choose one of --gguf FILE (optionally with --numbers) and --peft FOLDER"
        raise RecipeError(msg)
    exported = (
        export_peft(run, peft)
        if peft
        else export_gguf(model_folder(run), gguf or run, numbers=numbers)
    )
    if as_json:
        values = {}
        for name, value in asdict(exported).items():
            values[name] = str(value) if isinstance(value, Path) else value
        print_json(values)
        return
    for note in getattr(exported, "notes", ()):
        log(f"note: {note}")
    typer.echo(f"{exported.path}  {exported}, {exported.bytes:,} bytes")
    if isinstance(exported, Exported):
        typer.echo(f"{exported.modelfile}  for Ollama")
        typer.echo(exported.serve)
        typer.echo(exported.ollama)


def push(
    run: RunFolder = None,
    *,
    model: ModelOrRun = None,
    to: HubRepository,
    public: Public = False,
    revision: Revision = None,
    dry_run: ListOnly = False,
    as_json: AsJson = False,
) -> None:
    """Upload a model or an adapter with its card to the Hub.

    The token is that of `hf auth login`, or HF_TOKEN.
    """
    from lingraft.export.hub_upload import find_upload_folder, upload

    run = run_of(run, model)
    folder = find_upload_folder(run, to)
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = path.stat().st_size
    address = None if dry_run else upload(run, to, private=not public, revision=revision)
    if as_json:
        print_json({"to": to, "files": files, "address": address})
        return
    for name, size in files.items():
        typer.echo(f"{size:>14,}  {name}")
    if address:
        typer.echo(f"pushed  {address}")
