"""A callback that makes a `Trainer` of transformers train as lingraft's loop would.

It works in the Trainer itself and in what is built on it: TRL, Axolotl and LLaMA-Factory. It
selects the parameters that train, and sets the learning rate of each step and role, the weight
decay and the average of weights. Everything else, such as the batch size, is set in the trainer's
configuration. The callback checks it and raises `RecipeError` where it differs from the plan.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import IterableDataset, SequentialSampler
from transformers import TrainerCallback

from lingraft.checkpoint.config_files import COMPANION_FILES
from lingraft.checkpoint.load_model import stored_dtypes
from lingraft.checkpoint.text_reading import read_text_alone
from lingraft.errors import RecipeError
from lingraft.model_code import PATTERN
from lingraft.packing.mixture import IGNORED
from lingraft.store import copy_matching
from lingraft.strategies import STRATEGIES, Rates, Strategy
from lingraft.tokenizer.file_names import CHAT_TEMPLATE_FILES
from lingraft.trainers.manifest import Handover
from lingraft.trainers.role_rates import RoleRates
from lingraft.training.optimizer import WeightAverage
from lingraft.training.save_model import save_final_model

AVERAGE = "weight_average.safetensors"
"""The average of the weights, in a checkpoint of the trainer."""


def turn_cache_off(model: Any) -> None:
    """Let a model find documents by their position ids, which it does only without a cache.

    The Trainer of transformers 4 leaves the cache on, and that of transformers 5 does so in the
    language model of a multimodal one.
    """
    model.config.use_cache = model.config.get_text_config().use_cache = False


def ignore_router_loss(model: Any) -> None:
    """Let the loss be that of the tokens, as in lingraft's loop, not of the routers of experts."""
    text = model.config.get_text_config()
    if getattr(text, "output_router_logits", False):
        text.output_router_logits = False


class HandoverCallback(TrainerCallback):  # type: ignore[misc]
    """Trains a phase of a hand-over folder at exactly the learning rates of its plan.

    `folder` is what `lingraft handover` wrote, `phase` the number of the phase, from 1. The added
    rows, the embeddings and the body get their own rates in every step, by the plan's schedule.
    `collate` is the data collator for the sequences of the folder. After training, `save` writes
    the model in the data types of the source, with the tokenizer files of the hand-over.

        plan = HandoverCallback("hindi-hf")
        trainer = Trainer(model, arguments, train_dataset=sequences, data_collator=plan.collate,
                          callbacks=[plan])
        trainer.train()
        plan.save(model, "hindi-hf/trained")

    The model trains in float32: load it with `dtype=torch.float32`, and set `bf16` of the trainer
    to compute in bfloat16.

    Raises `RecipeError` if the trainer's settings or the model's data type differ from the plan,
    if the trainer shuffles the data, or if its model is sharded (FSDP, DeepSpeed), has an adapter
    (PEFT), or is only the language model of a multimodal one.
    """

    def __init__(self, folder: str | Path, phase: int = 1) -> None:
        self.folder = Path(folder)
        self.handover = Handover.read(self.folder)
        phases = self.handover.plan.phases
        if not 1 <= phase <= len(phases):
            msg = f"{folder}: has no phase {phase}; choose one of 1 to {len(phases)}"
            raise RecipeError(msg)
        self.phase = phases[phase - 1]
        self._rates: RoleRates | None = None
        self._average: WeightAverage | None = None

    def batch_settings(self, at_once: int) -> dict[str, int]:
        """Return the trainer's settings of the batch, for the processes that torchrun started.

        A process reads at most `at_once` sequences in a forward pass, and as many passes make a
        step as its sequences need.
        """
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        size = self.phase.sequences_at_once(at_once, processes)
        passes = max(1, self.phase.sequences_per_step // (size * processes))
        return {"per_device_train_batch_size": size, "gradient_accumulation_steps": passes}

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return rows as tensors, padded on the right to the longest one; padding has no labels.

        Rows with position ids get no attention mask. It would hide the documents of a sequence from
        models that find them by their position ids.
        """
        separators = self.handover.model.separators
        padding = separators.before_id if separators.after_id is None else separators.after_id
        fills = {"input_ids": padding or 0, "labels": IGNORED, "position_ids": 0}
        width = max(len(row["input_ids"]) for row in rows)
        batch = {}
        for name in fills.keys() & rows[0].keys():
            padded = [[*row[name], *[fills[name]] * (width - len(row[name]))] for row in rows]
            batch[name] = torch.tensor(padded)
        if "position_ids" not in batch:
            lengths = torch.tensor([len(row["input_ids"]) for row in rows])
            batch["attention_mask"] = (torch.arange(width) < lengths[:, None]).long()
        return batch

    def save(self, model: Any, folder: str | Path) -> None:
        """Write the trained model, with the other files of the model that was handed over."""
        self._check_class(model)
        source, output = self.folder / self.handover.model.folder, Path(folder)
        save_final_model(model, stored_dtypes(model, source), source, output)
        self.restore_tokenizer(output)

    def restore_tokenizer(self, folder: str | Path) -> None:
        """Replace the tokenizer files that a trainer wrote by those that were handed over."""
        source, output = self.folder / self.handover.model.folder, Path(folder)
        # LLaMA-Factory gives a tokenizer without a chat template one of its own.
        for name in CHAT_TEMPLATE_FILES:
            for path in output.glob(name):
                path.unlink()
        copy_matching(source, output, (*COMPANION_FILES, PATTERN))

    def on_init_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Check the settings, and freeze what does not train before there is an optimizer."""
        del state, control
        self._check_settings(args)
        if getattr(others["model"], "peft_config", None):
            # The strategy would train the weights under the adapter, which PEFT does not save.
            msg = (
                f"the model has an adapter of PEFT, and the plan of {self.folder} trains its own "
                "weights; give the trainer the plain model, or train the adapter without this "
                "callback"
            )
            raise RecipeError(msg)
        self._check_class(others["model"])
        # PaliGemma predicts text only where it is marked so.
        read_text_alone(others["model"], self.folder / self.handover.model.folder)
        strategy: Strategy = STRATEGIES.parse(dict(self.phase.strategy))
        rates, added = self.phase.learning_rates, self.handover.model.added_ids
        peaks = Rates(rates.body, rates.added_rows)
        self._rates = RoleRates(others["model"], strategy, added, peaks)
        self._check_precision(others["model"])
        turn_cache_off(others["model"])
        ignore_router_loss(others["model"])

    def _check_settings(self, args: Any) -> None:
        """Raise `RecipeError` if a setting of the trainer differs from the plan."""
        phase = self.phase
        # `accelerate launch` shards by variables, of which the arguments have nothing.
        variables = [f"ACCELERATE_USE_{name}" for name in ("FSDP", "DEEPSPEED")]
        launched = any(os.environ.get(name, "").lower() in {"1", "true"} for name in variables)
        if args.fsdp or args.deepspeed or launched:
            msg = (
                "the trainer shards the model, and then no process has whole embedding matrices; "
                "train without FSDP and DeepSpeed, or without this callback at one learning rate"
            )
            raise RecipeError(msg)
        if args.n_gpu > 1:
            msg = (
                f"the trainer found {args.n_gpu} GPUs for one process, and puts a batch on each; "
                f"start it with torchrun --nproc-per-node {args.n_gpu}, or set "
                "CUDA_VISIBLE_DEVICES=0 to train on one"
            )
            raise RecipeError(msg)
        per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        for name, found, wanted in (
            ("max_steps", args.max_steps, phase.steps),
            ("max_grad_norm", args.max_grad_norm or 0.0, phase.max_grad_norm or 0.0),
            ("batch size x accumulation x processes", per_step, phase.sequences_per_step),
        ):
            if found != wanted:
                msg = (
                    f"{name}: the trainer has {found:g}, and the plan of {self.folder} has "
                    f"{wanted:g}; set {wanted:g}"
                )
                raise RecipeError(msg)

        if phase.average_steps and args.load_best_model_at_end:
            msg = (
                "load_best_model_at_end: the plan averages the weights of the last steps, and this "
                "average would replace the best model; set load_best_model_at_end to False"
            )
            raise RecipeError(msg)

    def _check_class(self, model: Any) -> None:
        """Raise `RecipeError` for the language model of a multimodal one without the rest."""
        record, loaded = self.handover.model, type(model).__name__
        if record.loads_with != "AutoModelForCausalLM" and loaded != record.architecture:
            msg = (
                f"the model is loaded as {loaded}, which leaves out a part of the model in "
                f"{self.folder / record.folder} ({record.architecture}), so that the saved model "
                f"would lack it; load it with {record.loads_with}.from_pretrained"
            )
            raise RecipeError(msg)

    def _check_precision(self, model: Any) -> None:
        """Raise `RecipeError` if weights that train are not in float32, as in every plan."""
        for name, parameter in model.named_parameters():
            # In bfloat16, most steps are too small to change a weight.
            if parameter.requires_grad and parameter.dtype != torch.float32:
                found = str(parameter.dtype).removeprefix("torch.")
                msg = (
                    f"{name}: is trained in {found}, but the plan in {self.folder} requires "
                    "float32; load the model with dtype=torch.float32 (bf16=True may stay on)"
                )
                raise RecipeError(msg)

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Set the weight decay; check the optimizer and the order of the data."""
        del control
        if state.global_step and not others["optimizer"].state:
            msg = (
                f"the checkpoint of step {state.global_step} has no optimizer state, without which "
                "training cannot continue as planned; start again, with save_only_model=False"
            )
            raise RecipeError(msg)
        for group in others["optimizer"].param_groups:
            # Trainers exempt biases and norms, lingraft does not.
            group["weight_decay"] = self.phase.weight_decay
            if (betas := group.get("betas")) is None or tuple(betas) != self.phase.betas:
                msg = f"the optimizer has betas {betas}; set AdamW with {self.phase.betas}"
                raise RecipeError(msg)
        if _changes_order(others["train_dataloader"]):
            msg = (
                "the trainer shuffles the sequences, which are in the order of training already; "
                "set train_sampling_strategy to sequential"
            )
            raise RecipeError(msg)
        if self.phase.average_steps:
            parameters = others["model"].named_parameters()
            trained = {name: one for name, one in parameters if one.requires_grad}
            self._average = WeightAverage(trained, self.phase.average_steps)
            if state.global_step:
                self._read_average(_checkpoint(args, state))

    def _read_average(self, checkpoint: Path) -> None:
        """Read the average of the steps before a stop."""
        path = checkpoint / AVERAGE
        if not path.is_file():
            msg = (
                f"{path}: missing, and without the average of the steps before it, training cannot "
                "continue; copy the whole checkpoint there if it is in another folder, or start "
                "again without it"
            )
            raise RecipeError(msg)
        averages = cast("WeightAverage", self._average).means
        for name, mean in load_file(path).items():
            averages[name].copy_(mean)

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Save the average of the weights in the checkpoint, so that training can continue."""
        del control, others
        if self._average and state.is_world_process_zero:
            save_file(self._average.means, _checkpoint(args, state) / AVERAGE)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Set the learning rate of the step."""
        del args, control
        rates = self._role_rates()
        rate = rates.rate * self.phase.factor(state.global_step)
        for group in others["optimizer"].param_groups:
            group["lr"] = rate
        # The trainer logs the rate of its own scheduler, which has no effect.
        others["lr_scheduler"]._last_lr = [rate] * len(others["optimizer"].param_groups)  # noqa: SLF001 - nothing else sets it
        rates.before_step()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Scale the step of the parts that have another learning rate."""
        del args, control, others
        self._role_rates().after_step()
        if self._average:
            self._average.update(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Add the learning rate of the added rows to what is logged."""
        del args, control
        logs = others.get("logs") or {}
        if "learning_rate" in logs:
            factor = self.phase.factor(max(0, state.global_step - 1))
            logs["learning_rate"] = self.phase.learning_rates.body * factor
            logs["learning_rate_added_rows"] = self.phase.learning_rates.added_rows * factor

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Copy the average of the weights into the model, if the plan averages them."""
        del args, state, control, others
        self._role_rates().close()
        if self._average:
            self._average.apply()

    def _role_rates(self) -> RoleRates:
        if self._rates is None:
            msg = "HandoverCallback was added after the trainer was created; give it in `callbacks`"
            raise RecipeError(msg)
        return self._rates


def _changes_order(loader: Any) -> bool:
    """Whether a data loader reads a data set in another order than its own."""
    if isinstance(getattr(loader, "dataset", None), IterableDataset):
        return False
    sampler: Any = getattr(loader, "batch_sampler", None)
    # accelerate wraps it, once for each of several processes.
    while hasattr(sampler, "batch_sampler"):
        sampler = sampler.batch_sampler
    sampler = getattr(sampler, "sampler", None)
    return sampler is not None and not isinstance(sampler, SequentialSampler)


def _checkpoint(args: Any, state: Any) -> Path:
    """Return the folder of the checkpoint at the current step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
