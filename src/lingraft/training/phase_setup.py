"""Prepare a loaded model for the steps of a phase: its strategy, device, shards and optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lingraft.progress import say
from lingraft.store import disk_errors, seed_of
from lingraft.strategies import ParameterGroup, Rates, Shielded, Strategy
from lingraft.training.branches import Branch
from lingraft.training.column_shield import (
    SHIELD,
    base_language_text,
    choose_frozen,
    read_frozen,
)
from lingraft.training.compiled_layers import StepCompiler
from lingraft.training.distributed import ProcessGroup, reshard
from lingraft.training.document_attention import DocumentAttention
from lingraft.training.document_mask import DocumentMask
from lingraft.training.execution import Execution
from lingraft.training.job import Job
from lingraft.training.loss import make_loss
from lingraft.training.mfu import Utilisation
from lingraft.training.optimizer import execution_with, set_weight_dtype, weight_dtype
from lingraft.training.optimizer_memory import state_bytes
from lingraft.training.phase_steps import PhaseSteps
from lingraft.training.prepare_model import (
    PhaseModel,
    keep_activations,
    recompute_activations,
)
from lingraft.training.reference_model import ReferenceModel, load_reference
from lingraft.training.step_memory import (
    ModelSizes,
    available_memory,
    computes_in,
    micro_tokens,
    step_memory,
)
from lingraft.training.train_step import Stepper


class Counted(NamedTuple):
    """What is counted of a model before its strategy packs or inserts weights."""

    sizes: ModelSizes
    inserted: int
    in_4_bits: int

    @classmethod
    def of(cls, model: Any, strategy: Strategy) -> Counted:
        """Count a model, which may be on the meta device."""
        inserted, _ = strategy.inserted_weights(model)
        return cls(ModelSizes.of(model), inserted, strategy.packed_weights(model))


class PhaseSetup:
    """Prepares the model of each phase of a job; `notes` are what it chose.

    `mask` says whether attention stays within documents. `kind` and `parameters` are the type and
    the size of the model, on which the rates depend; `stored_bytes` are those of its files.
    """

    def __init__(
        self,
        job: Job,
        world: ProcessGroup,
        phases: Sequence[PhaseSteps],
        *,
        mask: DocumentMask,
        kind: str,
        parameters: int,
        stored_bytes: int,
        fingerprint: str,
    ) -> None:
        self.job, self.world, self.phases = job, world, phases
        self.kind, self.parameters, self.fingerprint = kind, parameters, fingerprint
        self.stored_bytes = stored_bytes
        self.notes = {"loss": ""}
        self.mask = mask
        self._kept_reference: ReferenceModel | None = None
        self._reference_of = -1

    def stepper(
        self, loaded: PhaseModel, number: int, branch: Branch, remaining: int
    ) -> tuple[Stepper, Utilisation]:
        """Return what runs the steps of a branch, and what measures how much of a GPU they use.

        `remaining` steps are left. The parameters that the strategy needs are put into the model,
        and it is sharded if there are several processes.
        """
        job, phase, model = self.job, self.job.plan.phases[number], loaded.model
        execution, sharded = self._execution(number), self.world.size > 1
        counted = Counted.of(model, phase.strategy)
        weights = weight_dtype(phase.optimizer, execution.precision)
        if not sharded:
            phase.strategy.move(model, execution.device)
        # The initial low-rank matrices are random. They must be the same when a run resumes.
        torch.manual_seed(seed_of([job.seed, number]))
        groups = phase.strategy.prepare(model, job.added)
        # Inserted parameters are on the CPU; a sharded model moves when it is sharded.
        if not sharded:
            set_weight_dtype(model, weights)
            model.to(execution.device)
        if self._recomputes(model, number, groups, counted):
            recompute_activations(model)
        else:
            keep_activations(model)
        utilisation = Utilisation.of(model, execution, self.world.size)
        frozen = self._frozen(model, number, groups)
        bfloat16 = execution.computes_in_bfloat16()
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        groups = self.world.shard_model(model, groups, loaded.materialize, dtype)
        attention = self._document_attention(model, execution)
        loss = make_loss(model, execution.loss, sharded=sharded, autocast=bfloat16)
        reshard(model)
        self.notes["loss"] = type(loss).__name__
        stepper = Stepper(
            model,
            groups,
            self._rates(number),
            phase=phase,
            steps=branch.steps,
            execution=execution,
            text=job.text.target,
            world=self.world,
            loss=loss,
            attention=attention,
            compiler=StepCompiler(model, execution, remaining, self.world),
            frozen=frozen,
            reference=self._reference(number),
        )
        return stepper, utilisation

    def _rates(self, number: int) -> Rates:
        """Return the peak learning rates of a phase."""
        phase, steps = self.job.plan.phases[number], self.phases[number]
        tokens, per_step = steps.sequence_tokens, steps.sequences_per_step
        return phase.rates(self.kind, self.parameters, tokens, per_step)

    def _recomputes(
        self,
        model: Any,
        number: int,
        groups: Sequence[ParameterGroup],
        counted: Counted,
    ) -> bool:
        """Return whether a phase recomputes activations; without a setting, if a GPU must."""
        execution, phase, steps = self._execution(number), self.job.plan.phases[number], self.phases
        available = available_memory(execution.device)
        if execution.recompute is not None or available is None:
            return bool(execution.recompute)
        trained = sum(one.numel() for group in groups for one in group.parameters.values())
        frozen = max(0, self.parameters + counted.inserted - trained)
        states = state_bytes(phase.optimizer, trained, frozen, counted.in_4_bits)
        if phase.replay_kl:
            # The model before training, in the data types of its files.
            states += self.stored_bytes
        memory = step_memory(
            counted.sizes,
            states,
            micro_tokens(
                steps[number].sequences_per_step,
                self.job.text.target.summary.block,
                self.world.size,
            ),
            trained=trained,
            devices=self.world.size,
            in_4_bits=counted.in_4_bits,
            computes=computes_in(phase.optimizer, execution, self.world.size),
            device_memory=available,
        )
        able = bool(model.supports_gradient_checkpointing)
        line = memory.recompute_line(available, "" if able else type(model).__name__)
        # Processes may have different GPUs, but gather weights for each pass together.
        if not self.world.any_rank(bool(line), execution.device):
            return False
        if not line:
            line = "another process has no room for the activations of all layers"
            line += ", so all recompute them" if able else ", and the model cannot recompute them"
        # Each branch of a phase comes here.
        if self.notes.get("recompute") != line and self.world.is_first:
            say(f"{self.job.title}: {line}")
        self.notes["recompute"] = line
        return able

    def _execution(self, number: int) -> Execution:
        """Return how a phase is executed."""
        return execution_with(self.job.plan.phases[number].optimizer, self.job.execution)

    def _reference(self, number: int) -> ReferenceModel | None:
        """Return the model before training if a phase compares with it, shared by its branches."""
        if self._reference_of != number:
            # Freed first: two copies of a base may not fit.
            self._kept_reference = None
            self._kept_reference = load_reference(
                self.job,
                self._execution(number),
                self.job.plan.phases[number].replay_kl,
                self.phases[number].mixture.replay,
                self.world.size,
            )
            self._reference_of = number
        return self._kept_reference

    def free_reference(self) -> None:
        """Free the memory of the reference model, at the end of a phase."""
        self._kept_reference, self._reference_of = None, -1

    def _document_attention(self, model: Any, execution: Execution) -> DocumentAttention | None:
        """Return how the documents of a sequence are kept apart, if they are."""
        if not self.mask.on:
            if self.mask.why_not:
                self.notes["document_attention"] = f"not used: {self.mask.why_not}"
            return None
        start = self.job.text.target.document_start
        attention = DocumentAttention.of(model, start, execution)
        self.notes["document_attention"] = attention.note
        return attention

    def _frozen(
        self, model: Any, number: int, groups: Sequence[ParameterGroup]
    ) -> dict[str, Tensor]:
        """Return what a phase freezes of the parameters that train; {} unless it is shielded."""
        job, strategy = self.job, self.job.plan.phases[number].strategy
        if not isinstance(strategy, Shielded):
            return {}
        path = job.scratch_dir / SHIELD.format(number)
        choose = partial(
            choose_frozen,
            model,
            [name for group in groups if group.role == "body" for name in group.parameters],
            strategy,
            base_language_text(job.text),
            path=path,
            fingerprint=self.fingerprint,
            autocast=self._execution(number).computes_in_bfloat16(),
        )
        # Rank 0 chooses for all, so that rounding cannot give processes different columns.
        self.world.compute_once(disk_errors(path)(choose))
        return read_frozen(path)
