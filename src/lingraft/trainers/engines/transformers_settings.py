"""The settings that transformers' Trainer and the trainers built on it have in common."""

from __future__ import annotations

from typing import Any

from lingraft.strategies import STRATEGIES, Full
from lingraft.trainers.manifest import Handover, PhaseRecord
from lingraft.training import TrainingPlan
from lingraft.training.execution import Execution

EVEN_BATCHES = (
    "on several GPUs, the last step repeats sequences where it cannot be divided evenly; on one "
    "device all steps are those of lingraft"
)


def refuse_own_loop(plan: TrainingPlan) -> str:
    """Return why a plan cannot be handed over, "" if it can."""
    return next((phase.own_loop_reason for phase in plan.phases if phase.own_loop_reason), "")


def refuse_frozen(plan: TrainingPlan) -> str:
    """Return why a trainer that always trains all weights cannot train a plan, "" if it can."""
    for phase in plan.phases:
        if not isinstance(phase.strategy, Full):
            return (
                f"training.strategy is {phase.strategy.name}, which freezes weights, and this "
                f"trainer has no setting for that; set training.strategy: differential"
            )
    return refuse_own_loop(plan)


def freezes_weights(phase: PhaseRecord) -> bool:
    """Return whether a phase trains only some weights."""
    return not isinstance(STRATEGIES.parse(dict(phase.strategy)), Full)


def install_command(handover: Handover, *packages: str) -> str:
    """Return the command that installs a trainer, lingraft, and what the plan's optimizer needs."""
    is_8bit = any(phase.optimizer == "adamw8bit" for phase in handover.plan.phases)
    return " ".join(["pip install", *packages, "'lingraft[bits]'" if is_8bit else "lingraft"])


def save_interval(phase: PhaseRecord) -> int:
    """Return after how many steps a trainer saves a checkpoint, from which it can continue."""
    return min(phase.steps, max(50, phase.steps // 10))


def sequences_at_once(handover: Handover, phase: PhaseRecord) -> int:
    """Return the sequences of a forward pass on one device: as many as lingraft takes."""
    return phase.sequences_at_once(Execution.tokens_at_once // handover.plan.sequence_length)


def schedule_settings(phase: PhaseRecord) -> dict[str, Any]:
    """Return the scheduler of transformers that is nearest to a phase's schedule.

    Its warm-up starts with a learning rate of 0, and lingraft's with the first part of the peak:
    it is one step late.
    """
    ((name, values),) = phase.schedule.items()
    final = values.get("final_factor", 0.0)
    named: dict[str, Any] = {"lr_scheduler_type": name}
    if name == "constant" or final == 1:  # transformers refuses a decay to the peak
        named = {"lr_scheduler_type": "constant_with_warmup"}
    elif name == "cosine" and final:
        named = {
            "lr_scheduler_type": "cosine_with_min_lr",
            "lr_scheduler_kwargs": {"min_lr_rate": final},
        }
    elif name == "linear" and final:
        rates = phase.learning_rates
        named = {
            "lr_scheduler_type": "polynomial",
            "lr_scheduler_kwargs": {"lr_end": (rates.body or rates.added_rows) * final},
        }
    elif name == "wsd":
        named = {
            "lr_scheduler_type": "warmup_stable_decay",
            "lr_scheduler_kwargs": {
                "num_decay_steps": decay_steps(phase),
                "decay_type": "1-sqrt",
                "min_lr_ratio": final,
            },
        }
    return {**named, "warmup_steps": phase.warmup_steps}


def decay_steps(phase: PhaseRecord) -> int:
    """Return the last steps in which a wsd schedule falls."""
    share = float(phase.schedule["wsd"]["decay_share"])
    return round(share * (phase.steps - phase.warmup_steps))


def training_settings(handover: Handover, phase: PhaseRecord) -> dict[str, Any]:
    """Return the settings of `TrainingArguments` for a phase, batch size and length included."""
    at_once = sequences_at_once(handover, phase)
    beta1, beta2 = phase.betas
    return {
        "max_steps": phase.steps,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": phase.sequences_per_step // at_once,
        "learning_rate": phase.learning_rates.body or phase.learning_rates.added_rows,
        **schedule_settings(phase),
        "optim": {"adamw": "adamw_torch_fused", "adamw8bit": "adamw_bnb_8bit"}[phase.optimizer],
        "adam_beta1": beta1,
        "adam_beta2": beta2,
        "adam_epsilon": phase.epsilon,
        "weight_decay": phase.weight_decay,
        "max_grad_norm": phase.max_grad_norm or 0.0,  # 0 turns clipping off
        "seed": handover.plan.seed,
        "logging_steps": max(1, phase.steps // 200),
        "save_strategy": "steps",
        "save_steps": save_interval(phase),
        "save_total_limit": 2,
    }


def plan_limits(handover: Handover) -> list[str]:
    """Return what of a plan happens outside the training loop of every other trainer."""
    plan, limits = handover.plan, []
    if plan.merge_back:
        limits.append(
            f"merge_back ({', '.join(f'{share:g}' for share in plan.merge_back)}) is applied by "
            "`lingraft receive`, not by the trainer"
        )
    if plan.chat_vector is not None:
        limits.append(
            f"the chat vector (weight {plan.chat_vector:g}) is not added to the trained weights"
        )
    return limits
