"""Extends a small random model of every architecture and writes docs/architectures.md.

`python -m tests.architecture_table` takes a few minutes on one core, and fails where a model was
extended wrongly.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lingraft.errors import LingraftError
from tests.architecture_sweep import CannotBuild, extend, image_inputs, problems

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architectures.md"
IMAGES = (
    "gemma3",
    "gemma4",
    "idefics3",
    "internvl",
    "lfm2_vl",
    "llama4",
    "llava",
    "mistral3",
    "paligemma",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_vl",
    "qwen3_vl_moe",
    "smolvlm",
)

HEAD = """# Architectures

<!-- written by `make architectures` -->

Of each architecture of transformers {version}, a small random model was built from its own classes,
extended by a few tokens, and loaded again with the class that its folder names. *Extended* means:
no key is missing, unexpected or of another shape; the logits of base ids are equal to the bit; new
ids are in range in every table with a row for each id; tied embeddings stay tied; names, data
types, shards and index are those of the source. *Images equal* means that a prompt with a random
image has the same logits as before, to the bit.

Models that read images, video or sound are adapted in place: their language model is trained on
text, what reads the rest is left as it is. What is refused is refused in one line, before anything
is learned. Nothing is claimed of the models that were not built: a small one cannot be made from
its configuration alone, or needs something that is not installed.

The table is about the extension; three models have limits in training. Of `git`, only embeddings
and head train, with every strategy, and `lora` and `layers` refuse it. `reformer` trains with
`full` and `embeddings` only. `hrm_text` has two lists of layers that run in turns, so `layers`
refuses it.

{counts}
"""


@dataclass(frozen=True)
class Row:
    """What came out for one model type."""

    kind: str
    architecture: str
    result: str
    note: str = ""


def examine(kind: str, architecture: str) -> Row:
    """Extend a small model of a type and say what came out."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = extend(kind, Path(folder))
            wrong = [*problems(found)]
            if kind in IMAGES and not wrong:
                wrong = [*_image_problems(found.before, found.after)]
        except CannotBuild as error:
            return Row(kind, architecture, "not built", " ".join(str(error).split())[:90])
        except LingraftError as error:
            return Row(kind, architecture, "refused", _reason(str(error)))
        except Exception as error:  # noqa: BLE001 - any other failure is a row of the table
            return Row(kind, architecture, "wrong", f"{type(error).__name__}: {error}")
    if wrong:
        return Row(kind, architecture, "wrong", "; ".join(wrong))
    tables = sorted(
        {
            name.rsplit(".", 2)[-2 if name.endswith(".weight") else -1]
            for name in found.notes.get("tables", {})
        }
    )
    notes = [*(["images equal"] if kind in IMAGES else []), *(f"`{name}` too" for name in tables)]
    return Row(kind, architecture, "extended", ", ".join(notes))


def _image_problems(before: torch.nn.Module, after: torch.nn.Module) -> Iterator[str]:
    inputs = image_inputs(before)
    with torch.inference_mode():
        logits = [model(**inputs, use_cache=False).logits for model in (before, after)]
    if not torch.equal(logits[0], logits[1][..., : logits[0].shape[-1]]):
        yield "the logits behind an image differ"


def _reason(message: str) -> str:
    """Return what a refusal says of the architecture, without the folder and the advice."""
    said = message.partition(": ")[2].partition("; ")[0]
    kind = said.partition(" is ")[2]
    # "is in none of 5 files" says nothing without what is in none of them.
    return said if kind.startswith("in ") or not kind else kind


def page(rows: list[Row]) -> str:
    """Return the page: a section for each result, in the order of how much is claimed."""
    import transformers

    counted = Counter(row.result for row in rows)
    counts = ", ".join(
        f"{counted[result]} {result}" for result in ("extended", "refused", "not built")
    )
    text = HEAD.format(version=transformers.__version__, counts=f"{counts[0].upper()}{counts[1:]}.")
    for result in ("extended", "refused", "not built"):
        text += f"\n## {result.capitalize()}\n\n| model type | class | |\n|---|---|---|\n"
        for row in sorted(rows, key=lambda row: row.kind):
            if row.result == result:
                note = row.note.replace("|", "\\|")
                text += f"| `{row.kind}` | `{row.architecture}` | {note} |\n"
    return text


def every_type() -> Mapping[str, str]:
    """Return model type -> class of all that generate text, multimodal where there are both."""
    from transformers.models.auto import modeling_auto as known

    return known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | known.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES


def main() -> int:
    """Examine every type, write the page, and return 1 where something was extended wrongly."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rows = []
    for kind, architecture in every_type().items():
        rows.append(examine(kind, architecture))
        if rows[-1].result == "wrong":
            sys.stderr.write(f"{kind}: {rows[-1].note}\n")
    PAGE.write_text(page(rows), encoding="utf-8")
    return 1 if any(row.result == "wrong" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
