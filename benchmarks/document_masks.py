"""Which models of transformers mask documents by their position ids, and what a mask costs.

    python benchmarks/document_masks.py           # all kinds of models, small: a few minutes
    python benchmarks/document_masks.py --speed   # steps with and without a mask on a CPU

The first compares the trial of `training/document_mask.py`, which has few layers and ids, with the
whole small model. The second takes turns, and prints the best of several rounds.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.models.auto import modeling_auto as known

from lingraft.checkpoint.model_class import auto_class
from lingraft.training.document_mask import ROUNDING, mask_problem, masked_influence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.architecture_sweep import random_model
from tests.tiny_configs import tiny_config

ROUNDS = 7
DOCUMENT = 128
"""Tokens of a document in the timed sequences."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", action="store_true", help="time steps instead")
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    if parser.parse_args().speed:
        for length, sequences in ((256, 8), (512, 4), (2048, 1)):
            print_times(length, sequences)
    else:
        compare_trials()


def compare_trials() -> None:
    """Try all kinds of models that can be built small from their configuration."""
    causal, multimodal = (
        known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        known.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    )
    rounding: list[float] = [0.0]
    leaks: list[float] = []
    wrong: list[str] = []
    for kind in sorted({**causal, **multimodal}):
        try:
            config = tiny_config(kind)
            influence = masked_influence(random_model(auto_class(config), config).eval())
        except Exception:  # noqa: BLE001 - such a kind cannot be built small, or not run
            continue
        with TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            problem = mask_problem(Path(folder))
        masks = influence <= ROUNDING
        (rounding if masks else leaks).append(influence)
        if masks != (not problem):
            wrong.append(f"{kind}: {influence:.1e}, and the trial says {problem or 'masked'}")
    print(f"{len(rounding) - 1} kinds mask documents, {len(leaks)} do not")
    print(
        f"largest influence of a masked document {max(rounding):.1e}, least leak {min(leaks):.1e}"
    )
    print(f"the trial differs from the whole model in {len(wrong)}: {'; '.join(wrong) or 'none'}")


def print_times(length: int, sequences: int) -> None:
    """Print the best time of a forward and a backward pass, with and without a mask."""
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=length,
        use_cache=False,
    )
    model = AutoModelForCausalLM.from_config(config)
    ids = torch.randint(0, 8192, (sequences, length))
    places = torch.arange(length).expand(sequences, length)
    best = {"without": float("inf"), "with": float("inf")}
    for _ in range(ROUNDS):
        for name, positions in (("without", places), ("with", places % DOCUMENT)):
            began = time.perf_counter()
            model(input_ids=ids, position_ids=positions, labels=ids).loss.backward()
            best[name] = min(best[name], time.perf_counter() - began)
            model.zero_grad()
    more = best["with"] / best["without"] - 1
    print(
        f"{sequences} sequences of {length:,} tokens: {best['without']:.3f} s without a mask, "
        f"{best['with']:.3f} s with one ({more:+.0%})"
    )


if __name__ == "__main__":
    main()
