"""Bytes of text trained per second: lingraft, and HF Trainer with padded documents or packed rows.

    python benchmarks/training.py              # about 3 minutes on two idle cores
    python benchmarks/training.py --smoke      # takes seconds: a smoke test
    python benchmarks/training.py --unit documents --padding max_length

Run from the root of the repository; ../shared/assets must exist. The model is a Llama of 15M
parameters with random weights, in float32 on the CPU. Every weight is trained with AdamW, 8
sequences of at most 512 tokens per step, one pass over the same text. The three run alternately, so
that a busy machine slows all of them; the output is the best and the median round. Only text that
the model was trained on counts: what padded documents lose beyond 512 tokens does not. The time
excludes loading, tokenising and writing the finished model. It includes lingraft's log, divergence
monitor and progress bar.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments
from transformers.utils import logging

from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks
from lingraft.packing.pack import pack_texts
from lingraft.tokenizer import open_tokenizer
from lingraft.training import Execution, TrainingPlan
from lingraft.training.phase_steps import TrainingText
from lingraft.training.train import train

BLOCK, ROWS = 512, 8
IGNORED = -100
PADDED, PACKED, OURS = "HF Trainer, padded documents", "HF Trainer, packed rows", "lingraft"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("../shared/assets"))
    parser.add_argument("--language", default="en")
    parser.add_argument("--kilobytes", type=int, default=80)
    parser.add_argument(
        "--unit", choices=("lines", "documents"), default="lines", help="what counts as a document"
    )
    parser.add_argument("--padding", choices=("longest", "max_length"), default="longest")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write everything there, too")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.kilobytes, arguments.rounds = 6, 1
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, Path(folder))
        sides: dict[str, Callable[[int], float]] = {
            PADDED: bench.padded,
            PACKED: bench.packed,
            OURS: bench.ours,
        }
        sizes = {
            PADDED: bench.documents.summary.bytes,
            PACKED: bench.stream.summary.bytes,
            OURS: bench.stream.summary.bytes,
        }
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(arguments.rounds):
            for name, run in sides.items():
                speeds[name].append(sizes[name] / run(turn))
    show(arguments, bench, sizes, speeds)


class Bench:
    """The model and the text, packed in both ways."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.folder, self.padding = folder, arguments.padding
        base = arguments.assets / "models" / "english-8m"
        tokenizer = open_tokenizer(base)
        texts = list(
            texts_of(
                arguments.assets / "text" / f"{arguments.language}.train.jsonl.gz",
                arguments.unit,
                arguments.kilobytes * 1000,
            )
        )
        self.text_bytes = sum(len(text.encode()) for text in texts)
        self.documents, self.stream = (
            self._packed(texts, tokenizer, way) for way in ("documents", "stream")
        )
        config = LlamaConfig(
            vocab_size=tokenizer.size,
            hidden_size=320,
            intermediate_size=864,
            num_hidden_layers=8,
            num_attention_heads=10,
            num_key_value_heads=5,
            max_position_embeddings=BLOCK + 1,
        )
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        model.save_pretrained(folder / "model")

    def _packed(self, texts: list[str], tokenizer: Any, way: str) -> Blocks:
        folder = self.folder / way
        folder.mkdir()
        pack_texts([texts], tokenizer, PackingSettings(block_size=BLOCK, layout=way), folder)
        return Blocks.open(folder)

    def padded(self, turn: int) -> float:
        """Train on one document per sequence, padded to its batch or to 512; return seconds."""
        return self._trainer(self.documents, f"padded-{turn}")

    def packed(self, turn: int) -> float:
        """Train on the rows that lingraft trains on; return seconds."""
        return self._trainer(self.stream, f"packed-{turn}")

    def _trainer(self, blocks: Blocks, name: str) -> float:
        rows = [torch.from_numpy(blocks.sequence(number)) for number in range(len(blocks))]
        settings = TrainingArguments(
            output_dir=str(self.folder / name),
            per_device_train_batch_size=ROWS,
            num_train_epochs=1,
            use_cpu=True,
            learning_rate=3e-4,
            lr_scheduler_type="cosine",
            warmup_steps=0,
            max_grad_norm=1.0,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=0,
        )
        trainer = Trainer(
            LlamaForCausalLM.from_pretrained(self.folder / "model"),
            settings,
            train_dataset=rows,
            data_collator=self._batch,
        )
        trainer.remove_callback(PrinterCallback)
        return float(trainer.train().metrics["train_runtime"])

    def _batch(self, rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        longest = max(len(row) for row in rows) if self.padding == "longest" else BLOCK + 1
        inputs = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(inputs)
        for number, row in enumerate(rows):
            inputs[number, : len(row)], mask[number, : len(row)] = row, 1
        return {
            "input_ids": inputs,
            "attention_mask": mask,
            "labels": inputs.masked_fill(mask == 0, IGNORED),
        }

    def ours(self, turn: int) -> float:
        """Train with lingraft; return the seconds up to the end of the last step."""
        plan = TrainingPlan.model_validate(
            {
                "strategy": "full",
                "learning_rates": 3e-4,
                "budget": "1 epoch",
                "batch_tokens": BLOCK * ROWS,
                "heldout_points": 0,
            }
        )
        output = self.folder / f"ours-{turn}"
        train(
            self.folder / "model",
            TrainingText.of(self.stream),
            plan,
            output=output,
            scratch_dir=output / "work",
            execution=Execution(device="cpu"),
        )
        lines = (output / "training.jsonl").read_text(encoding="utf-8").splitlines()
        return float(json.loads(lines[-1])["seconds"])


def texts_of(file: Path, unit: str, size: int) -> Iterator[str]:
    """Yield documents, or their lines of 50 bytes and more, until so many bytes are reached."""
    seen = 0
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            whole = json.loads(line)["text"]
            for text in [whole] if unit == "documents" else whole.splitlines():
                if len(text.encode()) >= 50:
                    yield text
                    seen += len(text.encode())
                if seen >= size:
                    return


def show(
    arguments: argparse.Namespace,
    bench: Bench,
    sizes: dict[str, int],
    speeds: dict[str, list[float]],
) -> None:
    """Print the table, and write it where it was asked for."""
    ours = max(speeds[OURS])
    print(
        f"{bench.parameters / 1e6:.1f}M parameters, "
        f"{bench.text_bytes:,} bytes of {arguments.language} in "
        f"{bench.documents.summary.documents} {arguments.unit}, padded to {arguments.padding}; "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, {platform.machine()}\n"
    )
    print(
        "| | text trained on | bytes/s, best | median | lingraft is, times as fast |\n"
        "|---|---|---|---|---|"
    )
    for name, values in speeds.items():
        print(
            f"| {name} | {sizes[name]:,} | {max(values):,.0f} | {median(values):,.0f} | "
            f"{ours / max(values):.2f} |"
        )
    read = int(bench.documents.spans[:, 1].sum())
    print(
        f"\ntokens in padded documents: {read:,}; in packed rows: {bench.stream.summary.tokens:,}"
    )
    if arguments.json:
        measured = {
            "parameters": bench.parameters,
            "bytes": sizes,
            "bytes_per_second": speeds,
            "settings": {key: str(value) for key, value in vars(arguments).items()},
        }
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
