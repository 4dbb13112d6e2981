"""The engines to which a run can be handed over, one module each, by the names of the command."""

from lingraft.trainers.engine import Engine
from lingraft.trainers.engines import (
    axolotl,
    llama_factory,
    megatron,
    torchtitan,
    transformers_trainer,
    trl,
)

ENGINES: dict[str, Engine] = {
    module.ENGINE.name: module.ENGINE
    for module in (megatron, axolotl, llama_factory, trl, torchtitan, transformers_trainer)
}

__all__ = ["ENGINES"]
