"""Run by a Python with another transformers: load a folder as a user would, write ids and logits.

python compat.py TEXTS.json ANSWERS.json FOLDER..., where a folder may be BASE+ADAPTER:ROWS.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def answer(model, tokenizer, texts: list[str]) -> dict:
    import torch

    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    with torch.no_grad():
        logits = [model(torch.tensor([row])).logits[0, -1].tolist() for row in ids]
    return {"ids": ids, "logits": logits}


def main(texts_file: str, answers_file: str, *folders: str) -> None:
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    answers = {"version": transformers.__version__}
    for folder in folders:
        base, _, adapter = folder.partition("+")
        model = AutoModelForCausalLM.from_pretrained(base).eval()
        if adapter:
            import peft

            path, _, rows = adapter.rpartition(":")
            model.resize_token_embeddings(int(rows), mean_resizing=False)
            model = peft.PeftModel.from_pretrained(model, path).eval()
            base = path
        answers[folder] = answer(model, AutoTokenizer.from_pretrained(base), texts)
    Path(answers_file).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
