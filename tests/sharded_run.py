"""One of several training processes, started by a test with the environment variables of torchrun.

Arguments: model folder, folder with the packed texts hi and en, output folder, plan as JSON, and
the step after which the second process gets SIGTERM (0: none).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from lingraft.errors import LingraftError
from lingraft.packing.blocks import Blocks
from lingraft.training import Execution, loss
from lingraft.training.phase_steps import PhaseSteps, TrainingText
from tests.training_cases import heldout, plan_of, run

if __name__ == "__main__":
    model, texts, folder, plan, stop = sys.argv[1:]
    batch = PhaseSteps.batch

    def stopping(leg: PhaseSteps, step: int):
        if os.environ["RANK"] == "1" and step + 1 == int(stop):
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(leg, step)

    PhaseSteps.batch = stopping
    text = TrainingText.of(Blocks.open(Path(texts) / "hi"), Blocks.open(Path(texts) / "en"), 0.2)
    loss.LOGITS_AT_ONCE = {"cpu": 320 * 7}  # several pieces, the last one shorter
    try:
        notes = run(
            Path(model),
            text,
            plan_of(**json.loads(plan)),
            Path(folder),
            execution=Execution(sharded=True),
            heldout=heldout,
        )
        sys.stdout.write(f"{notes['loss']}, opened {notes['opened']}")
    except LingraftError as error:
        sys.stdout.write(str(error))
        sys.exit(error.exit_code)
