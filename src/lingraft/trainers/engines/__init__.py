"""The engines to which a run can be handed over, by the names of the command."""

from lingraft.trainers.engine import Engine
from lingraft.trainers.engines import axolotl, llama_factory, megatron, torchtitan
from lingraft.trainers.engines.transformers_trainer import TRANSFORMERS, TRL

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        megatron.ENGINE,
        axolotl.ENGINE,
        llama_factory.ENGINE,
        TRL,
        torchtitan.ENGINE,
        TRANSFORMERS,
    )
}

__all__ = ["ENGINES"]
