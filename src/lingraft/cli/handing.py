"""Commands that hand a finished model on: a GGUF file, a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import AsJson
from lingraft.cli.output import print_json, tell

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A finished run (runs/demo-hi), or a model folder.")]


def export(run: RunFolder, *,
           gguf: Annotated[Path, typer.Option("--gguf", metavar="FILE", help="The GGUF file to write, for llama.cpp "
                                              "and what is built on it.")],
           numbers: Annotated[str, typer.Option(help="How matrices are stored: auto (as in the folder), f32, f16, bf16 "
                                                "or q8_0.")] = "auto",
           as_json: AsJson = False) -> None:
    """Write a model as one GGUF file that cuts text and computes as the model folder does, or say why it cannot be.

    Llama, Mistral without a window, Qwen2, GPT-2 and GPT-NeoX models; byte-level BPE whose regular expression llama.cpp
    has a name for, and SentencePiece BPE. A repaired pre-tokenizer has no name there and is refused.
    """
    from dataclasses import asdict

    from lingraft.export import export_gguf
    from lingraft.publishing import model_folder

    done = export_gguf(model_folder(run), gguf, numbers=numbers)
    if as_json:
        print_json({**asdict(done), "path": str(done.path)})
        return
    for note in done.notes:
        tell(f"note: {note}")
    typer.echo(f"{done.path}  {done.architecture}, {done.tokens:,} tokens ({done.pretokenizer}), {done.bytes:,} bytes")


def push(run: RunFolder, *,
         to: Annotated[str, typer.Option("--to", metavar="OWNER/NAME", help="Where on the hub the model goes.")],
         public: Annotated[bool, typer.Option("--public", help="For everybody to see, if it is new there; else a "
                                              "new model is private.")] = False,
         revision: Annotated[str | None, typer.Option(help="A branch of it [default: main].")] = None,
         dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the files.")] = False,
         as_json: AsJson = False) -> None:
    """Put a model and its card on the hub, with the token of `hf auth login` or HF_TOKEN."""
    from lingraft import publishing

    folder = publishing.model_folder(run)
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*"))
             if path.is_file()}
    address = None if dry_run else publishing.push(run, to, private=not public, revision=revision)
    if as_json:
        print_json({"to": to, "files": files, "address": address})
        return
    for name, size in files.items():
        typer.echo(f"{size:>14,}  {name}")
    if address:
        typer.echo(f"pushed  {address}")
