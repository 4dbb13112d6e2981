"""Commands that hand a finished model on: a GGUF file, an adapter, a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import AsJson, log, print_json

RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="A finished run (runs/demo-hi), or a model folder.")
]


def export(
    run: RunFolder,
    *,
    gguf: Annotated[
        Path | None,
        typer.Option(
            "--gguf",
            metavar="FILE",
            help="The GGUF file to write, for llama.cpp and what is built on it.",
        ),
    ] = None,
    peft: Annotated[
        Path | None,
        typer.Option(
            "--peft", metavar="FOLDER", help="The folder to write, an adapter of the base for PEFT."
        ),
    ] = None,
    numbers: Annotated[
        str,
        typer.Option(
            help="How matrices are stored in GGUF: auto (as in the folder), f32, f16, bf16 or q8_0."
        ),
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Write a model as one GGUF file, or as an adapter for PEFT, that computes as the model does; or say why not.

    GGUF: Llama, Mistral without a window, Qwen2, GPT-2 and GPT-NeoX models; byte-level BPE whose regular expression
    llama.cpp has a name for, and SentencePiece BPE. A repaired pre-tokenizer has no name there and is refused.

    PEFT: runs that trained with the strategies lora, rows or embeddings, or not at all. What changed the weights of the
    body as they are (full, differential, layers) is no adapter and is refused.
    """
    from dataclasses import asdict

    from lingraft.errors import RecipeError
    from lingraft.export import export_gguf, export_peft
    from lingraft.export.hub_upload import model_folder

    if (gguf is None) == (peft is None) or (peft is not None and numbers != "auto"):
        msg = f"{run}: name either --gguf FILE, with or without --numbers, or --peft FOLDER"
        raise RecipeError(msg)
    done = (
        export_peft(run, peft)
        if peft
        else export_gguf(model_folder(run), gguf or run, numbers=numbers)
    )
    if as_json:
        print_json({**asdict(done), "path": str(done.path)})
        return
    for note in getattr(done, "notes", ()):
        log(f"note: {note}")
    typer.echo(f"{done.path}  {done}, {done.bytes:,} bytes")


def push(
    run: RunFolder,
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="OWNER/NAME", help="Where on the hub the model goes.")
    ],
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="For everybody to see, if it is new there; else a new model is private.",
        ),
    ] = False,
    revision: Annotated[str | None, typer.Option(help="A branch of it [default: main].")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the files.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a model or an adapter, and its card, on the hub, with the token of `hf auth login` or HF_TOKEN."""
    from lingraft.export.hub_upload import publishable, upload

    folder = publishable(run)
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    address = None if dry_run else upload(run, to, private=not public, revision=revision)
    if as_json:
        print_json({"to": to, "files": files, "address": address})
        return
    for name, size in files.items():
        typer.echo(f"{size:>14,}  {name}")
    if address:
        typer.echo(f"pushed  {address}")
